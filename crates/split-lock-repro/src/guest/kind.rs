//! What there is to choose from.

use std::fmt;
use std::time::Duration;

use super::GuestNameError;
use crate::duration;
use crate::layout::CACHE_LINE;

/// What a built-in guest does in each turn of its loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `lock bts` on eight bytes that cross a cache line, unless the name asks for another offset.
    Split,
    /// The very same instructions on eight bytes within a line.
    Aligned,
    /// The same again, crossing from one 4 KiB page into the next.
    Page,
    /// `xchg`, which locks without a prefix, on eight bytes that cross a line.
    Xchg,
    /// `lock cmpxchg16b`. Its operand must be 16-byte aligned (anything else is a #GP), so it can
    /// never split: it is the widest lock that x86 has, as a control.
    Cmpxchg16b,
    /// `bts` without `lock`, crossing a line: what a split costs by itself.
    None,
    /// The `lock bts` of `split`, once after every so much work in registers.
    Sparse {
        /// How long the guest works before each split lock, in time that it really runs.
        work: Duration,
    },
    /// `lock inc` on eight bytes that cross a line of the page that all vCPUs of the VM share: all that
    /// run this count together there.
    Contend,
}

/// What `sparse` alone means.
const USUAL_WORK: Duration = Duration::from_millis(1);

impl Kind {
    /// All of them as they usually are, the reference first.
    pub const ALL: [Kind; 8] = [
        Kind::Split,
        Kind::Aligned,
        Kind::Page,
        Kind::Xchg,
        Kind::Cmpxchg16b,
        Kind::None,
        Kind::Sparse { work: USUAL_WORK },
        Kind::Contend,
    ];

    /// The name that a user writes, without what may follow it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Split => "split",
            Kind::Aligned => "aligned",
            Kind::Page => "page",
            Kind::Xchg => "xchg",
            Kind::Cmpxchg16b => "cmpxchg16b",
            Kind::None => "none",
            Kind::Sparse { .. } => "sparse",
            Kind::Contend => "contend",
        }
    }

    pub(super) fn check_work(self) -> Result<(), GuestNameError> {
        match self {
            Kind::Sparse { work } if work.is_zero() => Err(GuestNameError::Refused(
                "`sparse` without any work is `split`: use that, or a longer time than zero".into(),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn check_offset(self, offset: u8) -> Result<(), GuestNameError> {
        let refused = |why| Err(GuestNameError::Refused(why));
        let fixed = |why| {
            let name = self.name();
            refused(format!(
                "`{name}` takes no offset, because {why}: leave out the `@{offset}`"
            ))
        };
        match self {
            _ if u64::from(offset) >= CACHE_LINE => Err(GuestNameError::offset(self, offset)),
            Kind::Page => fixed("it crosses from one page into the next"),
            Kind::Cmpxchg16b => fixed("its operand must be 16-byte aligned"),
            Kind::Aligned if u64::from(offset) + 8 > CACHE_LINE => refused(format!(
                "`aligned@{offset}` would cross a cache line: use an offset from 0 to 56, or `split@{offset}`"
            )),
            _ => Ok(()),
        }
    }
}

/// The name, with the work where there is some: `split`, `sparse:1ms`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Sparse { work } => f.pad(&format!("{}:{}", self.name(), duration::exact(*work))),
            _ => f.pad(self.name()),
        }
    }
}
