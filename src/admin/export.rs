//! `/workspaces/{ws}/logs/export`: the ledger as CSV (one line for each attempt) or NDJSON (one for each request), as a stream.
//!
//! Every line carries a `cursor`, which is the number of its booking and never changes: `cursor=…` gives what was booked after it.
//! Invariant: an export that breaks off never looks complete; its body ends in an error.

use std::io;
use std::ops::ControlFlow;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::input::Query;
use super::respond::Answer;
use super::tenant::Tenant;
use super::{AdminState, LEDGER_PATIENCE};
use crate::error::{Error, Result};
use crate::store::{AttemptRecord, DayRange, RequestRecord};

/// Bytes that are gathered for one piece of the body.
const PIECE: usize = 64 * 1024;
/// Bytes that a line of CSV usually fits in.
const ROW: usize = 1024;
/// Pieces that may wait for the client.
const PIECES: usize = 4;

#[derive(Clone, Copy)]
enum Format {
    Csv,
    NdJson,
}

/// The columns of the CSV.
const COLUMNS: [&str; 35] = [
    "cursor",
    "request_id",
    "created_at",
    "key",
    "model",
    "strategy",
    "status",
    "stream",
    "client_gone",
    "attempt",
    "provider",
    "credential",
    "upstream_model",
    "attempt_status",
    "error",
    "input_tokens",
    "cached_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost_usd",
    "certainty",
    "latency_ms",
    "first_token_ms",
    "cost_source",
    "why",
    "service_tier",
    "cache_write_1h_tokens",
    "cached_audio_tokens",
    "image_input_tokens",
    "image_output_tokens",
    "web_searches",
    "upstream_request_id",
];

/// What is asked for.
struct Wanted {
    workspace: String,
    format: Format,
    after: u64,
    limit: u64,
    days: DayRange,
}

pub(super) async fn stream(
    State(state): State<AdminState>,
    Tenant(workspace): Tenant,
    query: Query,
) -> Answer<Response> {
    let wanted = read(query, workspace.id.clone(), &state)?;
    let (content_type, file) = match wanted.format {
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"ledger.csv\""),
        Format::NdJson => ("application/x-ndjson", "attachment; filename=\"ledger.ndjson\""),
    };
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        state.meter.flush_within(LEDGER_PATIENCE);
        if let Err(error) = write(&state, &wanted, &sender) {
            tracing::error!(?error, "an export broke off");
            let _ = sender.blocking_send(Err(io::Error::other("the export broke off")));
        }
    });
    let head = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store"), (CONTENT_DISPOSITION, file)];
    Ok((head, Body::from_stream(ReceiverStream::new(pieces))).into_response())
}

fn read(mut query: Query, workspace: String, state: &AdminState) -> Result<Wanted> {
    let formats = [("csv", Format::Csv), ("ndjson", Format::NdJson)];
    let format = query.choice("format", &formats)?.map_or(Format::NdJson, |(_, format)| format);
    let after = match query.text("cursor").map(|text| text.parse()) {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => return Err(Error::invalid("cursor", "Invalid value for 'cursor': expected one of an export.")),
    };
    let limit = query.number("limit", 1, u32::MAX)?.map_or(u64::MAX, u64::from);
    let days = query.days((state.now)())?;
    query.finish()?;
    Ok(Wanted { workspace, format, after, limit, days })
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// Writes everything, until the client has enough.
fn write(state: &AdminState, wanted: &Wanted, sender: &Sender) -> Result<()> {
    let mut text = match wanted.format {
        Format::Csv => line(COLUMNS)?,
        Format::NdJson => Vec::new(),
    };
    let mut requests = 0;
    state.store.export(&wanted.workspace, wanted.after, wanted.days, &mut |cursor, record| {
        match wanted.format {
            Format::Csv => rows(cursor, &record).try_for_each(|row| line(row).map(|line| text.extend(line)))?,
            Format::NdJson => text.extend(object(cursor, &record)?),
        }
        requests += 1;
        let gone = text.len() >= PIECE && sender.blocking_send(Ok(std::mem::take(&mut text).into())).is_err();
        Ok(if gone || requests >= wanted.limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    // A client that is gone needs no last piece.
    let _ = sender.blocking_send(Ok(text.into()));
    Ok(())
}

/// A request as a line of JSON.
fn object(cursor: u64, record: &RequestRecord) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Line<'r> {
        cursor: String,
        tokens: u64,
        cost_usd: String,
        #[serde(flatten)]
        record: &'r RequestRecord,
    }
    let (tokens, cost_usd) = (record.tokens(), record.cost().decimal());
    let line = Line { cursor: cursor.to_string(), tokens, cost_usd, record };
    let mut json = serde_json::to_vec(&line).map_err(Error::internal)?;
    json.push(b'\n');
    Ok(json)
}

/// A request as lines of the table: one for each attempt, or one where there was none.
fn rows(cursor: u64, record: &RequestRecord) -> impl Iterator<Item = Vec<String>> {
    let attempts = record.attempts.iter().map(Some);
    let none = record.attempts.is_empty().then_some(None);
    attempts.chain(none).map(move |attempt| {
        let mut row = vec![
            cursor.to_string(),
            record.request_id.clone(),
            record.created_at.to_string(),
            record.key.clone(),
            record.model.clone(),
            record.strategy.as_str().to_owned(),
            record.status.to_string(),
            record.stream.to_string(),
            record.client_gone.to_string(),
        ];
        row.extend(attempt.map(columns).unwrap_or_default());
        row.resize(COLUMNS.len(), String::new());
        row
    })
}

fn columns(attempt: &AttemptRecord) -> Vec<String> {
    let usage = &attempt.usage;
    let tokens = [
        usage.input,
        usage.cached_read,
        usage.cache_write,
        usage.output,
        usage.reasoning,
        usage.audio_input,
        usage.audio_output,
    ];
    let mut row = vec![
        attempt.number.to_string(),
        attempt.provider.clone(),
        attempt.credential.clone(),
        attempt.model.clone(),
        attempt.status.to_string(),
        attempt.error.clone().unwrap_or_default(),
    ];
    row.extend(tokens.map(|count| count.to_string()));
    row.extend([attempt.cost.decimal(), attempt.certainty.as_str().to_owned(), attempt.latency_ms.to_string()]);
    row.push(attempt.first_token_ms.map(|ms| ms.to_string()).unwrap_or_default());
    row.push(attempt.cost_source.map(|source| source.as_str().to_owned()).unwrap_or_default());
    row.extend([&attempt.why, &attempt.service_tier].map(|word| word.clone().unwrap_or_default()));
    let more = [usage.cache_write_1h, usage.cached_audio, usage.image_input, usage.image_output, usage.web_searches];
    row.extend(more.map(|count| count.to_string()));
    row.push(attempt.upstream_request_id.clone().unwrap_or_default());
    row
}

fn line(fields: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().buffer_capacity(ROW).from_writer(Vec::new());
    writer.write_record(fields).map_err(Error::internal)?;
    writer.into_inner().map_err(|error| Error::internal(error.error()))
}
