//! What a client got: a whole answer, or a stream event by event.

use bytes::Bytes;
use http::HeaderMap;
use perpetuo::sse::Decoder;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::within;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Whether HTTP ended as it should.
    pub whole: bool,
}

impl Answer {
    /// Sends and reads to the end.
    pub async fn of(request: RequestBuilder) -> Self {
        let response = within("an answer", request.send()).await.unwrap();
        Self::read(response).await
    }

    /// Reads to the end, or as far as it goes.
    pub async fn read(mut response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        let whole = loop {
            match within("the end of an answer", response.chunk()).await {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Self { status, headers, body: body.into(), whole }
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    /// `x-perpetuo-provider`.
    pub fn provider(&self) -> &str {
        self.header("x-perpetuo-provider")
    }

    /// `x-perpetuo-attempts`; 0 when absent.
    pub fn attempts(&self) -> u32 {
        self.header("x-perpetuo-attempts").parse().unwrap_or(0)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|cause| panic!("no JSON ({cause}): {}", self.text()))
    }

    /// The body's `error`, with its four keys.
    pub fn error(&self) -> Value {
        let error = self.json()["error"].clone();
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "no '{key}' in {}", self.text());
        }
        error
    }

    /// `error.code`.
    pub fn code(&self) -> String {
        self.error()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of every event of a stream.
    pub fn events(&self) -> Vec<String> {
        let mut decoder = Decoder::new(usize::MAX);
        decoder.push(&self.body);
        let mut events = Vec::new();
        while let Some(event) = decoder.next_event().unwrap() {
            events.push(String::from_utf8(event.data.to_vec()).unwrap());
        }
        assert!(!decoder.has_partial(), "the answer ends inside an event: {}", self.text());
        events
    }
}

/// A stream that is being read. Dropping it closes the connection (HTTP/1.1) or resets the stream (HTTP/2).
pub struct EventStream {
    pub status: u16,
    pub headers: HeaderMap,
    response: Response,
    decoder: Decoder,
    /// Whether HTTP ended as it should; `None` before its end.
    pub whole: Option<bool>,
}

impl EventStream {
    /// Sends and reads the head.
    pub async fn of(request: RequestBuilder) -> Self {
        let response = within("the head of a stream", request.send()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, response, decoder: Decoder::new(usize::MAX), whole: None }
    }

    /// The data of the next event; `None` at the end, clean or not.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.decoder.next_event().unwrap() {
                return Some(String::from_utf8(event.data.to_vec()).unwrap());
            }
            match within("the next event", self.response.chunk()).await {
                Ok(Some(bytes)) => self.decoder.push(&bytes),
                Ok(None) => self.whole = Some(true),
                Err(_) => self.whole = Some(false),
            }
            if self.whole.is_some() {
                return None;
            }
        }
    }

    /// The data of all events that are still to come.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Everything up to and including the first event with text.
    pub async fn first_text(&mut self) -> String {
        while let Some(event) = self.next().await {
            let said = said([&event]);
            if !said.is_empty() {
                return said;
            }
        }
        panic!("the stream ended without a text");
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }
}

/// What the chunks of a stream say.
pub fn said<'a>(events: impl IntoIterator<Item = &'a String>) -> String {
    let chunks = events.into_iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    chunks.filter_map(|chunk| Some(chunk.pointer("/choices/0/delta/content")?.as_str()?.to_owned())).collect()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
