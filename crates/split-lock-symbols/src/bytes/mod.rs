//! An instruction's bytes, in the many ways in which people and tools write them down.
//!
//! A line of a disassembler has an address in front of the bytes, and words behind them. An address is never taken for
//! code: where a line can be read in two ways, it is refused, with what would make it clear.

use anyhow::{Result, bail};

use crate::error::Error;

mod disassembly;
mod registers;
#[cfg(test)]
mod tests;

use disassembly::disassembly;
use registers::{registers, without_registers};

/// Code as people paste it, with an instruction in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastedBytes {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Where among them the instruction begins.
    pub start: usize,
    /// The instruction's address, if it was there.
    pub address: Option<u64>,
    /// Registers that were printed beside it, by the names that they have in code: `rax`, `fs_base`.
    pub registers: Vec<(String, u64)>,
    /// Whether it is from an oops, and so the kernel's own.
    pub is_kernel: bool,
}

impl PastedBytes {
    /// Reads `f0 48 0f ab 3e`, `f0480fab3e`, `0xf0, 0x48`, `f0:48`, `\xf0\x48`; lines of objdump, gdb (`x/xb`,
    /// `disassemble /r`), llvm-objdump and `perf annotate --asm-raw`, of which an arrow marks one, or only one locks; and an oops or its `Code:` line alone, in
    /// which `<f0>` marks the byte that RIP pointed at.
    ///
    /// # Errors
    /// If that is not what it is, could be two things, or there is no byte.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let pasted = parse(text).map_err(Error::other)?;
        match pasted.bytes.is_empty() {
            true => Err(Error::NoBytes),
            false => Ok(pasted),
        }
    }
}

fn parse(text: &str) -> Result<PastedBytes> {
    let registers = registers(text);
    let is_kernel =
        text.contains("Code:") && (text.contains("RIP: 0010:") || text.contains("Oops: "));
    // An oops has a second one if a program had called the kernel: the first is what died.
    let code = text.lines().find_map(|line| line.split_once("Code:"));
    let mut pasted = match code {
        Some((_, bytes)) => marked_bytes(bytes)?,
        None => {
            refuse_oops_without_code(text)?;
            refuse_dumps(text)?;
            match disassembly(text)? {
                Some(pasted) => pasted,
                None => marked_bytes(&without_registers(text))?,
            }
        }
    };
    pasted.registers = registers;
    pasted.is_kernel = is_kernel;
    Ok(pasted)
}

/// Bytes alone, one of which may be marked.
fn marked_bytes(text: &str) -> Result<PastedBytes> {
    let text = text.replace("\\x", " ");
    let (mut bytes, mut start) = (vec![], None);
    for line in text.lines() {
        refuse_addresses(&words(line))?;
    }
    for word in words(&text) {
        let digits = match word.strip_prefix('<').map(|rest| rest.strip_suffix('>')) {
            None => word,
            Some(None) => bail!("`{word}`: the mark has no end; write <f0>"),
            Some(Some(_)) if start.is_some() => bail!("`{word}`: another byte is marked already"),
            Some(Some(digits)) => {
                start = Some(bytes.len());
                digits
            }
        };
        bytes.extend(hexadecimal(digits)?);
    }
    Ok(PastedBytes {
        bytes,
        start: start.unwrap_or(0),
        ..PastedBytes::default()
    })
}

fn words(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';'));
    words.filter(|word| !word.is_empty()).collect()
}

/// Of words of which only the first is longer than the others nobody knows whether that is an address.
fn refuse_addresses(words: &[&str]) -> Result<()> {
    let digits = |word: &str| word.trim_matches(['<', '>']).trim_start_matches("0x").len();
    let all_have = |others: &[&str], count: usize| others.iter().all(|word| digits(word) == count);
    if let [first, others @ ..] = words
        && others.len() >= 2
        && !first.starts_with('<')
        && ((digits(first) >= 4 && all_have(others, 2))
            || (digits(first) >= 6 && (all_have(others, 4) || all_have(others, 8))))
    {
        bail!(
            "`{first}` may be an address or the first bytes of the code: write `{first}:` if it is an address, and take it \
             apart if it is code"
        );
    }
    Ok(())
}

/// The `Code:` line of an oops comes late, and may have been cut off.
fn refuse_oops_without_code(text: &str) -> Result<()> {
    let Some((_, place)) = text.split_once("RIP: 0010:") else {
        return Ok(());
    };
    let place = place.split_whitespace().next().unwrap_or_default();
    bail!(
        "this oops has no `Code:` line: paste it to its end, or look the place up with --exe vmlinux --address {place}"
    );
}

/// The dumps of hexdump, xxd, od and readelf: what their lines begin with is mostly no address of code, and where in it the
/// instruction begins is not said.
fn refuse_dumps(text: &str) -> Result<()> {
    let is_dump = |line: &str| {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else {
            return false;
        };
        let digits = first.trim_end_matches(':').trim_start_matches("0x");
        let is_offset = digits.len() >= 6 && is_hexadecimal(digits);
        let has_text = line.trim_end().ends_with('|') && line.contains("  |");
        let has_symbol = words
            .clone()
            .next()
            .is_some_and(|word| word.starts_with('<'));
        let of_length = |wanted: usize| {
            let fits = |word: &&str| word.len() == wanted && is_hexadecimal(word);
            words.clone().take_while(fits).count() >= 2
        };
        is_offset && !has_symbol && (has_text || of_length(4) || of_length(8))
    };
    match text.lines().find(|line| is_dump(line)) {
        None => Ok(()),
        Some(line) => bail!(
            "`{}` is a line of a dump, which does not say where an instruction begins: give the instruction's bytes alone, or \
             --exe FILE --address ADDRESS",
            line.trim()
        ),
    }
}

fn is_hexadecimal(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn hexadecimal(word: &str) -> Result<Vec<u8>> {
    let digits = word.strip_prefix("0x").or(word.strip_prefix("0X"));
    let digits = digits.unwrap_or(word);
    if !is_hexadecimal(digits) {
        bail!("`{word}` is not a byte in hexadecimal digits, such as f0");
    }
    if digits.is_empty() || digits.len() % 2 == 1 {
        bail!("`{word}` is not a whole number of bytes of two hexadecimal digits each");
    }
    let byte = |n| Ok(u8::from_str_radix(&digits[n..n + 2], 16)?);
    (0..digits.len()).step_by(2).map(byte).collect()
}
