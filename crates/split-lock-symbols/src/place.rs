//! Where code is, as people write it down: a number, or a function and how far into it.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};
use object::{Object, ObjectSymbol, ReadRef, SymbolKind};

use crate::elf::{FunctionName, Image, UntrustedFile};
use crate::error::Error;
use crate::process::{Mapping, Process};

/// An address of code: `0x401136`, `main`, `main+0x10`, gdb's `<main+16>`, or a kernel's `skb_clone+0x159/0x1e0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodePlace {
    /// An address.
    Address(u64),
    /// So far into a function.
    InFunction(FunctionOffset),
}

/// A place in a function that is known by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionOffset {
    /// The function's name, as the file has it or as it was written.
    pub function: String,
    /// Bytes from its beginning.
    pub offset: u64,
    /// How long the function is, where that was said.
    pub size: Option<u64>,
}

/// A kernel counts what fills the space up to the next function, and a file does not.
const MOST_PADDING: u64 = 64;
const MOST_LISTED: usize = 4;

impl FromStr for CodePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text
            .strip_prefix('<')
            .and_then(|text| text.strip_suffix('>'))
            .unwrap_or(text);
        if let Some(digits) = text.strip_prefix("0x") {
            // A sign is no digit.
            let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let value = u64::from_str_radix(digits, 16).ok().filter(|_| is_number);
            return value
                .map(Self::Address)
                .ok_or_else(|| "an address has up to 16 hexadecimal digits".to_owned());
        }
        // Nobody means a decimal number, and some tools print addresses without 0x.
        if text.is_empty() || text.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("an address is written as 0x401136, or as main+0x10".to_owned());
        }
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        // A name in C++ may have a plus sign of its own: `operator+`.
        let (function, rest) = match text.rsplit_once('+') {
            Some((function, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                (function, rest)
            }
            _ => (text, "0"),
        };
        let place = |offset, size| {
            let function = function.trim().to_owned();
            Self::InFunction(FunctionOffset {
                function,
                offset,
                size,
            })
        };
        let place = match rest.split_once('/') {
            _ if function.is_empty() => None,
            None => number(rest).map(|offset| place(offset, None)),
            Some((offset, size)) => {
                let inside = number(offset)
                    .zip(number(size))
                    .filter(|(offset, size)| offset < size);
                inside.map(|(offset, size)| place(offset, Some(size)))
            }
        };
        place.ok_or_else(|| {
            "a place in a function is written as main+0x10 or skb_clone+0x159/0x1e0".to_owned()
        })
    }
}

impl CodePlace {
    /// Its address in a file, before that was loaded.
    ///
    /// # Errors
    /// If the file cannot be read, or has no such function, or several.
    pub fn in_file(&self, path: &Path) -> Result<u64, Error> {
        let place = match self {
            Self::Address(address) => return Ok(*address),
            Self::InFunction(place) => place,
        };
        let file = UntrustedFile::open(path).map_err(Error::other)?;
        let image = Image::parse(file.data()).map_err(Error::not_in_file)?;
        let found = image.function_named(&place.function);
        place.in_one_of(&found).map_err(Error::not_in_file)
    }

    /// Its address in the memory of a process.
    ///
    /// # Errors
    /// If the process cannot be looked at, or none of the files that it runs has such a function, or several have.
    pub fn in_process(&self, pid: u32) -> Result<u64, Error> {
        let place = match self {
            Self::Address(address) => return Ok(*address),
            Self::InFunction(place) => place,
        };
        let process = Process::new(pid);
        let mut found = vec![];
        for mapping in process.code_mappings().map_err(Error::other)? {
            let Ok(file) = process.file(&mapping) else {
                continue;
            };
            let Ok(image) = Image::parse(file.data()) else {
                continue;
            };
            let functions = image.function_named(&place.function).into_iter();
            found.extend(functions.filter_map(|(start, bytes)| {
                Some((mapped_at(&mapping, image.offset_of_address(start)?)?, bytes))
            }));
        }
        place.in_one_of(&found).map_err(Error::other)
    }
}

/// What a part of a file became in memory, if it is in this mapping of it.
fn mapped_at(mapping: &Mapping, offset: u64) -> Option<u64> {
    let first = mapping.addresses.start;
    let into = offset.checked_sub(mapping.offset_in_file(first)?)?;
    let address = first.checked_add(into)?;
    mapping.addresses.contains(&address).then_some(address)
}

impl FunctionOffset {
    /// The address that is meant, of functions with this name, each with where it begins and its size.
    fn in_one_of(&self, found: &[(u64, u64)]) -> Result<u64> {
        let (function, offset, size) = (&self.function, self.offset, self.size);
        if found.is_empty() {
            bail!("it has no function {function} (a stripped file has no names: give an address)");
        }
        let fits = |&(_, bytes): &(u64, u64)| {
            let padded = bytes..=bytes.saturating_add(MOST_PADDING);
            let is_its_size = size.is_none_or(|size| padded.contains(&size));
            bytes == 0 || (offset < bytes && is_its_size)
        };
        let fitting: Vec<_> = found.iter().copied().filter(fits).collect();
        match fitting[..] {
            [(start, _)] => start
                .checked_add(offset)
                .ok_or_else(|| anyhow!("{function}+{offset:#x} is no address")),
            [] => {
                let sizes = listed(found.iter().map(|&(_, bytes)| bytes));
                match size {
                    Some(size) => bail!(
                        "its function {function} has {sizes} bytes, and not {size:#x}: it is another build; leave /{size:#x} out to look \
                     there all the same"
                    ),
                    None => bail!(
                        "its function {function} has {sizes} bytes, and {offset:#x} is not in it"
                    ),
                }
            }
            _ => bail!(
                "it has {} functions {function}: give one of the addresses, which are {}",
                fitting.len(),
                listed(fitting.iter().map(|(start, _)| start.wrapping_add(offset)))
            ),
        }
    }
}

fn listed(numbers: impl Iterator<Item = u64>) -> String {
    let numbers = numbers
        .take(MOST_LISTED)
        .map(|number| format!("{number:#x}"));
    numbers.collect::<Vec<_>>().join(", ")
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    /// The functions of this name, each with where it begins and its size: as the file has the name, or else as it was
    /// written.
    fn function_named(&self, name: &str) -> Vec<(u64, u64)> {
        let find = |is_it: &dyn Fn(&[u8]) -> bool| {
            let symbols = self.file.symbols().chain(self.file.dynamic_symbols());
            let mut found: Vec<(u64, u64)> = symbols
                .filter(|symbol| {
                    matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown)
                        && symbol.section_index().is_some()
                        && symbol.name_bytes().is_ok_and(is_it)
                        && self.code_segment(symbol.address()).is_some()
                })
                .map(|symbol| (symbol.address(), symbol.size()))
                .collect();
            found.sort_unstable();
            // Two names of one function, or one in both tables.
            found.dedup_by_key(|(start, _)| *start);
            found
        };
        let exact = find(&|symbol| symbol == name.as_bytes());
        if !exact.is_empty() {
            return exact;
        }
        let last = name.rsplit("::").next().unwrap_or(name);
        let last = last.split(['(', '<']).next().unwrap_or(last).as_bytes();
        find(&|symbol| {
            // Taking names apart is slow, and most have nothing of this one in them.
            symbol.windows(last.len().max(1)).any(|part| part == last)
                && std::str::from_utf8(symbol)
                    .is_ok_and(|symbol| is_written(&FunctionName::of(symbol).demangled, name))
        })
    }

    /// How far from the beginning of the file the code at an address is.
    fn offset_of_address(&self, address: u64) -> Option<u64> {
        let segment = self.code_segment(address)?;
        segment.offset().checked_add(address - segment.address)
    }
}

/// Whether a name is what people write for it: all of it, or without its parameters.
fn is_written(demangled: &str, name: &str) -> bool {
    let rest = demangled.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('('))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_function(function: &str, offset: u64, size: Option<u64>) -> FunctionOffset {
        FunctionOffset {
            function: function.to_owned(),
            offset,
            size,
        }
    }

    fn place(function: &str, offset: u64, size: Option<u64>) -> CodePlace {
        CodePlace::InFunction(in_function(function, offset, size))
    }

    #[test]
    fn places_are_read_as_tools_write_them() {
        for (text, expected) in [
            ("0x401136", CodePlace::Address(0x0040_1136)),
            ("main", place("main", 0, None)),
            ("main+0x10", place("main", 0x10, None)),
            ("<main+16>", place("main", 16, None)),
            (
                "skb_clone+0x159/0x1e0",
                place("skb_clone", 0x159, Some(0x1e0)),
            ),
            ("ns::operator+", place("ns::operator+", 0, None)),
            ("ns::operator++0x4", place("ns::operator+", 4, None)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "401136",
            "0x",
            "0xg",
            "0x11112222333344445",
            "main+0x",
            "+0x10",
            "main+0x20/0x10",
            "main+1/x",
        ] {
            text.parse::<CodePlace>().unwrap_err();
        }
    }

    #[test]
    fn one_function_is_meant_or_a_sentence_says_why_not() {
        let of = |offset, size, found: &[(u64, u64)]| {
            in_function("f", offset, size)
                .in_one_of(found)
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(4, None, &[(0x1000, 0x20)]), Ok(0x1004));
        assert_eq!(
            of(4, Some(0x30), &[(0x1000, 0x20), (0x2000, 0x200)]),
            Ok(0x1004)
        );
        for (offset, size, found, part) in [
            (4, None, &[][..], "no function f"),
            (0x20, None, &[(0x1000, 0x20)], "is not in it"),
            (4, Some(0x500), &[(0x1000, 0x20)], "another build"),
            (4, None, &[(0x1000, 0x20), (0x2000, 0x20)], "0x1004, 0x2004"),
        ] {
            let error = of(offset, size, found).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
