//! What clients ask, and what they read: every case follows from the seed and its number.

use std::time::Duration;

use perpetuo::sse::Decoder;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::dice::Dice;

/// When a client leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leave {
    /// With its answer.
    Never,
    /// Behind so many events.
    Behind(u64),
    /// After a while.
    After(Duration),
}

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Case {
    pub number: u64,
    pub workspace: usize,
    pub key: usize,
    pub http2: bool,
    model: &'static str,
    stream: bool,
    include_usage: bool,
    leave: Leave,
    /// Seconds for the whole request.
    timeout: Option<f64>,
    /// Letters of the prompt.
    letters: usize,
    /// Before each piece of the answer is read.
    pace: Duration,
}

/// What the client saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub case: u64,
    /// None where no head came.
    pub status: Option<u16>,
    /// The client read all there was.
    pub whole: bool,
    /// The stream said that it broke.
    pub broken: bool,
    /// What it was told that the request costs: dollars, and how sure that is.
    pub cost: Option<(Option<String>, String)>,
    /// `total_tokens` of the usage that it read.
    pub tokens: Option<u64>,
}

/// Models as clients name them, and how many of a hundred ask for each.
const MODELS: [(&str, u64); 6] = [
    ("mix", 50),
    ("gpt-4o", 15),
    ("claude-sonnet-4-5", 12),
    ("gemini-2.5-flash", 12),
    ("openai/no-such-model", 5),
    ("text-embedding-3-small", 6),
];

impl Case {
    pub fn draw(seed: u64, number: u64, workspaces: usize, keys: usize) -> Self {
        let mut dice = Dice::of(seed, &[number]);
        let mut left = dice.below(100);
        let model = MODELS.iter().find(|(_, share)| {
            let found = left < *share;
            left = left.saturating_sub(*share);
            found
        });
        let model = model.unwrap().0;
        let stream = !model.starts_with("text-") && dice.permille(600);
        let leave = match dice.below(1000) {
            0..=149 if stream => Leave::Behind(dice.below(64)),
            150..=219 => Leave::After(dice.millis(0, 60)),
            _ => Leave::Never,
        };
        Self {
            number,
            workspace: usize::try_from(dice.below(workspaces as u64)).unwrap(),
            key: usize::try_from(dice.below(keys as u64)).unwrap(),
            http2: dice.permille(400),
            model,
            stream,
            include_usage: dice.permille(500),
            leave,
            timeout: dice.permille(30).then(|| dice.between(20, 400) as f64 / 1000.0),
            letters: usize::try_from(dice.between(40, 6000)).unwrap(),
            pace: Duration::ZERO,
        }
    }

    /// The same with a prompt of so many letters.
    pub fn of_letters(self, letters: usize) -> Self {
        Self { letters, ..self }
    }

    /// The same, read with a wait before each piece.
    pub fn read_at(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    /// Whether the client waits for the end of its answer.
    pub fn stays(&self) -> bool {
        self.leave == Leave::Never
    }

    fn body(&self) -> Value {
        let mut prompt = format!("case {} ", self.number);
        prompt.extend(std::iter::repeat_n("lorem ipsum ", self.letters / 12));
        if self.model.starts_with("text-") {
            return json!({"model": self.model, "input": prompt});
        }
        let mut body = json!({"model": self.model, "stream": self.stream, "max_tokens": 100,
            "messages": [{"role": "user", "content": prompt}]});
        if self.stream && self.include_usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        if let Some(seconds) = self.timeout {
            body["timeout"] = json!(seconds);
        }
        body
    }

    /// Asks, and reads as far as this client reads.
    pub async fn ask(self, client: Client, base: String, key: String) -> Seen {
        let path = if self.model.starts_with("text-") { "/v1/embeddings" } else { "/v1/chat/completions" };
        let request = client
            .post(format!("{base}{path}"))
            .bearer_auth(key)
            .header("x-request-id", format!("case-{}", self.number))
            .json(&self.body());
        let mut seen = Seen { case: self.number, ..Seen::default() };
        let read = self.read(request, &mut seen);
        match self.leave {
            Leave::After(wait) => drop(tokio::time::timeout(wait, read).await),
            _ => read.await,
        }
        seen
    }

    async fn read(&self, request: RequestBuilder, seen: &mut Seen) {
        let Ok(mut answer) = request.send().await else { return };
        let text = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        seen.status = Some(answer.status().as_u16());
        seen.cost = text("x-perpetuo-cost-certainty").map(|certainty| (text("x-perpetuo-cost-usd"), certainty));
        if !self.stream || answer.status() != 200 {
            let Ok(body) = answer.bytes().await else { return };
            seen.whole = true;
            let body: Value = serde_json::from_slice(&body).unwrap();
            seen.tokens = body["usage"]["total_tokens"].as_u64();
            return;
        }
        let (mut decoder, mut events) = (Decoder::new(usize::MAX), 0);
        while let Ok(Some(bytes)) = answer.chunk().await {
            decoder.push(&bytes);
            if !self.pace.is_zero() {
                tokio::time::sleep(self.pace).await;
            }
            while let Some(event) = decoder.next_event().unwrap() {
                if self.leave == Leave::Behind(events) {
                    return;
                }
                events += 1;
                match event.data.as_ref() {
                    b"[DONE]" => seen.whole = true,
                    data => seen.chunk(&serde_json::from_slice(data).unwrap(), self.include_usage),
                }
            }
        }
    }
}

impl Seen {
    fn chunk(&mut self, chunk: &Value, asked: bool) {
        self.broken |= chunk["error"].is_object();
        if chunk["choices"].as_array().is_some_and(Vec::is_empty) && chunk["usage"].is_object() {
            assert!(asked, "usage that nobody asked for: {chunk}");
            self.tokens = chunk["usage"]["total_tokens"].as_u64();
            let bill = &chunk["perpetuo"];
            let certainty = bill["cost_certainty"].as_str().unwrap_or_else(|| panic!("no cost in {chunk}"));
            self.cost = Some((bill["cost_usd"].as_str().map(str::to_owned), certainty.to_owned()));
        }
    }
}
