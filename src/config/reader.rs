//! Takes keys out of TOML and of the environment, and remembers everything that is wrong on the way.
//!
//! Each key passes through here once, where its type, default and bounds are declared; a key that was written but that
//! nobody took is unknown. A mistake yields the default, so that reading goes on to the next mistake.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problems::{Place, Problem};
use super::setting::{Bounded, Setting};

/// What the names of overriding variables begin with.
const PREFIX: &str = "PERPETUO__";

/// A text with its name.
#[derive(Clone, Copy)]
pub(crate) struct Source<'t> {
    pub(crate) file: &'t str,
    pub(crate) text: &'t str,
}

impl<'t> Source<'t> {
    /// Parses as much as can be parsed, and says what can't.
    pub(crate) fn parse(self) -> (DeTable<'t>, Vec<Problem>) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let problem = |error: toml::de::Error| Problem {
            place: self.place(error.span().map_or(0, |span| span.start)),
            key: String::new(),
            message: error.message().to_owned(),
        };
        (table.into_inner(), errors.into_iter().map(problem).collect())
    }

    /// The line that holds this byte.
    pub(crate) fn place(self, offset: usize) -> Place {
        let before = self.text.as_bytes().iter().take(offset);
        Place::File(self.file.to_owned(), Some(1 + before.filter(|byte| **byte == b'\n').count()))
    }
}

/// A value as it was written.
enum Written<'t> {
    Toml(DeValue<'t>),
    Text(String),
}

/// Where something was written. Its line is counted only for a mistake, because counting reads the text from its beginning.
#[derive(Clone)]
enum Spot {
    File,
    Byte(usize),
    Environment(String),
}

struct Leaf<'t> {
    value: Written<'t>,
    spot: Spot,
    taken: bool,
}

/// Keys as they were written, by `section.key`.
pub(crate) struct Reader<'t> {
    source: Source<'t>,
    /// Where an absent key is missing.
    base: Spot,
    /// Put before the key in messages, to tell entries of a list apart.
    label: String,
    leaves: BTreeMap<String, Leaf<'t>>,
    /// Every key that was asked for so far.
    pub(super) declared: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// A reader with nothing written: every key has its default.
    pub(crate) fn empty(source: Source<'t>) -> Self {
        Self {
            source,
            base: Spot::File,
            label: String::new(),
            leaves: BTreeMap::new(),
            declared: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// A reader of a whole document with one level of sections.
    pub(crate) fn document(source: Source<'t>) -> Self {
        let (table, problems) = source.parse();
        let mut reader = Self::empty(source);
        reader.problems = problems;
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let is_section = matches!(value.get_ref(), DeValue::Table(_));
            if is_section {
                reader.section(&name, key.span().start, value.into_inner());
            } else {
                reader.insert(name, key.span().start, value);
            }
        }
        reader
    }

    /// A reader of one table in a list that stands at `offset`; `label` comes before its keys in messages.
    pub(crate) fn entry(source: Source<'t>, label: &str, offset: usize, table: DeTable<'t>) -> Self {
        let mut reader = Self { label: label.to_owned(), base: Spot::Byte(offset), ..Self::empty(source) };
        for (key, value) in table {
            reader.insert(key.get_ref().to_string(), key.span().start, value);
        }
        reader
    }

    /// An empty section leaves one leaf behind, which is unknown unless it is declared.
    fn section(&mut self, name: &str, offset: usize, value: DeValue<'t>) {
        let DeValue::Table(table) = value else { return };
        if table.is_empty() {
            let spot = Spot::Byte(offset);
            self.leaves.insert(format!("{name}."), Leaf { value: Written::Text(String::new()), spot, taken: false });
        }
        for (key, value) in table {
            self.insert(format!("{name}.{}", key.get_ref()), key.span().start, value);
        }
    }

    fn insert(&mut self, path: String, offset: usize, value: Spanned<DeValue<'t>>) {
        let spot = Spot::Byte(offset);
        self.leaves.insert(path, Leaf { value: Written::Toml(value.into_inner()), spot, taken: false });
    }

    /// Lets `PERPETUO__SECTION__KEY` win over the file. Other names are not looked at.
    pub(crate) fn override_with<'e>(&mut self, env: impl IntoIterator<Item = (&'e String, &'e String)>) {
        for (name, text) in env {
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let path = path.to_lowercase().replace("__", ".");
            let spot = Spot::Environment(name.clone());
            self.leaves.insert(path, Leaf { value: Written::Text(text.clone()), spot, taken: false });
        }
    }

    /// The value of a key that may be absent.
    pub(crate) fn optional<T: Setting>(&mut self, path: &'static str) -> Option<T> {
        self.declared.push(path);
        let leaf = self.leaves.get_mut(path)?;
        leaf.taken = true;
        let value = match &leaf.value {
            Written::Toml(value) => T::from_toml(value),
            Written::Text(text) => T::from_text(text),
        };
        if value.is_none() {
            self.refuse(path, format!("expected {}", T::expected()));
        }
        value
    }

    /// The value of a key, or its default.
    pub(crate) fn take<T: Setting>(&mut self, path: &'static str, default: T) -> T {
        self.optional(path).unwrap_or(default)
    }

    /// The value of a key that must stand there.
    pub(crate) fn required<T: Setting>(&mut self, path: &'static str) -> Option<T> {
        if !self.written(path) {
            self.declared.push(path);
            self.refuse(path, format!("missing: expected {}", T::expected()));
            return None;
        }
        self.optional(path)
    }

    /// The value of a key with bounds, or its default.
    pub(crate) fn within<T: Bounded>(&mut self, path: &'static str, default: T, bounds: RangeInclusive<T>) -> T {
        let value = self.take(path, default);
        if !bounds.contains(&value) {
            let (least, most) = (bounds.start().show(), bounds.end().show());
            self.refuse(path, format!("must be between {least} and {most}"));
        }
        value
    }

    /// Whether someone wrote this key.
    pub(crate) fn written(&self, path: &str) -> bool {
        self.leaves.contains_key(path)
    }

    /// Notes a mistake where the key was written, or where it is missing.
    pub(crate) fn refuse(&mut self, path: &str, message: impl Into<String>) {
        let spot = self.leaves.get(path).map_or(&self.base, |leaf| &leaf.spot);
        self.note(self.place(spot), path, message.into());
    }

    fn place(&self, spot: &Spot) -> Place {
        match spot {
            Spot::File => Place::File(self.source.file.to_owned(), None),
            Spot::Byte(offset) => self.source.place(*offset),
            Spot::Environment(name) => Place::Environment(name.clone()),
        }
    }

    /// Notes a mistake at a place. A line that is not even TOML has its say already.
    pub(crate) fn note(&mut self, place: Place, path: &str, message: String) {
        let broken = |earlier: &Problem| earlier.key.is_empty() && earlier.place == place;
        if !self.problems.iter().any(broken) {
            self.problems.push(Problem { place, key: format!("{}{path}", self.label), message });
        }
    }

    /// Every mistake, unknown keys included. Call it when all keys are taken.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        let left: Vec<(String, Place)> = self
            .leaves
            .iter()
            .filter(|(path, leaf)| !leaf.taken && !self.declares_section(path))
            .map(|(path, leaf)| (path.clone(), self.place(&leaf.spot)))
            .collect();
        for (path, place) in left {
            let message = self.unknown(path.trim_end_matches('.'));
            self.note(place, path.trim_end_matches('.'), message);
        }
        self.problems
    }

    /// What to say about a key that nobody took.
    fn unknown(&self, path: &str) -> String {
        if self.declares_section(&format!("{path}.")) {
            return format!("expected a section: [{path}]");
        }
        if self.declared.contains(&path) {
            return "expected a value, not a section".to_owned();
        }
        match suggestion(path, &self.declared) {
            Some(near) => format!("unknown key; did you mean {}{near}?", self.label),
            None => "unknown key".to_owned(),
        }
    }

    fn declares_section(&self, path: &str) -> bool {
        path.ends_with('.') && self.declared.iter().any(|known| known.starts_with(path))
    }
}

/// The declared key that was probably meant: the same key elsewhere, else the key or section nearest by letters.
fn suggestion(path: &str, declared: &[&'static str]) -> Option<&'static str> {
    let last = path.rsplit('.').next();
    let mut moved = declared.iter().filter(|known| known.rsplit('.').next() == last);
    if let (Some(only), None) = (moved.next(), moved.next()) {
        return Some(only);
    }
    let sections = declared.iter().filter_map(|known| known.split_once('.')).map(|(section, _)| section);
    let nearness = |known: &str| strsim::normalized_damerau_levenshtein(path, known);
    let candidates = declared.iter().copied().chain(sections);
    let best = candidates.max_by(|a, b| nearness(a).total_cmp(&nearness(b)))?;
    (nearness(best) >= 0.6).then_some(best)
}
