//! The instruction in question: where it was found, and what is around it.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use object::ReadRef;
use split_lock_assist::cpu::Mode;

use super::bytes::Pasted;
use super::elf::{Function, Image, Name, Source, SourceLine, to_read};
use super::listing::{Code, Listing};
use super::process::{Mapping, Process};

/// An instruction to explain.
#[derive(Debug)]
pub struct Subject {
    /// Its bytes, and those after it.
    pub bytes: Vec<u8>,
    /// How the CPU reads it.
    pub mode: Mode,
    /// Its address while it runs, if that is known.
    pub rip: Option<u64>,
    /// Its neighbours. Their addresses count from 0 if its own is not known.
    pub listing: Listing,
    /// What it was found in; `None` if it was given as bytes.
    pub origin: Option<Origin>,
    /// What is said holds only if this is so.
    pub assumed: Vec<String>,
}

/// What an instruction was found in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The process, if it was one.
    pub pid: Option<u32>,
    /// The file, as far as it has a name.
    pub file: Option<String>,
    /// The instruction's address before the file was loaded.
    pub in_file: Option<u64>,
    /// The function that it is in.
    pub function: Option<Function>,
    /// Where its source code is, the innermost function that was inlined first.
    pub source: Vec<SourceLine>,
}

impl Origin {
    /// Adds what a file says of an address in it.
    fn describe<'a>(&mut self, image: &Image<'a, impl ReadRef<'a>>, in_file: u64) {
        self.in_file = Some(in_file);
        self.function = image.function_at(in_file);
        self.source = image.source_lines(in_file);
    }

    /// The code around it in that file, and how many bytes of that are before it.
    fn code<'a>(&self, image: &Image<'a, impl ReadRef<'a>>) -> Option<(u64, &'a [u8])> {
        let in_file = self.in_file?;
        let (start, bytes) = image.code_around(self.function.as_ref(), in_file)?;
        Some((in_file - start, bytes))
    }

    /// The function's name, and how far into it.
    #[must_use]
    pub fn symbol(&self) -> Option<(&Name, u64)> {
        let function = self.function.as_ref()?;
        Some((function.name.as_ref()?, self.in_file? - function.start))
    }
}

/// Bytes as somebody pasted them.
#[must_use]
pub fn from_bytes(pasted: &Pasted, mode: Mode, rip: Option<u64>) -> Subject {
    let start = pasted.start as u64;
    let begin = rip.map_or(0, |rip| rip.wrapping_sub(start));
    let code = Code {
        bytes: &pasted.bytes,
        address: begin,
        mode,
    };
    let listing = Listing::around(begin.wrapping_add(start), code);
    Subject {
        bytes: pasted.bytes[pasted.start..].to_owned(),
        mode,
        rip,
        // What was pasted may begin in the middle of one.
        listing: Listing {
            inside: None,
            ..listing
        },
        origin: None,
        assumed: vec![],
    }
}

/// The instruction at an address of a program or library. `base` is where it was loaded, if that is
/// known.
///
/// # Errors
/// If it cannot be read, or has no code there.
pub fn from_file(
    path: &Path,
    address: u64,
    base: Option<u64>,
    mode: Option<Mode>,
) -> Result<Subject> {
    let name = path.display().to_string();
    let cannot = || format!("cannot explain {address:#x} of {name}");
    let source = Source::open(path)?;
    let image = Image::parse(source.data()).with_context(cannot)?;
    let place = image.locate(address, base).with_context(cannot)?;
    let mut assumed: Vec<_> = place.assumed.into_iter().collect();
    if image.is_position_independent() && place.in_file == address {
        assumed.push(
            "The addresses are those in the file. It is loaded elsewhere, by whole pages, which \
             changes nothing about lines and pages."
                .to_owned(),
        );
    }
    let mut origin = Origin {
        file: Some(name.clone()),
        ..Origin::default()
    };
    origin.describe(&image, place.in_file);
    let code = origin.code(&image);
    let (to_there, bytes) = code.with_context(|| format!("{}: it ends too early", cannot()))?;
    let code = Code {
        bytes,
        address: address.wrapping_sub(to_there),
        mode: mode.unwrap_or(image.mode()),
    };
    Ok(Subject {
        origin: Some(origin),
        assumed,
        ..found(code, address)
    })
}

/// The instruction at an address of a running process.
///
/// # Errors
/// If there is no such process, it has no code there, or may not be looked at.
pub fn from_process(pid: u32, address: u64, mode: Option<Mode>) -> Result<Subject> {
    let process = Process::new(pid);
    let mapping = process.mapping(address)?;
    let file = process.file(&mapping);
    let image = match &file {
        Ok(file) => Image::parse(file.data()).ok(),
        Err(_) => None,
    };
    let mut assumed = vec![];
    if let Err(error) = &file
        && mapping.has_path()
    {
        assumed.push(format!("There are no symbols: {error:#}."));
    }
    let mut origin = Origin {
        pid: Some(pid),
        file: Some(mapping.display()).filter(|name| !name.is_empty()),
        ..Origin::default()
    };
    let offset = mapping.offset_in_file(address);
    if let Some(image) = &image
        && let Some(in_file) = offset.and_then(|offset| image.address_of_offset(offset))
    {
        origin.describe(image, in_file);
    }
    let wanted = wanted(&mapping, &origin, address);
    let (start, bytes) = match process.memory(wanted.clone()) {
        Ok(bytes) => (wanted.start, bytes),
        Err(error) => {
            assumed.push(format!("The bytes are those of its file: {error:#}."));
            let code = image.as_ref().and_then(|image| origin.code(image));
            let (to_there, bytes) = code.ok_or(error)?;
            (address.wrapping_sub(to_there), bytes.to_owned())
        }
    };
    let mode = mode.or_else(|| image.as_ref().map(Image::mode));
    let code = Code {
        bytes: &bytes,
        address: start,
        mode: mode.unwrap_or_else(|| mode_of(&process)),
    };
    Ok(Subject {
        origin: Some(origin),
        assumed,
        ..found(code, address)
    })
}

/// As much of the function as is to be shown, and as is mapped there.
fn wanted(mapping: &Mapping, origin: &Origin, address: u64) -> Range<u64> {
    // Without a file nothing is known of functions, and any place will do.
    let in_file = origin.in_file.unwrap_or(address);
    let part = to_read(origin.function.as_ref(), in_file);
    let start = address.checked_sub(in_file - part.start);
    let start = start.filter(|start| mapping.addresses.contains(start));
    let end = address.saturating_add(part.end - in_file);
    start.unwrap_or(address)..end.min(mapping.addresses.end)
}

/// Code without a file is read like the program that has it.
fn mode_of(process: &Process) -> Mode {
    let program = process.executable();
    let mode = program.and_then(|program| Ok(Image::parse(program.data())?.mode()));
    mode.unwrap_or(Mode::Bits64)
}

fn found(code: Code, address: u64) -> Subject {
    Subject {
        bytes: code.from(address).bytes.to_owned(),
        mode: code.mode,
        rip: Some(address),
        listing: Listing::around(address, code),
        origin: None,
        assumed: vec![],
    }
}
