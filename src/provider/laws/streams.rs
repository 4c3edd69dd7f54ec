//! Laws of streams: the cut does not matter, what is unknown changes nothing, what is cut off never looks whole.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::reading::{Said, read};
use super::script::frame;
use super::{Played, Sample, play, recorded, written};
use crate::frames::Framing;
use crate::provider::End;
use crate::sse::Event;

/// Members that hold what a model says, whatever their names: a field that is put there is part of the answer.
const SPOKEN: &[&str] = &["input", "args", "arguments"];

/// Numbers that differ from sample to sample and not from run to run.
struct Dice(u64);

impl Dice {
    fn of(sample: &Sample) -> Self {
        Self(u64::from(crc32fast::hash(sample.id.as_bytes())) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

fn assert_uncut(sample: &Sample, whole: &Played, cut: &Played, how: &str) {
    let text = |played: &Played| String::from_utf8_lossy(&played.bytes).into_owned();
    assert_eq!(text(cut), text(whole), "{} {how}", sample.id);
    assert_eq!((&cut.usage, &cut.end), (&whole.usage, &whole.end), "{} {how}", sample.id);
}

/// Places in a stream that are worth a cut: around line ends, and some of the others.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_end = |at: usize| bytes.get(at).is_some_and(|byte| matches!(byte, b'\n' | b'\r'));
    (0..bytes.len()).filter(move |at| at % 17 == 0 || is_end(*at) || is_end(at.saturating_sub(1)) || is_end(at + 1))
}

#[test]
fn every_cut_in_two_and_byte_by_byte_gives_the_same() {
    for mut sample in written() {
        let framing = sample.provider.dialect.framing();
        let plain = std::mem::take(&mut sample.bytes);
        let ends: &[&str] = if framing == Framing::Sse { &["\n", "\r\n", "\r"] } else { &["\n"] };
        for line_end in ends {
            sample.bytes = plain.clone();
            if *line_end != "\n" {
                sample.bytes = String::from_utf8(plain.clone()).unwrap().replace('\n', line_end).into_bytes();
            }
            let (bytes, whole) = (&sample.bytes, sample.play());
            assert_uncut(&sample, &whole, &play(sample.provider, &sample.model, bytes.chunks(1)), "byte by byte");
            for cut in places(bytes) {
                let (left, right) = bytes.split_at(cut);
                let how = format!("cut at {cut}, lines end with {line_end:?}");
                assert_uncut(&sample, &whole, &play(sample.provider, &sample.model, [left, right]), &how);
            }
        }
    }
}

#[test]
fn recorded_streams_may_be_cut_anywhere() {
    for sample in recorded() {
        let (mut dice, whole) = (Dice::of(&sample), sample.play());
        let mut rest = sample.bytes.as_slice();
        let pieces = std::iter::from_fn(|| {
            let (piece, after) = rest.split_at_checked(1 + dice.below(60)).unwrap_or((rest, &[]));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        assert_uncut(&sample, &whole, &play(sample.provider, &sample.model, pieces), "in small pieces");
    }
}

/// What a client can tell of it.
fn understood(played: &Played) -> (Said, Option<crate::usage::Usage>, Result<End, crate::error::ErrorKind>) {
    (read(&played.bytes), played.usage, played.end)
}

/// Plays a sample with more events in it, in front of the event at `place`.
fn with_more(sample: &Sample, place: usize, more: &[Vec<u8>]) -> Played {
    let events = sample.events();
    let raws: Vec<&[u8]> = events.iter().map(|event| event.raw.as_ref()).collect();
    let (before, after) = raws.split_at(place.min(raws.len()));
    let pieces = before.iter().copied().chain(more.iter().map(Vec::as_slice)).chain(after.iter().copied());
    play(sample.provider, &sample.model, pieces)
}

/// Events of no known kind.
fn unknown_events(framing: Framing) -> Vec<Vec<u8>> {
    let data = r#"{"type":"tomorrow","tomorrow":{"type":"x","list":[1,null]}}"#;
    let mut events = vec![frame(framing, "tomorrow", data)];
    if framing == Framing::Sse {
        events.extend([&b": keep-alive\n\n"[..], b"id: 7\nretry: 10\n\n", b"\n\r\n"].map(<[u8]>::to_vec));
    }
    events
}

fn strange(sample: &Sample) -> Vec<Vec<u8>> {
    let framing = sample.provider.dialect.framing();
    sample.script.strange.iter().map(|(name, data)| frame(framing, name, data)).collect()
}

/// Plays a sample with an unknown field in one object of one event.
fn with_field(sample: &Sample, place: usize, object: usize, first: bool) -> Played {
    let mut events = sample.events();
    let count = events.len();
    let event = &mut events[place % count];
    if let Ok(mut data) = serde_json::from_slice::<Value>(&event.data) {
        let mut left = object % objects(&data).max(1);
        put(&mut data, &mut left, first);
        let name = event.name.as_deref().map(|name| std::str::from_utf8(name).unwrap()).unwrap_or_default();
        let raw = frame(sample.provider.dialect.framing(), name, &data.to_string());
        *event = Event { raw: raw.into(), ..event.clone() };
    }
    play(sample.provider, &sample.model, events.iter().map(|event| event.raw.as_ref()))
}

/// How many objects a field can be put into.
fn objects(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            1 + members
                .iter()
                .filter(|(name, _)| !SPOKEN.contains(&name.as_str()))
                .map(|(_, it)| objects(it))
                .sum::<usize>()
        }
        Value::Array(items) => items.iter().map(objects).sum(),
        _ => 0,
    }
}

/// Puts a field into the object that comes after `left` others.
fn put(value: &mut Value, left: &mut usize, first: bool) -> bool {
    match value {
        Value::Object(members) if *left == 0 => {
            let field = ("tomorrow".to_owned(), json!({"type": "x", "list": [1, null]}));
            let old = std::mem::take(members);
            let new: Map<String, Value> = if first {
                std::iter::once(field).chain(old).collect()
            } else {
                old.into_iter().chain([field]).collect()
            };
            *members = new;
            true
        }
        Value::Object(members) => {
            *left -= 1;
            members.iter_mut().filter(|(name, _)| !SPOKEN.contains(&name.as_str())).any(|(_, it)| put(it, left, first))
        }
        Value::Array(items) => items.iter_mut().any(|it| put(it, left, first)),
        _ => false,
    }
}

#[test]
fn what_is_unknown_may_stand_anywhere() {
    for sample in written() {
        let plain = understood(&sample.play());
        let events = sample.events();
        for place in 0..=events.len() {
            for unknown in unknown_events(sample.provider.dialect.framing()) {
                let played = with_more(&sample, place, std::slice::from_ref(&unknown));
                let shown = String::from_utf8_lossy(&unknown).into_owned();
                assert_eq!(understood(&played), plain, "{}: {shown} before event {place}", sample.id);
            }
            let played = with_more(&sample, place, &strange(&sample));
            assert_eq!(understood(&played), plain, "{}: a strange block before event {place}", sample.id);
        }
        for (place, event) in events.iter().enumerate() {
            let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
            for (object, first) in (0..objects(&data)).flat_map(|object| [(object, true), (object, false)]) {
                let played = with_field(&sample, place, object, first);
                let where_to = format!("in object {object} of event {place}, first: {first}");
                assert_eq!(understood(&played), plain, "{}: a field {where_to}", sample.id);
            }
        }
    }
}

#[test]
fn recorded_streams_bear_what_is_unknown() {
    for sample in recorded() {
        let plain = understood(&sample.play());
        if plain.2 != Ok(End::Complete) || !plain.0.is_whole() {
            continue;
        }
        let mut dice = Dice::of(&sample);
        let count = sample.events().len();
        let mut unknown = unknown_events(sample.provider.dialect.framing());
        let one = unknown.swap_remove(dice.below(unknown.len()));
        let played = with_more(&sample, dice.below(count + 1), &[one]);
        assert_eq!(understood(&played), plain, "{}: an event", sample.id);
        let played = with_more(&sample, dice.below(count + 1), &strange(&sample));
        assert_eq!(understood(&played), plain, "{}: a strange block", sample.id);
        let (place, object) = (dice.below(count), dice.below(100));
        let played = with_field(&sample, place, object, dice.below(2) == 0);
        assert_eq!(understood(&played), plain, "{}: a field in object {object} of event {place}", sample.id);
    }
}

/// A stream that ends early is either known to be cut, or has said everything: the provider had told its end.
fn assert_cut_shows(sample: &Sample, whole: &Said, bytes: &[u8], how: &str) {
    let played = play(sample.provider, &sample.model, [bytes]);
    let said = read(&played.bytes);
    if played.end != Ok(End::Complete) && !said.looks_complete() {
        return;
    }
    assert_eq!(said.choices, whole.choices, "{} looks complete {how}", sample.id);
}

#[test]
fn a_stream_that_breaks_off_never_looks_complete() {
    for sample in written() {
        let whole = read(&sample.play().bytes);
        for length in places(&sample.bytes) {
            assert_cut_shows(&sample, &whole, &sample.bytes[..length], &format!("after {length} bytes"));
        }
    }
}

#[test]
fn recorded_streams_that_break_off_never_look_complete() {
    for sample in recorded() {
        let whole = read(&sample.play().bytes);
        if !whole.looks_complete() {
            continue;
        }
        let events = sample.events();
        // Google says `finishReason` before and after it runs code: at the first one nobody can know of the second.
        let told = |event: &&Event| String::from_utf8_lossy(&event.data).contains("\"finishReason\"");
        if !whole.is_whole() || events.iter().filter(told).count() > 1 {
            continue;
        }
        let count = events.len();
        for kept in [1, count / 2, count.saturating_sub(3), count.saturating_sub(2), count.saturating_sub(1)] {
            let bytes: Vec<u8> = events.iter().take(kept).flat_map(|event| event.raw.to_vec()).collect();
            assert_cut_shows(&sample, &whole, &bytes, &format!("after {kept} of {count} events"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_cut_gives_the_same(which in any::<prop::sample::Index>(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let all = written();
        let sample = which.get(&all);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sample.bytes.len() + 1)).collect();
        cuts.extend([0, sample.bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &sample.bytes[pair[0]..pair[1]]);
        assert_uncut(sample, &sample.play(), &play(sample.provider, &sample.model, pieces), "in many pieces");
    }
}
