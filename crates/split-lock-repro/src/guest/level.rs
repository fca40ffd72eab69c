//! The privilege level that a guest runs at.

use std::fmt;
use std::str::FromStr;

/// The privilege level that a guest runs at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// User mode. Runs natively on every KVM, also on one without hardware virtualization.
    #[default]
    Cpl3,
    /// Kernel mode. A KVM without hardware virtualization may emulate it, instruction by instruction.
    Cpl0,
}

/// Not a privilege level that a guest can run at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a privilege level: use cpl3 (user mode) or cpl0 (kernel mode)")]
pub struct UnknownLevel(String);

impl Level {
    /// As a number, 0 to 3.
    #[must_use]
    pub fn cpl(self) -> u8 {
        match self {
            Level::Cpl3 => 3,
            Level::Cpl0 => 0,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Cpl3 => "cpl3",
            Level::Cpl0 => "cpl0",
        })
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cpl3" | "3" => Ok(Level::Cpl3),
            "cpl0" | "0" => Ok(Level::Cpl0),
            _ => Err(UnknownLevel(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_printed_as_it_is_read() {
        for level in [Level::Cpl3, Level::Cpl0] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("0".parse(), Ok(Level::Cpl0));
        let error = "cpl1".parse::<Level>().unwrap_err().to_string();
        assert!(error.contains("use cpl3"), "{error}");
    }
}
