//! What is wrong where, as FastAPI's servers say it: `detail`, a text or a list of `{"loc","msg"}`.

use serde_json::Value;

/// The details as one text.
pub(in crate::provider) fn sentence(details: &Value) -> String {
    let Some(list) = details.as_array() else {
        return details.as_str().unwrap_or_default().to_owned();
    };
    let each = list.iter().map(|detail| {
        let why = detail.as_str().or_else(|| detail.get("msg")?.as_str()).unwrap_or_default();
        place(detail).map_or_else(|| why.to_owned(), |place| format!("{place}: {why}"))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Where something is wrong, without the `body` that every place begins with.
pub(in crate::provider) fn place(detail: &Value) -> Option<String> {
    let steps = detail.get("loc")?.as_array()?.iter().filter(|step| step.as_str() != Some("body"));
    let names = steps.map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
    Some(names.collect::<Vec<_>>().join(".")).filter(|place| !place.is_empty())
}
