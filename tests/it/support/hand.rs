//! An upstream that the test plays by hand, byte by byte, for what no script can say.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::within;

/// A listener whose connections the test answers itself.
pub struct Hand {
    listener: TcpListener,
}

/// One connection to it.
pub struct Call {
    stream: TcpStream,
    /// The head of the last request, in lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Hand {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// The next connection, nothing of it read yet.
    pub async fn accept(&self) -> Call {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Call { stream, head: String::new(), body: Vec::new() }
    }

    /// The next connection and its first request.
    pub async fn request(&self) -> Call {
        let mut call = self.accept().await;
        assert!(call.next_request().await, "a connection without a request");
        call
    }
}

impl Call {
    /// Reads the next request of the connection; false when the peer closed it instead.
    pub async fn next_request(&mut self) -> bool {
        if !self.read_head().await {
            return false;
        }
        let length = self.head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map_or(0, |text| text.trim().parse().unwrap());
        self.body = vec![0; length];
        within("a body", self.stream.read_exact(&mut self.body)).await.is_ok()
    }

    /// Reads a head and nothing of the body.
    pub async fn read_head(&mut self) -> bool {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match within("a head", self.stream.read_u8()).await {
                Ok(byte) => head.push(byte),
                Err(_) => return false,
            }
        }
        self.head = String::from_utf8(head).unwrap().to_lowercase();
        true
    }

    /// Sends these bytes at once.
    pub async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends the head of a stream without a length; its end is the end of the connection.
    pub async fn send_stream_head(&mut self) {
        self.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await;
    }

    /// Sends one event.
    pub async fn send_event(&mut self, data: &str) {
        self.send(format!("data: {data}\n\n")).await;
    }

    /// Sends a whole JSON answer with this status.
    pub async fn send_json(&mut self, status: u16, body: &str) {
        let length = body.len();
        self.send(format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Sends bytes that the peer may have stopped to take.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads so many bytes, whatever they are.
    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        let mut taken = vec![0; count];
        within("bytes", self.stream.read_exact(&mut taken)).await.unwrap();
        taken
    }

    /// The same, or nothing when the connection has ended.
    pub async fn try_take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut taken = vec![0; count];
        within("bytes", self.stream.read_exact(&mut taken)).await.ok().map(|_| taken)
    }

    /// Breaks the connection: a reset instead of an end.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Waits until the peer closes the connection.
    pub async fn closed(mut self) {
        let mut rest = Vec::new();
        // A reset is a close, too.
        let _ = within("the peer's close", self.stream.read_to_end(&mut rest)).await;
    }
}
