//! The sixteen general registers, by name.

use std::fmt;
use std::str::FromStr;

use kvm_bindings::kvm_regs;
use split_lock_assist::cpu::{Gpr, Registers};

/// A general register, in which a guest counts its turns.
///
/// ```
/// use split_lock_assist::cpu::Gpr;
/// use split_lock_repro::guest::Register;
///
/// assert_eq!("r8".parse(), Ok(Register(Gpr::R8)));
/// assert_eq!(Register::default().to_string(), "rcx");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub Gpr);

/// In the order of [`Gpr::ALL`].
const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

impl Register {
    fn name(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    pub(crate) fn read(self, from: &kvm_regs) -> u64 {
        Registers::from(from).get(self.0)
    }
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
        Register(Gpr::Rcx)
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
        let mut all = Gpr::ALL.into_iter().map(Register);
        all.find(|register| name.eq_ignore_ascii_case(register.name()))
            .ok_or_else(|| UnknownRegister(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_found_by_its_name() {
        for register in Gpr::ALL.map(Register) {
            let name = register.to_string();
            assert_eq!(name, format!("{:?}", register.0).to_lowercase());
            assert_eq!(name.parse(), Ok(register));
            assert_eq!(name.to_uppercase().parse(), Ok(register));
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
