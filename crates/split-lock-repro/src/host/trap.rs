//! How a guest's split lock is made to trap on a CPU that does not detect it.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, kvm_guest_debug,
};
use kvm_ioctls::VcpuFd;
use split_lock_assist::breakpoint_slots::{SLOTS, dr7};
use split_lock_assist::cpu::rflags;

use crate::guest::{Guest, Level};
use crate::vm::{ALIGNMENT_CHECK_PORT, ExitCause, STEPPED_PORT, VcpuSlot, VmError};

/// Something that stops the guest before it executes a split lock, and can be switched off.
#[derive(Debug)]
pub(super) struct Trap {
    means: TrapMeans,
    is_on: bool,
}

#[derive(Debug)]
enum TrapMeans {
    /// At CPL3: also stops at what is misaligned and does not split.
    AlignmentCheck,
    /// At CPL0, which knows no alignment checks: at the instructions that are known to split.
    Breakpoints(DebugRegisters),
}

/// The CPU has one set of them, for the host's trap and for whoever watches the guest.
#[derive(Debug)]
struct DebugRegisters {
    hosts: Vec<u64>,
    watched: Vec<u64>,
    /// The next instruction is to be executed although it is watched; the host still stops it if it
    /// is to trap.
    stepping: bool,
}

/// An instruction has been executed, and not only been met.
const DR6_SINGLE_STEP: u64 = 1 << 14;

/// What an exit means to the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TrapExit {
    /// The guest is about to execute a split lock, or, at CPL3, something else that is misaligned.
    Trapped,
    /// The guest has executed the one instruction that the host has let it past.
    Stepped,
    /// Not the host's affair.
    Exit(ExitCause),
}

impl Trap {
    /// For a guest at a level; `None` if there is no way to stop it.
    pub(super) fn for_guest(guest: &Guest, level: Level) -> Option<Self> {
        if level == Level::Cpl3 {
            return Some(Self::alignment_check());
        }
        Some(Self {
            means: TrapMeans::Breakpoints(DebugRegisters {
                hosts: split_locks(guest)?,
                watched: vec![],
                stepping: false,
            }),
            is_on: false,
        })
    }

    /// For whatever runs at CPL3.
    pub(super) fn alignment_check() -> Self {
        Self {
            means: TrapMeans::AlignmentCheck,
            is_on: false,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Every trap is a split lock: there is nothing to be told apart.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.means, TrapMeans::Breakpoints(_))
    }

    /// Registers have been reset, and with them whatever of the trap is in them. A step that was not
    /// made is not made any more.
    pub(super) fn registers_were_reset(
        &mut self,
        slot: &VcpuSlot,
        fd: &VcpuFd,
    ) -> Result<(), VmError> {
        match &self.means {
            TrapMeans::AlignmentCheck => self.is_on = false,
            TrapMeans::Breakpoints(registers) if registers.stepping => self.end_step(slot, fd)?,
            TrapMeans::Breakpoints(_) => {}
        }
        Ok(())
    }

    /// Any I/O must be completed.
    pub(super) fn switch(&mut self, on: bool, slot: &VcpuSlot, fd: &VcpuFd) -> Result<(), VmError> {
        self.is_on = on;
        match &self.means {
            TrapMeans::AlignmentCheck if on => change_flags(slot, fd, rflags::ALIGNMENT_CHECK, 0),
            TrapMeans::AlignmentCheck => change_flags(slot, fd, 0, rflags::ALIGNMENT_CHECK),
            TrapMeans::Breakpoints(registers) => registers.install(on, slot, fd),
        }
    }

    /// Whether the next instruction is one that somebody who watches it wants to be executed.
    pub(super) fn lets_past(&self) -> bool {
        matches!(&self.means, TrapMeans::Breakpoints(registers) if registers.stepping)
    }

    /// Whether anything can be watched: at CPL3 nothing needs breakpoints here, and they do not reach
    /// the guest on every KVM.
    pub(super) fn can_watch(&self) -> bool {
        matches!(self.means, TrapMeans::Breakpoints(_))
    }

    /// From now on the guest stops at these instructions, and no others, as
    /// [`ExitCause::Breakpoint`], whether or not detection is on.
    pub(super) fn watch(
        &mut self,
        addresses: impl Iterator<Item = u64>,
        slot: &VcpuSlot,
        fd: &VcpuFd,
    ) -> Result<(), VmError> {
        let TrapMeans::Breakpoints(registers) = &mut self.means else {
            return Ok(());
        };
        registers.watched = addresses.collect();
        registers.stepping = false;
        registers.install(self.is_on, slot, fd)
    }

    pub(super) fn meaning(&self, exit: ExitCause) -> TrapExit {
        match (&self.means, &exit) {
            (TrapMeans::AlignmentCheck, ExitCause::PortWrite { port }) => match *port {
                ALIGNMENT_CHECK_PORT => TrapExit::Trapped,
                STEPPED_PORT => TrapExit::Stepped,
                _ => TrapExit::Exit(exit),
            },
            (TrapMeans::Breakpoints(registers), ExitCause::Breakpoint { address, dr6 }) => {
                let is_hosts = self.is_on && registers.hosts.contains(address);
                let has_stepped = dr6 & DR6_SINGLE_STEP != 0;
                let is_watchers = match registers.stepping {
                    true => has_stepped || !is_hosts,
                    false => registers.watched.contains(address),
                };
                if is_watchers {
                    TrapExit::Exit(exit)
                } else {
                    TrapExit::Trapped
                }
            }
            _ => TrapExit::Exit(exit),
        }
    }

    /// Lets the guest past one instruction. Any I/O must be completed.
    pub(super) fn step_over(&mut self, slot: &VcpuSlot, fd: &VcpuFd) -> Result<(), VmError> {
        match &mut self.means {
            TrapMeans::AlignmentCheck => {
                change_flags(slot, fd, rflags::TRAP, rflags::ALIGNMENT_CHECK)
            }
            TrapMeans::Breakpoints(registers) => {
                registers.stepping = true;
                registers.install(self.is_on, slot, fd)
            }
        }
    }

    /// After [`TrapExit::Stepped`]. Any I/O must be completed.
    pub(super) fn end_step(&mut self, slot: &VcpuSlot, fd: &VcpuFd) -> Result<(), VmError> {
        match &mut self.means {
            TrapMeans::AlignmentCheck => {
                let set = self.hidden_flags().set;
                change_flags(slot, fd, set, rflags::TRAP)
            }
            TrapMeans::Breakpoints(registers) => {
                registers.stepping = false;
                registers.install(self.is_on, slot, fd)
            }
        }
    }

    /// What of the trap is in the guest's flags.
    pub(super) fn hidden_flags(&self) -> HiddenFlags {
        match self.means {
            TrapMeans::AlignmentCheck => HiddenFlags {
                mask: rflags::ALIGNMENT_CHECK | rflags::TRAP,
                set: if self.is_on {
                    rflags::ALIGNMENT_CHECK
                } else {
                    0
                },
            },
            TrapMeans::Breakpoints(_) => HiddenFlags { mask: 0, set: 0 },
        }
    }
}

/// Flags that are the host's and not the guest's, and those of them that are to be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct HiddenFlags {
    pub(super) mask: u64,
    pub(super) set: u64,
}

impl DebugRegisters {
    fn install(&self, detects: bool, slot: &VcpuSlot, fd: &VcpuFd) -> Result<(), VmError> {
        let addresses = self.addresses(detects);
        let mut debug = kvm_guest_debug::default();
        if addresses[0].is_some() {
            debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        }
        if self.stepping {
            debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        }
        debug.arch.debugreg[..SLOTS].copy_from_slice(&addresses.map(Option::unwrap_or_default));
        debug.arch.debugreg[7] = dr7(&addresses);
        slot.set_guest_debug(fd, &debug)
    }

    /// Where the guest is to be stopped.
    fn addresses(&self, detects: bool) -> [Option<u64>; SLOTS] {
        let watched = self.watched.iter().filter(|_| !self.stepping);
        let hosts = self.hosts.iter().filter(|_| detects);
        let not_watched = hosts.filter(|host| self.stepping || !self.watched.contains(host));
        let mut all = watched.chain(not_watched).copied();
        std::array::from_fn(|_| all.next())
    }
}

fn change_flags(slot: &VcpuSlot, fd: &VcpuFd, set: u64, clear: u64) -> Result<(), VmError> {
    let mut registers = slot.guest_registers(fd)?;
    registers.rflags = (registers.rflags | set) & !clear;
    slot.set_guest_registers(fd, &registers)
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
    Some(locked.take(SLOTS).collect())
}

fn locks(instruction: &Instruction) -> bool {
    let exchanges = instruction.mnemonic() == Mnemonic::Xchg
        && instruction.op_kinds().any(|kind| kind == OpKind::Memory);
    instruction.has_lock_prefix() || exchanges
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: u64 = 0x2_0000;
    const GUARDS: u64 = 0x2_0100;
    const MET: u64 = 1;

    fn registers(watched: &[u64], stepping: bool) -> DebugRegisters {
        DebugRegisters {
            hosts: vec![HOSTS],
            watched: watched.to_vec(),
            stepping,
        }
    }

    fn trap(is_on: bool, watched: &[u64], stepping: bool) -> Trap {
        let means = TrapMeans::Breakpoints(registers(watched, stepping));
        Trap { means, is_on }
    }

    fn at(address: u64, dr6: u64) -> ExitCause {
        ExitCause::Breakpoint { address, dr6 }
    }

    #[test]
    fn what_is_watched_is_met_before_it_can_trap() {
        let met = |watched: &[u64]| trap(true, watched, false).meaning(at(HOSTS, MET));
        assert_eq!(met(&[]), TrapExit::Trapped);
        assert_eq!(met(&[HOSTS]), TrapExit::Exit(at(HOSTS, MET)));
    }

    #[test]
    fn who_steps_over_a_split_lock_is_trapped_like_anybody_who_executes_it() {
        let trapped = trap(true, &[HOSTS, GUARDS], true);
        assert_eq!(trapped.meaning(at(HOSTS, MET)), TrapExit::Trapped);
        let behind = at(HOSTS + 4, DR6_SINGLE_STEP);
        assert_eq!(trapped.meaning(behind.clone()), TrapExit::Exit(behind));
        // A loop of a single instruction.
        let again = at(HOSTS, DR6_SINGLE_STEP);
        assert_eq!(
            trapped.meaning(again.clone()),
            TrapExit::Exit(again.clone())
        );
        let in_window = trap(false, &[HOSTS], true);
        assert_eq!(in_window.meaning(again.clone()), TrapExit::Exit(again));
    }

    #[test]
    fn a_step_is_stopped_by_the_host_alone() {
        let addresses = |is_on: bool, stepping: bool| {
            let registers = registers(&[HOSTS, GUARDS], stepping);
            let addresses = registers.addresses(is_on);
            addresses.into_iter().flatten().collect::<Vec<u64>>()
        };
        assert_eq!(addresses(true, false), [HOSTS, GUARDS]);
        assert_eq!(addresses(true, true), [HOSTS]);
        assert!(addresses(false, true).is_empty());
    }
}
