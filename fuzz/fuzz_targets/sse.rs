//! Server-sent events: the decoder against a naive one. The same events for any bytes in any cuts, and never more held than allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perpetuo::sse::Decoder;
use perpetuo_fuzz::cut;

type Event = (Option<Vec<u8>>, Vec<u8>);

fuzz_target!(|input: &[u8]| {
    let Some(([how, small], bytes)) = input.split_first_chunk() else { return };
    let expected = naive(bytes);
    for how in [0, 1, *how] {
        let (events, raws) = decode(bytes, how);
        assert_eq!(events, expected, "cut by {how}");
        // What is forwarded untouched is understood by the next decoder as it was by this one. It begins with a line, because only at
        // the beginning of a stream are three bytes a byte order mark.
        let forwarded = [vec![b"\n".to_vec()], raws].concat().concat();
        assert_eq!(naive(&forwarded), expected, "forwarded, cut by {how}");
    }
    bounded(bytes, *how, usize::from(*small));
});

fn decode(bytes: &[u8], how: u8) -> (Vec<Event>, Vec<Vec<u8>>) {
    let mut decoder = Decoder::new(usize::MAX);
    let (mut events, mut raws) = (Vec::new(), Vec::new());
    for piece in cut(bytes, how) {
        decoder.push(piece);
        while let Some(event) = decoder.next_event().expect("no limit") {
            events.push((event.name.map(|name| name.to_vec()), event.data.to_vec()));
            raws.push(event.raw.to_vec());
        }
    }
    (events, raws)
}

/// With a limit: an error as soon as more is held, and no event beyond it.
fn bounded(bytes: &[u8], how: u8, limit: usize) {
    let mut decoder = Decoder::new(limit);
    for piece in cut(bytes, how) {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => assert!(event.raw.len() <= limit + 1 && event.data.len() <= limit),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The grammar line by line: a byte order mark, three kinds of line ends, fields; an event ends with a blank line.
fn naive(bytes: &[u8]) -> Vec<Event> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            // A line that a CR at the very end closes is known to be over only where it is blank.
            (b'\r', None) if !line.is_empty() => {}
            (b'\r', next) => {
                at += usize::from(next == Some(&b'\n'));
                lines.push(std::mem::take(&mut line));
            }
            (b'\n', _) => lines.push(std::mem::take(&mut line)),
            (other, _) => line.push(other),
        }
        at += 1;
    }
    let (mut events, mut name, mut data): (_, _, Vec<Vec<u8>>) = (Vec::new(), None, Vec::new());
    for line in lines {
        if line.is_empty() {
            let name = name.take();
            if !data.is_empty() {
                events.push((name, data.join(&b'\n')));
                data.clear();
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match &line[..colon] {
            b"data" => data.push(value),
            b"event" => name = Some(value),
            _ => {}
        }
    }
    events
}
