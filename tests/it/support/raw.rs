//! A client of one HTTP/1.1 connection, byte by byte, for what no client library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{Frame, head_of};
use super::within;

/// One connection to the gateway.
pub struct RawClient {
    stream: TcpStream,
}

/// The head of an answer.
#[derive(Debug)]
pub struct RawHead {
    pub status: u16,
    /// All of it, in lower case.
    pub text: String,
}

impl RawHead {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let value = self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim()
    }
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends the head of a chat request with these extra lines, each ended by CRLF.
    pub async fn send_chat_head(&mut self, key: &str, lines: &str) {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\n{lines}\r\n"
        );
        self.send(head).await.unwrap();
    }

    /// Sends bytes; an error when the peer has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub async fn close_sending(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads one head, informational ones included.
    pub async fn head(&mut self) -> RawHead {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("a head", self.stream.read_u8()).await.unwrap());
        }
        let text = String::from_utf8(head).unwrap().to_lowercase();
        RawHead { status: text.split(' ').nth(1).unwrap().parse().unwrap(), text }
    }

    /// Reads the body that a head announces.
    pub async fn body(&mut self, head: &RawHead) -> String {
        let mut body = vec![0; head.header("content-length").parse().unwrap()];
        within("a body", self.stream.read_exact(&mut body)).await.unwrap();
        String::from_utf8(body).unwrap()
    }

    /// Reads up to and including this text.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            read.push(within(end, self.stream.read_u8()).await.unwrap());
        }
        String::from_utf8(read).unwrap()
    }

    /// Reads one frame of HTTP/2; `None` when the gateway has closed the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        within("a frame", self.stream.read_exact(&mut head)).await.ok()?;
        let (length, kind, flags, stream) = head_of(&head);
        let mut payload = vec![0; length];
        within("the rest of a frame", self.stream.read_exact(&mut payload)).await.ok()?;
        Some(Frame { kind, flags, stream, payload })
    }

    /// Reads all that comes until the gateway closes the connection.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is a close, too.
        let _ = within("the gateway's close", self.stream.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether the gateway closes the connection now, having sent nothing more.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is a close, too.
        let _ = within("the gateway's close", self.stream.read_to_end(&mut rest)).await;
        rest.is_empty()
    }
}
