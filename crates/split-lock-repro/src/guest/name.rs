//! How built-in guests are named: `NAME` or `NAME@OFFSET`.

use std::fmt;
use std::str::FromStr;

use super::{BuiltIn, Kind};

/// Why a text names no built-in guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuestNameError {
    /// No guest has this name.
    #[error("there is no guest `{name}`: use one of {known}", known = names())]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// What follows the `@` is no offset.
    #[error(
        "`{name}@{offset}`: the offset within a cache line is a number from 0 to 63, not `{offset}`"
    )]
    Offset {
        /// The guest.
        name: String,
        /// What stands for its offset.
        offset: String,
    },
    /// The guest stands at one place by nature.
    #[error("`{name}` takes no offset, because {why}: leave out the `@{offset}`")]
    FixedOffset {
        /// The guest.
        name: &'static str,
        /// The offset that was asked for.
        offset: u8,
        /// What makes it stand where it does.
        why: &'static str,
    },
    /// The guest would do what its name denies.
    #[error(
        "`aligned@{offset}` would cross a cache line: use an offset from 0 to 56, or `split@{offset}`"
    )]
    NotAligned {
        /// The offset that was asked for.
        offset: u8,
    },
}

impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked_offset() {
            Some(offset) => f.pad(&format!("{}@{offset}", self.kind().name())),
            None => f.pad(self.kind().name()),
        }
    }
}

impl FromStr for BuiltIn {
    type Err = GuestNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, offset) = match text.split_once('@') {
            Some((name, offset)) => (name, Some(offset)),
            None => (text, None),
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| GuestNameError::Unknown { name: name.into() })?;
        let offset = offset
            .map(|offset| parse_offset(kind, offset))
            .transpose()?;
        Self::new(kind, offset)
    }
}

/// Digits only: `str::parse` would take `+5`, and a name should have one spelling.
fn parse_offset(kind: Kind, text: &str) -> Result<u8, GuestNameError> {
    text.parse()
        .ok()
        .filter(|offset: &u8| offset.to_string() == text)
        .ok_or_else(|| GuestNameError::Offset {
            name: kind.name().into(),
            offset: text.into(),
        })
}

fn names() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(text: &str) -> BuiltIn {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_printed_as_it_was_asked_for() {
        for name in [
            "split",
            "split@60",
            "split@0",
            "aligned@56",
            "page",
            "none@63",
        ] {
            assert_eq!(named(name).to_string(), name);
        }
    }

    #[test]
    fn other_names_are_refused_with_what_to_write_instead() {
        for (text, part) in [
            ("", "split, aligned, page, xchg, cmpxchg16b, none"),
            ("Split", "there is no guest `Split`"),
            ("spilt@60", "there is no guest `spilt`: use one of split,"),
            ("split@", "from 0 to 63, not ``"),
            ("split@64", "from 0 to 63, not `64`"),
            ("split@-1", "from 0 to 63, not `-1`"),
            ("split@+5", "from 0 to 63, not `+5`"),
            ("split@60@60", "from 0 to 63, not `60@60`"),
            ("split@999999999999", "from 0 to 63"),
            ("page@60", "leave out the `@60`"),
            ("cmpxchg16b@0", "must be 16-byte aligned"),
            ("aligned@57", "use an offset from 0 to 56, or `split@57`"),
        ] {
            let error = text.parse::<BuiltIn>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_guest_of_that_name_or_refused(text in "\\PC*|(split|none|page)@[0-9]{0,3}") {
            if let Ok(guest) = text.parse::<BuiltIn>() {
                prop_assert_eq!(guest.to_string(), text);
            }
        }
    }
}
