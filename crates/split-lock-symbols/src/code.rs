//! Code that was looked up: where it was found, and what is around it.

use std::ops::Range;
use std::path::Path;

use anyhow::anyhow;
use object::ReadRef;
use split_lock_assist::cpu::Mode;

use crate::bytes::PastedBytes;
use crate::elf::{Function, FunctionName, Image, SourceLine, UntrustedFile, to_read};
use crate::error::Error;
use crate::listing::{CodeBytes, Listing};
use crate::process::{Mapping, Process};

/// The code at an address.
#[derive(Debug)]
pub struct LocatedCode {
    /// The bytes from the address on.
    pub bytes: Vec<u8>,
    /// How the CPU reads them.
    pub mode: Mode,
    /// The address while it runs, if that is known.
    pub rip: Option<u64>,
    /// The instructions around it. Their addresses count from 0 if its own is not known.
    pub listing: Listing,
    /// What it was found in; `None` if it was given as bytes.
    pub origin: Option<Origin>,
    /// What is said holds only if this is so.
    pub assumptions: Vec<String>,
}

/// What code was found in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The process, if it was one.
    pub pid: Option<u32>,
    /// The file, as far as it has a name.
    pub file: Option<String>,
    /// The address before the file was loaded.
    pub address_in_file: Option<u64>,
    /// The function that it is in.
    pub function: Option<Function>,
    /// Where its source code is, the innermost function that was inlined first.
    pub source: Vec<SourceLine>,
}

impl Origin {
    /// Adds what a file says of an address in it.
    fn describe<'a>(&mut self, image: &Image<'a, impl ReadRef<'a>>, address: u64) {
        self.address_in_file = Some(address);
        self.function = image.function_at(address);
        self.source = image.source_lines(address);
    }

    /// The code around it in that file, and how many bytes of that are before it.
    fn code<'a>(&self, image: &Image<'a, impl ReadRef<'a>>) -> Option<(u64, &'a [u8])> {
        let address = self.address_in_file?;
        let (start, bytes) = image.code_around(self.function.as_ref(), address)?;
        Some((address - start, bytes))
    }

    /// The function's name, and how far into it.
    #[must_use]
    pub fn symbol(&self) -> Option<(&FunctionName, u64)> {
        let function = self.function.as_ref()?;
        let offset = self.address_in_file? - function.start;
        Some((function.name.as_ref()?, offset))
    }
}

impl LocatedCode {
    /// Code as somebody pasted it.
    #[must_use]
    pub fn from_bytes(pasted: &PastedBytes, mode: Mode, rip: Option<u64>) -> Self {
        let start = pasted.start as u64;
        let rip = rip.or(pasted.address);
        let address = rip.map_or(0, |rip| rip.wrapping_sub(start));
        let code = CodeBytes {
            bytes: &pasted.bytes,
            address,
            mode,
        };
        let mut located = Self::new(code, address.wrapping_add(start), None, vec![]);
        located.rip = rip;
        // What was pasted may begin in the middle of one.
        located.listing.inside = None;
        located
    }

    /// The code at an address of a program or library. `base` is where its first page was loaded, if
    /// that is known; `mode` is what the file says, if it is `None`.
    ///
    /// # Errors
    /// If it cannot be read, or has no code there.
    pub fn from_file(
        path: &Path,
        address: u64,
        base: Option<u64>,
        mode: Option<Mode>,
    ) -> Result<Self, Error> {
        let file = UntrustedFile::open(path).map_err(Error::other)?;
        let image = Image::parse(file.data()).map_err(Error::not_in_file)?;
        let found = image.locate(address, base)?;
        let mut assumptions: Vec<_> = found.assumption.into_iter().collect();
        if image.is_position_independent() && found.address == address {
            assumptions.push(
                "The addresses are those in the file. It is loaded elsewhere, by whole pages, which \
                 changes nothing about lines and pages."
                    .to_owned(),
            );
        }
        let mut origin = Origin {
            file: Some(path.display().to_string()),
            ..Origin::default()
        };
        origin.describe(&image, found.address);
        let code = origin.code(&image);
        let (to_there, bytes) =
            code.ok_or_else(|| Error::not_in_file(anyhow!("it ends too early")))?;
        let code = CodeBytes {
            bytes,
            address: address.wrapping_sub(to_there),
            mode: mode.unwrap_or(image.mode()),
        };
        Ok(Self::new(code, address, Some(origin), assumptions))
    }

    /// The code at an address of a running process. `mode` is what the file says that it is mapped
    /// from, if it is `None`.
    ///
    /// # Errors
    /// If there is no such process, it has no code there, or may not be looked at.
    pub fn from_process(pid: u32, address: u64, mode: Option<Mode>) -> Result<Self, Error> {
        let process = Process::new(pid);
        let mapping = process.mapping(address).map_err(Error::other)?;
        let file = process.file(&mapping);
        let image = file.as_ref().ok();
        let image = image.and_then(|file| Image::parse(file.data()).ok());
        let mut assumptions = vec![];
        if let Err(error) = &file
            && mapping.has_path()
        {
            assumptions.push(format!("There are no symbols: {error:#}."));
        }
        let mut origin = Origin {
            pid: Some(pid),
            file: Some(mapping.display()).filter(|name| !name.is_empty()),
            ..Origin::default()
        };
        let offset = mapping.offset_in_file(address);
        if let Some(image) = &image
            && let Some(address) = offset.and_then(|offset| image.address_of_offset(offset))
        {
            origin.describe(image, address);
        }
        let wanted = wanted(&mapping, &origin, address);
        let (start, bytes) = match process.memory(wanted.clone()) {
            Ok(bytes) => (wanted.start, bytes),
            Err(error) => {
                assumptions.push(format!("The bytes are those of its file: {error:#}."));
                let code = image.as_ref().and_then(|image| origin.code(image));
                let (to_there, bytes) = code.ok_or(Error::other(error))?;
                (address.wrapping_sub(to_there), bytes.to_owned())
            }
        };
        let mode = mode.or_else(|| image.as_ref().map(Image::mode));
        let code = CodeBytes {
            bytes: &bytes,
            address: start,
            mode: mode.unwrap_or_else(|| mode_of(&process)),
        };
        Ok(Self::new(code, address, Some(origin), assumptions))
    }

    fn new(
        code: CodeBytes,
        address: u64,
        origin: Option<Origin>,
        assumptions: Vec<String>,
    ) -> Self {
        Self {
            bytes: code.from(address).bytes.to_owned(),
            mode: code.mode,
            rip: Some(address),
            listing: Listing::around(address, code),
            origin,
            assumptions,
        }
    }
}

/// As much of the function as is to be shown, and as is mapped there.
fn wanted(mapping: &Mapping, origin: &Origin, address: u64) -> Range<u64> {
    // Without a file nothing is known of functions, and any address will do.
    let in_file = origin.address_in_file.unwrap_or(address);
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
