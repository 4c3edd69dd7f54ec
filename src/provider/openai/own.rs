//! Whole chat answers that are OpenAI's own in every member: most of them. Nothing in such a one changes, so that only its usage is
//! to be read, and that costs a part of looking at all that could be put right (`response`).
//!
//! Invariant: whatever is taken here would come out of the longer way as it went in, with the same usage and bill.

use super::bill::tier_of;
use super::identity::{is_moment, is_text};
use super::usage::whole;
use crate::api::scan::MAX_DEPTH;
use crate::api::{grammar, walk};
use crate::usage::{Bill, Usage};

/// A member that an object may have: its name, whether it must be there, and what its text may be.
type Member = (&'static str, bool, fn(&str) -> bool);

const ANSWER: &[Member] = &[
    ("id", true, is_text),
    ("object", true, |raw| raw == "\"chat.completion\""),
    ("created", true, is_moment),
    ("model", true, is_text),
    ("choices", true, |raw| is_list_of(raw, CHOICE)),
    ("usage", true, |_| true),
    ("service_tier", false, |raw| matches!(raw, "null" | "\"default\"")),
    ("system_fingerprint", false, |_| true),
];

const CHOICE: &[Member] = &[
    ("index", true, |raw| raw.bytes().all(|byte| byte.is_ascii_digit())),
    ("message", true, |raw| fits(walk::members(raw), MESSAGE)),
    ("logprobs", true, |raw| raw == "null"),
    ("finish_reason", true, |raw| matches!(raw, "\"stop\"" | "\"length\"")),
];

const MESSAGE: &[Member] = &[
    ("role", true, |raw| raw == "\"assistant\""),
    ("content", true, |raw| raw.starts_with('"')),
    ("refusal", true, |raw| raw == "null"),
    ("annotations", false, |raw| raw == "[]"),
];

/// What such an answer tells; `None` of any other text.
pub(super) fn read(text: &str) -> Option<(Usage, Bill)> {
    let members = grammar::members(text, MAX_DEPTH)?;
    let raw = |(_, place): &(_, std::ops::Range<usize>)| text.get(place.clone()).unwrap_or_default();
    if !fits(members.iter().map(|member| (&*member.0, raw(member))), ANSWER) {
        return None;
    }
    let told = |name: &str| members.iter().find(|(key, _)| key == name).map(raw);
    let mut bill = Bill::default();
    if told("service_tier") == Some("\"default\"") {
        bill.tier = tier_of("default");
    }
    Some((whole(told("usage")?)?, bill))
}

/// Whether this is a list of such objects, with one at least.
fn is_list_of(raw: &str, allowed: &[Member]) -> bool {
    let mut items = walk::items(raw).peekable();
    items.peek().is_some() && items.all(|item| item.starts_with('{') && fits(walk::members(item), allowed))
}

/// Whether these are members that are allowed, each once, and all that must be there.
fn fits<'m, K: AsRef<str>>(members: impl Iterator<Item = (K, &'m str)>, allowed: &[Member]) -> bool {
    let mut seen = 0_u32;
    for (key, raw) in members {
        let Some(place) = allowed.iter().position(|(name, ..)| *name == key.as_ref()) else { return false };
        let fits = allowed.get(place).is_some_and(|(.., fits)| fits(raw));
        if !fits || seen & 1 << place != 0 {
            return false;
        }
        seen |= 1 << place;
    }
    allowed.iter().enumerate().all(|(place, (_, required, _))| !required || seen & 1 << place != 0)
}
