//! The sixteen general registers, by name.

use std::fmt;
use std::str::FromStr;

use kvm_bindings::kvm_regs;

macro_rules! registers {
    ($($variant:ident $field:ident),* $(,)?) => {
        /// A general register, in which a guest counts its turns.
        ///
        /// ```
        /// use split_lock_repro::guest::Register;
        ///
        /// assert_eq!("r8".parse(), Ok(Register::R8));
        /// assert_eq!(Register::default().to_string(), "rcx");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names say it")]
        pub enum Register {
            $($variant),*
        }

        impl Register {
            /// All of them.
            pub const ALL: &[Register] = &[$(Register::$variant),*];

            /// The name as assemblers write it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Register::$variant => stringify!($field)),*
                }
            }

            pub(crate) fn read(self, from: &kvm_regs) -> u64 {
                match self {
                    $(Register::$variant => from.$field),*
                }
            }
        }
    };
}

registers! {
    Rax rax, Rbx rbx, Rcx rcx, Rdx rdx, Rsi rsi, Rdi rdi, Rsp rsp, Rbp rbp,
    R8 r8, R9 r9, R10 r10, R11 r11, R12 r12, R13 r13, R14 r14, R15 r15,
}

/// Not the name of a general 64-bit register.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a general 64-bit register: use one of rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15"
)]
pub struct UnknownRegister(String);

/// RCX: the register that x86 itself counts loops in.
impl Default for Register {
    fn default() -> Self {
        Register::Rcx
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Register {
    type Err = UnknownRegister;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|register| name.eq_ignore_ascii_case(register.name()))
            .ok_or_else(|| UnknownRegister(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_found_by_its_name() {
        for register in Register::ALL {
            assert_eq!(register.to_string().parse(), Ok(*register));
            assert_eq!(register.name().to_uppercase().parse(), Ok(*register));
        }
    }

    #[test]
    fn others_are_refused_with_the_names_to_use() {
        for other in ["", "eax", "rip", "r16", "rcx "] {
            let error = other.parse::<Register>().unwrap_err().to_string();
            assert!(error.contains("rax"), "{error}");
        }
    }
}
