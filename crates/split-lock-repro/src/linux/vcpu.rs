//! The guest's only vCPU: bounded, looked after by a guard if there is one, and watched.

use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, MonotonicTime, Outcome, PreemptibleVcpu, ThreadCpuTime};
use split_lock_assist::guard::{self, Config, Run, Stall, VcpuAccess, VcpuGuard};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu, KvmVcpuParts};
use split_lock_assist::pause::SingleVcpu;
use vm_memory::GuestMemoryMmap;

use super::LinuxError;
use super::devices::Devices;
use super::stall_detector::{RunSample, StallDetector};
use super::{Counts, LongestStall, Step};
use crate::vm::{ExitCause, REPORT, failed};

const VCPU: &str = "the Linux guest's vCPU";

/// A vCPU that has stood for so long is looked at.
const WORTH_A_LOOK: Duration = Duration::from_millis(20);

/// Bound to the thread that made it.
#[derive(Debug)]
pub(super) struct Vcpu {
    vcpu: PreemptibleVcpu,
    /// The same as its guard sees it.
    kvm: KvmVcpu,
    /// `None` if nobody is to help it.
    pub(super) guard: Option<VcpuGuard>,
    pub(super) new_stalls: Vec<Stall>,
    stall_detector: StallDetector,
    pub(super) counts: Counts,
    began: MonotonicTime,
}

impl Vcpu {
    pub(super) fn new(
        fd: VcpuFd,
        guard: Option<Config>,
        support: BreakpointSupport,
    ) -> Result<Self, LinuxError> {
        Ok(Self {
            kvm: KvmVcpu::new(&fd, support)?,
            vcpu: PreemptibleVcpu::new(fd)?,
            guard: guard.map(VcpuGuard::new),
            new_stalls: vec![],
            stall_detector: StallDetector::default(),
            counts: Counts::default(),
            began: MonotonicTime::now(),
        })
    }

    /// One run, for as long as the guard makes of `quantum`.
    pub(super) fn run(
        &mut self,
        quantum: Duration,
        devices: &mut Devices,
        memory: &GuestMemoryMmap,
    ) -> Result<Step, LinuxError> {
        let (began, cpu) = (MonotonicTime::now(), ThreadCpuTime::now());
        let budget = match &mut self.guard {
            Some(guard) => guard.budget(quantum),
            None => quantum,
        };
        if self.run_until((began + budget).into(), devices, memory)? == Step::Reset {
            return Ok(Step::Reset);
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
        Ok(Step::GoesOn)
    }

    fn run_until(
        &mut self,
        deadline: Deadline,
        devices: &mut Devices,
        memory: &GuestMemoryMmap,
    ) -> Result<Step, LinuxError> {
        loop {
            let exit = match self.vcpu.run_until(deadline)? {
                Outcome::Expired(_) => return Ok(Step::GoesOn),
                Outcome::Kicked => continue,
                Outcome::Exit(exit) => exit,
            };
            self.counts.exits += 1;
            match exit {
                VcpuExit::IoOut(port, data) => devices.write(port, data),
                VcpuExit::IoIn(port, data) => devices.read(port, data),
                VcpuExit::MmioRead(_, data) => data.fill(0xff),
                VcpuExit::MmioWrite(..) => {}
                VcpuExit::Shutdown => return Ok(Step::Reset),
                VcpuExit::Debug(exit) if self.guard.is_some() => {
                    if let Some(guard) = &mut self.guard {
                        let mut parts = parts(&mut self.kvm, memory);
                        guard.handle_breakpoint(exit, &mut parts)?;
                    }
                }
                other => return Err(LinuxError::Exit(ExitCause::from(&other))),
            }
        }
    }

    /// Looks whether the run has got the guest anywhere.
    fn watch(&mut self, run: &RunSample, memory: &GuestMemoryMmap) -> Result<(), LinuxError> {
        let registers = self.vcpu.vcpu().get_regs();
        let registers = registers.map_err(failed("KVM_GET_REGS", VCPU, REPORT))?;
        let Some(stood) = self.stall_detector.ran(run, &registers) else {
            return Ok(());
        };
        if parts(&mut self.kvm, memory).is_halted()? {
            return Ok(());
        }
        self.counts.runs_without_progress += 1;
        let longest = self.counts.longest_stall.as_ref().map(|stall| stall.time);
        if stood < WORTH_A_LOOK || longest.is_some_and(|longest| stood <= longest) {
            return Ok(());
        }
        if let Some(instruction) = parts(&mut self.kvm, memory).split_instruction()? {
            self.counts.longest_stall = Some(LongestStall {
                instruction,
                time: stood,
            });
        }
        Ok(())
    }

    fn guard(&mut self, run: &RunSample, memory: &GuestMemoryMmap) -> Result<(), LinuxError> {
        let Some(guard) = &mut self.guard else {
            return Ok(());
        };
        let run = Run {
            wall: run.wall,
            cpu: run.cpu,
            ended: guard::Ended::Expired,
        };
        let mut parts = parts(&mut self.kvm, memory);
        let progress = guard.after_run(&run, &mut parts)?;
        let stall = progress.stall().filter(|stall| stall.is_new);
        self.new_stalls.extend(stall);
        Ok(())
    }
}

type Parts<'a> = KvmVcpuParts<'a, GuestRam<'a, GuestMemoryMmap>, SingleVcpu>;

/// What a guard works on.
fn parts<'a>(vcpu: &'a mut KvmVcpu, memory: &'a GuestMemoryMmap) -> Parts<'a> {
    vcpu.stopped(GuestRam::new(memory), &SingleVcpu)
}
