//! An instruction's bytes, in the many ways in which people write them down.

use anyhow::{Result, bail};

use crate::error::Error;

/// Code as people paste it, with an instruction in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastedBytes {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Where among them the instruction begins.
    pub start: usize,
}

impl PastedBytes {
    /// Reads `f0 48 0f ab 3e`, `f0480fab3e`, `0xf0, 0x48`, `f0:48`, `\xf0\x48`, or a kernel's `Code:`
    /// line, in which `<f0>` marks the byte that RIP pointed at.
    ///
    /// # Errors
    /// If that is not what it is, or there is no byte.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let pasted = parse(text).map_err(Error::other)?;
        match pasted.bytes.is_empty() {
            true => Err(Error::NoBytes),
            false => Ok(pasted),
        }
    }
}

fn parse(text: &str) -> Result<PastedBytes> {
    // A kernel's log has a time stamp before it.
    let text = text
        .rsplit_once("Code:")
        .map_or(text, |(_, bytes)| bytes)
        .replace("\\x", " ");
    let (mut bytes, mut start) = (vec![], None);
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | ';');
    for word in text.split(separates).filter(|word| !word.is_empty()) {
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
    let start = start.unwrap_or(0);
    Ok(PastedBytes { bytes, start })
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
        ] {
            let message = PastedBytes::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_any_separator(
            bytes in proptest::collection::vec(any::<u8>(), 1..40),
            gap in "[ ,:;\t\n]{1,3}",
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
