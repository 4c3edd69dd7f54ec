//! The ledger's journal: files of any bytes, and right ones with something wrong in them. What is read, mended and read again keeps
//! the laws of `perpetuo::store::fuzzing`.
//!
//! The input: a form, which byte is to be changed, and payloads (`kind` and JSON, each ended by a line feed) or the file itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use perpetuo::store::fuzzing::{read_segment, segment};

fuzz_target!(|input: &[u8]| {
    let Some(([form, a, b, by], rest)) = input.split_first_chunk() else { return };
    let place = usize::from(u16::from_be_bytes([*a, *b]));
    let payloads: Vec<Vec<u8>> = rest.split(|byte| *byte == b'\n').filter_map(payload).collect();
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let mut file = segment(&payloads, form & 8 != 0);
    let mut index = None;
    match form % 8 {
        0 => {}
        1 => file = rest.to_vec(),
        2 => file.truncate(place % (file.len() + 1)),
        3 => {
            let at = place % file.len();
            file[at] ^= by.max(&1);
        }
        4 => file.extend_from_slice(rest),
        // A piece of the file is missing, or there twice.
        5 => drop(file.drain(place % file.len()..(place % file.len() + usize::from(*by)).min(file.len()))),
        6 => {
            let at = place % file.len();
            file.extend_from_within(at..);
        }
        _ => index = Some(rest),
    }
    if let Err(law) = read_segment(&file, index) {
        panic!("{law}");
    }
});

/// What stands in a frame: plain JSON of a kind.
fn payload(line: &[u8]) -> Option<Vec<u8>> {
    let (kind, json) = line.split_first()?;
    let length = u32::try_from(json.len()).ok()?.to_le_bytes();
    // Letters for the kinds that there are, so that inputs can be read.
    let kind = if kind.is_ascii_lowercase() { kind - b'a' + 1 } else { *kind };
    Some([&[0, kind], &length[..], json].concat())
}
