//! Lines of source code by the addresses of what became of them.

use std::cell::Cell;

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, Error, LittleEndian, SectionId};
use object::{Object, ObjectSection, ReadRef};

use super::Image;

/// Debug information of more bytes than this is not read: nobody waits for it.
const MOST_BYTES: u64 = 512 << 20;

/// Functions that became one another's code, at most so deep.
const DEEPEST: usize = 8;

/// A line in a file, as the compiler named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::explain) struct SourceLine {
    pub(in crate::commands::explain) file: String,
    pub(in crate::commands::explain) line: u32,
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    /// Where the code at an address comes from: the innermost line first, and then the lines that it
    /// was inlined into. Nothing if the file does not say so.
    pub(in crate::commands::explain) fn source_lines(&self, address: u64) -> Vec<SourceLine> {
        self.look_up(address).unwrap_or_default()
    }

    fn look_up(&self, address: u64) -> Result<Vec<SourceLine>, Error> {
        let mut left = MOST_BYTES;
        let has_room = Cell::new(true);
        let dwarf = Dwarf::load(|id| {
            let section = self.debug_section(id, &mut left);
            has_room.set(has_room.get() && section.is_some());
            Ok::<_, Error>(EndianSlice::new(section.unwrap_or_default(), LittleEndian))
        })?;
        if !has_room.get() {
            return Ok(vec![]);
        }
        let context = Context::from_dwarf(dwarf)?;
        let mut frames = context.find_frames(address).skip_all_loads()?;
        let mut lines = vec![];
        while lines.len() < DEEPEST
            && let Some(frame) = frames.next()?
        {
            let Some(location) = frame.location else {
                continue;
            };
            if let (Some(file), Some(line)) = (location.file, location.line) {
                lines.push(SourceLine {
                    file: file.to_owned(),
                    line,
                });
            }
        }
        Ok(lines)
    }

    /// Nothing in it if there is none, or only a compressed one; `None` if there is no room for it.
    fn debug_section(&self, id: SectionId, left: &mut u64) -> Option<&'a [u8]> {
        let Some(section) = self.file.section_by_name(id.name()) else {
            return Some(&[]);
        };
        let is_plain = section
            .compressed_file_range()
            .is_ok_and(|range| range.format == object::CompressionFormat::None);
        if !is_plain {
            return Some(&[]);
        }
        *left = left.checked_sub(section.size())?;
        section.data().ok()
    }
}
