//! What there is to choose from.

use super::GuestNameError;
use crate::vm::layout::CACHE_LINE;

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
}

impl Kind {
    /// All of them, the reference first.
    pub const ALL: [Kind; 6] = [
        Kind::Split,
        Kind::Aligned,
        Kind::Page,
        Kind::Xchg,
        Kind::Cmpxchg16b,
        Kind::None,
    ];

    /// The name that a user writes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Split => "split",
            Kind::Aligned => "aligned",
            Kind::Page => "page",
            Kind::Xchg => "xchg",
            Kind::Cmpxchg16b => "cmpxchg16b",
            Kind::None => "none",
        }
    }

    pub(super) fn check_offset(self, offset: u8) -> Result<(), GuestNameError> {
        let fixed = |why| {
            Err(GuestNameError::FixedOffset {
                name: self.name(),
                offset,
                why,
            })
        };
        match self {
            _ if u64::from(offset) >= CACHE_LINE => Err(GuestNameError::Offset {
                name: self.name().into(),
                offset: offset.to_string(),
            }),
            Kind::Page => fixed("it crosses from one page into the next"),
            Kind::Cmpxchg16b => fixed("its operand must be 16-byte aligned"),
            Kind::Aligned if u64::from(offset) + 8 > CACHE_LINE => {
                Err(GuestNameError::NotAligned { offset })
            }
            _ => Ok(()),
        }
    }
}
