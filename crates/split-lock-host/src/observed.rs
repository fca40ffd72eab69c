//! What could be observed of a machine, and where.

use std::path::PathBuf;

use serde::Serialize;

/// Something that a machine may have, as far as it could be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed<T> {
    /// It is there, and this is what it says.
    Is(T),
    /// It is not there.
    Absent,
    /// It may be there.
    #[serde(rename = "could_not_see")]
    Unreadable {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be seen.
        why: String,
    },
}

impl<T> Observed<T> {
    /// The value, if there is one and it could be seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Observed::Is(value) => Some(value),
            Observed::Absent | Observed::Unreadable { .. } => None,
        }
    }

    /// Whether it is there; `None` if that could not be seen.
    pub fn is_there(&self) -> Option<bool> {
        match self {
            Observed::Is(_) => Some(true),
            Observed::Absent => Some(false),
            Observed::Unreadable { .. } => None,
        }
    }

    /// The value, or an empty one.
    pub(crate) fn or_default(self) -> T
    where
        T: Default,
    {
        match self {
            Observed::Is(value) => value,
            Observed::Absent | Observed::Unreadable { .. } => T::default(),
        }
    }

    /// Makes something else of the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Observed<U> {
        self.and_then(|value| Observed::Is(f(value)))
    }

    /// Makes something else of the value, or finds that it is not what was looked for.
    pub(crate) fn find<U>(self, f: impl FnOnce(T) -> Option<U>) -> Observed<U> {
        self.and_then(|value| f(value).map_or(Observed::Absent, Observed::Is))
    }

    /// Looks on, where the value says.
    pub(crate) fn and_then<U>(self, f: impl FnOnce(T) -> Observed<U>) -> Observed<U> {
        match self {
            Observed::Is(value) => f(value),
            Observed::Absent => Observed::Absent,
            Observed::Unreadable { path, why } => Observed::Unreadable { path, why },
        }
    }

    /// The same, said to come from somewhere.
    pub(crate) fn from(self, from: impl Into<String>) -> Fact<T> {
        Fact {
            value: self,
            from: from.into(),
        }
    }
}

/// Something that was looked for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact<T> {
    /// What was seen.
    #[serde(rename = "seen")]
    pub value: Observed<T>,
    /// The file that says so, or where it was looked for.
    pub from: String,
}

impl<T> Fact<T> {
    /// The value, if there is one and it could be seen.
    pub fn known(&self) -> Option<&T> {
        self.value.known()
    }
}
