//! As much of HTTP/1.1 as both sides of a benchmark need: heads, and bodies with a length or in chunks.
//!
//! Invariant: a message ends where its framing says; what follows stays in the buffer.

use std::io::{Error, ErrorKind, Result};

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With the chunk of no bytes.
    Chunks,
}

/// What is needed of a head.
pub struct Head {
    /// Of an answer; 0 for a request.
    pub status: u16,
    /// Of a request.
    pub path: String,
    /// How the body ends.
    pub framing: Framing,
}

/// One side of a connection.
pub struct Wire {
    /// The connection.
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    /// Over this connection.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(4096) }
    }

    /// The next head; `None` when the other side closed between two messages.
    pub async fn head(&mut self, answer: bool) -> Result<Option<Head>> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                let head = parse(&self.buffer.split_to(end + 4), answer)?;
                return Ok(Some(head));
            }
            if self.read().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next piece of the body; an empty one at its end. `framing` is brought up to date.
    pub async fn body(&mut self, framing: &mut Framing) -> Result<BytesMut> {
        match framing {
            Framing::Length(0) => Ok(BytesMut::new()),
            Framing::Length(left) => {
                if self.buffer.is_empty() {
                    self.must_read().await?;
                }
                let piece = self.buffer.split_to(self.buffer.len().min(*left));
                *left -= piece.len();
                Ok(piece)
            }
            Framing::Chunks => self.chunk().await,
        }
    }

    /// The whole body.
    pub async fn whole(&mut self, mut framing: Framing) -> Result<BytesMut> {
        let mut all = BytesMut::new();
        if let Framing::Length(length) = framing {
            all.reserve(length);
        }
        loop {
            let piece = self.body(&mut framing).await?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    async fn chunk(&mut self) -> Result<BytesMut> {
        let line = loop {
            match memmem::find(&self.buffer, b"\r\n") {
                Some(end) => break end,
                None => self.must_read().await?,
            }
        };
        let digits = std::str::from_utf8(&self.buffer[..line]).unwrap_or_default();
        let length = usize::from_str_radix(digits.trim(), 16).map_err(|_| Error::from(ErrorKind::InvalidData))?;
        while self.buffer.len() < line + length + 4 {
            self.must_read().await?;
        }
        self.buffer.advance(line + 2);
        let piece = self.buffer.split_to(length);
        self.buffer.advance(2);
        Ok(piece)
    }

    async fn must_read(&mut self) -> Result<()> {
        if self.read().await? == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    async fn read(&mut self) -> Result<usize> {
        self.buffer.reserve(4096);
        self.stream.read_buf(&mut self.buffer).await
    }
}

fn parse(bytes: &[u8], answer: bool) -> Result<Head> {
    let invalid = |_| Error::from(ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let (status, path, headers) = if answer {
        let mut head = httparse::Response::new(&mut headers);
        head.parse(bytes).map_err(invalid)?;
        (head.code.unwrap_or_default(), String::new(), head.headers)
    } else {
        let mut head = httparse::Request::new(&mut headers);
        head.parse(bytes).map_err(invalid)?;
        (0, head.path.unwrap_or_default().to_owned(), head.headers)
    };
    let value =
        |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value);
    let length = value("content-length").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let chunks = value("transfer-encoding").is_some();
    Ok(Head { status, path, framing: if chunks { Framing::Chunks } else { Framing::Length(length.unwrap_or(0)) } })
}
