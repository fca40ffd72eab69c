//! What an instruction is, and where it comes from.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_assist::cpu::Mode;
use split_lock_assist::partial::{KnownRegisters, analyze};
use split_lock_find::records::{AddressSpace, Caller as CallerRecord, Site as Record, Target};
use split_lock_symbols::{FunctionName, LocatedCode, Origin, PastedBytes, SourceLine};

use super::system_map::SystemMap;

/// Larger files of symbols are no text.
const MOST_BYTES: u64 = 64 << 20;

/// An instruction.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) pc: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) bits: u32,
    /// It may be of these modes as well.
    pub(super) other_bits: Vec<u32>,
    pub(super) text: String,
    /// The file that it is from.
    pub(super) module: Option<String>,
    /// Its address in that file.
    pub(super) offset: Option<u64>,
    pub(super) function: Option<(FunctionName, u64)>,
    /// The innermost line first.
    pub(super) source: Vec<SourceLine>,
    /// The calls that led to it the first time, the innermost first.
    pub(super) callers: Vec<Caller>,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The file that it is from.
    pub(super) module: Option<String>,
    /// Where it returns to: an address in that file, or while it runs.
    pub(super) return_address: u64,
    pub(super) function: Option<(FunctionName, u64)>,
    /// The innermost line first.
    pub(super) source: Vec<SourceLine>,
}

impl Code {
    pub(super) fn locate(record: &Record, target: Target, guest: &GuestSymbols) -> Self {
        let mut modes = record.modes.clone();
        modes.retain(|&bits| may_be(record, mode(bits)));
        // Where the emulator does not tell, the widest is most likely, and registers are all that is shown otherwise.
        let bits = modes.pop().unwrap_or(64);
        let mut code = Self {
            pc: record.pc,
            bytes: record.bytes.clone(),
            bits,
            other_bits: modes,
            text: disassembly(record, mode(bits)),
            module: None,
            offset: None,
            function: None,
            source: vec![],
            callers: record.callers.iter().map(Caller::locate).collect(),
        };
        match (&record.module, target) {
            (Some((path, start)), _) => {
                let path = Path::new(OsStr::from_bytes(path));
                code.module = Some(path.display().to_string());
                let located =
                    LocatedCode::from_file(path, record.pc, Some(*start), Some(mode(bits)));
                match located
                    .ok()
                    .filter(|it| it.bytes.starts_with(&record.bytes))
                {
                    Some(located) => code.take(located.origin),
                    // It is another file by now.
                    None => code.offset = record.pc.checked_sub(*start),
                }
            }
            (None, Target::System) => guest.name(&mut code, &record.spaces),
            (None, _) => {}
        }
        code
    }

    /// The calls, as far as they are needed to find a line of the program's own; nothing if there is none.
    pub(super) fn own_callers(&self) -> &[Caller] {
        let has_own = |source: &[SourceLine]| source.iter().any(is_own);
        let count = match has_own(&self.source) {
            true => 0,
            false => self
                .callers
                .iter()
                .position(|it| has_own(&it.source))
                .map_or(0, |n| n + 1),
        };
        &self.callers[..count]
    }

    /// The lines of the instruction and of these calls, the innermost first.
    pub(super) fn lines(&self) -> impl Iterator<Item = &SourceLine> {
        let calls = self.own_callers().iter().flat_map(|it| &it.source);
        self.source.iter().chain(calls)
    }

    fn take(&mut self, origin: Option<Origin>) {
        let Some(origin) = origin else { return };
        let symbol = origin.symbol();
        self.function = symbol.map(|(name, offset)| (name.clone(), offset));
        self.offset = origin.address_in_file;
        self.source = origin.source;
    }
}

impl Caller {
    fn locate(record: &CallerRecord) -> Self {
        let return_address = record.return_address;
        let Some((path, start)) = &record.module else {
            return Self {
                module: None,
                return_address,
                function: None,
                source: vec![],
            };
        };
        let path = Path::new(OsStr::from_bytes(path));
        // The call ends there; what follows may be of another line or function.
        let located = LocatedCode::from_file(path, return_address - 1, Some(*start), None);
        let origin = located.ok().and_then(|it| it.origin).unwrap_or_default();
        let symbol = origin.symbol();
        let address = origin.address_in_file.map(|it| it + 1);
        Self {
            module: Some(path.display().to_string()),
            return_address: address.unwrap_or(return_address.saturating_sub(*start)),
            function: symbol.map(|(name, offset)| (name.clone(), offset + 1)),
            source: origin.source,
        }
    }
}

/// False for what belongs to a compiler or its libraries: Rust's, and C and C++ headers of the system.
pub(super) fn is_own(line: &SourceLine) -> bool {
    let file = &line.file;
    let is_rusts = file.starts_with("/rustc/") || file.contains("/lib/rustlib/src/");
    let is_c = ["/usr/include/", "/usr/lib/gcc/", "/usr/lib/llvm-"]
        .iter()
        .any(|it| file.starts_with(it));
    !is_rusts && !is_c
}

/// False if it would have another operand in that mode.
fn may_be(record: &Record, mode: Mode) -> bool {
    let known = KnownRegisters::new(&[], Some(record.pc), mode).unwrap_or_default();
    let analysis = analyze(&record.bytes, &known, mode).ok();
    let address = analysis.and_then(|it| it.location?.address);
    address.is_none_or(|address| address == record.first_operand)
}

fn mode(bits: u32) -> Mode {
    match bits {
        16 => Mode::Bits16,
        32 => Mode::Bits32,
        _ => Mode::Bits64,
    }
}

fn disassembly(record: &Record, mode: Mode) -> String {
    let hexadecimal: String = record
        .bytes
        .iter()
        .map(|byte| format!("{byte:02x} "))
        .collect();
    let text = PastedBytes::parse(&hexadecimal).ok().and_then(|pasted| {
        let code = LocatedCode::from_bytes(&pasted, mode, Some(record.pc));
        let here = code.listing.lines.into_iter().find(|line| line.is_here);
        here.map(|line| line.text)
    });
    text.unwrap_or_else(|| hexadecimal.trim_end().to_owned())
}

/// Symbols of a guest, by the addresses that they have there.
#[derive(Debug, Default)]
pub(super) struct GuestSymbols {
    files: Vec<Symbols>,
}

#[derive(Debug)]
enum Symbols {
    Elf(PathBuf),
    Map(PathBuf, SystemMap),
}

impl GuestSymbols {
    /// # Errors
    /// If one of them cannot be read, or is neither an ELF file nor a list of symbols.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self> {
        let files = paths.iter().map(|path| Symbols::read(path));
        Ok(Self {
            files: files.collect::<Result<_>>()?,
        })
    }

    fn name(&self, code: &mut Code, spaces: &[AddressSpace]) {
        for file in &self.files {
            match file {
                Symbols::Elf(path) => {
                    let located = LocatedCode::from_file(path, code.pc, Some(0), None)
                        .or_else(|_| LocatedCode::from_file(path, code.pc, None, None));
                    let located = located.ok().filter(|it| it.bytes.starts_with(&code.bytes));
                    let is_it = |it: &LocatedCode| match it.assumptions[..] {
                        // Programs with fixed addresses (ET_EXEC) have the same ones.
                        [] => is_of_one(path, spaces),
                        // Of a position-independent program, the only place as far into a page has the same bytes. A kernel or
                        // a firmware is no such program.
                        _ => !spaces.is_empty(),
                    };
                    if let Some(located) = located.filter(is_it) {
                        code.take(located.origin);
                        code.module = Some(path.display().to_string());
                        return;
                    }
                }
                Symbols::Map(path, map) => {
                    if let Some((name, offset)) = map.name(code.pc) {
                        code.function = Some((name, offset));
                        code.module = Some(path.display().to_string());
                        code.offset = Some(code.pc);
                        return;
                    }
                }
            }
        }
    }
}

/// Whether a file is named like one of these programs, perhaps with an ending such as `.debug`; true if none is known.
fn is_of_one(path: &Path, spaces: &[AddressSpace]) -> bool {
    let file = path.file_name().unwrap_or_default().as_bytes();
    let programs = spaces.iter().map(|it| OsStr::from_bytes(&it.program));
    let mut names = programs
        .filter_map(|it| Path::new(it).file_name())
        .peekable();
    let is_named = |name: &OsStr| {
        let ending = file.strip_prefix(name.as_bytes());
        ending.is_some_and(|it| it.is_empty() || it.starts_with(b"."))
    };
    names.peek().is_none() || names.any(is_named)
}

impl Symbols {
    fn read(path: &Path) -> Result<Self> {
        let cannot_read = || format!("cannot read symbols from {}", path.display());
        let mut file = File::open(path).with_context(cannot_read)?;
        let mut head = [0; 4];
        let count = file.read(&mut head).with_context(cannot_read)?;
        if &head[..count] == b"\x7fELF" {
            return Ok(Self::Elf(path.to_owned()));
        }
        let mut text = head[..count].to_vec();
        file.take(MOST_BYTES)
            .read_to_end(&mut text)
            .with_context(cannot_read)?;
        let map = SystemMap::parse(&text).with_context(cannot_read)?;
        Ok(Self::Map(path.to_owned(), map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_a_program_are_for_programs_of_its_name() {
        let is_of_one = |path: &str, programs: &[&str]| {
            let spaces: Vec<_> = programs
                .iter()
                .map(|program| AddressSpace {
                    page_table: 0x1000,
                    program: program.as_bytes().to_vec(),
                    count: 1,
                })
                .collect();
            super::is_of_one(Path::new(path), &spaces)
        };
        assert!(is_of_one("build/one", &[]));
        assert!(is_of_one("build/one", &[""]));
        assert!(is_of_one("build/one.debug", &["/bin/two", "/bin/one"]));
        assert!(!is_of_one("build/one", &["/bin/two", ""]));
        assert!(!is_of_one("one/two", &["/bin/one"]));
        assert!(!is_of_one("build/one", &["/bin/o", "/bin/"]));
    }
}
