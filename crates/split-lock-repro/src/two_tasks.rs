//! A guest with a kernel and two tasks, of which one splits locks, under a VMM with a timer.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use kvm_ioctls::Kvm;
use kvm_preemption_timer::MonotonicTime;
use split_lock_assist::guard;
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_assist::pause::PauseGate;

use crate::guest::two_tasks::{pieces, start_registers};
use crate::host::{Ended, GuardedVcpu, HostError, HostedVcpu, Kernel};
use crate::layout::TASK_DONE_PORT;
use crate::layout::two_tasks::{
    COUNTER_WORD, CURRENT, EXTRA_FLAGS, INTERRUPTS, SPLITTER, SPLITTER_WORD, TIMER_VECTOR,
    saved_rip,
};
use crate::sweep::Host;
use crate::vm::{ExitCause, InterruptLine, UnexpectedExit, Vcpu, Vm, VmError};

/// How split locks are met in virtual machines: a guest kernel shares its CPU between
/// two tasks, and the VMM forces the vCPU out at the end of each quantum and injects a timer interrupt.
/// One task splits a number of locks and is done; the other only counts.
///
/// ```no_run
/// use std::num::NonZeroU64;
/// use std::ops::ControlFlow;
/// use std::path::Path;
/// use std::time::Duration;
/// use split_lock_repro::two_tasks::TwoTasks;
/// use split_lock_repro::sweep::Host;
/// use split_lock_repro::vm::{KVM_DEVICE, open_kvm};
///
/// let guest = TwoTasks {
///     split_locks: NonZeroU64::new(10_000).unwrap(),
///     quantum: Duration::from_millis(1),
///     length: Duration::from_millis(100),
///     host: Host::Native,
///     guard: None,
/// };
/// let kvm = open_kvm(Path::new(KVM_DEVICE))?;
/// let last = guest.run(&kvm, &mut |moment| {
///     println!("{:?}: {}", moment.at, moment.splitter.progress);
///     ControlFlow::Continue(())
/// })?;
/// assert!(last.counter.progress > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TwoTasks {
    /// How many locks the one task splits before it is done.
    pub split_locks: NonZeroU64,
    /// How long a run of the vCPU may be, and so how often the guest's timer ticks.
    pub quantum: Duration,
    /// When it is over, done or not.
    pub length: Duration,
    /// What the split locks meet.
    pub host: Host,
    /// What is done about split locks that it is held up at, if anything.
    pub guard: Option<guard::Config>,
}

/// How far the guest has come, at the end of a quantum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Time since the beginning.
    pub at: Duration,
    /// Whose turn it is in the guest.
    pub running: Task,
    /// The task that splits locks; its progress is how many it has split.
    pub splitter: TaskState,
    /// The task that counts.
    pub counter: TaskState,
    /// When the guest kernel reported that the splitting task is done, if it has.
    pub done_after: Option<Duration>,
    /// How many split locks a guard has done in the CPU's place.
    pub emulated: u64,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The one that splits locks.
    Splitter,
    /// The one that counts.
    Counter,
}

/// How far a task has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// What it has counted to in memory.
    pub progress: u64,
    /// How often the timer's interrupt was taken while it ran.
    pub interrupts: u64,
    /// Its next instruction.
    pub rip: u64,
    /// The bytes there, as many as an instruction may have.
    pub instruction: Vec<u8>,
}

/// Why the guest cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TwoTasksError {
    /// There is no VM to run it in.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The vCPU cannot be bounded or run.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The guest did what it should not.
    #[error("the guest with two tasks: {0}")]
    Guest(UnexpectedExit),
}

impl TwoTasks {
    /// Runs it, on the calling thread. Each [`Moment`] is handed over as it comes, and can end the
    /// run. Returns the last.
    ///
    /// # Errors
    /// The first thing that goes wrong.
    pub fn run(
        &self,
        kvm: &Kvm,
        on_moment: &mut dyn FnMut(&Moment) -> ControlFlow<()>,
    ) -> Result<Moment, TwoTasksError> {
        let start = start_registers(self.split_locks);
        let Vcpu { mut fd, slot } = Vm::new(kvm)?.add_kernel(&pieces(), start, EXTRA_FLAGS)?;
        let hosted = match &self.host {
            Host::Native => HostedVcpu::native(&mut fd, &slot)?,
            Host::Emulated(profile) => {
                let kernel = Arc::new(Kernel::new(profile.clone(), 1));
                HostedVcpu::emulated_for_tasks(&mut fd, &slot, kernel)?
            }
        };
        let support = match self.guard {
            Some(_) => BreakpointSupport::probe(kvm).map_err(HostError::from)?,
            None => BreakpointSupport::NONE,
        };
        let mut guest = RunningGuest {
            vcpu: GuardedVcpu::new(hosted, self.guard.clone(), &PauseGate::new(), support)?,
            timer: InterruptLine::new(TIMER_VECTOR),
            beginning: MonotonicTime::now(),
            done_after: None,
        };
        loop {
            guest.run_until(MonotonicTime::now() + self.quantum)?;
            let moment = guest.moment()?;
            if on_moment(&moment).is_break() || moment.at >= self.length {
                return Ok(moment);
            }
            guest.timer.raise();
        }
    }
}

struct RunningGuest<'a> {
    vcpu: GuardedVcpu<'a>,
    timer: InterruptLine,
    beginning: MonotonicTime,
    done_after: Option<Duration>,
}

impl RunningGuest<'_> {
    fn run_until(&mut self, deadline: MonotonicTime) -> Result<(), TwoTasksError> {
        loop {
            self.timer.connect(self.vcpu.vcpu_mut().fd_mut())?;
            let exit = match self.vcpu.run_until(deadline)? {
                Ended::Expired | Ended::Kicked => return Ok(()),
                Ended::Exit(exit) => exit,
            };
            match exit {
                ExitCause::InterruptWindow => {}
                ExitCause::PortWrite { port } if port == TASK_DONE_PORT => {
                    self.done_after = Some(self.elapsed());
                }
                other => {
                    return Err(TwoTasksError::Guest(
                        self.vcpu.vcpu_mut().unexpected_exit(other),
                    ));
                }
            }
        }
    }

    fn moment(&self) -> Result<Moment, TwoTasksError> {
        let vcpu = self.vcpu.vcpu();
        let slot = vcpu.slot();
        let registers = slot.guest_registers(vcpu.fd())?;
        let word = |address| slot.read(address).map_or(0, u64::from_le_bytes);
        let running = word(CURRENT);
        let task = |task: u64, progress| {
            // Otherwise the kernel is at work, and has the task's state on its stack.
            let in_registers = task == running && registers.rip >= SPLITTER;
            let rip = match in_registers {
                true => registers.rip,
                false => word(saved_rip(task)),
            };
            TaskState {
                progress: word(progress),
                interrupts: word(INTERRUPTS + 8 * task),
                rip,
                instruction: slot.instruction_bytes(rip),
            }
        };
        Ok(Moment {
            at: self.elapsed(),
            running: [Task::Splitter, Task::Counter][running as usize],
            splitter: task(0, SPLITTER_WORD),
            counter: task(1, COUNTER_WORD),
            done_after: self.done_after,
            emulated: self.vcpu.statistics().map_or(0, |guard| {
                guard.emulated_at_stalls + guard.emulated_at_breakpoints
            }),
        })
    }

    fn elapsed(&self) -> Duration {
        MonotonicTime::now().saturating_since(self.beginning)
    }
}
