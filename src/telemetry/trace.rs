//! The W3C trace context of a request: read strictly, made where there is none, and handed on to providers.
//!
//! Pure: chance comes in as numbers. Invariant: what is handed on is built here from what was understood; a header that was not
//! understood goes nowhere.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Propagate;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// Bytes of a `tracestate` that are handed on; the standard wants that many at least.
const MAX_STATE: usize = 512;
/// Members that are longer go first.
const LONG_MEMBER: usize = 128;

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;
/// The flag of a trace id that is random.
const RANDOM: u8 = 2;

/// What is to be done about traces.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether spans are exported.
    pub exports: bool,
    /// The share of traces that begin here and are recorded, 0 to 1.
    pub sample: f64,
    /// Whether providers are told.
    pub propagate: Propagate,
}

/// What providers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Onward {
    #[default]
    Nothing,
    /// The client's own context: nobody records spans in between.
    AsItCame,
    /// The span of the attempt.
    Ours,
}

/// The trace that a request belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: u128,
    /// The request's own span.
    pub span_id: u64,
    /// The client's span, if it sent one.
    pub parent: Option<u64>,
    /// Whether spans of this request are exported.
    pub sampled: bool,
    /// The client's flags.
    pub(super) flags: u8,
    /// `tracestate`, if there is any.
    pub state: Option<String>,
    pub(super) onward: Onward,
}

impl TraceContext {
    /// The context of a request with these headers; `trace_id` and `span_id` are new ids, the first for a request that brings
    /// none. Neither may be zero.
    pub fn begin(headers: &HeaderMap, policy: Policy, trace_id: u128, span_id: u64) -> Self {
        let given = parent(headers);
        let onward = match (policy.propagate, policy.exports, &given) {
            (Propagate::Never, ..) => Onward::Nothing,
            (_, true, _) => Onward::Ours,
            (_, false, Some(_)) => Onward::AsItCame,
            (Propagate::Always, false, None) => Onward::Ours,
            (Propagate::Auto, false, None) => Onward::Nothing,
        };
        let Some(Parent { trace_id, span_id: parent, flags }) = given else {
            let sampled = policy.exports && is_drawn(trace_id, policy.sample);
            let flags = if sampled { SAMPLED | RANDOM } else { RANDOM };
            return Self { trace_id, span_id, sampled, flags, onward, ..Self::default() };
        };
        // Who began the trace decided whether it is recorded: half a trace is worth little.
        let sampled = policy.exports && flags & SAMPLED != 0;
        Self { trace_id, span_id, parent: Some(parent), sampled, flags, state: state(headers), onward }
    }

    /// What a provider is told about the attempt whose span is `span_id`, as headers.
    pub fn headers(&self, span_id: u64) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let span_id = match self.onward {
            Onward::Nothing => None,
            Onward::AsItCame => self.parent,
            Onward::Ours => Some(span_id),
        };
        let parent = span_id.and_then(|span_id| HeaderValue::try_from(self.text(span_id)).ok());
        let state = self.state.as_ref().filter(|_| parent.is_some());
        let state = state.and_then(|state| HeaderValue::from_str(state).ok());
        parent.map(|value| (TRACEPARENT, value)).into_iter().chain(state.map(|value| (TRACESTATE, value)))
    }

    /// The value of the answer's `traceresponse`, where there is a trace to be found by it.
    pub fn response(&self) -> Option<String> {
        self.sampled.then(|| self.text(self.span_id))
    }

    fn text(&self, span_id: u64) -> String {
        format!("00-{:032x}-{span_id:016x}-{:02x}", self.trace_id, self.flags)
    }
}

/// A `traceparent` that was understood.
struct Parent {
    trace_id: u128,
    span_id: u64,
    pub(super) flags: u8,
}

/// The one `traceparent` of a request; two are none.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let text = values.next()?.to_str().ok()?.trim_matches([' ', '\t']);
    if values.next().is_some() {
        return None;
    }
    let mut fields = text.splitn(5, '-');
    let version = hex(fields.next()?, 2)?;
    let (trace_id, span_id, flags) = (hex(fields.next()?, 32)?, hex(fields.next()?, 16)?, hex(fields.next()?, 2)?);
    // Version ff is forbidden, and only later versions than 00 may say more.
    let more = fields.next().is_some();
    if version == 0xff || (version == 0 && more) || trace_id == 0 || span_id == 0 {
        return None;
    }
    Some(Parent {
        trace_id,
        span_id: u64::try_from(span_id).ok()?,
        flags: u8::try_from(flags).ok()? & (SAMPLED | RANDOM),
    })
}

/// So many digits of lower-case hexadecimal.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// All `tracestate` headers as one; none when any member is wrong.
fn state(headers: &HeaderMap) -> Option<String> {
    let mut members: Vec<&str> = Vec::new();
    for value in headers.get_all(TRACESTATE) {
        let list = value.to_str().ok()?.split(',').map(|member| member.trim_matches([' ', '\t']));
        members.extend(list.filter(|member| !member.is_empty()));
        if members.len() > MAX_MEMBERS {
            return None;
        }
    }
    let key = |member: &str| member.split_once('=').map(|(key, _)| key.to_owned());
    let wrong = |(place, member): (usize, &&str)| {
        let earlier = members.iter().take(place);
        !is_member(member) || earlier.map(|other| key(other)).any(|other| other == key(member))
    };
    if members.is_empty() || members.iter().enumerate().any(wrong) {
        return None;
    }
    shorten(&mut members);
    (!members.is_empty()).then(|| members.join(","))
}

/// Takes whole members away until the rest may be handed on: long ones first, then from the end, where the oldest are.
fn shorten(members: &mut Vec<&str>) {
    let size = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while size(members) > MAX_STATE {
        match members.iter().rposition(|member| member.len() > LONG_MEMBER) {
            Some(place) => drop(members.remove(place)),
            None => drop(members.pop()),
        }
    }
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let first = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest = key.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@')
    });
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='));
    first && rest && key.len() <= 256 && plain && (1..=256).contains(&value.len()) && !value.ends_with(' ')
}

/// Whether a trace belongs to the share that is recorded: decided by the random part of its id, so that all who ask agree.
fn is_drawn(trace_id: u128, share: f64) -> bool {
    const ALL: u64 = 1 << 56;
    let place = (trace_id as u64) & (ALL - 1);
    share >= 1.0 || (place as f64) < share * ALL as f64
}

#[cfg(test)]
mod tests;
