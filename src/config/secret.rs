//! A text that must not be seen: no `Debug`, no `Display`, no `Serialize`, no `==`, wiped when dropped.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text. A struct that holds one can't derive `Debug`, which is the point.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for the one place that needs it: a header, a cipher, a comparison.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the same text, in a time that does not tell where they differ.
    pub fn is(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }

    /// The last four characters, which may be shown to tell keys apart; fewer than twelve show nothing.
    pub fn last_four(&self) -> String {
        let count = self.0.chars().count();
        if count < 12 { String::new() } else { self.0.chars().skip(count - 4).collect() }
    }
}
