//! Mistakes in a file or in the environment, gathered so that one run shows them all.
//!
//! Invariant: a message about the configuration never quotes a value, because the value may be a secret in the wrong
//! place. The line shows where to look.

use std::fmt;

/// Where a mistake stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file and, unless the mistake is an absence, the line, counted from 1.
    File(String, Option<usize>),
    /// A variable of the environment.
    Environment(String),
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The key with its section, such as `server.listen`; empty when the text is not even TOML.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(file, Some(line)) => write!(f, "{file}:{line}: ")?,
            Place::File(file, None) => write!(f, "{file}: ")?,
            // The variable's name says which key is meant.
            Place::Environment(name) => return write!(f, "environment {name}: {}", self.message),
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Every mistake that was found, in the order of the lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `Ok` with the value when there is no mistake, else all of them in order.
    pub(crate) fn or<T>(mut found: Vec<Problem>, value: T) -> Result<T, Self> {
        found.sort();
        found.dedup();
        if found.is_empty() { Ok(value) } else { Err(Self(found)) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
