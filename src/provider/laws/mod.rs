//! Laws that every provider keeps, walked over [`PROVIDERS`], so that a new one is held to them without a new test.
//!
//! `streams`: the cut of the bytes, unknown things and truncation. `garbage`: whatever comes, nothing panics. `requests`:
//! nothing that a client said is lost in silence. `script` has a small stream of every dialect, written by hand;
//! recordings are read where they lie, beside the project, and are left out where they are not.

mod garbage;
mod reading;
mod requests;
mod script;
mod streams;
mod validity;

use serde_json::Value;

use super::tests_support::context;
use super::{AnswerContext, End, PROVIDERS, Provider, StreamOut};
use crate::error::{ErrorKind, Result};
use crate::frames::Decoder;
use crate::sse::Event;
use crate::usage::Usage;
use script::{Script, scripts};

/// What a stream became.
#[derive(Clone, Debug, PartialEq)]
struct Played {
    bytes: Vec<u8>,
    usage: Option<Usage>,
    end: std::result::Result<End, ErrorKind>,
}

fn context_of(provider: &'static Provider, model: &str) -> AnswerContext {
    AnswerContext { model: model.to_owned(), include_usage: true, ..context(provider.name) }
}

/// Reads a stream in these pieces as the gateway does.
fn play<'a>(provider: &'static Provider, model: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Played {
    let mut out = StreamOut::default();
    let end = run(provider, model, pieces, &mut out).map_err(|error| error.kind());
    Played { bytes: out.bytes, usage: out.usage, end }
}

fn run<'a>(
    provider: &'static Provider,
    model: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    out: &mut StreamOut,
) -> Result<End> {
    let mut decoder = Decoder::new(provider.dialect.framing(), 1 << 22);
    let mut translator = provider.dialect.stream(context_of(provider, model));
    let mut drain = |decoder: &mut Decoder, out: &mut StreamOut| -> Result<()> {
        while !out.done {
            let event = decoder.next_event().map_err(|cause| super::protocol(provider.name, cause))?;
            let Some(event) = event else { break };
            translator.event(&event, out)?;
        }
        Ok(())
    };
    for piece in pieces {
        decoder.push(piece);
        drain(&mut decoder, out)?;
    }
    decoder.finish();
    drain(&mut decoder, out)?;
    Ok(if out.done { End::Complete } else { translator.end(out) })
}

/// A stream to try the laws on.
struct Sample {
    provider: &'static Provider,
    script: &'static Script,
    model: String,
    /// For messages of a test that fails.
    id: String,
    bytes: Vec<u8>,
}

impl Sample {
    fn play(&self) -> Played {
        play(self.provider, &self.model, [self.bytes.as_slice()])
    }

    /// The events, as the framing cuts them.
    fn events(&self) -> Vec<Event> {
        let mut decoder = Decoder::new(self.provider.dialect.framing(), 1 << 22);
        decoder.push(&self.bytes);
        decoder.finish();
        std::iter::from_fn(|| decoder.next_event().unwrap()).collect()
    }
}

/// The stream of each script of each provider.
fn written() -> Vec<Sample> {
    let all = PROVIDERS.iter().flat_map(|provider| scripts(provider).iter().map(move |script| (*provider, *script)));
    all.map(|(provider, script)| Sample {
        provider,
        script,
        model: script.model.to_owned(),
        id: format!("{} {}", provider.name, script.model),
        bytes: script.frames(provider.dialect.framing()).concat(),
    })
    .collect()
}

/// The recorded exchanges of a provider; none where they are not at hand.
fn recordings(provider: &'static Provider, word: &str) -> Vec<Value> {
    let folder = format!("{}/../shared/corpus/{}", env!("CARGO_MANIFEST_DIR"), provider.name);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let texts = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    texts.filter(|text| text.contains(word)).map(|text| serde_json::from_str(&text).unwrap()).collect()
}

/// The recorded streams of every provider whose bytes are on record. Streams of other APIs of a provider are among them:
/// they must not be taken for complete, and their cut must not matter either.
fn recorded() -> Vec<Sample> {
    let mut samples = Vec::new();
    for provider in PROVIDERS {
        for record in recordings(provider, "\"stream\":true") {
            let Some(bytes) = recorded_bytes(&record) else { continue };
            let model = record["model"].as_str().unwrap_or_default().to_owned();
            let all = scripts(provider);
            let of_model = all.iter().find(|script| model.starts_with(script.family));
            let script = of_model.unwrap_or(&all[0]);
            samples.push(Sample { provider, script, model, id: record["id"].to_string(), bytes });
        }
    }
    if samples.is_empty() {
        println!("skipped: no recordings");
    }
    samples
}

fn recorded_bytes(record: &Value) -> Option<Vec<u8>> {
    use base64::Engine as _;
    if let Some(text) = record["response_text"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let text = record["response_base64"].as_str()?;
    Some(base64::engine::general_purpose::STANDARD.decode(text).unwrap())
}

#[test]
fn every_provider_has_a_stream_that_it_completes() {
    for sample in written() {
        let played = sample.play();
        assert_eq!(played.end, Ok(End::Complete), "{}: its script is not of its dialect", sample.id);
        let said = reading::read(&played.bytes);
        assert!(said.done && said.is_whole(), "{}: {said:?}", sample.id);
    }
}
