//! How built-in guests are named: `NAME[:WORK][@OFFSET]`.

use std::fmt;
use std::str::FromStr;

use super::{BuiltIn, Kind};
use crate::duration;

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
    /// The name is a guest's, and the rest of the text does not fit it.
    #[error("{0}")]
    Refused(String),
}

impl GuestNameError {
    pub(super) fn offset(kind: Kind, offset: impl fmt::Display) -> Self {
        Self::Refused(format!(
            "`{kind}@{offset}`: the offset within a cache line is a number from 0 to 63, not `{offset}`"
        ))
    }
}

/// As it was asked for, but with the work always there, and written in one way only: both `sparse` and
/// `sparse:1000us` are `sparse:1ms`.
impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked_offset() {
            Some(offset) => f.pad(&format!("{}@{offset}", self.kind())),
            None => self.kind().fmt(f),
        }
    }
}

impl FromStr for BuiltIn {
    type Err = GuestNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, offset) = split_at(text, '@');
        let (name, work) = split_at(kind, ':');
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| GuestNameError::Unknown { name: name.into() })?;
        let kind = match work {
            Some(work) => with_work(kind, work)?,
            None => kind,
        };
        let offset = offset
            .map(|offset| parse_offset(kind, offset))
            .transpose()?;
        Self::new(kind, offset)
    }
}

fn split_at(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn with_work(kind: Kind, text: &str) -> Result<Kind, GuestNameError> {
    let name = kind.name();
    match kind {
        Kind::Sparse { .. } => match duration::parse(text) {
            Ok(work) => Ok(Kind::Sparse { work }),
            Err(error) => Err(GuestNameError::Refused(format!("`{name}:{text}`: {error}"))),
        },
        _ => Err(GuestNameError::Refused(format!(
            "`{name}` takes no work before its access: leave out the `:{text}`, or use `sparse:{text}`"
        ))),
    }
}

/// Digits only: `str::parse` would take `+5`, and a name should have one spelling.
fn parse_offset(kind: Kind, text: &str) -> Result<u8, GuestNameError> {
    text.parse()
        .ok()
        .filter(|offset: &u8| offset.to_string() == text)
        .ok_or_else(|| GuestNameError::offset(kind, text))
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
        let names =
            "split split@60 split@0 aligned@56 page none@63 sparse:1ms sparse:10us@57 contend@0";
        for name in names.split(' ') {
            assert_eq!(named(name).to_string(), name);
        }
    }

    #[test]
    fn work_is_written_in_one_way() {
        for (asked, written) in [
            ("sparse", "sparse:1ms"),
            ("sparse@0", "sparse:1ms@0"),
            ("sparse:1000us", "sparse:1ms"),
            ("sparse:1.5ms@60", "sparse:1500us@60"),
            ("sparse:0.1s", "sparse:100ms"),
        ] {
            assert_eq!(named(asked).to_string(), written);
            assert_eq!(named(asked), named(written));
        }
        assert_ne!(named("sparse:1ms"), named("sparse:10ms"));
    }

    #[test]
    fn other_names_are_refused_with_what_to_write_instead() {
        for (text, part) in [
            (
                "",
                "split, aligned, page, xchg, cmpxchg16b, none, sparse, contend",
            ),
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
            ("sparse:", "`sparse:`: `` is no duration"),
            ("sparse:soon", "`soon` is no duration: write a number"),
            ("sparse:-1ms@3", "is negative"),
            ("sparse:0ms", "a longer time than zero"),
            ("sparse:10us@64", "`sparse:10us@64`: the offset"),
            ("split:1ms", "leave out the `:1ms`, or use `sparse:1ms`"),
        ] {
            let error = text.parse::<BuiltIn>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_guest_or_refused(text in "\\PC*|(split|none|page|sparse)(:[0-9]{1,9}[um]s)?(@[0-9]{0,3})?") {
            if let Ok(guest) = text.parse::<BuiltIn>() {
                let written = guest.to_string();
                prop_assert_eq!(written.parse(), Ok(guest));
                prop_assert!(guest.work().is_some() || written == text);
            }
        }
    }
}
