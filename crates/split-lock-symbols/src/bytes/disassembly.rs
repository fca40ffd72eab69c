//! Lines of a disassembler: an address, bytes, and what they mean.

use anyhow::{Result, bail};

use super::{PastedBytes, is_hexadecimal};

#[derive(Debug)]
struct DisassembledLine<'a> {
    address: u64,
    bytes: Vec<u8>,
    is_marked: bool,
    /// What stands behind the bytes.
    words: &'a str,
}

impl DisassembledLine<'_> {
    /// By what the tool has written there.
    fn locks(&self) -> bool {
        let words = self.words.trim_start();
        words.starts_with("lock") || (words.starts_with("xchg") && words.contains(['(', '[']))
    }

    fn end(&self) -> u64 {
        self.address.wrapping_add(self.bytes.len() as u64)
    }
}

/// Lines of a disassembler, if that is what they are: bytes that follow each other, and the instruction is the one with the
/// arrow, or the only one that locks, or the first.
pub(super) fn disassembly(text: &str) -> Result<Option<PastedBytes>> {
    let mut lines = vec![];
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        // What else a tool prints around, such as names of functions, is passed over.
        lines.extend(disassembled(line)?);
    }
    let Some(first) = lines.first() else {
        return Ok(without_addresses(text));
    };
    // A debugger may have shown the instruction in one line, and its bytes in another.
    let arrow = lines.iter().find(|line| line.is_marked);
    let wanted = arrow.map(|line| line.address);
    let is_wanted = |line: &DisassembledLine| wanted.is_none_or(|address| address == line.address);
    let has_bytes = |line: &DisassembledLine| is_wanted(line) && !line.bytes.is_empty();
    if !lines.iter().any(has_bytes) {
        let address = wanted.unwrap_or(first.address);
        bail!(
            "there is an instruction at {address:#x} and none of its bytes: print them (gdb: `disassemble /r`, \
             `x/16xb {address:#x}`; perf: --asm-raw), or give --exe FILE --address {address:#x}"
        );
    }
    lines.retain(|line| !line.bytes.is_empty());
    let marked = match wanted {
        Some(address) => lines.iter().position(|line| line.address == address),
        None => only_lock(&lines)?,
    };
    let marked = marked.unwrap_or(0);
    Ok(Some(from_lines(&lines, marked)))
}

/// Where the instruction is, of several without an arrow, if the first does not lock.
fn only_lock(lines: &[DisassembledLine]) -> Result<Option<usize>> {
    if lines.first().is_some_and(DisassembledLine::locks) {
        return Ok(None);
    }
    let locks: Vec<usize> = (0..lines.len()).filter(|&n| lines[n].locks()).collect();
    match locks[..] {
        [one] => Ok(Some(one)),
        [] => Ok(None),
        [one, two, ..] => bail!(
            "several of these instructions lock, those at {:#x} and {:#x} among them: put `=>` in front of the one that is meant",
            lines[one].address,
            lines[two].address
        ),
    }
}

/// The bytes of lines that follow each other, around the one that is meant.
fn from_lines(lines: &[DisassembledLine], marked: usize) -> PastedBytes {
    let mut pasted = PastedBytes {
        address: Some(lines[marked].address),
        ..PastedBytes::default()
    };
    let mut next = None;
    for (number, line) in lines.iter().enumerate() {
        // Of what does not follow, only what is after it, or nothing, belongs to the instruction.
        if next.is_some_and(|next| next != line.address) {
            if number > marked {
                break;
            }
            pasted.bytes.clear();
        }
        if number == marked {
            pasted.start = pasted.bytes.len();
        }
        pasted.bytes.extend(&line.bytes);
        next = Some(line.end());
    }
    pasted
}

/// `  401112: f0 0f b1 17 lock cmpxchg %edx,(%rdi)`, `=> 0x401112 <main+12>: 0xf0 0x0f`,
/// `    0.50 :   401112:   f0 0f b1 17 ...`, `0000000000401112 <main+0xc> f0 0f b1 17 lock cmpxchg ...`,
/// `401112 main insn: f0 0f b1 17`
fn disassembled(line: &str) -> Result<Option<DisassembledLine<'_>>> {
    let mut rest = line.trim_start();
    let mut is_marked = false;
    for arrow in ["=>", "-->", "->", "►", "*"] {
        if let Some(after) = rest.strip_prefix(arrow) {
            (rest, is_marked) = (after.trim_start(), true);
        }
    }
    // How often, where perf says that.
    if let Some((share, after)) = rest.split_once([':', '│', '|'])
        && share.trim().trim_end_matches('%').parse::<f32>().is_ok()
        && share.contains('.')
    {
        rest = after.trim_start();
    }
    let split = rest.split_once(" insn:").or_else(|| rest.split_once(':'));
    let (head, tail, is_colon) = match split {
        Some((head, tail)) if !head.contains('>') || head.trim_end().ends_with('>') => {
            (head, tail, true)
        }
        // `objdump --prefix-addresses`
        _ => match rest.find("> ") {
            Some(end) => (&rest[..=end], &rest[end + 1..], false),
            None => return Ok(None),
        },
    };
    let place = head.trim_end();
    let (place, symbol) = place.split_once(char::is_whitespace).unwrap_or((place, ""));
    let symbol = symbol.trim();
    let is_symbol = symbol.is_empty()
        || (symbol.starts_with('<') && symbol.ends_with('>'))
        || rest.contains(" insn:");
    let digits = place.trim_start_matches("0x");
    let is_number = (1..=16).contains(&digits.len()) && is_hexadecimal(digits);
    if !is_number || !is_symbol {
        return Ok(None);
    }
    let (bytes, words) = leading_bytes(tail);
    // A mnemonic: no byte has such letters.
    let has_mnemonic = tail.split_whitespace().any(|word| {
        let letters = word.bytes().take_while(u8::is_ascii_alphabetic).count();
        letters >= 2
            && !word
                .bytes()
                .take(letters)
                .all(|letter| letter.is_ascii_hexdigit())
    });
    let is_address = digits.len() > 2 || !symbol.is_empty() || has_mnemonic;
    if !is_address {
        // `f0:48:0f` is code, and `12: 48 0f` is nobody knows what.
        if tail.starts_with(char::is_whitespace) && !tail.contains([':', ',']) && bytes.len() > 1 {
            bail!(
                "`{place}:` may be an address or the first byte of the code: write `0x{digits:0>4}:` if it is an \
                 address, and leave the colon out if it is code"
            );
        }
        return Ok(None);
    }
    let line = DisassembledLine {
        address: u64::from_str_radix(digits, 16)?,
        bytes,
        is_marked,
        words,
    };
    let says_something = !line.bytes.is_empty() || (is_colon && !words.is_empty());
    Ok(Some(line).filter(|_| says_something))
}

/// `objdump --no-addresses`, or a line of which somebody has cut off the address: bytes, and behind them what they mean.
fn without_addresses(text: &str) -> Option<PastedBytes> {
    let mut lines = vec![];
    for line in text.lines() {
        let (bytes, words) = leading_bytes(line);
        // Two blanks, or a tab, or the word itself: what follows is no byte that was misspelt.
        let before = line.len() - words.len();
        let gap = line[..before].ends_with("  ") || line[..before].ends_with('\t');
        let is_lock = words.starts_with("lock ") || words.starts_with("xchg");
        let is_mnemonic =
            words.starts_with(|first: char| first.is_ascii_lowercase()) && (gap || is_lock);
        if !bytes.is_empty() && is_mnemonic {
            lines.push(DisassembledLine {
                address: lines.last().map_or(0, DisassembledLine::end),
                bytes,
                is_marked: false,
                words,
            });
        }
    }
    let marked = only_lock(&lines).ok()?.unwrap_or(0);
    (!lines.is_empty()).then(|| PastedBytes {
        address: None,
        ..from_lines(&lines, marked)
    })
}

/// The bytes that a text begins with, each a word of its own, and what follows them.
fn leading_bytes(text: &str) -> (Vec<u8>, &str) {
    let mut bytes = vec![];
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '│');
        let end = rest
            .find(|c: char| c.is_whitespace() || c == '│')
            .unwrap_or(rest.len());
        let digits = rest[..end].trim_start_matches("0x");
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if digits.len() == 2 => bytes.push(byte),
            _ => return (bytes, rest),
        }
        rest = &rest[end..];
    }
}
