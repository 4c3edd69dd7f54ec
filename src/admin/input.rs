//! What comes in: JSON bodies and query strings, read strictly. What is not understood is refused by name, and no refusal quotes
//! a value, because a value may be a key that went into the wrong field.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::AdminState;
use super::respond::Failure;
use crate::error::{Error, ErrorKind, Result};
use crate::store::DayRange;

/// The largest body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// The longest span that `days` reaches back.
const MAX_DAYS: u32 = 3660;

/// A JSON body as a type.
pub(super) struct Input<T>(pub(super) T);

/// A body as it came, within the limit.
pub(super) struct Raw(pub(super) Bytes);

impl<T: DeserializeOwned> FromRequest<AdminState> for Input<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &AdminState) -> Result<Self, Failure> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        Ok(Self(parse(&bytes)?))
    }
}

impl FromRequest<AdminState> for Raw {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &AdminState) -> Result<Self, Failure> {
        if request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Error::new(ErrorKind::UnsupportedMediaType, "An encoded body is not accepted.").into());
        }
        match Limited::new(request.into_body(), MAX_BODY).collect().await {
            Ok(body) => Ok(Self(body.to_bytes())),
            Err(cause) if cause.is::<LengthLimitError>() => {
                let message = format!("The body is larger than {MAX_BODY} bytes.");
                Err(Error::new(ErrorKind::PayloadTooLarge, message).into())
            }
            Err(cause) => Err(Error::new(ErrorKind::ClientGone, "The body broke off.").with_cause(cause).into()),
        }
    }
}

/// For a field that may be absent (stays), `null` (is cleared) or a value.
pub(super) fn given<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut doubled = None;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let walked = Walk(&mut doubled).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    walked.map_err(|cause| {
        let place = format!("line {}, column {}", cause.line(), cause.column());
        Error::new(ErrorKind::InvalidRequest, format!("The request body is not valid JSON ({place})."))
    })?;
    if let Some(key) = doubled {
        let message = format!("The key '{key}' stands twice in one object.");
        return Err(Error::invalid(key, message));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(bytes))
        .map_err(|cause| refusal(&cause.path().to_string(), &cause.inner().to_string()))
}

/// serde's words as a refusal that names the field and not its value.
fn refusal(path: &str, text: &str) -> Error {
    let named = |start: &str| text.strip_prefix(start)?.split('`').next().map(str::to_owned);
    if let Some(field) = named("unknown field `") {
        let message = format!("Unknown field '{field}'.");
        return Error::invalid(field, message);
    }
    if let Some(field) = named("missing field `") {
        let message = format!("The field '{field}' is missing.");
        return Error::invalid(field, message);
    }
    let text = text.split(" at line ").next().unwrap_or_default();
    let expected = text.rsplit_once("expected ").map(|(_, what)| format!(": expected {what}")).unwrap_or_default();
    if path == "." {
        return Error::new(ErrorKind::InvalidRequest, "The request body must be a JSON object.");
    }
    Error::invalid(path, format!("Invalid value for '{path}'{expected}."))
}

/// Reads any JSON and notes the first key that stands twice in its object, at any depth.
struct Walk<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(Walk(self.0))?;
            if seen.contains(&key) && self.0.is_none() {
                *self.0 = Some(key.clone());
            }
            seen.insert(key);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Walk(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A query string. A handler takes what it knows and then calls [`Query::finish`], which refuses the rest.
pub(super) struct Query(BTreeMap<String, String>);

impl FromRequestParts<AdminState> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AdminState) -> Result<Self, Failure> {
        let mut all = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            if all.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Error::invalid(&*name, format!("The parameter '{name}' stands twice.")).into());
            }
        }
        Ok(Self(all))
    }
}

impl Query {
    /// A parameter; `None` when absent or empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, name: &str, least: u32, most: u32) -> Result<Option<u32>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| {
            Error::invalid(name, format!("Invalid value for '{name}': expected a number from {least} to {most}."))
        })
    }

    /// One of these words, with what it stands for.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&'static str, T)],
    ) -> Result<Option<(&'static str, T)>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        words.iter().find(|(word, _)| *word == text).copied().map(Some).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Error::invalid(name, format!("Invalid value for '{name}': expected {}.", all.join(", ")))
        })
    }

    /// `start_date`, `end_date` and `days`: the last so many days, today included.
    pub(super) fn days(&mut self, now: Timestamp) -> Result<DayRange> {
        let mut range = DayRange { start: self.date("start_date")?, end: self.date("end_date")? };
        if range.start.is_some_and(|start| range.end.is_some_and(|end| end < start)) {
            return Err(Error::invalid("end_date", "Invalid value for 'end_date': it lies before 'start_date'."));
        }
        if let Some(days) = self.number("days", 1, MAX_DAYS)? {
            if range != DayRange::default() {
                return Err(Error::invalid("days", "'days' can't be combined with 'start_date' or 'end_date'."));
            }
            let today = now.to_zoned(TimeZone::UTC).date();
            let start = today.checked_sub((i64::from(days) - 1).days()).map_err(Error::internal)?;
            range = DayRange { start: Some(start), end: Some(today) };
        }
        Ok(range)
    }

    /// Refuses every parameter that nobody took.
    pub(super) fn finish(self) -> Result<()> {
        match self.0.into_keys().next() {
            Some(name) => {
                let message = format!("Unknown parameter '{name}'.");
                Err(Error::invalid(name, message))
            }
            None => Ok(()),
        }
    }

    fn date(&mut self, name: &str) -> Result<Option<Date>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // jiff reads more than the one form that is promised.
        let date = Some(text).filter(|text| text.len() == 10).and_then(|text| text.parse().ok());
        date.map(Some).ok_or_else(|| Error::invalid(name, format!("Invalid value for '{name}': expected YYYY-MM-DD.")))
    }
}
