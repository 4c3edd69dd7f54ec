//! HTTP/1: an answer is read the same in any cuts, up to where it ends and no further; a request that is taken can be read in one way
//! only, and one that is not is left as it came.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use perpetuo::http1::{Head, Request};
use perpetuo_fuzz::cut;

/// What was read of an answer: its status, its body as far as it came, whether that is all, and what is left.
type Answer = Result<Option<(u16, Vec<u8>, bool, Vec<u8>)>, ()>;

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let whole = answer([bytes]);
    let pieces = answer(cut(bytes, *how));
    // A flaw may be seen before what stands in front of it was given out, or after.
    if let (Ok(whole), Ok(pieces)) = (&whole, &pieces) {
        assert_eq!(whole, pieces, "cut by {how}");
    }
    request(bytes);
});

fn answer<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Answer {
    let (mut buffer, mut read, mut came) = (BytesMut::new(), None, Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if read.is_none() {
            read = Head::read(&mut buffer).map_err(drop)?;
        }
        let Some((_, body)) = &mut read else { continue };
        while let Some(piece) = body.next(&mut buffer).map_err(drop)? {
            assert!(!piece.is_empty());
            came.extend_from_slice(&piece);
        }
    }
    Ok(read.map(|(head, body)| {
        head.headers();
        (head.status(), came, body.is_whole(), buffer.to_vec())
    }))
}

fn request(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let Some(request) = Request::take(&mut buffer, "/v1/", 4096) else {
        return assert_eq!(buffer, bytes, "touched");
    };
    let head = &bytes[..bytes.len() - buffer.len()];
    assert!(head.ends_with(b"\r\n\r\n") && !head[..head.len() - 2].windows(4).any(|four| four == b"\r\n\r\n"));
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    assert_eq!(text.matches('\r').count(), text.matches("\r\n").count());
    let lengths: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("content-length:")).collect();
    match lengths[..] {
        [] => assert_eq!(request.length, 0),
        [length] => assert_eq!(length.trim().parse(), Ok(request.length)),
        _ => panic!("several lengths"),
    }
    assert!(!text.contains("\ntransfer-encoding:"));
}
