//! The closed sets that labels take their values from.
//!
//! Invariant: whatever text comes in, what goes out is a `&'static str` of this file, of the error table or of the list of
//! providers, and its place in its set, which caches are keyed by.

use std::sync::LazyLock;

use hashbrown::HashMap;

use crate::error::{ErrorKind, Fault};
use crate::provider::PROVIDERS;

/// The label of what is beyond a bound, or in no closed set.
pub(super) const OTHER: &str = "other";
/// The label of what there was none of.
pub(super) const NONE: &str = "none";
/// The reason of what did not fail.
pub(super) const OK: &str = "ok";
/// The kinds of billed tokens; they do not overlap.
pub(super) const TOKEN_TYPES: [&str; 4] = ["input", "cached_read", "cache_write", "output"];
/// Why tokens were paid for that brought nobody an answer.
pub(super) const WASTES: [&str; 4] = ["retry", "hedge", "disconnect", "failure"];
/// The statuses that have a label of their own.
const STATUSES: [(u16, &str); 19] = [
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (499, "499"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];
/// How many reasons there are: success, every kind of error, and one that is none of ours.
pub(super) const REASONS: usize = 2 + ErrorKind::ALL.len();

/// A value from a closed set, and its place there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub(super) place: u8,
    pub(super) text: &'static str,
}

static PROVIDER_LABELS: LazyLock<HashMap<&'static str, Label>> = LazyLock::new(|| {
    (2..).zip(PROVIDERS).map(|(place, known)| (known.name, Label { place, text: known.name })).collect()
});

/// Of no provider.
pub(super) const NO_PROVIDER: Label = Label { place: 0, text: NONE };

/// The name of a provider.
pub(super) fn provider(name: &str) -> Label {
    PROVIDER_LABELS.get(name).copied().unwrap_or(Label { place: 1, text: OTHER })
}

/// A word of the error table, and whose fault that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reason {
    pub(super) label: Label,
    pub(super) fault: &'static str,
}

static REASON_LABELS: LazyLock<HashMap<&'static str, Reason>> = LazyLock::new(|| {
    let rows = ErrorKind::ALL.map(ErrorKind::row);
    let reason = |(place, row): (u8, crate::error::Row)| {
        (row.code, Reason { label: Label { place, text: row.reason }, fault: row.fault().as_str() })
    };
    (1..).zip(rows).map(reason).collect()
});

/// Why something failed, by the code that the ledger has; none for what did not.
pub(super) fn reason(code: Option<&str>) -> Reason {
    const UNKNOWN: Reason =
        Reason { label: Label { place: REASONS as u8 - 1, text: OTHER }, fault: Fault::Gateway.as_str() };
    const SUCCESS: Reason = Reason { label: Label { place: 0, text: OK }, fault: NONE };
    code.map_or(SUCCESS, |code| REASON_LABELS.get(code).copied().unwrap_or(UNKNOWN))
}

/// OpenTelemetry's `error.type`: absent, which is empty, on success.
pub(super) const fn error_type(reason: Reason) -> &'static str {
    if reason.label.place == 0 { "" } else { reason.label.text }
}

/// An HTTP status.
pub(super) fn status(code: u16) -> Label {
    let known = (1..).zip(STATUSES).find(|(_, (known, _))| *known == code);
    known.map_or(Label { place: 0, text: OTHER }, |(place, (_, text))| Label { place, text })
}
