//! The script of a simulated provider: how it answers by default, and which faults it shows when.
//!
//! Not here: how a step becomes bytes (`perform`). Invariant: which step a request gets depends only on the script, the
//! model's name and the count of requests before it, never on chance or time.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

/// How one request is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// As a healthy provider does.
    Ok,
    /// With this status and these extra headers; without a body, with the error that the API writes for the status.
    Status {
        /// The status.
        status: u16,
        /// Extra headers.
        headers: Vec<(String, String)>,
        /// The body instead of the API's own.
        body: Option<Bytes>,
    },
    /// Never.
    Hang,
    /// 200, its headers, and then silence.
    HangAfterHead,
    /// The connection is reset before the head.
    Reset,
    /// The answer ends after so many content events; half-way, if it is not a stream.
    TruncateAfter {
        /// Content events before the end; the frames before the first are sent in any case.
        events: usize,
        /// How it ends.
        how: Truncation,
    },
    /// The stream's first event is an error; a 500 if it is not a stream.
    ErrorEventFirst,
    /// An error event after so many content events; a 500 if it is not a stream.
    ErrorEventAfter {
        /// Content events before the error; the frames before the first are sent in any case.
        events: usize,
    },
    /// These bytes, in these pieces: each is its own write, and at least a millisecond lies between two.
    Raw {
        /// The status.
        status: u16,
        /// The content type.
        content_type: String,
        /// Each piece and how long after the one before it.
        chunks: Vec<(Duration, Bytes)>,
    },
    /// 200 with a page of HTML, as a captive proxy answers.
    HtmlOk,
    /// 200 with text that claims to be JSON, or events of JSON, and is not.
    BadJson,
    /// Silence after so many content events, with the connection open; half-way, if it is not a stream.
    Stall {
        /// Content events before the silence; the frames before the first are sent in any case.
        after_events: usize,
    },
    /// This status at once, without reading the body; then the connection is closed.
    EarlyStatus {
        /// The status.
        status: u16,
    },
    /// A healthy answer after a wait and at another pace.
    Slow {
        /// Before the head.
        latency: Duration,
        /// Before each token.
        token_delay: Duration,
    },
}

/// How a truncated answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// HTTP ends as if all were well.
    Clean,
    /// The connection, or the HTTP/2 stream, is dropped.
    Abort,
}

impl Step {
    /// A status with the API's own error.
    pub const fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: None }
    }

    /// A status with the API's own error and `Retry-After` in seconds.
    pub fn retry_after(status: u16, seconds: u64) -> Self {
        Self::Status { status, headers: vec![("retry-after".to_owned(), seconds.to_string())], body: None }
    }

    /// The step that a model's name asks for: `sim-hang`, `sim-reset`, `sim-truncate`, `sim-slow`, `sim-error-event`, or
    /// `sim-` and a status, anywhere in the name.
    pub(super) fn by_name(model: &str) -> Option<Self> {
        let (_, wish) = model.split_once("sim-")?;
        let named: [(&str, Self); 5] = [
            ("hang", Self::Hang),
            ("reset", Self::Reset),
            ("truncate", Self::TruncateAfter { events: 3, how: Truncation::Abort }),
            ("slow", Self::Slow { latency: Duration::from_secs(2), token_delay: Duration::from_millis(200) }),
            ("error-event", Self::ErrorEventAfter { events: 3 }),
        ];
        if let Some((_, step)) = named.into_iter().find(|(name, _)| wish.starts_with(name)) {
            return Some(step);
        }
        let status: u16 = wish.get(..3)?.parse().ok().filter(|status| (400..600).contains(status))?;
        Some(if status == 429 { Self::retry_after(status, 1) } else { Self::status(status) })
    }
}

/// How a simulated provider behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub(super) label: String,
    pub(super) price: Option<String>,
    pub(super) latency: Duration,
    pub(super) token_delay: Duration,
    pub(super) tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) every_nth_fails: Option<u64>,
    pub(super) models: Vec<String>,
    pub(super) remember: usize,
    pub(super) steps: VecDeque<Step>,
    pub(super) by_model: HashMap<String, VecDeque<Step>>,
    pub(super) always: Step,
}

impl Behaviour {
    /// A healthy provider that answers twelve tokens at once and remembers every request.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            price: None,
            latency: Duration::ZERO,
            token_delay: Duration::ZERO,
            tokens: 12,
            cached_tokens: 0,
            every_nth_fails: None,
            models: vec!["sim-model".to_owned()],
            remember: usize::MAX,
            steps: VecDeque::new(),
            by_model: HashMap::new(),
            always: Step::Ok,
        }
    }

    /// What its answers call its price, for example `cheap`; prices themselves are the catalogue's.
    pub fn price(mut self, label: impl Into<String>) -> Self {
        self.price = Some(label.into());
        self
    }

    /// Waits so long before each head.
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Waits so long before each token. Without a delay, tokens may share a write.
    pub const fn token_delay(mut self, delay: Duration) -> Self {
        self.token_delay = delay;
        self
    }

    /// Answers so many tokens, unless the request wants fewer; at least one.
    pub const fn tokens(mut self, tokens: u64) -> Self {
        self.tokens = if tokens == 0 { 1 } else { tokens };
        self
    }

    /// Reports so many tokens of each prompt as read from a cache, at most the prompt.
    pub const fn cached_tokens(mut self, tokens: u64) -> Self {
        self.cached_tokens = tokens;
        self
    }

    /// Fails every n-th request that no script speaks for, the first included: with 500, then 429 with `Retry-After`, in turn.
    pub const fn flaky(mut self, every_nth: u64) -> Self {
        self.every_nth_fails = if every_nth == 0 { None } else { Some(every_nth) };
        self
    }

    /// Answers so whenever nothing else is said, instead of healthily.
    pub fn always(mut self, step: Step) -> Self {
        self.always = step;
        self
    }

    /// What `GET /v1/models` lists.
    pub fn models(mut self, models: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// Remembers only the latest so many requests; none at 0, which is the fastest.
    pub const fn remember(mut self, requests: usize) -> Self {
        self.remember = requests;
        self
    }

    /// Adds steps that the next requests get, one each; after them everything is as by default. Only a `POST` uses a step.
    pub fn script(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// The same for the requests to one model, after the general script is empty.
    pub fn script_for(mut self, model: impl Into<String>, steps: impl IntoIterator<Item = Step>) -> Self {
        self.by_model.entry(model.into()).or_default().extend(steps);
        self
    }
}

/// The script while it is played.
pub(super) struct Script {
    steps: Mutex<VecDeque<Step>>,
    by_model: Mutex<HashMap<String, VecDeque<Step>>>,
    every_nth_fails: Option<u64>,
    unscripted: AtomicU64,
    always: Step,
}

impl Script {
    pub(super) fn new(behaviour: &Behaviour) -> Self {
        Self {
            steps: Mutex::new(behaviour.steps.clone()),
            by_model: Mutex::new(behaviour.by_model.clone()),
            every_nth_fails: behaviour.every_nth_fails,
            unscripted: AtomicU64::new(0),
            always: behaviour.always.clone(),
        }
    }

    pub(super) fn extend(&self, steps: impl IntoIterator<Item = Step>) {
        // A poisoned lock would mean a panic between two operations on the queue, which leaves it whole.
        self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(steps);
    }

    /// The next step of the general script, known before the body is.
    pub(super) fn next(&self) -> Option<Step> {
        self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
    }

    /// The step of a request that the general script said nothing about.
    pub(super) fn next_for(&self, model: &str) -> Step {
        let own = {
            let mut by_model = self.by_model.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            by_model.get_mut(model).and_then(VecDeque::pop_front)
        };
        own.or_else(|| Step::by_name(model)).unwrap_or_else(|| self.by_turn())
    }

    fn by_turn(&self) -> Step {
        let Some(every_nth) = self.every_nth_fails else {
            return self.always.clone();
        };
        let turn = self.unscripted.fetch_add(1, Ordering::Relaxed);
        match (turn % every_nth, (turn / every_nth) % 2) {
            (0, 0) => Step::retry_after(500, 1),
            (0, _) => Step::retry_after(429, 1),
            _ => self.always.clone(),
        }
    }
}
