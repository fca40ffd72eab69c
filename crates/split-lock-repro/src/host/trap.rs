//! How a guest's split lock is made to trap on a CPU that does not detect it.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_HW_BP, kvm_guest_debug, kvm_guest_debug_arch,
};
use kvm_ioctls::VcpuFd;

use crate::guest::Guest;
use crate::vm::{ALIGNMENT_CHECK_PORT, ExitCause, Level, STEPPED_PORT, Seat, VmError};

/// EFLAGS.TF: #DB after the next instruction.
const RFLAGS_TF: u64 = 1 << 8;
/// EFLAGS.RF: no breakpoint at the next instruction.
const RFLAGS_RF: u64 = 1 << 16;
/// EFLAGS.AC: #AC at misaligned accesses.
const RFLAGS_AC: u64 = 1 << 18;

/// The CPU has four registers for them.
const BREAKPOINTS: usize = 4;

/// Something that stops the guest before it executes a split lock, and can be switched off.
#[derive(Debug)]
pub(super) struct Trap {
    means: Means,
    is_on: bool,
}

#[derive(Debug)]
enum Means {
    /// At CPL3: also stops at what is misaligned and does not split.
    AlignmentCheck,
    /// At CPL0, which knows no alignment checks: at these instructions.
    Breakpoints { at: Vec<u64> },
}

/// What an exit means to the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The guest is about to execute what may be a split lock.
    Trapped,
    /// The guest has executed the one instruction that it was let past.
    Stepped,
    /// Not the host's affair.
    Exit(ExitCause),
}

impl Trap {
    /// For a guest at a level; `None` if there is no way to stop it.
    pub(super) fn for_guest(guest: &Guest, level: Level) -> Option<Self> {
        let means = match level {
            Level::Cpl3 => Means::AlignmentCheck,
            Level::Cpl0 => Means::Breakpoints {
                at: split_locks(guest)?,
            },
        };
        Some(Self {
            means,
            is_on: false,
        })
    }

    /// For whatever runs at CPL3.
    pub(super) fn alignment_check() -> Self {
        Self {
            means: Means::AlignmentCheck,
            is_on: false,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Registers have been reset, and with them whatever of the trap is in them.
    pub(super) fn registers_were_reset(&mut self) {
        if matches!(self.means, Means::AlignmentCheck) {
            self.is_on = false;
        }
    }

    /// Any I/O must be completed.
    pub(super) fn switch(&mut self, on: bool, seat: &Seat, fd: &VcpuFd) -> Result<(), VmError> {
        self.is_on = on;
        match &self.means {
            Means::AlignmentCheck if on => change_flags(seat, fd, RFLAGS_AC, 0),
            Means::AlignmentCheck => change_flags(seat, fd, 0, RFLAGS_AC),
            Means::Breakpoints { at } if on => seat.set_guest_debug(fd, &breakpoints(at)),
            Means::Breakpoints { .. } => seat.set_guest_debug(fd, &breakpoints(&[])),
        }
    }

    pub(super) fn meaning(&self, exit: ExitCause) -> Meaning {
        match (&self.means, &exit) {
            (Means::AlignmentCheck, ExitCause::PortWrite { port }) => match *port {
                ALIGNMENT_CHECK_PORT => Meaning::Trapped,
                STEPPED_PORT => Meaning::Stepped,
                _ => Meaning::Exit(exit),
            },
            (Means::Breakpoints { at }, ExitCause::Breakpoint { address })
                if at.contains(address) =>
            {
                Meaning::Trapped
            }
            _ => Meaning::Exit(exit),
        }
    }

    /// Lets the guest past one instruction that is none of the host's business. Any I/O must be
    /// completed.
    pub(super) fn step_over(&self, seat: &Seat, fd: &VcpuFd) -> Result<(), VmError> {
        match self.means {
            Means::AlignmentCheck => change_flags(seat, fd, RFLAGS_TF, RFLAGS_AC),
            Means::Breakpoints { .. } => change_flags(seat, fd, RFLAGS_RF, 0),
        }
    }

    /// After [`Meaning::Stepped`]. Any I/O must be completed.
    pub(super) fn end_step(&self, seat: &Seat, fd: &VcpuFd) -> Result<(), VmError> {
        let set = if self.is_on { RFLAGS_AC } else { 0 };
        change_flags(seat, fd, set, RFLAGS_TF)
    }
}

/// The debug registers that make the CPU stop before it executes these.
fn breakpoints(addresses: &[u64]) -> kvm_guest_debug {
    const DR7: usize = 7;
    let mut arch = kvm_guest_debug_arch::default();
    for (register, &address) in addresses.iter().take(BREAKPOINTS).enumerate() {
        arch.debugreg[register] = address;
        // Enabled for all tasks; execution, one byte.
        arch.debugreg[DR7] |= 2 << (2 * register);
    }
    kvm_guest_debug {
        control: if addresses.is_empty() {
            0
        } else {
            KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP
        },
        arch,
        ..Default::default()
    }
}

fn change_flags(seat: &Seat, fd: &VcpuFd, set: u64, clear: u64) -> Result<(), VmError> {
    let mut registers = seat.guest_registers(fd)?;
    registers.rflags = (registers.rflags | set) & !clear;
    seat.set_guest_registers(fd, &registers)
}

/// Where a guest's split locks are; `None` if that is not known in advance.
fn split_locks(guest: &Guest) -> Option<Vec<u64>> {
    let Guest::BuiltIn(built_in) = guest else {
        return None;
    };
    if !built_in.splits() {
        return Some(vec![]);
    }
    let start = guest.load_address();
    let code = Decoder::with_ip(64, guest.code(), start, DecoderOptions::NONE);
    let locked = code.into_iter().filter(locks).map(|i| i.ip());
    Some(locked.take(BREAKPOINTS).collect())
}

fn locks(instruction: &Instruction) -> bool {
    let exchanges = instruction.mnemonic() == Mnemonic::Xchg
        && instruction.op_kinds().any(|kind| kind == OpKind::Memory);
    instruction.has_lock_prefix() || exchanges
}
