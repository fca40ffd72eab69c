//! Names as programmers wrote them, from those that compilers make of them.

use std::fmt::{self, Write};

use cpp_demangle::{BorrowedSymbol, DemangleOptions};

/// A name that is longer says nothing to people.
const MOST_CHARACTERS: usize = 512;

/// The name of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    /// As the file has it.
    pub mangled: String,
    /// As people know it: that of Rust or C++ code without what the compiler did to it.
    pub demangled: String,
}

impl FunctionName {
    pub(crate) fn of(mangled: &str) -> Self {
        let demangled = rust(mangled).or_else(|| cpp(mangled));
        Self {
            mangled: mangled.to_owned(),
            demangled: demangled.unwrap_or_else(|| LimitedText::text(|out| out.write_str(mangled))),
        }
    }
}

fn rust(name: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(name).ok()?;
    Some(LimitedText::text(|out| write!(out, "{name:#}")))
}

fn cpp(name: &str) -> Option<String> {
    let (name, rest) = BorrowedSymbol::with_tail(name.as_bytes()).ok()?;
    // Parts of a function have a suffix, such as `.cold`.
    let suffix = str::from_utf8(rest)
        .ok()
        .filter(|rest| rest.is_empty() || rest.starts_with('.'))?;
    let options = DemangleOptions::new().no_return_type();
    Some(LimitedText::text(|out| {
        name.structured_demangle(out, &options)?;
        out.write_str(suffix)
    }))
}

/// Text up to some length. A short mangled name can stand for one that fills the memory.
#[derive(Debug, Default)]
struct LimitedText {
    text: String,
    left: usize,
}

impl LimitedText {
    fn text(write: impl FnOnce(&mut Self) -> fmt::Result) -> String {
        let mut limited = Self {
            text: String::new(),
            left: MOST_CHARACTERS,
        };
        if write(&mut limited).is_err() {
            limited.text.push('…');
        }
        limited.text
    }
}

impl Write for LimitedText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for character in part.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(character);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_shown_as_they_were_written() {
        for (mangled, demangled) in [
            ("main", "main"),
            ("_ZN4game4tickEv", "game::tick()"),
            ("_ZN4game4tickEv.cold", "game::tick() [clone .cold]"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_RNvC7mycrate3foo", "mycrate::foo"),
            ("_Znot a name", "_Znot a name"),
            ("", ""),
        ] {
            assert_eq!(FunctionName::of(mangled).demangled, demangled);
        }
    }

    #[test]
    fn a_name_that_grows_is_cut() {
        // Each of its arguments is twice the one before it.
        let mut name = "_Z1f1a".to_owned();
        for n in 0..60 {
            let last = match n {
                0 => "S_".to_owned(),
                n => format!("S{}_", char::from_digit((n - 1) % 36, 36).unwrap()).to_uppercase(),
            };
            name.push_str(&format!("1bI{last}{last}E"));
        }
        for name in [name, "x".repeat(4096)] {
            assert!(FunctionName::of(&name).demangled.chars().count() <= MOST_CHARACTERS + 1);
        }
    }

    proptest! {
        #[test]
        fn no_name_is_a_panic(name in "(_ZN?|_R)?[0-9A-Za-z_$.]{0,80}", any in any::<String>()) {
            for name in [name, any] {
                prop_assert!(FunctionName::of(&name).demangled.chars().count() <= MOST_CHARACTERS + 1);
            }
        }
    }
}
