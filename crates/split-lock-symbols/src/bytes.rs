//! An instruction's bytes, in the many ways in which people and tools write them down.
//!
//! A line of a disassembler has an address in front of the bytes, and words behind them. An address is never taken for
//! code: where a line can be read in two ways, it is refused, with what would make it clear.

use anyhow::{Result, bail};

use crate::error::Error;

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
    /// `disassemble /r`) and `perf annotate --asm-raw`, of which an arrow marks one; and an oops or its `Code:` line alone, in
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
        None => match disassembly(text)? {
            Some(pasted) => pasted,
            None => marked_bytes(&without_registers(text))?,
        },
    };
    pasted.registers = registers;
    pasted.is_kernel = is_kernel;
    Ok(pasted)
}

/// Bytes alone, one of which may be marked.
fn marked_bytes(text: &str) -> Result<PastedBytes> {
    let text = text.replace("\\x", " ");
    let (mut bytes, mut start) = (vec![], None);
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';');
    let words: Vec<&str> = text
        .split(separates)
        .filter(|word| !word.is_empty())
        .collect();
    refuse_addresses(&words)?;
    for word in words {
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

/// Of words of which only the first is longer than a byte nobody knows whether that is an address.
fn refuse_addresses(words: &[&str]) -> Result<()> {
    let digits = |word: &str| word.trim_start_matches("0x").len();
    if let [first, others @ ..] = words
        && others.len() >= 2
        && !first.starts_with('<')
        && digits(first) >= 4
        && others
            .iter()
            .all(|word| digits(word.trim_matches(['<', '>'])) == 2)
    {
        bail!(
            "`{first}` may be an address or the first bytes of the code: write `{first}:` if it is an address, and take it \
             apart if it is code"
        );
    }
    Ok(())
}

/// A line of a disassembler.
#[derive(Debug)]
struct DisassembledLine {
    address: u64,
    bytes: Vec<u8>,
    is_marked: bool,
    /// What stands behind the bytes.
    has_words: bool,
}

/// Lines of a disassembler, if that is what they are: bytes that follow each other, and the instruction is the one with the
/// arrow, or the first.
fn disassembly(text: &str) -> Result<Option<PastedBytes>> {
    let mut lines = vec![];
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match disassembled(line)? {
            Some(line) => lines.push(line),
            // What else a tool prints around: names of functions, registers.
            None => continue,
        }
    }
    let Some(first) = lines.first() else {
        return Ok(None);
    };
    if let Some(line) = lines
        .iter()
        .find(|line| line.is_marked && line.bytes.is_empty())
        .or(lines
            .iter()
            .all(|line| line.bytes.is_empty())
            .then_some(first))
    {
        bail!(
            "there is an instruction at {0:#x} and none of its bytes: print them (gdb: `disassemble /r`, `x/16xb {0:#x}`; perf: \
             --asm-raw), or give --exe FILE --address {0:#x}",
            line.address
        );
    }
    let marked = lines.iter().position(|line| line.is_marked).unwrap_or(0);
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
        next = Some(line.address.wrapping_add(line.bytes.len() as u64));
    }
    Ok(Some(pasted))
}

/// `  401112: f0 0f b1 17 lock cmpxchg %edx,(%rdi)`, `=> 0x401112 <main+12>: 0xf0 0x0f`,
/// `    0.50 :   401112:   f0 0f b1 17 ...`
fn disassembled(line: &str) -> Result<Option<DisassembledLine>> {
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
    let Some((head, tail)) = rest.split_once(':') else {
        return Ok(None);
    };
    let place = head.trim_end();
    let (place, symbol) = place.split_once(char::is_whitespace).unwrap_or((place, ""));
    let is_symbol =
        |symbol: &str| symbol.is_empty() || (symbol.starts_with('<') && symbol.ends_with('>'));
    let digits = place.trim_start_matches("0x");
    let is_number =
        (1..=16).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_number || !is_symbol(symbol.trim()) {
        return Ok(None);
    }
    let (bytes, has_words) = leading_bytes(tail);
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
    let address = u64::from_str_radix(digits, 16)?;
    Ok(Some(DisassembledLine {
        address,
        bytes,
        is_marked,
        has_words,
    })
    .filter(|line| !line.bytes.is_empty() || line.has_words))
}

/// The bytes that a text begins with, each a word of its own, and whether something else follows.
fn leading_bytes(text: &str) -> (Vec<u8>, bool) {
    let mut bytes = vec![];
    for word in text
        .split(|c: char| c.is_whitespace() || c == '│')
        .filter(|word| !word.is_empty())
    {
        let digits = word.trim_start_matches("0x");
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if digits.len() == 2 => bytes.push(byte),
            _ => return (bytes, true),
        }
    }
    (bytes, false)
}

/// The registers that an oops or gdb's `info registers` prints, by the names that they have in code.
fn registers(text: &str) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = vec![];
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let (name, attached) = word.split_once(':').unwrap_or((word, ""));
        // `GS:ffff88810e000000(0000)`
        if let (Some(name), false) = (register(name, true), attached.is_empty())
            && let Some(Ok(value)) = attached
                .split('(')
                .next()
                .map(|digits| u64::from_str_radix(digits, 16))
            && attached.len() >= 8
            && found.iter().all(|(known, _)| *known != name)
        {
            found.push((name, value));
            continue;
        }
        let (name, is_oops) = match word.strip_suffix(':') {
            Some(name) => (name, true),
            None => (word, false),
        };
        let Some(name) = register(name, is_oops) else {
            continue;
        };
        let Some(value) = words.peek() else { break };
        // `0018:ffffc90000123b48`, `00007f0000000000(0000)`
        let value = value.rsplit(':').next().unwrap_or(value);
        let value = value.split('(').next().unwrap_or(value);
        let digits = match (is_oops, value.strip_prefix("0x")) {
            (true, None) if value.len() >= 8 => value,
            (_, Some(digits)) => digits,
            _ => continue,
        };
        if let Ok(value) = u64::from_str_radix(digits, 16)
            && found.iter().all(|(known, _)| *known != name)
        {
            found.push((name, value));
        }
    }
    found
}

/// What code calls a register.
fn register(name: &str, is_oops: bool) -> Option<String> {
    const NAMES: [&str; 16] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r10", "r11", "r12", "r13", "r14",
        "r15", "eflags", "fs_base",
    ];
    let lower = name.to_ascii_lowercase();
    let is_upper = name.bytes().all(|byte| !byte.is_ascii_lowercase());
    if is_oops != is_upper {
        return None;
    }
    match &*lower {
        "r08" | "r8" => Some("r8".to_owned()),
        "r09" | "r9" => Some("r9".to_owned()),
        "fs" if is_oops => Some("fs_base".to_owned()),
        "gs" if is_oops => Some("gs_base".to_owned()),
        "gs_base" => Some(lower),
        other => NAMES.contains(&other).then_some(lower),
    }
}

/// Without the lines that hold nothing but registers.
fn without_registers(text: &str) -> String {
    let is_other = |line: &&str| registers(line).is_empty();
    text.lines().filter(is_other).collect::<Vec<_>>().join("\n")
}

fn hexadecimal(word: &str) -> Result<Vec<u8>> {
    let digits = word.strip_prefix("0x").or(word.strip_prefix("0X"));
    let digits = digits.unwrap_or(word);
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        bail!("`{word}` is not a byte in hexadecimal digits, such as f0");
    }
    if digits.is_empty() || digits.len() % 2 == 1 {
        bail!("`{word}` is not a whole number of bytes of two hexadecimal digits each");
    }
    let byte = |n| Ok(u8::from_str_radix(&digits[n..n + 2], 16)?);
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BTS: [u8; 5] = [0xf0, 0x48, 0x0f, 0xab, 0x3e];

    #[test]
    fn an_instruction_is_read_in_many_notations() {
        for text in [
            "f0 48 0f ab 3e",
            "f0480fab3e",
            "0xf0480fab3e",
            "F0 480F AB3E",
            "0xf0,0x48,0x0f,0xab,0x3e",
            "0xf0, 0X48, 0x0f, 0xab, 0x3e\n",
            "f0:48:0f:ab:3e",
            r"\xf0\x48\x0f\xab\x3e",
            "<f0> 48 0f ab 3e",
            "[   12.345678] Code: <f0> 48 0f ab 3e",
        ] {
            let pasted = parse(text).unwrap();
            assert_eq!((&pasted.bytes[..], pasted.start), (&BTS[..], 0), "{text}");
        }
    }

    #[test]
    fn the_byte_that_a_kernel_marks_begins_the_instruction() {
        let pasted = parse("Code: 90 0f 1f 00 <f0> 48 0f ab 3e c3").unwrap();
        assert_eq!(pasted.start, 4);
        assert!(pasted.bytes[pasted.start..].starts_with(&BTS));
        assert_eq!(pasted.bytes.len(), 10);
    }

    #[test]
    fn what_is_not_a_byte_is_named() {
        for (text, part) in [
            ("", "no bytes"),
            (" , ", "no bytes"),
            ("f0 4", "`4`"),
            ("f0480", "`f0480`"),
            ("0x", "`0x`"),
            ("Code: Bad RIP value.", "`Bad`"),
            ("<f0> <48>", "`<48>`"),
            ("<f0 48", "`<f0`"),
            ("<>", "``"),
            ("é0", "`é0`"),
            ("0x401112 f0 0f b1 17", "may be an address"),
            ("12: f0 0f b1 17", "may be an address"),
            (
                "=> 0x401112 <main+12>:\tlock cmpxchg %edx,(%rdi)",
                "--address 0x401112",
            ),
        ] {
            let message = PastedBytes::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    const CMPXCHG: [u8; 4] = [0xf0, 0x0f, 0xb1, 0x17];

    #[test]
    fn an_address_in_front_of_code_is_an_address() {
        for line in [
            "  401112: f0 0f b1 17",
            "  401112:\tf0 0f b1 17          \tlock cmpxchg %edx,(%rdi)",
            "  401112:\tf0 0f b1 17          \tlock cmpxchg DWORD PTR [rdi],edx",
            "0x401112: 0xf0 0x0f 0xb1 0x17",
            "0x401112 <main+12>:\t0xf0\t0x0f\t0xb1\t0x17",
            "   0x0000000000401112 <+12>:\tf0 0f b1 17\tlock cmpxchg %edx,(%rdi)",
            "=> 0x0000000000401112 <main+12>:\tf0 0f b1 17\tlock cmpxchg %edx,(%rdi)",
            "    0.50 :   401112:   f0 0f b1 17     lock cmpxchg %edx,(%rdi)",
            "  12.30 │   401112:   f0 0f b1 17     lock cmpxchg %edx,(%rdi)",
            "0000000000401106 <main>:\n  401112: f0 0f b1 17 lock cmpxchg",
            "00401112: f0 0f b1 17",
        ] {
            let pasted = PastedBytes::parse(line).unwrap();
            let found = (&pasted.bytes[pasted.start..], pasted.address);
            assert_eq!(found, (&CMPXCHG[..], Some(0x40_1112)), "{line}");
        }
    }

    #[test]
    fn the_arrow_marks_the_instruction_among_others() {
        let text = "   0x401110 <main+10>:\t31 c0\txor %eax,%eax\n=> 0x401112 <main+12>:\tf0 0f b1 17\tlock cmpxchg\n   \
                    0x401116 <main+16>:\tc3\tret\n";
        let pasted = PastedBytes::parse(text).unwrap();
        assert_eq!(
            (pasted.start, pasted.address, pasted.bytes.len()),
            (2, Some(0x40_1112), 7)
        );
    }

    #[test]
    fn a_long_instruction_may_take_two_lines() {
        let text = "  401112:\tf0 48 81 05 00 01 00 \tlock addq $0x12345678,0x100(%rip)\n  401119:\t00 78 56 34 12 \n";
        assert_eq!(PastedBytes::parse(text).unwrap().bytes.len(), 12);
    }

    #[test]
    fn an_oops_has_the_code_and_the_registers() {
        let text = "[ 77.0] Oops: Split lock detected: 0000 [#1] SMP\n[ 77.0] RIP: 0010:skb_clone+0x159/0x1e0\n\
                    [ 77.0] Code: 90 <f0> ff 42 20 c3\n[ 77.0] RSP: 0018:ffffc90000123b48 EFLAGS: 00010246\n\
                    [ 77.0] RAX: 0000000000000000 RDX: ffff88810000001e R08: 0000000000000007\n\
                    [ 77.0] FS:  00007f1234567740(0000) GS:ffff88810e000000(0000)\n[ 77.1] Code: 90 90\n\
                    [ 77.1] RDX: 0000000000000000";
        let pasted = PastedBytes::parse(text).unwrap();
        assert_eq!(
            (pasted.start, &pasted.bytes[1..5]),
            (1, &[0xf0, 0xff, 0x42, 0x20][..])
        );
        assert!(pasted.is_kernel);
        let registers: Vec<_> = pasted
            .registers
            .iter()
            .map(|(name, value)| (&name[..], *value))
            .collect();
        assert_eq!(
            registers,
            [
                ("rsp", 0xffff_c900_0012_3b48),
                ("eflags", 0x10246),
                ("rax", 0),
                ("rdx", 0xffff_8881_0000_001e),
                ("r8", 7),
                ("fs_base", 0x7f12_3456_7740),
                ("gs_base", 0xffff_8881_0e00_0000),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_any_separator(
            bytes in proptest::collection::vec(any::<u8>(), 1..40),
            gap in "[ ,;\t\n]{1,3}|:",
        ) {
            let words: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(parse(&words.join(&gap)).unwrap().bytes, bytes);
        }

        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
