//! An instruction of a process, for commands that are told of addresses.

use anyhow::{Context, Result, bail};
use serde::{Serialize, Serializer};
use split_lock_assist::decode::MAX_INSTRUCTION_BYTES;

use super::listing::{Code, Line, Listing};
use super::process::Process;
use super::subject::{self, Subject};

/// An instruction of a process that runs. Names in it may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
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

/// The instruction at an address of a process.
///
/// # Errors
/// If there is no such process, it has no code there, or may not be looked at.
pub fn at(pid: u32, address: u64) -> Result<Found> {
    Found::of(&subject::from_process(pid, address, None)?, address)
}

/// The instruction that ends at an address of a process.
///
/// # Errors
/// As above, and if it cannot be told where that one begins.
pub fn before(pid: u32, end: u64) -> Result<Found> {
    let subject = subject::from_process(pid, end, None)?;
    let before = subject.listing.line_before().map(|line| line.address);
    let start = match before {
        // Read from the beginning of its function, each instruction is where the CPU finds it.
        Some(start) if subject.listing.inside.is_none() => start,
        _ => {
            let longest = MAX_INSTRUCTION_BYTES as u64;
            let bytes = Process::new(pid).memory(end.saturating_sub(longest)..end)?;
            only_lock_before(&bytes, &subject, end)?
        }
    };
    at(pid, start)
}

/// Where the only locked instruction begins that ends where `bytes` do. Others may end there as well, but the CPU has
/// reported one that locked.
fn only_lock_before(bytes: &[u8], subject: &Subject, end: u64) -> Result<u64> {
    let starts = (1..=bytes.len()).filter_map(|length| {
        let code = Code {
            bytes: &bytes[bytes.len() - length..],
            address: end - length as u64,
            mode: subject.mode,
        };
        let line = Listing::around(code.address, code)
            .lines
            .into_iter()
            .next()?;
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

impl Found {
    fn of(subject: &Subject, address: u64) -> Result<Self> {
        let line = |line: &&Line| line.is_here;
        let line = subject.listing.lines.iter().find(line);
        let line = line.with_context(|| format!("the instruction at {address:#x} has no end"))?;
        let origin = subject.origin.as_ref();
        let source = origin.map_or(&[][..], |origin| &origin.source).iter();
        Ok(Self {
            address,
            bytes: line
                .bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            text: line.text.clone(),
            locks: line.locks,
            file: origin.and_then(|origin| origin.file.clone()),
            function: origin.and_then(|origin| {
                let (name, offset) = origin.symbol()?;
                Some(format!("{}+{offset:#x}", name.shown))
            }),
            source: source
                .map(|source| format!("{}:{}", source.file, source.line))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use split_lock_assist::cpu::Mode;

    use super::*;
    use crate::Pasted;

    fn lock_before(bytes: &[u8]) -> Result<u64> {
        let pasted = Pasted {
            bytes: vec![0x90],
            start: 0,
        };
        let subject = subject::from_bytes(&pasted, Mode::Bits64, Some(0x1000));
        only_lock_before(bytes, &subject, 0x1000)
    }

    #[test]
    fn the_only_lock_before_an_address_is_found() {
        // ret; ret; lock inc dword ptr [rax]
        assert_eq!(lock_before(&[0xc3, 0xc3, 0xf0, 0xff, 0x00]).unwrap(), 0xffd);
        // xchg [rsi],edi, which is another one with what is before it: REX.W.
        let message = lock_before(&[0xc3, 0x48, 0x87, 0x3e])
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("2 instructions"), "{message}");
        let message = lock_before(&[0x90, 0x90]).unwrap_err().to_string();
        assert!(message.contains("other code"), "{message}");
        assert!(lock_before(&[]).is_err());
    }
}
