//! What an answer and every chunk must say of itself by OpenAI's schema (`id`, `object`, `created`, `model`), given to those
//! that don't: AI21 leaves three of them out, Azure's first chunk has them empty, Snowflake has no id.
//!
//! Invariant: they are the same over a whole stream, and real; a chunk that says them so stays as it is.

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
        self.id.is_some_and(is_text) && self.model.is_some_and(is_text)
    }

    /// Whether it says everything, as OpenAI does, and that it is this kind of object: there is nothing to be put in.
    pub(super) fn is_complete(&self, object: &str) -> bool {
        let is_moment = |created: &RawValue| {
            let text = created.get();
            text.bytes().all(|byte| byte.is_ascii_digit()) && moment(created).is_some()
        };
        let is_object =
            |raw: &RawValue| raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) == Some(object);
        self.is_named() && self.object.is_some_and(is_object) && self.created.is_some_and(is_moment)
    }
}

/// Seconds since 1970. Zero is no moment, and some servers write a fraction.
fn moment(raw: &RawValue) -> Option<i64> {
    let text = raw.get().split('.').next()?;
    text.parse().ok().filter(|seconds| *seconds > 0)
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
        for (ours, theirs) in [(&mut self.id, view.id), (&mut self.model, view.model)] {
            if let Some(theirs) = theirs.filter(|theirs| is_text(theirs)) {
                theirs.get().clone_into(ours);
            }
        }
        if let Some(moment) = view.created.and_then(moment) {
            self.created = moment.to_string();
        }
    }

    /// Makes the answer or chunk whose text is spliced say this, and of which kind it is.
    pub(super) fn complete(&self, view: IdentityView<'_>, object: &str, splice: &mut Splice<'_>) {
        let object = Value::from(object).to_string();
        for (name, theirs, ours) in [
            ("id", view.id, &self.id),
            ("object", view.object, &object),
            ("created", view.created, &self.created),
            ("model", view.model, &self.model),
        ] {
            match theirs {
                None => splice.open(format!("\"{name}\":{ours}")),
                Some(same) if same.get() == ours => {}
                Some(other) => splice.replace(other.get(), ours.as_str()),
            }
        }
    }
}

fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"') && raw.get() != "\"\""
}
