//! What was seen, and where.

use std::path::PathBuf;

use serde::Serialize;

/// Something that a machine may have, as far as it could be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen<T> {
    /// It is there, and this is what it says.
    Is(T),
    /// It is not there.
    Absent,
    /// It may be there.
    CouldNotSee {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be seen.
        why: String,
    },
}

impl<T> Seen<T> {
    /// The value, if there is one and it could be seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Is(value) => Some(value),
            Seen::Absent | Seen::CouldNotSee { .. } => None,
        }
    }

    /// Whether it is there; `None` if that could not be seen.
    pub fn is_there(&self) -> Option<bool> {
        match self {
            Seen::Is(_) => Some(true),
            Seen::Absent => Some(false),
            Seen::CouldNotSee { .. } => None,
        }
    }

    /// Makes something else of the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Is(value) => Seen::Is(f(value)),
            Seen::Absent => Seen::Absent,
            Seen::CouldNotSee { path, why } => Seen::CouldNotSee { path, why },
        }
    }

    /// Makes something else of the value, or finds that it is not what was looked for.
    pub(crate) fn find<U>(self, f: impl FnOnce(T) -> Option<U>) -> Seen<U> {
        match self.map(f) {
            Seen::Is(Some(value)) => Seen::Is(value),
            Seen::Is(None) | Seen::Absent => Seen::Absent,
            Seen::CouldNotSee { path, why } => Seen::CouldNotSee { path, why },
        }
    }

    /// The same, said to come from somewhere.
    pub(crate) fn from(self, from: impl Into<String>) -> Fact<T> {
        Fact {
            seen: self,
            from: from.into(),
        }
    }
}

/// Something that was looked for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact<T> {
    /// What was seen.
    pub seen: Seen<T>,
    /// The file that says so, or where it was looked for.
    pub from: String,
}

impl<T> Fact<T> {
    /// The value, if there is one and it could be seen.
    pub fn known(&self) -> Option<&T> {
        self.seen.known()
    }
}
