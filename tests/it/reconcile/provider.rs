//! Providers that keep their own books: for each request that arrived, what it is called, what they would bill for it, and
//! whether they said so in full.
//!
//! They speak HTTP/1.1 by hand, so that they know what they wrote and see at once when the gateway has left. What they do with
//! a request follows from the seed, the case that stands in its prompt, and how often it came before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perpetuo::usage::Usage;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::dice::Dice;
use super::wire::{Piece, Wire};

/// One request in a provider's books.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The provider.
    pub provider: &'static str,
    /// The case that stands in the prompt.
    pub case: u64,
    /// What the provider calls it.
    pub id: String,
    /// The model that was asked for.
    pub model: String,
    /// What is billed.
    pub billed: Usage,
    /// The whole figure was written to the gateway.
    pub told: bool,
    /// Bytes that were written of an answer in one piece.
    pub written: u64,
    /// What was done with it.
    pub fate: Fate,
}

/// What a provider does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// Answers.
    Answer,
    /// Answers and never says what it bills.
    Uncounted,
    /// Refuses with this status; bills nothing.
    Status(u16),
    /// Takes the prompt and never answers.
    Hang,
    /// The same behind a head of success.
    HangBehindHead,
    /// Takes the prompt, works on it for a while and closes the connection.
    Reset,
    /// Closes the connection at once, as one that was idle for too long: it is not in the books.
    Close,
    /// Breaks off behind so many pieces: at once, or with a clean end of the body.
    Cut { pieces: usize, clean: bool },
    /// Says behind so many pieces that it failed.
    Fail { pieces: usize },
}

/// How a request is answered.
pub struct Plan {
    pub fate: Fate,
    /// The answer in tokens.
    pub tokens: u64,
    pub cached: u64,
    pub written: u64,
    /// Before the head.
    pub latency: Duration,
    /// Before each token.
    pub pause: Duration,
    /// Between the last token and the figure.
    pub lag: Duration,
}

impl Plan {
    fn draw(dice: &mut Dice, wire: Wire, prompt: u64) -> Self {
        let tokens = dice.between(4, 60);
        let pieces = usize::try_from(dice.below(tokens.min(12))).unwrap();
        let fate = match dice.below(1000) {
            0..=14 => Fate::Hang,
            15..=24 => Fate::HangBehindHead,
            25..=31 => Fate::Reset,
            32..=34 => Fate::Close,
            35..=74 => Fate::Cut { pieces, clean: dice.permille(500) },
            75..=114 => Fate::Fail { pieces },
            115..=144 => Fate::Status(if dice.permille(500) { 500 } else { 503 }),
            145..=149 => Fate::Status(429),
            150..=154 => Fate::Status(400),
            155..=174 if wire == Wire::OpenAi => Fate::Uncounted,
            _ => Fate::Answer,
        };
        let cached = if dice.permille(400) { dice.below(prompt) } else { 0 };
        let written = if wire == Wire::Anthropic && dice.permille(200) { dice.below(prompt - cached) } else { 0 };
        Self {
            fate,
            tokens,
            cached,
            written,
            // Now and then as late as a hedge waits for.
            latency: match dice.below(1000) {
                0..=29 => dice.millis(600, 1000),
                30..=99 => dice.millis(20, 120),
                _ => dice.millis(0, 4),
            },
            pause: if dice.permille(300) { dice.millis(2, 8) } else { Duration::ZERO },
            lag: if dice.permille(200) { dice.millis(20, 120) } else { Duration::ZERO },
        }
    }
}

/// A running provider. Dropping it closes its port and every connection.
pub struct Provider {
    pub name: &'static str,
    pub url: String,
    shop: Arc<Shop>,
    server: JoinHandle<()>,
}

struct Shop {
    name: &'static str,
    wire: Wire,
    seed: u64,
    books: Mutex<Vec<Entry>>,
    came: Mutex<HashMap<u64, u64>>,
}

impl Provider {
    pub async fn start(name: &'static str, wire: Wire, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shop = Arc::new(Shop { name, wire, seed, books: Mutex::default(), came: Mutex::default() });
        let server = tokio::spawn({
            let shop = Arc::clone(&shop);
            async move {
                let mut lines = JoinSet::new();
                loop {
                    tokio::select! {
                        Ok((stream, _)) = listener.accept() => {
                            lines.spawn(Line::open(stream, Arc::clone(&shop)).serve());
                        }
                        Some(_) = lines.join_next() => {}
                    }
                }
            }
        });
        Self { name, url, shop, server }
    }

    /// The books so far.
    pub fn books(&self) -> Vec<Entry> {
        self.shop.books.lock().unwrap().clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shop {
    /// Puts a request into the books: its place and what is done with it.
    fn enter(&self, path: &str, body: &Value, text: &str) -> (usize, Ask, Plan) {
        let ask = Ask::read(self.wire, path, body, text);
        let nth = {
            let mut came = self.came.lock().unwrap();
            let nth = came.entry(ask.case).or_default();
            *nth += 1;
            *nth
        };
        let name = u64::from(crc32fast::hash(self.name.as_bytes()));
        let mut plan = Plan::draw(&mut Dice::of(self.seed, &[ask.case, name, nth]), self.wire, ask.prompt);
        if ask.embeddings {
            (plan.tokens, plan.cached) = (0, 0);
        }
        let mut books = self.books.lock().unwrap();
        let at = books.len();
        if plan.fate == Fate::Close {
            return (at, ask, plan);
        }
        books.push(Entry {
            provider: self.name,
            case: ask.case,
            id: format!("{}-{at}", self.name),
            model: ask.model.clone(),
            billed: Usage::default(),
            told: false,
            written: 0,
            fate: plan.fate,
        });
        (at, ask, plan)
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Entry)) {
        change(&mut self.books.lock().unwrap()[at]);
    }
}

/// What is asked.
pub struct Ask {
    pub case: u64,
    pub model: String,
    pub stream: bool,
    pub embeddings: bool,
    /// Tokens of the prompt, as this provider counts.
    pub prompt: u64,
}

impl Ask {
    fn read(wire: Wire, path: &str, body: &Value, text: &str) -> Self {
        let case = text.split_once("case ").and_then(|(_, rest)| rest.split_once(' ')).unwrap().0;
        let model = match wire {
            Wire::Gemini => path.split_once("/models/").and_then(|(_, rest)| rest.split_once(':')).unwrap().0,
            _ => body["model"].as_str().unwrap(),
        };
        Self {
            case: case.parse().unwrap(),
            model: model.to_owned(),
            stream: body["stream"] == true || path.contains(":streamGenerateContent"),
            embeddings: path.ends_with("/embeddings"),
            prompt: prompt_tokens(text),
        }
    }
}

/// A tokenizer of five letters to a token, and a few for the frame of a message.
fn prompt_tokens(body: &str) -> u64 {
    let words = body.split_once("case ").map_or(0, |(_, rest)| rest.split('"').next().unwrap_or_default().len());
    7 + words as u64 / 5
}

/// The gateway left, or the plan says that the connection ends here.
struct Over;

/// One connection.
struct Line {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    shop: Arc<Shop>,
}

impl Line {
    fn open(stream: TcpStream, shop: Arc<Shop>) -> Self {
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer, shop }
    }

    async fn serve(mut self) {
        while let Some((path, body)) = self.request().await {
            let text = String::from_utf8(body).unwrap();
            let body: Value = serde_json::from_str(&text).unwrap();
            let (at, ask, plan) = self.shop.enter(&path, &body, &text);
            if self.answer(at, &ask, &plan).await.is_err() {
                return;
            }
        }
    }

    /// The next request: its path and its body; none when the peer has closed.
    async fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let (mut path, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            path.get_or_insert_with(|| line.split(' ').nth(1).unwrap_or_default().to_owned());
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).await.ok()?;
        // Paths are case-sensitive, but none here has a capital letter where it matters.
        Some((path?.replace("streamgeneratecontent", "streamGenerateContent"), body))
    }

    /// Waits, unless the gateway leaves.
    async fn pause(&mut self, pause: Duration) -> Result<(), Over> {
        if pause.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            _ = self.reader.fill_buf() => Err(Over),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.writer.write_all(bytes).await.map_err(|_| Over)
    }

    async fn answer(&mut self, at: usize, ask: &Ask, plan: &Plan) -> Result<(), Over> {
        let (shop, wire) = (Arc::clone(&self.shop), self.shop.wire);
        let id = format!("{}-{at}", shop.name);
        if let Fate::Status(status) = plan.fate {
            return self.json(status, &wire.id_header(&id), &wire.error(status).to_string()).await;
        }
        if plan.fate == Fate::Close {
            return Err(Over);
        }
        let prompt = Usage {
            input: ask.prompt - plan.cached - plan.written,
            cached_read: plan.cached,
            cache_write: plan.written,
            ..Usage::default()
        };
        // From here on the model works.
        shop.change(at, |entry| entry.billed = prompt);
        self.pause(plan.latency).await?;
        match plan.fate {
            Fate::Hang => return self.pause(Duration::from_secs(3600)).await,
            Fate::Reset => {
                self.pause(Duration::from_millis(300)).await?;
                return Err(Over);
            }
            _ => {}
        }
        if ask.stream {
            return self.stream(at, &id, &wire.events(&id, &ask.model, prompt, plan), plan).await;
        }
        let whole = Usage { output: plan.tokens, ..prompt };
        shop.change(at, |entry| entry.billed = whole);
        let answer = wire.whole(&id, ask, whole, plan.fate == Fate::Uncounted).to_string();
        match plan.fate {
            Fate::HangBehindHead => {
                self.head(200, &wire.id_header(&id), answer.len()).await?;
                self.pause(Duration::from_secs(3600)).await
            }
            Fate::Cut { .. } | Fate::Fail { .. } => {
                let half = &answer.as_bytes()[..answer.len() / 2];
                shop.change(at, |entry| entry.written = half.len() as u64);
                self.head(200, &wire.id_header(&id), answer.len()).await?;
                self.write(half).await?;
                Err(Over)
            }
            fate => {
                shop.change(at, |entry| entry.written = answer.len() as u64);
                self.json(200, &wire.id_header(&id), &answer).await?;
                shop.change(at, |entry| entry.told = fate == Fate::Answer);
                Ok(())
            }
        }
    }

    async fn head(&mut self, status: u16, id: &str, length: usize) -> Result<(), Over> {
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{id}content-length: {length}\r\n\r\n");
        self.write(head.as_bytes()).await
    }

    async fn json(&mut self, status: u16, id: &str, body: &str) -> Result<(), Over> {
        self.head(status, id, body.len()).await?;
        self.write(body.as_bytes()).await
    }

    async fn stream(&mut self, at: usize, id: &str, pieces: &[Piece], plan: &Plan) -> Result<(), Over> {
        let (shop, wire) = (Arc::clone(&self.shop), self.shop.wire);
        let id = wire.id_header(id);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{id}transfer-encoding: chunked\r\n\r\n");
        self.write(head.as_bytes()).await?;
        if plan.fate == Fate::HangBehindHead {
            return self.pause(Duration::from_secs(3600)).await;
        }
        let last = match plan.fate {
            Fate::Cut { pieces, .. } | Fate::Fail { pieces } => Some(pieces),
            _ => None,
        };
        let mut said = 0;
        for piece in pieces {
            if last == Some(said) && piece.tokens > 0 {
                break;
            }
            said += usize::from(piece.tokens > 0);
            self.pause(piece.wait).await?;
            shop.change(at, |entry| entry.billed.output += piece.tokens);
            self.chunk(&piece.text).await?;
            shop.change(at, |entry| entry.told |= piece.figure);
        }
        match plan.fate {
            Fate::Cut { clean: false, .. } => return Err(Over),
            Fate::Fail { .. } => self.chunk(&wire.error_event()).await?,
            _ => {}
        }
        self.write(b"0\r\n\r\n").await
    }

    async fn chunk(&mut self, text: &str) -> Result<(), Over> {
        self.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
    }
}
