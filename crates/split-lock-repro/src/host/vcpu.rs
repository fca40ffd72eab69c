//! A bounded vCPU on an emulated host.

use std::io;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use kvm_ioctls::VcpuFd;
use kvm_preemption_timer::{Config, Kicker, Mechanism, MonotonicTime, Outcome, PreemptibleVcpu};
use nix::sys::signal::{self, SigSet};
use split_lock_assist::decode::{self, Decoded, decode_next};
use split_lock_assist::guard::VcpuParts;
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmError, KvmVcpu, KvmVcpuParts};
use split_lock_assist::paging::PagedMemory;
use split_lock_assist::pause::{GuestPass, PauseGate};
use vm_memory::GuestMemoryMmap;

use super::kernel::Kernel;
use super::punish::{Punished, PunishedThread};
use super::stopped::{StoppedBreakpoints, StoppedCpu, sync_to_run_page};
use super::trap::{Trap, TrapExit};
use crate::guest::{Guest, Level};
use crate::vm::{ExitCause, UnexpectedExit, VcpuSlot, VmError};

/// A vCPU whose runs end, on this host as it is or on one that treats its split locks as a given
/// kernel does.
///
/// It is bound to the thread that made it, which is the one that the kernel punishes.
#[derive(Debug)]
pub struct HostedVcpu<'a> {
    vcpu: PreemptibleVcpu<&'a mut VcpuFd>,
    slot: &'a VcpuSlot,
    emulated: Option<Emulated>,
    /// Keeps it out of the guest while another vCPU does something for its guest.
    pass: Option<GuestPass>,
}

/// What makes an emulated host of a real one.
#[derive(Debug)]
struct Emulated {
    thread: PunishedThread,
    trap: Trap,
    level: Level,
}

/// How a bounded run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The deadline has passed.
    Expired,
    /// A [`Kicker`] forced the vCPU out.
    Kicked,
    /// The guest needs something done.
    Exit(ExitCause),
}

/// Why a vCPU cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A vCPU cannot be bounded or run.
    #[error(transparent)]
    Run(#[from] kvm_preemption_timer::Error),
    /// KVM refused a call.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// KVM refused a call of the guard's.
    #[error(transparent)]
    Guard(#[from] KvmError),
    /// The thread cannot be made to wait.
    #[error("cannot make the thread of vCPU {cpu} wait as the kernel would: {source}")]
    Wait {
        /// The vCPU, and the CPU that it runs on.
        cpu: u32,
        /// What the system said.
        source: io::Error,
    },
    /// There is no way to stop this guest at its split locks.
    #[error(
        "the emulated host cannot stop `{guest}` at its split locks at {level}: they have to be known \
         in advance there; run it at cpl3, where the CPU itself raises #AC"
    )]
    NoTrap {
        /// The guest.
        guest: String,
        /// Its privilege level.
        level: Level,
    },
    /// The kernel would end the VMM.
    #[error(
        "kernel {kernel} ends the VMM with SIGBUS at the first split lock: choose one in mode warn"
    )]
    Sigbus {
        /// The kernel profile.
        kernel: String,
    },
}

impl<'a> HostedVcpu<'a> {
    /// Binds a vCPU to the calling thread, on this host as it is.
    ///
    /// # Errors
    /// [`HostError::Run`] if it cannot be bounded.
    pub fn native(fd: &'a mut VcpuFd, slot: &'a VcpuSlot) -> Result<Self, HostError> {
        Ok(Self {
            vcpu: PreemptibleVcpu::new(fd)?,
            slot,
            emulated: None,
            pass: None,
        })
    }

    /// Binds vCPU n to the calling thread, as the one that runs on the kernel's CPU n.
    ///
    /// At CPL3 it must have been made by
    /// [`Vm::add_vcpu_that_checks_alignment`](crate::vm::Vm::add_vcpu_that_checks_alignment).
    ///
    /// # Errors
    /// [`HostError::NoTrap`] for a flat binary at CPL0, [`HostError::Run`] if it cannot be bounded.
    pub fn emulated(
        fd: &'a mut VcpuFd,
        slot: &'a VcpuSlot,
        guest: &Guest,
        level: Level,
        kernel: Arc<Kernel>,
    ) -> Result<Self, HostError> {
        let trap = Trap::for_guest(guest, level).ok_or_else(|| HostError::NoTrap {
            guest: guest.to_string(),
            level,
        })?;
        Self::trapped(fd, slot, trap, level, kernel)
    }

    /// The same for a vCPU whose own kernel runs tasks at CPL3.
    pub(crate) fn emulated_for_tasks(
        fd: &'a mut VcpuFd,
        slot: &'a VcpuSlot,
        kernel: Arc<Kernel>,
    ) -> Result<Self, HostError> {
        Self::trapped(fd, slot, Trap::alignment_check(), Level::Cpl3, kernel)
    }

    fn trapped(
        fd: &'a mut VcpuFd,
        slot: &'a VcpuSlot,
        trap: Trap,
        level: Level,
        kernel: Arc<Kernel>,
    ) -> Result<Self, HostError> {
        // Traps are decoded in the middle of runs.
        decode::set_up();
        // The waiter finds the signal pending.
        let config = Config::new().mechanism(Mechanism::MaskedSignal);
        let mut vcpu = PreemptibleVcpu::with_config(fd, config)?;
        let cpu = slot.vcpu() as u32;
        let signal = signal::Signal::try_from(config.signal.number());
        let thread = signal
            .map_err(io::Error::from)
            .and_then(|signal| PunishedThread::new(kernel, cpu, SigSet::from(signal)))
            .map_err(|source| HostError::Wait { cpu, source })?;
        if trap.is_exact() {
            sync_to_run_page(vcpu.vcpu_mut());
        }
        Ok(Self {
            vcpu,
            slot,
            emulated: Some(Emulated {
                thread,
                trap,
                level,
            }),
            pass: None,
        })
    }

    /// Something that forces this vCPU out, also while its thread is being punished.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.vcpu.kicker()
    }

    /// Its memory, and the meaning of its registers.
    #[must_use]
    pub fn slot(&self) -> &VcpuSlot {
        self.slot
    }

    /// The vCPU, to read its state.
    #[must_use]
    pub fn fd(&self) -> &VcpuFd {
        self.vcpu.vcpu()
    }

    /// The same, to change it in ways that no host looks at.
    pub(crate) fn fd_mut(&mut self) -> &mut VcpuFd {
        self.vcpu.vcpu_mut()
    }

    /// Puts the guest back to its first instruction: see [`VcpuSlot::reset`].
    ///
    /// # Errors
    /// If KVM refuses.
    pub fn reset(&mut self) -> Result<(), HostError> {
        self.slot.reset(self.vcpu.vcpu())?;
        if let Some(host) = &mut self.emulated {
            host.trap
                .registers_were_reset(self.slot, self.vcpu.vcpu())?;
        }
        Ok(())
    }

    /// Runs the guest until it needs something, or is kicked, or `deadline` has passed: what KVM_RUN
    /// in a loop would do on such a host.
    ///
    /// # Errors
    /// As the vCPU's own; and [`HostError::Sigbus`] where the kernel kills.
    pub fn run_until(&mut self, deadline: MonotonicTime) -> Result<Ended, HostError> {
        loop {
            let window_end = match self.enter_host()? {
                Continue(window_end) => window_end.unwrap_or(deadline),
                Break(exit) => return Ok(Ended::Exit(exit)),
            };
            // A real host punishes inside KVM_RUN, where others' kicks cut a sleep short: so here, too.
            let _inside = self.pass.as_mut().map(GuestPass::enter);
            let exit = match self.vcpu.run_until(deadline.min(window_end))? {
                Outcome::Expired(_) if window_end < deadline => continue,
                Outcome::Expired(_) => return Ok(Ended::Expired),
                Outcome::Kicked => return Ok(Ended::Kicked),
                Outcome::Exit(exit) => ExitCause::from(&exit),
            };
            let Some(host) = &mut self.emulated else {
                return Ok(Ended::Exit(exit));
            };
            if let Some(exit) = host.handle(exit, self.slot, &mut self.vcpu)? {
                return Ok(Ended::Exit(exit));
            }
        }
    }

    /// Has the vCPU go through this gate whenever it enters the guest. A run that others interrupt
    /// there ends as [`Ended::Kicked`].
    pub(super) fn go_through(&mut self, gate: &PauseGate) {
        let kicker = self.kicker();
        self.pass = Some(gate.pass(move || kicker.kick()));
    }

    /// What a guard sees of it, and what it can do to it. Any I/O must be completed. If it has just
    /// come to a `breakpoint`, nothing must have been done to it since.
    pub(super) fn parts<'b>(
        &'b mut self,
        kvm: &'b mut KvmVcpu,
        support: BreakpointSupport,
        breakpoint: Option<u64>,
    ) -> HostedParts<'b> {
        let others = self.pass.as_ref().expect("a guarded vCPU has a gate");
        let Some(host) = &mut self.emulated else {
            let ram = GuestRam::new(self.slot.ram());
            return HostedParts::Native(kvm.stopped(ram, others));
        };
        let (slot, fd) = (self.slot, self.vcpu.vcpu());
        let cpu = match breakpoint {
            Some(address) => host.stopped_cpu(slot, fd).at_breakpoint(address),
            None => host.stopped_cpu(slot, fd),
        };
        HostedParts::Emulated(VcpuParts {
            memory: cpu.memory(),
            cpu,
            others,
            breakpoints: StoppedBreakpoints {
                slot,
                fd,
                trap: &mut host.trap,
                support,
            },
        })
    }

    /// Says what a guest did that no guest should do: see [`VcpuSlot::unexpected_exit`].
    pub fn unexpected_exit(&mut self, cause: ExitCause) -> UnexpectedExit {
        self.slot.unexpected_exit(self.vcpu.vcpu_mut(), cause)
    }

    /// Sets the trap as the kernel has it at this moment. Returns when that changes, or what comes
    /// before the guest can be entered: completing the last exit may lead to another.
    fn enter_host(&mut self) -> Result<ControlFlow<ExitCause, Option<MonotonicTime>>, HostError> {
        let Some(host) = &mut self.emulated else {
            return Ok(Continue(None));
        };
        let detection = host.thread.detection();
        if detection.detects != host.trap.is_on() {
            if let Some(exit) = self.vcpu.complete_io()? {
                return Ok(Break(ExitCause::from(&exit)));
            }
            host.trap
                .switch(detection.detects, self.slot, self.vcpu.vcpu())?;
        }
        Ok(Continue(detection.until))
    }
}

/// A vCPU in its parts, on either host.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made"
)]
pub(super) enum HostedParts<'a> {
    Native(KvmVcpuParts<'a, GuestRam<'a, GuestMemoryMmap>, GuestPass>),
    Emulated(EmulatedParts<'a>),
}

type EmulatedParts<'a> = VcpuParts<
    'a,
    StoppedCpu<'a>,
    PagedMemory<GuestRam<'a, GuestMemoryMmap>>,
    GuestPass,
    StoppedBreakpoints<'a>,
>;

impl Emulated {
    /// The exit, unless it is this host's affair, which is then dealt with.
    fn handle(
        &mut self,
        exit: ExitCause,
        slot: &VcpuSlot,
        vcpu: &mut PreemptibleVcpu<&mut VcpuFd>,
    ) -> Result<Option<ExitCause>, HostError> {
        let meaning = self.trap.meaning(exit);
        match meaning {
            TrapExit::Exit(exit) => return Ok(Some(exit)),
            TrapExit::Trapped if self.is_at_split_lock(slot, vcpu.vcpu())? => self.punish()?,
            TrapExit::Trapped | TrapExit::Stepped => {
                // A single exit: no part of it is left.
                let more = vcpu.complete_io()?;
                debug_assert!(more.is_none(), "{more:?}");
                let fd = vcpu.vcpu();
                if meaning == TrapExit::Trapped {
                    self.trap.step_over(slot, fd)?;
                } else {
                    self.trap.end_step(slot, fd)?;
                }
            }
        }
        Ok(None)
    }

    fn is_at_split_lock(&self, slot: &VcpuSlot, fd: &VcpuFd) -> Result<bool, HostError> {
        if self.trap.is_exact() {
            return Ok(true);
        }
        let cpu = self.stopped_cpu(slot, fd);
        let decoded = decode_next(&cpu, &mut cpu.memory())?;
        Ok(matches!(decoded, Decoded::Locked(access) if access.crosses_line()))
    }

    fn stopped_cpu<'a>(&self, slot: &'a VcpuSlot, fd: &'a VcpuFd) -> StoppedCpu<'a> {
        StoppedCpu::new(slot, fd, self.trap.hidden_flags(), self.level)
    }

    /// What the kernel does inside KVM_RUN before it looks for signals and tries again.
    fn punish(&self) -> Result<(), HostError> {
        let cpu = self.thread.cpu();
        let punished = self.thread.punish();
        match punished.map_err(|source| HostError::Wait { cpu, source })? {
            Punished::Retry => Ok(()),
            Punished::Sigbus => Err(HostError::Sigbus {
                kernel: self.thread.kernel().profile().to_string(),
            }),
        }
    }
}
