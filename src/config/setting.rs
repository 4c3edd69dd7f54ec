//! The types a key can have: from TOML, and from the text of an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::api::strategy::StrategyName;

/// A type that a key can have.
pub(crate) trait Setting: Sized {
    /// What to write, for the message "expected …".
    fn expected() -> String;

    /// Reads TOML; `None` when it is something else.
    fn from_toml(value: &DeValue<'_>) -> Option<Self>;

    /// Reads the text of an environment variable.
    fn from_text(text: &str) -> Option<Self>;
}

/// A type with an order, whose keys may have bounds.
pub(crate) trait Bounded: Setting + PartialOrd {
    /// The value as one would write it.
    fn show(&self) -> String;
}

/// A choice between words.
pub(crate) trait Words: Copy + 'static {
    /// The words and what they mean, in the order in which messages name them.
    fn words() -> Vec<(&'static str, Self)>;
}

impl<T: Words> Setting for T {
    fn expected() -> String {
        let words: Vec<String> = T::words().iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("one of {}", words.join(", "))
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        T::words().into_iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning)
    }
}

impl Words for StrategyName {
    fn words() -> Vec<(&'static str, Self)> {
        Self::ALL.into_iter().map(|name| (name.as_str(), name)).collect()
    }
}

impl Words for tracing::Level {
    fn words() -> Vec<(&'static str, Self)> {
        vec![
            ("error", Self::ERROR),
            ("warn", Self::WARN),
            ("info", Self::INFO),
            ("debug", Self::DEBUG),
            ("trace", Self::TRACE),
        ]
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn expected() -> String {
                "a whole number".to_owned()
            }

            fn from_toml(value: &DeValue<'_>) -> Option<Self> {
                let number = value.as_integer()?;
                Self::from_str_radix(number.as_str(), number.radix()).ok()
            }

            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }

        impl Bounded for $type {
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

integers!(u32, u64, usize);

impl Setting for f64 {
    fn expected() -> String {
        "a number".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as Self),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Setting for Duration {
    fn expected() -> String {
        "a duration such as \"500ms\", \"2s\" or \"10m\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
    }
}

impl Bounded for Duration {
    fn show(&self) -> String {
        jiff::SignedDuration::try_from(*self).map_or_else(|_| format!("{self:?}"), |span| format!("{span:#}"))
    }
}

impl Setting for SocketAddr {
    fn expected() -> String {
        "an address with a port such as \"127.0.0.1:3000\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Setting for String {
    fn expected() -> String {
        "a text in quotes, not empty".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }
}

impl Setting for PathBuf {
    fn expected() -> String {
        "a path in quotes".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        String::from_toml(value).map(Self::from)
    }

    fn from_text(text: &str) -> Option<Self> {
        String::from_text(text).map(Self::from)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn expected() -> String {
        format!("a list in brackets, each of them {}", T::expected())
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|item: &Spanned<DeValue<'_>>| T::from_toml(item.get_ref())).collect()
    }

    /// Separated by commas, or as in the file: in brackets.
    fn from_text(text: &str) -> Option<Self> {
        if let Some(list) = DeValue::parse(text.trim()).ok().filter(|value| value.get_ref().is_array()) {
            return Self::from_toml(list.get_ref());
        }
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::from_text).collect()
    }
}
