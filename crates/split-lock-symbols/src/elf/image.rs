//! The parts of an ELF file that are loaded, and the code in them.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use object::{Architecture, File, Object, ObjectKind, ObjectSegment, ReadRef};
use split_lock_assist::cpu::Mode;

pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// A program or a library. No byte of it is trusted.
#[derive(Debug)]
pub(crate) struct Image<'a, R: ReadRef<'a>> {
    pub(crate) file: File<'a, R>,
    data: R,
    pub(super) mode: Mode,
    pub(super) segments: Vec<Segment>,
}

/// A part of a file that is loaded, as far as it is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    offset: u64,
    pub(super) bytes: u64,
    is_code: bool,
}

impl Segment {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

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

    pub(crate) fn code_segment(&self, address: u64) -> Option<&Segment> {
        self.code_segments()
            .find(|segment| segment.contains(address))
    }

    pub(super) fn code_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.is_code)
    }
}
