//! Frames of HTTP/2 (RFC 9113), written one by one, for what no library would send.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame that was read.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head, payload.to_vec()].concat()
}

/// The length of a payload, its kind, its flags and its stream, from the nine bytes before it.
pub fn head_of(head: &[u8]) -> (usize, u8, u8, u32) {
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    (length, head[3], head[4], u32::from_be_bytes(head[5..9].try_into().unwrap()))
}

/// Header fields as a block (RFC 7541), each as a literal that nobody keeps; names and values are shorter than 127 bytes.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// What a payload of SETTINGS says of one of them.
pub fn setting(payload: &[u8], number: u16) -> Option<u32> {
    let mut all = payload.chunks(6).map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), &pair[2..6]));
    all.find(|(name, _)| *name == number).map(|(_, value)| u32::from_be_bytes(value.try_into().unwrap()))
}
