//! The program's own log: to standard error, as text on a terminal and as JSON elsewhere, in the form of the access log.
//!
//! Lines go through a bounded queue to a thread of their own, so that a standard error nobody reads holds nothing up. Pingora's
//! lines come through the `log` facade and are kept to warnings.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use perpetuo::config::{Log, LogFormat};
use perpetuo::telemetry::escape;
use perpetuo::telemetry::outlet::{Destination, Losses, Outlet};
use prometheus::IntCounter;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Lines that may wait, and their bytes.
const ROOM: (usize, usize) = (8192, 16 * 1024 * 1024);
/// How long the end of the process waits for a standard error that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);

static STARTED: OnceLock<Started> = OnceLock::new();

/// The log of this process.
struct Started {
    outlet: Arc<Outlet<Vec<u8>>>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Starts logging for this process. Without a thread or a standard error there is no log.
pub(super) fn start(log: &Log) {
    let destination = Destination::Stderr;
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !destination.is_terminal(),
    };
    let Ok(counter) = IntCounter::new("log_dropped", "lines") else { return };
    let losses = Losses::new("lines of this log were dropped", counter);
    let write = |line: &Vec<u8>, out: &mut Vec<u8>| out.extend_from_slice(line);
    let Ok(outlet) = Outlet::open("log", &destination, ROOM, losses, write) else { return };
    let outlet = Arc::new(outlet);
    let (filter, handle) = reload::Layer::new(filter(log));
    let lines = Lines { outlet: Arc::clone(&outlet), one_line: !json };
    let layer = tracing_subscriber::fmt::layer().with_writer(move || lines.clone());
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        registry.with(layer.event_format(Json)).init();
    } else {
        registry.with(layer.with_ansi(destination.takes_colours())).init();
    }
    let _ = STARTED.set(Started { outlet, filter: handle });
}

/// Goes on with the level of this configuration.
pub(super) fn reload(log: &Log) {
    if let Some(started) = STARTED.get() {
        let _ = started.filter.reload(filter(log));
    }
}

/// Writes what waits, before the process ends.
pub(super) fn finish() {
    if let Some(started) = STARTED.get() {
        started.outlet.close(LAST_WORDS);
    }
}

/// `RUST_LOG` wins over the configuration.
fn filter(log: &Log) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("warn,perpetuo={}", log.level)))
}

/// Where lines are handed over, each in one write.
#[derive(Clone)]
struct Lines {
    outlet: Arc<Outlet<Vec<u8>>>,
    /// Lines are made one, as nothing else has.
    one_line: bool,
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = if self.one_line { one_line(bytes) } else { bytes.to_vec() };
        let weight = line.len();
        self.outlet.send(line, weight);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line without line breaks but its last: a text that came from elsewhere must not begin one.
fn one_line(bytes: &[u8]) -> Vec<u8> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut line = Vec::with_capacity(bytes.len() + 2);
    for byte in body {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// One JSON object for each event, its fields beside `ts`, `level`, `message` and `target`.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        fields.0.insert("ts".to_owned(), format!("{:.3}", Timestamp::now()).into());
        fields.0.insert("level".to_owned(), metadata.level().as_str().to_ascii_lowercase().into());
        fields.0.insert("message".to_owned(), Value::Null);
        fields.0.insert("target".to_owned(), metadata.target().into());
        event.record(&mut fields);
        let mut line = Vec::new();
        escape::json_line(&fields.0, &mut line);
        writer.write_str(&String::from_utf8_lossy(&line))
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        // What the `log` facade says of itself is in the target already.
        if !field.name().starts_with("log.") {
            self.0.insert(field.name().to_owned(), value.into());
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_elsewhere_begins_no_line() {
        assert_eq!(one_line(b"a\r\nb\n"), b"a\\r\\nb\n");
        assert_eq!(one_line(b"a"), b"a\n");
    }
}
