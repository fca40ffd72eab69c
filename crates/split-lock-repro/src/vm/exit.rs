//! Exits that a guest should not make, in words.

use std::fmt;

use kvm_ioctls::VcpuExit;

use crate::layout::DEBUG_PORT;

/// Why a vCPU came out of KVM_RUN: what there is to say about a [`VcpuExit`] once it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitCause {
    /// HLT at CPL0.
    Halt,
    /// An exception that the guest could not handle, nor the exceptions that followed from it.
    TripleFault,
    /// OUT.
    PortWrite {
        /// Which port.
        port: u16,
    },
    /// IN.
    PortRead {
        /// Which port.
        port: u16,
    },
    /// A write to where there is no memory.
    MmioWrite {
        /// Guest address.
        address: u64,
        /// How many bytes.
        size: usize,
    },
    /// A read from where there is no memory.
    MmioRead {
        /// Guest address.
        address: u64,
        /// How many bytes.
        size: usize,
    },
    /// A breakpoint that the VMM has set.
    Breakpoint {
        /// The instruction, which has not been executed.
        address: u64,
        /// What the CPU says of the reason, as in its register DR6.
        dr6: u64,
    },
    /// The CPU refused to enter the guest.
    FailEntry {
        /// The CPU's own code: on Intel the VM-exit reason or instruction error, on AMD the exit code.
        reason: u64,
        /// The host's CPU.
        cpu: u32,
    },
    /// KVM gave up.
    InternalError {
        /// KVM's number for the reason, where it is known.
        number: Option<u32>,
    },
    /// An interrupt was to be delivered, and now the guest can take it.
    InterruptWindow,
    /// Anything else, as `kvm_ioctls` calls it.
    Other(String),
}

/// A guest did what no guest should; its measurement is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnexpectedExit {
    /// Which vCPU.
    pub vcpu: u64,
    /// What it did.
    pub cause: ExitCause,
    /// Where it stopped, if that is known: at the instruction in question, or just behind it where
    /// KVM has already completed it.
    pub rip: Option<u64>,
    /// The bytes at `rip`, as many as can be read and an instruction may have.
    pub bytes: Vec<u8>,
}

impl ExitCause {
    /// Whether the guest wrote to port 0xe9, which it may.
    #[must_use]
    pub fn is_debug_output(&self) -> bool {
        *self == ExitCause::PortWrite { port: DEBUG_PORT }
    }

    /// KVM speaks of physical addresses; a guest's own begin at `base`.
    pub(super) fn with_guest_address(mut self, base: u64) -> Self {
        if let ExitCause::MmioWrite { address, .. } | ExitCause::MmioRead { address, .. } =
            &mut self
        {
            *address = address.wrapping_sub(base);
        }
        self
    }
}

impl From<&VcpuExit<'_>> for ExitCause {
    fn from(exit: &VcpuExit<'_>) -> Self {
        match *exit {
            VcpuExit::Hlt => ExitCause::Halt,
            VcpuExit::Shutdown => ExitCause::TripleFault,
            VcpuExit::IoOut(port, _) => ExitCause::PortWrite { port },
            VcpuExit::IoIn(port, _) => ExitCause::PortRead { port },
            VcpuExit::MmioWrite(address, data) => ExitCause::MmioWrite {
                address,
                size: data.len(),
            },
            VcpuExit::MmioRead(address, ref data) => ExitCause::MmioRead {
                address,
                size: data.len(),
            },
            VcpuExit::Debug(ref debug) => ExitCause::Breakpoint {
                address: debug.pc,
                dr6: debug.dr6,
            },
            VcpuExit::FailEntry(reason, cpu) => ExitCause::FailEntry { reason, cpu },
            VcpuExit::IrqWindowOpen => ExitCause::InterruptWindow,
            VcpuExit::InternalError => ExitCause::InternalError { number: None },
            ref other => ExitCause::Other(format!("{other:?}")),
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitCause::Halt => f.write_str("halted (HLT), and guests must loop forever"),
            ExitCause::TripleFault => {
                f.write_str("raised an exception that it has no handler for (triple fault)")
            }
            ExitCause::PortWrite { port } => {
                write!(
                    f,
                    "wrote to I/O port {port:#x} (only {DEBUG_PORT:#x} is allowed)"
                )
            }
            ExitCause::PortRead { port } => write!(f, "read from I/O port {port:#x}"),
            ExitCause::MmioWrite { address, size } => {
                write!(
                    f,
                    "wrote {size} bytes to {address:#x}, where there is no memory"
                )
            }
            ExitCause::MmioRead { address, size } => {
                write!(
                    f,
                    "read {size} bytes from {address:#x}, where there is no memory"
                )
            }
            ExitCause::InterruptWindow => {
                f.write_str("can take an interrupt, and none is waiting for it")
            }
            ExitCause::Breakpoint { address, .. } => {
                write!(f, "came to an unexpected breakpoint at {address:#x}")
            }
            ExitCause::FailEntry { reason, cpu } => write!(
                f,
                "could not be entered on CPU {cpu} (hardware reason {reason:#x})"
            ),
            ExitCause::InternalError { number } => {
                f.write_str("made KVM give up with an internal error")?;
                match number {
                    Some(1) => f.write_str(" (1: it cannot emulate this instruction; CPL3 or hardware virtualization needs no emulation)"),
                    Some(2) => f.write_str(" (2: two exceptions at once)"),
                    Some(3) => f.write_str(" (3: an exit while delivering an event)"),
                    Some(4) => f.write_str(" (4: an exit that it does not know)"),
                    Some(number) => write!(f, " ({number})"),
                    None => Ok(()),
                }
            }
            ExitCause::Other(what) => write!(f, "made an exit that no guest should make ({what})"),
        }
    }
}

impl fmt::Display for UnexpectedExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest on vCPU {} {}", self.vcpu, self.cause)?;
        match self.rip {
            Some(rip) => write!(f, "; RIP is {rip:#x}, there or just behind it")?,
            None => return f.write_str("; its registers are lost"),
        }
        if self.bytes.is_empty() {
            return f.write_str(", where no memory can be read");
        }
        f.write_str(", and the bytes from RIP on are")?;
        self.bytes
            .iter()
            .try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rip: Option<u64>, bytes: &[u8], cause: ExitCause) -> String {
        let (vcpu, bytes) = (3, bytes.to_vec());
        let exit = UnexpectedExit {
            vcpu,
            cause,
            rip,
            bytes,
        };
        exit.to_string()
    }

    #[test]
    fn a_sentence_says_who_did_what_and_where() {
        let write = ExitCause::from(&VcpuExit::IoOut(0x80, &[0]));
        assert_eq!(
            at(Some(0x10_0000), &[0xe6, 0x80], write),
            "the guest on vCPU 3 wrote to I/O port 0x80 (only 0xe9 is allowed); \
             RIP is 0x100000, there or just behind it, and the bytes from RIP on are e6 80"
        );
        let refused = ExitCause::from(&VcpuExit::FailEntry(0x8000_0021, 1));
        assert_eq!(
            at(Some(0xffff_0000), &[], refused),
            "the guest on vCPU 3 could not be entered on CPU 1 (hardware reason 0x80000021); \
             RIP is 0xffff0000, there or just behind it, where no memory can be read"
        );
        let lost = at(None, &[], ExitCause::from(&VcpuExit::Shutdown));
        assert!(lost.ends_with("(triple fault); its registers are lost"));
        let other = at(None, &[], ExitCause::from(&VcpuExit::Nmi));
        assert!(other.contains("no guest should make (Nmi)"), "{other}");
    }

    #[test]
    fn internal_errors_carry_their_number() {
        for (number, part) in [(1, "cannot emulate"), (4, "does not know"), (99, "(99)")] {
            let number = Some(number);
            let sentence = ExitCause::InternalError { number }.to_string();
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn only_writes_to_the_debug_port_are_allowed() {
        let allowed = |exit: VcpuExit<'_>| ExitCause::from(&exit).is_debug_output();
        assert!(allowed(VcpuExit::IoOut(DEBUG_PORT, &[0])));
        assert!(!allowed(VcpuExit::IoOut(0xe8, &[0])));
        assert!(!allowed(VcpuExit::IoIn(DEBUG_PORT, &mut [0])));
    }

    #[test]
    fn addresses_are_the_guests_own() {
        let (size, address) = (4, 0x4200_0000);
        let read = ExitCause::MmioRead { address, size }.with_guest_address(0x4000_0000);
        let address = 0x0200_0000;
        assert_eq!(read, ExitCause::MmioRead { address, size });
    }
}
