//! A JSON object looked at from above: its top-level members as spans, and edits that leave every other byte alone.
//!
//! This is how a body reaches a provider of the same dialect: unknown fields, number texts and white space survive, because
//! nothing is re-serialised. Not here: what the members mean (`chat`, `embeddings`).
//!
//! Invariants: a scanned body is valid UTF-8, valid JSON, an object without doubled top-level keys, and nested at most
//! [`MAX_DEPTH`] deep. An edit that changes nothing gives the same bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use faststr::FastStr;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::grammar;
use super::rope::{Assembly, Rope};
use super::walk::{end_of_string, span};
use crate::error::{Error, Result};

/// How deep a body may nest: serde_json's own recursion limit, so that whatever is scanned can also be parsed.
pub const MAX_DEPTH: usize = 127;

/// One top-level member.
#[derive(Clone, Debug)]
struct Member {
    key: String,
    value: Range<usize>,
}

/// A JSON object and where its members are.
#[derive(Clone)]
pub struct Body {
    bytes: Bytes,
    /// The same, checked once to be UTF-8.
    text: FastStr,
    members: Vec<Member>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.members.iter().map(|member| member.key.as_str()).collect();
        f.debug_struct("Body").field("len", &self.text.len()).field("keys", &keys).finish()
    }
}

impl Body {
    /// Checks and indexes a body. Every failure is a 400 that says what is wrong and, for syntax, where.
    pub fn scan(bytes: Bytes) -> Result<Self> {
        let text = FastStr::from_bytes(bytes.clone()).map_err(|_| {
            // Who checks fast does not say where.
            let byte = std::str::from_utf8(&bytes).map_or_else(|cause| cause.valid_up_to(), str::len);
            invalid(format!("The request body is not valid UTF-8 (byte {byte})."))
        })?;
        let members = match grammar::members(&text, MAX_DEPTH) {
            Some(members) => members,
            None => slowly(&text)?,
        };
        if let Some(key) = doubled(&members) {
            return Err(Error::invalid(key, format!("The key \"{key}\" stands twice in the request body.")));
        }
        let members = members.into_iter().map(|(key, value)| Member { key: key.into_owned(), value }).collect();
        Ok(Self { bytes, text, members })
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same as a text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A piece of [`text`](Self::text) as a body of its own, over the same bytes.
    ///
    /// Errors: as [`scan`](Self::scan), and `Internal` where it is no piece of it.
    pub fn part(&self, piece: &str) -> Result<Self> {
        // A short text was copied, so its pieces are none of the bytes.
        let place = span(self.text.as_bytes(), piece).ok_or_else(elsewhere)?;
        Self::scan(self.bytes.slice(place))
    }

    /// The raw JSON text of a member.
    pub fn raw(&self, key: &str) -> Option<&str> {
        let member = self.members.iter().find(|member| member.key == key)?;
        self.text.get(member.value.clone())
    }

    /// The names of the members, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.key.as_str())
    }

    /// A member as a type; `None` when absent or `null`. A wrong type is a 400 that names the member.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.raw(key) {
            None | Some("null") => Ok(None),
            Some(raw) => serde_json::from_str(raw)
                .map(Some)
                .map_err(|cause| Error::invalid(key, format!("Invalid value for '{key}': {}.", plain(&cause)))),
        }
    }

    /// Starts a list of changes.
    pub fn edit(&self) -> Edit<'_> {
        Edit { body: self, changes: Vec::new() }
    }
}

/// Changes to a body's top-level members.
#[derive(Debug)]
pub struct Edit<'a> {
    body: &'a Body,
    /// Later entries win; `None` removes.
    changes: Vec<(&'static str, Option<String>)>,
}

impl Edit<'_> {
    /// Sets a member to this JSON text, in its place or at the end. Setting what is already there changes nothing.
    pub fn set(&mut self, key: &'static str, json: impl Into<String>) -> &mut Self {
        let json = json.into();
        if self.body.raw(key) != Some(json.as_str()) {
            self.changes.push((key, Some(json)));
        }
        self
    }

    /// Removes a member.
    pub fn remove(&mut self, key: &'static str) -> &mut Self {
        if self.body.raw(key).is_some() {
            self.changes.push((key, None));
        }
        self
    }

    /// The bytes after all changes, in one piece; without any, the same buffer.
    pub fn apply(&self) -> Bytes {
        self.rope().whole()
    }

    /// The same in pieces, of which large ones are the body's own.
    pub fn rope(&self) -> Rope {
        if self.changes.is_empty() {
            return self.body.bytes().clone().into();
        }
        let source = self.body.bytes();
        let mut out = Assembly::new(source);
        out.put(b"{");
        let mut kept = 0usize;
        let mut end = source.iter().position(|byte| *byte == b'{').map_or(0, |brace| brace + 1);
        for member in &self.body.members {
            let lead = end..member.value.start;
            end = member.value.end;
            let change = self.change(&member.key);
            if let Some(None) = change {
                continue;
            }
            push_lead(&mut out, source, lead, kept == 0);
            match change {
                Some(Some(json)) => out.put(json.as_bytes()),
                _ => out.keep(member.value.clone()),
            }
            kept += 1;
        }
        for (key, json) in &self.changes {
            let Some(json) = json else { continue };
            if self.body.raw(key).is_some() {
                continue;
            }
            let comma = if kept > 0 { "," } else { "" };
            out.put(format!("{comma}\"{key}\":{json}").as_bytes());
            kept += 1;
        }
        out.keep(end..source.len());
        out.finish()
    }

    fn change(&self, key: &str) -> Option<&Option<String>> {
        self.changes.iter().rev().find(|(changed, _)| *changed == key).map(|(_, json)| json)
    }
}

/// Writes what stands before a value (comma, white space, key, colon), with a comma exactly when one is needed.
fn push_lead(out: &mut Assembly<'_>, source: &[u8], lead: Range<usize>, first: bool) {
    let text = source.get(lead.clone()).unwrap_or_default();
    let comma = text.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| text.get(*at) == Some(&b','));
    let stays = if first { comma.is_none() } else { comma == Some(0) };
    if stays {
        return out.keep(lead);
    }
    if !first {
        out.put(b",");
    }
    out.keep(lead.start + comma.map_or(0, |at| at + 1)..lead.end);
}

/// Members, by key, with the place of their values.
type Members<'a> = Vec<(Cow<'a, str>, Range<usize>)>;

fn elsewhere() -> Error {
    Error::internal("a piece of another text")
}

/// The members as serde_json finds them, or what is wrong.
fn slowly(text: &str) -> Result<Members<'_>> {
    if text.trim_start().is_empty() {
        return Err(invalid("The request body is empty; a JSON object is expected."));
    }
    check_depth(text.as_bytes())?;
    let spans: Spans<'_> = serde_json::from_str(text).map_err(|cause| invalid_json(&cause))?;
    let place = |raw: &RawValue| span(text.as_bytes(), raw.get()).ok_or_else(elsewhere);
    spans.0.into_iter().map(|(key, raw)| Ok((key, place(raw)?))).collect()
}

/// Keys that are compared one by one: the few of most bodies. The many of a few are looked up.
const FEW: usize = 24;

/// A key that stands twice.
fn doubled<'m>(members: &'m Members<'_>) -> Option<&'m str> {
    let keys = || members.iter().map(|(key, _)| &**key);
    if members.len() > FEW {
        let mut seen = HashSet::with_capacity(members.len());
        return keys().find(|key| !seen.insert(*key));
    }
    keys().enumerate().find(|(place, key)| keys().take(*place).any(|before| before == *key)).map(|(_, key)| key)
}

/// What one pass of serde_json over the object leaves behind.
struct Spans<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Spans<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(SpansVisitor)
    }
}

struct SpansVisitor;

impl<'de> Visitor<'de> for SpansVisitor {
    type Value = Spans<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            members.push((key, map.next_value()?));
        }
        Ok(Spans(members))
    }
}

/// A key, borrowed unless it holds escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// serde_json skips values without counting their depth, so that is done here, before.
fn check_depth(bytes: &[u8]) -> Result<()> {
    let mut depth = 0usize;
    let mut at = 0usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(invalid(format!("The request body nests deeper than {MAX_DEPTH} levels.")));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(bytes, at),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(crate::error::ErrorKind::InvalidRequest, message)
}

fn invalid_json(cause: &serde_json::Error) -> Error {
    if cause.is_data() {
        return invalid("The request body must be a JSON object.");
    }
    invalid(format!("The request body is not valid JSON: {cause}."))
}

/// serde_json's message without its position, which is relative to a member.
pub(crate) fn plain(cause: &serde_json::Error) -> String {
    let text = cause.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn scan(text: &str) -> Body {
        Body::scan(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn refuse(bytes: &[u8]) -> String {
        Body::scan(Bytes::copy_from_slice(bytes)).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_part_of_a_body_is_a_body_however_short_they_are() {
        for length in 0..60 {
            let body = scan(&format!(r#"{{"a":[{{"b":"{}"}}]}}"#, "x".repeat(length)));
            let inner = &body.raw("a").unwrap()[1..length + 9];
            let part = body.part(inner).unwrap();
            assert_eq!((part.text(), part.bytes().as_ref()), (inner, inner.as_bytes()));
            let owned = inner.to_owned();
            assert_eq!(body.part(&owned).unwrap_err().kind(), ErrorKind::Internal, "it only looks the same");
        }
    }

    #[test]
    fn an_edit_touches_only_what_it_names() {
        let body = scan("{ \"model\" : \"a\",\n \"seed\": 12345678901234567890123, \"x\":[1e999], \"timeout\": 5 }");
        let mut edit = body.edit();
        edit.set("model", "\"b\"").remove("timeout").set("stream_options", "{\"include_usage\":true}");
        assert_eq!(
            edit.apply(),
            "{ \"model\" : \"b\",\n \"seed\": 12345678901234567890123, \"x\":[1e999],\"stream_options\":{\"include_usage\":true} }"
        );
    }

    #[test]
    fn an_edit_without_effect_gives_the_same_buffer() {
        let body = scan("  {\"model\":\"a\"}");
        let mut edit = body.edit();
        edit.set("model", "\"a\"").remove("absent");
        assert_eq!(edit.apply().as_ptr(), body.bytes().as_ptr());
    }

    #[test]
    fn the_first_the_last_and_the_only_member_can_be_removed() {
        let removed = |text: &str, key: &'static str| {
            let body = scan(text);
            let mut edit = body.edit();
            edit.remove(key);
            String::from_utf8(edit.apply().to_vec()).unwrap()
        };
        assert_eq!(removed("{\"a\":1,\"b\":2}", "a"), "{\"b\":2}");
        assert_eq!(removed("{\"a\":1,\"b\":2}", "b"), "{\"a\":1}");
        assert_eq!(removed("{\"a\":1}", "a"), "{}");
        let body = scan("{}");
        let mut edit = body.edit();
        edit.set("a", "1");
        assert_eq!(edit.apply(), "{\"a\":1}");
    }

    #[test]
    fn bad_bodies_are_refused_with_a_reason() {
        assert!(refuse(b"").contains("empty"));
        assert!(refuse(b"[1]").contains("JSON object"));
        assert!(refuse(b"{\"a\":1").contains("not valid JSON"));
        assert!(refuse(b"{\"a\":\xff}").contains("UTF-8"));
        assert!(refuse(b"{\"model\":1,\"m\\u006fdel\":2}").contains("\"model\" stands twice"));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(128), "]".repeat(128));
        assert!(refuse(deep.as_bytes()).contains("nests deeper"));
    }

    #[test]
    fn brackets_inside_strings_do_not_count_as_nesting() {
        let text = format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(500));
        assert_eq!(scan(&text).keys().collect::<Vec<_>>(), ["a"]);
    }
}
