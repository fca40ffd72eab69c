//! Lines of source code by the addresses of what became of them.
//!
//! In a file that means harm, a few bytes can claim any number of functions, lines and names, one
//! inside the other or all at the same place. So nothing is collected, and nothing calls itself: units,
//! rows and entries are gone through one after the other, and what does not belong to the one address
//! is forgotten.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use gimli::{
    AttributeValue, DW_AT_call_file, DW_AT_call_line, DW_AT_high_pc, DW_AT_low_pc, DW_AT_ranges,
    DW_TAG_inlined_subroutine, DebuggingInformationEntry, Dwarf, EndianSlice, Error, LineRow,
    LittleEndian, SectionId, UnitRef,
};
use object::{CompressionFormat, Object, ObjectSection, ReadRef};

use super::image::Image;

/// Debug information of more bytes than this is not read: nobody waits for it.
const MOST_BYTES: u64 = 512 << 20;

/// Functions that were inlined into one another, at most so deep.
const DEEPEST: usize = 16;
const LONGEST_PART: usize = 4096;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Unit<'a, 'u> = UnitRef<'u, Bytes<'a>>;
type Entry<'a> = DebuggingInformationEntry<Bytes<'a>>;

/// A line in a file, as the compiler named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    /// Its path.
    pub file: String,
    /// Counted from 1.
    pub line: u64,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.file, self.line)
    }
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    /// Where the code at an address comes from: the innermost line first, and then the lines that it
    /// was inlined into. Nothing if the file does not say so.
    pub(crate) fn source_lines(&self, address: u64) -> Vec<SourceLine> {
        let dwarf = self.dwarf();
        let mut units = dwarf.units();
        while let Ok(Some(header)) = units.next() {
            // What cannot be read of one unit says nothing about the next.
            let Ok(unit) = dwarf.unit(header) else {
                continue;
            };
            let unit = unit.unit_ref(&dwarf);
            let mut entries = unit.entries();
            if let Ok(Some(root)) = entries.next_dfs()
                && covers(unit, root, address) == Ok(true)
                && let Ok(Some(line)) = line_at(unit, address)
            {
                let mut lines = vec![line];
                lines.extend(inlined_into(unit, address).unwrap_or_default());
                return lines;
            }
        }
        vec![]
    }

    fn dwarf(&self) -> Dwarf<Bytes<'a>> {
        let mut left = MOST_BYTES;
        Dwarf::load(|id| {
            let section = self.debug_section(id, &mut left);
            Ok::<_, Error>(EndianSlice::new(section, LittleEndian))
        })
        .unwrap_or_default()
    }

    /// Nothing if there is none, or only a compressed one, or no room for it.
    fn debug_section(&self, id: SectionId, left: &mut u64) -> &'a [u8] {
        let section = self.file.section_by_name(id.name()).filter(|section| {
            let range = section.compressed_file_range();
            range.is_ok_and(|range| range.format == CompressionFormat::None)
        });
        section
            .and_then(|section| {
                *left = left.checked_sub(section.size())?;
                section.data().ok()
            })
            .unwrap_or_default()
    }
}

/// An address is one of those that an entry is about.
fn covers<'a>(unit: Unit<'a, '_>, entry: &Entry<'a>, address: u64) -> Result<bool, Error> {
    if let Some(ranges) = entry.attr_value(DW_AT_ranges)
        && let Some(mut ranges) = unit.attr_ranges(ranges)?
    {
        while let Some(range) = ranges.next()? {
            if (range.begin..range.end).contains(&address) {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let (Some(low), Some(high)) = (
        entry.attr_value(DW_AT_low_pc),
        entry.attr_value(DW_AT_high_pc),
    ) else {
        return Ok(false);
    };
    let low = unit.attr_address(low)?;
    let Some(into) = low.and_then(|low| address.checked_sub(low)) else {
        return Ok(false);
    };
    // It is the size, or an address.
    Ok(match high.udata_value() {
        Some(size) => into < size,
        None => unit.attr_address(high)?.is_some_and(|high| address < high),
    })
}

fn line_at(unit: Unit, address: u64) -> Result<Option<SourceLine>, Error> {
    let Some(program) = unit.line_program.clone() else {
        return Ok(None);
    };
    let mut rows = program.rows();
    let mut before: Option<LineRow> = None;
    while let Some((_, row)) = rows.next_row()? {
        if let Some(before) = before
            && (before.address()..row.address()).contains(&address)
        {
            let line = before.line().map_or(0, u64::from);
            return Ok(source_line(unit, before.file_index(), line));
        }
        before = Some(*row).filter(|row| !row.end_sequence());
    }
    Ok(None)
}

/// The calls that became the code at an address, the innermost first.
fn inlined_into(unit: Unit, address: u64) -> Result<Vec<SourceLine>, Error> {
    let mut calls = vec![];
    let mut entries = unit.entries();
    // Those that an entry is in come before it.
    while let Some(entry) = entries.next_dfs()? {
        if entry.tag() != DW_TAG_inlined_subroutine || !covers(unit, entry, address)? {
            continue;
        }
        if let (Some(AttributeValue::FileIndex(file)), Some(line)) = (
            entry.attr_value(DW_AT_call_file),
            entry.attr_value(DW_AT_call_line),
        ) {
            let line = line.udata_value().unwrap_or(0);
            calls.extend(source_line(unit, file, line));
        }
        if calls.len() > DEEPEST {
            calls.remove(0);
        }
    }
    calls.reverse();
    Ok(calls)
}

/// A line of a file that the unit's table of files has; line 0 is none.
fn source_line(unit: Unit, file: u64, line: u64) -> Option<SourceLine> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(file)?;
    let mut path = PathBuf::new();
    let text = |value: AttributeValue<_>| unit.attr_string(value).ok();
    let parts = [
        unit.comp_dir,
        file.directory(header).and_then(text),
        text(file.path_name()),
    ];
    for part in parts.into_iter().flatten() {
        // One that begins at the root replaces those before it.
        let part = part.slice();
        path.push(OsStr::from_bytes(&part[..part.len().min(LONGEST_PART)]));
    }
    (line != 0).then(|| SourceLine {
        file: path.to_string_lossy().into_owned(),
        line,
    })
}
