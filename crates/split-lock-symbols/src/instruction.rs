//! An instruction of a process, for commands that are told of addresses.

use anyhow::{Result, anyhow, bail};
use serde::{Serialize, Serializer};
use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::MAX_INSTRUCTION_BYTES;

use crate::code::LocatedCode;
use crate::error::Error;
use crate::listing::{CodeBytes, Listing};
use crate::process::Process;

/// An instruction of a process that runs. Names in it may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessInstruction {
    /// Where it begins.
    #[serde(serialize_with = "address")]
    pub address: u64,
    /// In hexadecimal digits.
    pub bytes: String,
    /// `lock bts [rsi],rdi`
    pub text: String,
    /// It locks an operand.
    pub locks: bool,
    /// The file that it is from, as far as that has a name.
    pub file: Option<String>,
    /// `name+0x12`
    pub function: Option<String>,
    /// Where its source code is, the innermost function that was inlined first.
    pub source: Vec<String>,
}

/// Programs do not agree on how large a number can be.
fn address<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#x}"))
}

impl ProcessInstruction {
    /// The instruction at an address of a process.
    ///
    /// # Errors
    /// If there is no such process, it has no code there, or may not be looked at.
    pub fn at(pid: u32, address: u64) -> Result<Self, Error> {
        let code = LocatedCode::from_process(pid, address, None)?;
        let line = code.listing.lines.iter().find(|line| line.is_here);
        let endless = || Error::other(anyhow!("the instruction at {address:#x} has no end"));
        let line = line.ok_or_else(endless)?;
        let origin = code.origin.as_ref();
        let symbol = origin.and_then(|origin| origin.symbol());
        let source = origin.map_or(&[][..], |origin| &origin.source).iter();
        let bytes = line.bytes.iter();
        Ok(Self {
            address,
            bytes: bytes.map(|byte| format!("{byte:02x}")).collect(),
            text: line.text.clone(),
            locks: line.locks,
            file: origin.and_then(|origin| origin.file.clone()),
            function: symbol.map(|(name, offset)| format!("{}+{offset:#x}", name.demangled)),
            source: source.map(ToString::to_string).collect(),
        })
    }

    /// The instruction that ends at an address of a process.
    ///
    /// # Errors
    /// As above, and if it cannot be told where that one begins.
    pub fn before(pid: u32, end: u64) -> Result<Self, Error> {
        let code = LocatedCode::from_process(pid, end, None)?;
        let start = match code.listing.line_before() {
            // Read from the beginning of its function, each instruction is where the CPU finds it.
            Some(line) if code.listing.inside.is_none() => line.address,
            _ => {
                let longest = MAX_INSTRUCTION_BYTES as u64;
                let bytes = Process::new(pid).memory(end.saturating_sub(longest)..end);
                let start = bytes.and_then(|bytes| only_lock_before(&bytes, code.mode, end));
                start.map_err(Error::other)?
            }
        };
        Self::at(pid, start)
    }
}

/// Where the only locked instruction begins that ends where `bytes` do. Others may end there as well, but the CPU has
/// reported one that locked.
fn only_lock_before(bytes: &[u8], mode: Mode, end: u64) -> Result<u64> {
    let starts = (1..=bytes.len()).filter_map(|length| {
        let code = CodeBytes {
            bytes: &bytes[bytes.len() - length..],
            address: end - length as u64,
            mode,
        };
        let listing = Listing::around(code.address, code);
        let line = listing.lines.first()?;
        (line.locks && line.bytes.len() == length).then_some(line.address)
    });
    match starts.collect::<Vec<_>>()[..] {
        [start] => Ok(start),
        [] => bail!("no instruction that locks ends at {end:#x}: there is other code by now"),
        ref several => bail!(
            "{} instructions that lock could end at {end:#x}, and without symbols of its function it \
             cannot be told which one does",
            several.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::fixture::{BASE, Elf, SPLIT, Waiting};

    #[test]
    fn an_instruction_of_a_process_is_found_from_its_end_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let process = Waiting::start(&Elf::default(), &folder.path().join("waits"));
        let found = ProcessInstruction::at(process.pid(), BASE + SPLIT).unwrap();
        assert_eq!(found.text, "lock bts qword ptr [rsi],rdi");
        assert_eq!(found.function.as_deref(), Some("split+0x0"));
        assert_eq!(found.source, ["wait.s:20", "wait.s:30"]);
        let before = ProcessInstruction::before(process.pid(), BASE + SPLIT + 5);
        assert_eq!(before.unwrap(), found);
    }

    #[test]
    fn the_only_lock_before_an_address_is_found() {
        let lock_before = |bytes: &[u8]| only_lock_before(bytes, Mode::Bits64, 0x1000);
        // ret; ret; lock inc dword ptr [rax]
        assert_eq!(lock_before(&[0xc3, 0xc3, 0xf0, 0xff, 0x00]).unwrap(), 0xffd);
        // xchg [rsi],edi, which is another one with what is before it: REX.W.
        for (bytes, part) in [
            (&[0xc3, 0x48, 0x87, 0x3e][..], "2 instructions"),
            (&[0x90, 0x90], "other code"),
            (&[], "other code"),
        ] {
            let message = lock_before(bytes).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
