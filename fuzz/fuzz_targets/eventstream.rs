//! AWS's event stream: any bytes in any cuts give the same and break nothing; a message that is right is given out as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perpetuo::eventstream::{Broken, Decoder};
use perpetuo::sse::Event;
use perpetuo_fuzz::{aws_frame, aws_message, cut};

fuzz_target!(|input: &[u8]| {
    let Some(([how, split, form], bytes)) = input.split_first_chunk() else { return };
    let (headers, payload) = bytes.split_at(usize::from(*split).min(bytes.len()));
    let stream = match form % 4 {
        // Of any bytes.
        0 => bytes.to_vec(),
        // Headers of any bytes, with the right checksums, twice.
        1 => aws_frame(headers, payload).repeat(2),
        // A message that is right, and then any bytes.
        2 => [aws_message(&[(":event-type", "chunk")], payload), headers.to_vec()].concat(),
        // One that is right but for one byte.
        _ => {
            let mut stream = aws_message(&[(":message-type", "event"), (":event-type", "chunk")], payload);
            let at = usize::from(*split) % stream.len();
            stream[at] ^= how.max(&1);
            let told = decode(&stream, 0);
            assert!(told.0.is_empty(), "a message with a wrong byte at {at} was given out");
            stream
        }
    };
    let (events, end) = decode(&stream, 0);
    for how in [1, *how] {
        assert_eq!(decode(&stream, how), (events.clone(), end), "cut by {how}");
    }
    if form % 4 == 2 {
        let first = events.first().expect("a message that is right");
        assert_eq!((first.name.as_deref(), &first.data[..]), (Some(&b"chunk"[..]), payload));
    }
    let given: usize = events.iter().map(|event| event.raw.len()).sum();
    assert!(given <= stream.len());
});

fn decode(bytes: &[u8], how: u8) -> (Vec<Event>, Option<Broken>) {
    let mut decoder = Decoder::new(1 << 16);
    let mut events = Vec::new();
    for piece in cut(bytes, how) {
        decoder.push(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(broken) => return (events, Some(broken)),
            }
        }
    }
    (events, None)
}
