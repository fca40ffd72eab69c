//! ELF files: code by its address, and what it belongs to.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use object::{Architecture, File, Object, ObjectKind, ObjectSegment, ReadRef};
use split_lock_assist::cpu::Mode;

use super::listing::BYTES_AFTER;

mod file;
#[cfg(test)]
#[path = "../../tests/fixture/mod.rs"]
pub(crate) mod fixture;
mod lines;
mod load;
mod name;
mod symbols;
#[cfg(test)]
mod tests;

pub(crate) use self::file::UntrustedFile;
pub use self::lines::SourceLine;
pub use self::name::FunctionName;
pub use self::symbols::Function;

/// What an ELF file begins with.
const MAGIC: &[u8] = b"\x7fELF";

/// A function in which more than that comes before an instruction is not read from its beginning.
const MOST_BEFORE: u64 = 1 << 20;

/// What to read, so as to show the instruction at `address` among others of its function.
pub(crate) fn to_read(function: Option<&Function>, address: u64) -> Range<u64> {
    let start = function.map(|function| function.start);
    let is_near = |start: &u64| address - start <= MOST_BEFORE;
    let end = function.and_then(|function| function.end);
    let enough = address.saturating_add(BYTES_AFTER as u64);
    start.filter(is_near).unwrap_or(address)..end.unwrap_or(enough).min(enough)
}

/// A program or a library. No byte of it is trusted.
#[derive(Debug)]
pub(crate) struct Image<'a, R: ReadRef<'a>> {
    file: File<'a, R>,
    data: R,
    mode: Mode,
    segments: Vec<Segment>,
}

/// A part of a file that is loaded, as far as it is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    address: u64,
    offset: u64,
    bytes: u64,
    is_code: bool,
}

impl Segment {
    fn contains(&self, address: u64) -> bool {
        address
            .checked_sub(self.address)
            .is_some_and(|offset| offset < self.bytes)
    }
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    /// # Errors
    /// If it is no program or library for x86.
    pub(crate) fn parse(data: R) -> Result<Self> {
        if data.read_bytes_at(0, MAGIC.len() as u64) != Ok(MAGIC) {
            bail!("it is no ELF file");
        }
        let file = File::parse(data).context("it is a damaged ELF file")?;
        let mode = match file.architecture() {
            Architecture::X86_64 | Architecture::X86_64_X32 => Mode::Bits64,
            Architecture::I386 => Mode::Bits32,
            _ => bail!("it is for another kind of processor"),
        };
        match file.kind() {
            ObjectKind::Executable | ObjectKind::Dynamic => {}
            ObjectKind::Relocatable => {
                bail!("it has not been linked yet, so nothing in it has an address")
            }
            _ => bail!("it is neither a program nor a library"),
        }
        let all = data.len().unwrap_or(0);
        let segment = |segment: object::Segment<'a, '_, R>| {
            let (offset, bytes) = segment.file_range();
            Segment {
                address: segment.address(),
                offset,
                bytes: bytes.min(all.saturating_sub(offset)),
                is_code: segment.permissions().executable(),
            }
        };
        let segments = file.segments().map(segment).collect();
        Ok(Self {
            file,
            data,
            mode,
            segments,
        })
    }

    /// How its code is to be read.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// It is loaded at some address or other.
    pub(crate) fn is_position_independent(&self) -> bool {
        self.file.kind() == ObjectKind::Dynamic
    }

    /// The code at these addresses: all of it that is in the file, from the first on. `None` if there
    /// is no code at the first.
    pub(crate) fn code(&self, addresses: Range<u64>) -> Option<&'a [u8]> {
        let segment = self.code_segment(addresses.start)?;
        let skipped = addresses.start - segment.address;
        let wanted = addresses.end.saturating_sub(addresses.start);
        let bytes = wanted.min(segment.bytes - skipped);
        let offset = segment.offset.checked_add(skipped)?;
        self.data.read_bytes_at(offset, bytes).ok()
    }

    /// The address, before it is loaded, of what is so far from the beginning of the file.
    pub(crate) fn address_of_offset(&self, offset: u64) -> Option<u64> {
        self.code_segments().find_map(|segment| {
            let into = offset.checked_sub(segment.offset)?;
            let address = segment.address.checked_add(into)?;
            segment.contains(address).then_some(address)
        })
    }

    /// The code around an address, which is in `function`, and where it begins. It reaches back to the
    /// beginning of the function, from which on instructions can be told apart, if that is near.
    pub(crate) fn code_around(
        &self,
        function: Option<&Function>,
        address: u64,
    ) -> Option<(u64, &'a [u8])> {
        let Range { start, end } = to_read(function, address);
        let mut parts = [start, address]
            .into_iter()
            .filter_map(|start| Some((start, self.code(start..end)?)));
        parts.find(|(start, bytes)| bytes.len() as u64 > address - start)
    }

    fn code_segment(&self, address: u64) -> Option<&Segment> {
        self.code_segments()
            .find(|segment| segment.contains(address))
    }

    fn code_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.is_code)
    }
}
