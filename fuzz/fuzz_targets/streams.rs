//! Every provider's stream translator: whatever an upstream sends in whatever cuts, clients get OpenAI's events, the same ones, and
//! an end that is no lie.
//!
//! The input: which provider, how it is cut, whether lines stand for AWS's messages (`name TAB payload`), and the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perpetuo::error::ErrorKind;
use perpetuo::frames::{Decoder, Framing};
use perpetuo::provider::{AnswerContext, End, PROVIDERS, Provider, StreamOut};
use perpetuo_fuzz::{aws_message, cut, read_stream};

fuzz_target!(|input: &[u8]| {
    let Some(([which, how, form], bytes)) = input.split_first_chunk() else { return };
    let provider = PROVIDERS[usize::from(*which) % PROVIDERS.len()];
    let framed = form % 2 == 0 && provider.dialect.framing() == Framing::AwsEventStream;
    let stream = if framed { messages(bytes) } else { bytes.to_vec() };
    let include_usage = form % 4 < 2;
    let whole = play(provider, &stream, 0, include_usage);
    let (said, done) = read_stream(&whole.0.bytes, whole.0.odd.invalid_json);
    match whole.1 {
        Ok(End::Complete) => assert!(done, "{}: complete without [DONE]", provider.name),
        Ok(End::Truncated) | Err(_) => assert!(!done, "{}: [DONE] of {:?}", provider.name, whole.1),
    }
    for how in [1, *how] {
        let (out, end) = play(provider, &stream, how, include_usage);
        // Of a CRLF that is cut in half, what is forwarded may lack the LF: it says the same.
        let cut = (read_stream(&out.bytes, out.odd.invalid_json).0, end, out.usage);
        assert_eq!(cut, (said.clone(), whole.1, whole.0.usage), "{} cut by {how}", provider.name);
    }
});

fn messages(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .flat_map(|line| {
            let (name, payload) = line
                .iter()
                .position(|byte| *byte == b'\t')
                .map_or((&b"chunk"[..], line), |at| (&line[..at.min(200)], &line[at + 1..]));
            let name = String::from_utf8_lossy(name).into_owned();
            let kind = if name.ends_with("Exception") { ":exception-type" } else { ":event-type" };
            aws_message(&[(kind, &name)], payload)
        })
        .collect()
}

/// Reads a stream as the gateway does.
fn play(
    provider: &'static Provider,
    stream: &[u8],
    how: u8,
    include_usage: bool,
) -> (StreamOut, Result<End, ErrorKind>) {
    let context = AnswerContext {
        provider: provider.name,
        id: "chatcmpl-1".to_owned(),
        created: 1_700_000_000,
        model: "model".to_owned(),
        include_usage,
        json_object: false,
    };
    let mut decoder = Decoder::new(provider.dialect.framing(), 1 << 20);
    let mut translator = provider.dialect.stream(context);
    let mut out = StreamOut::default();
    let mut drain = |decoder: &mut Decoder, out: &mut StreamOut| {
        while !out.done {
            match decoder.next_event() {
                Ok(Some(event)) => translator.event(&event, out).map_err(|error| error.kind())?,
                Ok(None) => break,
                Err(_) => return Err(ErrorKind::ProviderProtocol),
            }
        }
        Ok(())
    };
    for piece in cut(stream, how) {
        decoder.push(piece);
        if let Err(kind) = drain(&mut decoder, &mut out) {
            return (out, Err(kind));
        }
    }
    decoder.finish();
    if let Err(kind) = drain(&mut decoder, &mut out) {
        return (out, Err(kind));
    }
    let end = if out.done { End::Complete } else { translator.end(&mut out) };
    (out, Ok(end))
}
