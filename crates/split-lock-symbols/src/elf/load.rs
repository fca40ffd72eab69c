//! Where in a file an instruction is, of which the address is known that it had while it ran.

use anyhow::anyhow;
use object::ReadRef;
use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::{MAX_INSTRUCTION_BYTES, PAGE_BYTES};

use super::image::Image;
use crate::error::Error;
use crate::listing::{CodeBytes, Listing};

/// Where Linux loads position-independent programs if it does not choose at random.
const USUAL_BASE: u64 = 0x5555_5555_4000;
const USUAL_BASE_32: u64 = 0x5655_5000;

/// No program has that many pages of code.
const MOST_PAGES: usize = 1 << 20;

/// With more candidates than that it makes no sense to look at each of them closely, or to list them.
const MOST_CANDIDATES: usize = 64;
const MOST_LISTED: usize = 8;

/// An address before a file was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileAddress {
    pub(crate) address: u64,
    /// Assumption behind this location.
    pub(crate) assumption: Option<String>,
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    /// Finds the place of `address`, which is one of the file or, in a file that can be loaded
    /// anywhere, one after it was loaded. `base` is the address that the file's first page then had.
    ///
    /// # Errors
    /// If there is no such place, or nothing tells which of several it is.
    pub(crate) fn locate(&self, address: u64, base: Option<u64>) -> Result<FileAddress, Error> {
        let certain = |address| FileAddress {
            address,
            assumption: None,
        };
        if let Some(base) = base {
            if !base.is_multiple_of(PAGE_BYTES) {
                return Err(Error::UnalignedBase(base));
            }
            let in_file = self.below(address, base).ok_or_else(|| {
                let extent = self.extent();
                anyhow!("loaded at {base:#x} it has no code at {address:#x}{extent}")
            });
            return in_file.map(certain).map_err(Error::not_in_file);
        }
        if self.code_segment(address).is_some() {
            return Ok(certain(address));
        }
        if !self.is_position_independent() {
            let extent = self.extent();
            return Err(Error::not_in_file(anyhow!(
                "there is no code at {address:#x} in it{extent}"
            )));
        }
        let usual = match self.mode {
            Mode::Bits64 => USUAL_BASE,
            Mode::Bits16 | Mode::Bits32 => USUAL_BASE_32,
        };
        let in_file = self.below(address, usual);
        match in_file.filter(|&place| self.locks_at(place)) {
            Some(address) => Ok(FileAddress {
                address,
                assumption: Some(format!(
                    "It was loaded at {usual:#x}, where Linux puts programs if it does not choose \
                     at random."
                )),
            }),
            None => self.locate_by_page_offset(address),
        }
    }

    /// The place in the file, if its first page was loaded to `base`.
    fn below(&self, address: u64, base: u64) -> Option<u64> {
        let in_file = self.before_loading(address, base)?;
        self.code_segment(in_file).is_some().then_some(in_file)
    }

    /// What an address was in the file, code or not, if the file's first page was loaded to `base`.
    pub(crate) fn before_loading(&self, address: u64, base: u64) -> Option<u64> {
        let first = self.segments.iter().map(|segment| segment.address).min()?;
        let first_page = first / PAGE_BYTES * PAGE_BYTES;
        address.checked_sub(base)?.checked_add(first_page)
    }

    /// Files are loaded by whole pages. So of all places that are as far into a page it is the one with
    /// an instruction that locks, if there is only one.
    fn locate_by_page_offset(&self, address: u64) -> Result<FileAddress, Error> {
        let into_page = address % PAGE_BYTES;
        let places = self.code_segments().flat_map(|segment| {
            let to_first = (into_page + PAGE_BYTES - segment.address % PAGE_BYTES) % PAGE_BYTES;
            let offsets = (to_first..segment.bytes).step_by(PAGE_BYTES as usize);
            offsets.filter_map(|offset| segment.address.checked_add(offset))
        });
        let places = places.take(MOST_PAGES);
        let mut places: Vec<u64> = places.filter(|&place| self.locks_at(place)).collect();
        if places.len() <= MOST_CANDIDATES {
            places.retain(|&place| self.is_an_instruction(place));
        }
        match places[..] {
            [address] => Ok(FileAddress {
                address,
                assumption: Some(format!(
                    "Nothing says where it was loaded. Of all places that are {into_page:#x} bytes \
                     into a page of code this is the only one with an instruction that locks."
                )),
            }),
            [] => Err(Error::NoPlace(format!(
                "there is no code at {address:#x} in it{}, and if it was loaded elsewhere there is \
                 no instruction that locks {into_page:#x} bytes into any of its pages",
                self.extent()
            ))),
            ref several => {
                let listed = several.iter().take(MOST_LISTED);
                let listed: Vec<_> = listed.map(|place| format!("{place:#x}")).collect();
                let more = match several.len().saturating_sub(MOST_LISTED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                Err(Error::SeveralPlaces(format!(
                    "there is no code at {address:#x} in it, and it could have been loaded so that \
                     it is {}{more}",
                    listed.join(", ")
                )))
            }
        }
    }

    fn locks_at(&self, place: u64) -> bool {
        let end = place.saturating_add(MAX_INSTRUCTION_BYTES as u64);
        self.code(place..end).is_some_and(|bytes| {
            let listing = Listing::around(place, self.as_code(place, bytes));
            listing.lines.first().is_some_and(|line| line.locks)
        })
    }

    fn as_code<'b>(&self, address: u64, bytes: &'b [u8]) -> CodeBytes<'b> {
        CodeBytes {
            bytes,
            address,
            mode: self.mode,
        }
    }

    /// Read from the beginning of its function, an instruction begins there; or nobody knows.
    fn is_an_instruction(&self, place: u64) -> bool {
        let function = self.function_at(place);
        let code = self.code_around(function.as_ref(), place);
        code.is_none_or(|(start, bytes)| {
            let code = self.as_code(start, bytes);
            Listing::around(place, code).inside.is_none()
        })
    }

    /// ` (it has code from 0x1000 to 0x2fff)`, or nothing.
    fn extent(&self) -> String {
        let parts = self.code_segments().filter(|segment| segment.bytes > 0);
        let parts = parts.map(|segment| {
            let last = segment.address.saturating_add(segment.bytes - 1);
            format!("{:#x} to {last:#x}", segment.address)
        });
        let parts: Vec<_> = parts.take(MOST_LISTED).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!(" (it has code from {})", parts.join(" and ")),
        }
    }
}
