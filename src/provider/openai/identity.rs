//! What an answer and every chunk must say of itself by OpenAI's schema (`id`, `object`, `created`, `model`), given to those
//! that don't: AI21 leaves three of them out, Azure's first chunk has them empty, Snowflake has no id.
//!
//! Invariant: a chunk that says them stays as it is; what is added is the same over a whole stream.

use serde_json::Value;
use serde_json::value::RawValue;

use super::AnswerContext;
use super::splice::Splice;

/// What it says; each member with its `null`, because a second one must not be added beside it.
#[derive(Clone, Copy)]
pub(super) struct IdentityView<'a> {
    pub(super) id: Option<&'a RawValue>,
    pub(super) object: Option<&'a RawValue>,
    pub(super) created: Option<&'a RawValue>,
    pub(super) model: Option<&'a RawValue>,
}

impl IdentityView<'_> {
    /// Whether it says what later chunks say, too.
    pub(super) fn is_named(&self) -> bool {
        says_something(self.id) && says_something(self.model)
    }

    /// The moment; a zero beside an empty kind is none (Azure).
    fn created(&self) -> Option<&RawValue> {
        self.created.filter(|created| created.get() != "0" || says_something(self.object))
    }
}

/// The values, as JSON texts: the provider's own as soon as it said them, this gateway's until then.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) created: String,
    pub(super) model: String,
}

impl Identity {
    pub(super) fn new(context: &AnswerContext) -> Self {
        Self {
            id: Value::from(context.id.as_str()).to_string(),
            created: context.created.to_string(),
            model: Value::from(context.model.as_str()).to_string(),
        }
    }

    /// Takes over what the provider says.
    pub(super) fn learn(&mut self, view: IdentityView<'_>) {
        for (ours, theirs) in
            [(&mut self.id, view.id), (&mut self.created, view.created()), (&mut self.model, view.model)]
        {
            if let Some(theirs) = theirs.filter(|theirs| says_something(Some(*theirs)) && *ours != theirs.get()) {
                theirs.get().clone_into(ours);
            }
        }
    }

    /// Adds what is missing in the answer or chunk whose text is `source`.
    pub(super) fn complete(&self, view: IdentityView<'_>, source: &[u8], object: &str, splice: &mut Splice<'_>) {
        let object = Value::from(object).to_string();
        let mut missing = String::new();
        for (name, theirs, ours) in [
            ("id", view.id, &self.id),
            ("object", view.object, &object),
            ("created", view.created, &self.created),
            ("model", view.model, &self.model),
        ] {
            let unsaid = name == "created" && view.created().is_none();
            match theirs {
                None => missing.push_str(&format!("\"{name}\":{ours},")),
                Some(empty) if unsaid || !says_something(theirs) => splice.replace(empty.get(), ours.as_str()),
                Some(_) => {}
            }
        }
        // An object that holds choices holds something after the brace.
        let brace = source.iter().position(|byte| *byte == b'{').and_then(|at| source.get(at..=at));
        if let Some(brace) = brace.and_then(|brace| std::str::from_utf8(brace).ok()).filter(|_| !missing.is_empty()) {
            splice.insert_after(brace, missing);
        }
    }
}

fn says_something(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| !matches!(raw.get(), "null" | "\"\""))
}
