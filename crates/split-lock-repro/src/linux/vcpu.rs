//! The guest's only vCPU: bounded, looked after by a guard if there is one, and watched.

use std::time::Duration;

use kvm_bindings::kvm_debug_exit_arch;
use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, MonotonicTime, Outcome, PreemptibleVcpu, ThreadCpuTime};
use split_lock_assist::guard::{self, Config, Hands, Keeper, Run, Stall, Statistics};
use split_lock_assist::kvm::{DebugRegisters, KvmSide, Reach, side};
use split_lock_assist::pause::Alone;
use vm_memory::GuestMemoryMmap;

use super::LinuxError;
use super::devices::Devices;
use super::stall_detector::{RunSample, StallDetector};
use super::{Counts, Standing};
use crate::vm::{ExitCause, REPORT, failed};

const VCPU: &str = "the Linux guest's vCPU";

/// A vCPU that has stood for so long is looked at.
const WORTH_A_LOOK: Duration = Duration::from_millis(20);

/// Bound to the thread that made it.
#[derive(Debug)]
pub(super) struct Vcpu {
    vcpu: PreemptibleVcpu,
    debug_registers: DebugRegisters,
    /// `None` if nobody is to help it.
    keeper: Option<Keeper>,
    new_stalls: Vec<Stall>,
    stall_detector: StallDetector,
    counts: Counts,
    began: MonotonicTime,
}

/// What the guest has done in a run, beyond going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    On,
    /// Into a triple fault, which is also how it restarts itself.
    Reset,
}

impl Vcpu {
    pub(super) fn new(fd: VcpuFd, guard: Option<Config>, reach: Reach) -> Result<Self, LinuxError> {
        Ok(Self {
            vcpu: PreemptibleVcpu::new(fd)?,
            debug_registers: DebugRegisters::new(reach),
            keeper: guard.map(Keeper::new),
            new_stalls: vec![],
            stall_detector: StallDetector::default(),
            counts: Counts::default(),
            began: MonotonicTime::now(),
        })
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn statistics(&self) -> Option<&Statistics> {
        self.keeper.as_ref().map(Keeper::statistics)
    }

    pub(super) fn take_new_stalls(&mut self) -> Vec<Stall> {
        std::mem::take(&mut self.new_stalls)
    }

    /// One run, for as long as the guard makes of `quantum`.
    pub(super) fn run(
        &mut self,
        quantum: Duration,
        devices: &mut Devices,
        memory: &GuestMemoryMmap,
    ) -> Result<Ran, LinuxError> {
        let (began, cpu) = (MonotonicTime::now(), ThreadCpuTime::now());
        let budget = match &mut self.keeper {
            Some(keeper) => keeper.budget(quantum),
            None => quantum,
        };
        if self.run_until((began + budget).into(), devices, memory)? == Ran::Reset {
            return Ok(Ran::Reset);
        }
        let now = MonotonicTime::now();
        let run = RunSample {
            at: now.saturating_since(self.began),
            wall: now.saturating_since(began),
            cpu: Duration::from_nanos(ThreadCpuTime::now().as_nanos() - cpu.as_nanos()),
        };
        self.counts.runs += 1;
        self.watch(&run, memory)?;
        self.guard(&run, memory)?;
        Ok(Ran::On)
    }

    fn run_until(
        &mut self,
        deadline: Deadline,
        devices: &mut Devices,
        memory: &GuestMemoryMmap,
    ) -> Result<Ran, LinuxError> {
        loop {
            let exit = match self.vcpu.run_until(deadline)? {
                Outcome::Expired(_) => return Ok(Ran::On),
                Outcome::Kicked => continue,
                Outcome::Exit(exit) => exit,
            };
            self.counts.exits += 1;
            match exit {
                VcpuExit::IoOut(port, data) => devices.write(port, data),
                VcpuExit::IoIn(port, data) => devices.read(port, data),
                VcpuExit::MmioRead(_, data) => data.fill(0xff),
                VcpuExit::MmioWrite(..) => {}
                VcpuExit::Shutdown => return Ok(Ran::Reset),
                VcpuExit::Debug(exit) if self.keeper.is_some() => {
                    self.breakpoint(exit, memory)?;
                }
                other => return Err(LinuxError::Exit(ExitCause::from(&other))),
            }
        }
    }

    fn breakpoint(
        &mut self,
        exit: kvm_debug_exit_arch,
        memory: &GuestMemoryMmap,
    ) -> Result<(), LinuxError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let (vcpu, debug_registers) = (self.vcpu.vcpu_mut(), &mut self.debug_registers);
        keeper.breakpoint(exit, &mut side(vcpu, memory, &Alone, debug_registers))?;
        Ok(())
    }

    /// Looks whether the run has got the guest anywhere.
    fn watch(&mut self, run: &RunSample, memory: &GuestMemoryMmap) -> Result<(), LinuxError> {
        let registers = self.vcpu.vcpu().get_regs();
        let registers = registers.map_err(failed("KVM_GET_REGS", VCPU, REPORT))?;
        let Some(stood) = self.stall_detector.ran(run, &registers) else {
            return Ok(());
        };
        if self.side(memory).is_halted()? {
            return Ok(());
        }
        self.counts.runs_without_progress += 1;
        let longest = self.counts.standing.as_ref().map(|standing| standing.time);
        if stood < WORTH_A_LOOK || longest.is_some_and(|longest| stood <= longest) {
            return Ok(());
        }
        if let Some(culprit) = self.side(memory).culprit()? {
            self.counts.standing = Some(Standing {
                culprit,
                time: stood,
            });
        }
        Ok(())
    }

    fn guard(&mut self, run: &RunSample, memory: &GuestMemoryMmap) -> Result<(), LinuxError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let (vcpu, debug_registers) = (self.vcpu.vcpu_mut(), &mut self.debug_registers);
        let run = Run {
            wall: run.wall,
            cpu: run.cpu,
            ended: guard::Ended::Expired,
        };
        let verdict = keeper.after_run(&run, &mut side(vcpu, memory, &Alone, debug_registers))?;
        self.new_stalls
            .extend(verdict.stall().filter(|stall| stall.is_new));
        Ok(())
    }

    fn side<'a>(&'a mut self, memory: &'a GuestMemoryMmap) -> KvmSide<'a, GuestMemoryMmap, Alone> {
        side(
            self.vcpu.vcpu_mut(),
            memory,
            &Alone,
            &mut self.debug_registers,
        )
    }
}
