//! The kernel that all vCPUs of an emulated host share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_preemption_timer::MonotonicTime;
use split_lock_model::handler::{Action, Handler, Retry, Rules, Signal, TaskId, Trap, TrapOrigin};
use split_lock_model::kernel::Profile;
use split_lock_model::machine::{CpuId, Hardware, Topology};
use split_lock_model::time::{Jiffies, Nanos, TickClock};

/// A kernel whose vCPU threads tell it what happens to them, and do what it says. vCPU n is the only
/// thing that runs on CPU n.
#[derive(Debug)]
pub struct Kernel {
    profile: Profile,
    topology: Topology,
    origin: TrapOrigin,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    handler: Handler,
    clock: TickClock,
    boot: MonotonicTime,
    punishments: Vec<Punishments>,
}

/// What has been done to a vCPU since the kernel booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Punishments {
    /// Split locks that trapped.
    pub traps: u64,
    /// Those among them that a signal let off early, with detection still on.
    pub interrupted: u64,
    /// Times that detection was switched off, so that the instruction could complete.
    pub windows: u64,
}

/// What a vCPU finds when it enters the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DetectionState {
    /// A split lock would trap.
    pub(crate) detects: bool,
    /// When that may change by itself.
    pub(crate) until: Option<MonotonicTime>,
}

/// What a vCPU's thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Try the instruction again.
    Retry,
    /// Wait until then, and tell what came of it.
    Wait { until: MonotonicTime },
    /// The kernel ends the VMM, or the program, with SIGBUS.
    Sigbus,
}

impl Kernel {
    /// A freshly booted kernel on as many CPUs as there are vCPUs, with a tick just now.
    ///
    /// # Panics
    /// If there are no vCPUs, or more than [`Topology::MOST_CPUS`].
    #[must_use]
    pub fn new(profile: Profile, vcpus: u32) -> Self {
        Self::boot(profile, vcpus, TrapOrigin::Guest)
    }

    /// The same for a program of one thread, which is CPU 0's.
    pub(crate) fn for_program(profile: Profile) -> Self {
        Self::boot(profile, 1, TrapOrigin::User)
    }

    fn boot(profile: Profile, vcpus: u32, origin: TrapOrigin) -> Self {
        let topology = Topology::new(vcpus, 1).expect("a VM's vCPUs fit on a machine");
        let state = Mutex::new(State::boot(&profile, topology, Nanos::ZERO));
        Self {
            profile,
            topology,
            origin,
            state,
        }
    }

    /// Which kernel it is.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Boots anew, with a tick this much later. No vCPU may be running.
    ///
    /// So runs can begin on a machine that has long been quiet without waiting for that, and
    /// wherever they are wanted between two ticks.
    pub fn reboot(&self, phase: Nanos) {
        *self.state() = State::boot(&self.profile, self.topology, phase);
    }

    /// What has been done to a vCPU since the last boot.
    #[must_use]
    pub fn punishments(&self, vcpu: u32) -> Punishments {
        self.state().punishments[vcpu as usize]
    }

    pub(crate) fn enter(&self, vcpu: u32) -> DetectionState {
        let mut state = self.state();
        state.catch_up();
        let cpu = CpuId(vcpu);
        let due = state.handler.work_due(cpu);
        DetectionState {
            detects: state.handler.detects(TaskId(vcpu), cpu),
            until: due.map(|tick| state.time_of(tick)),
        }
    }

    /// The vCPU's split lock met detection.
    pub(super) fn trap(&self, vcpu: u32, signal_pending: bool) -> NextStep {
        let mut state = self.state();
        let now = state.catch_up();
        state.punishments[vcpu as usize].traps += 1;
        let trap = Trap {
            signal_pending,
            ..Trap::new(TaskId(vcpu), CpuId(vcpu), self.origin)
        };
        let trapped = state.handler.trap(now, trap);
        state.follow(vcpu, trapped.action)
    }

    /// A signal came while the vCPU's thread waited. `None`: the wait goes on.
    pub(super) fn signal(&self, vcpu: u32) -> Option<NextStep> {
        let mut state = self.state();
        let now = state.catch_up();
        let (task, cpu) = (TaskId(vcpu), CpuId(vcpu));
        let action = state.handler.signal(now, task, cpu, Signal::Ordinary)?;
        Some(state.follow(vcpu, action))
    }

    /// The moment came until which the vCPU's thread waited.
    pub(super) fn waited(&self, vcpu: u32, signal_pending: bool) -> NextStep {
        let mut state = self.state();
        let now = state.catch_up();
        let (task, cpu) = (TaskId(vcpu), CpuId(vcpu));
        let action = state
            .handler
            .sleep_over(now, task, cpu, signal_pending)
            .or_else(|| state.handler.granted(now, task, cpu));
        match action {
            Some(action) => state.follow(vcpu, action),
            None => state.keep_waiting(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn boot(profile: &Profile, topology: Topology, phase: Nanos) -> Self {
        let mut handler = Handler::new(profile, topology, Hardware::ICE_LAKE, Rules::UPSTREAM);
        for _ in 0..topology.cpus() {
            handler.spawn();
        }
        Self {
            handler,
            clock: TickClock::new(profile.hz(), phase),
            boot: MonotonicTime::now(),
            punishments: vec![Punishments::default(); topology.cpus() as usize],
        }
    }

    /// Does the delayed work that has become due, as if it had been done on its tick. Nobody else
    /// does: whoever depends on it comes by.
    fn catch_up(&mut self) -> Jiffies {
        let now = self.now();
        let all = self.handler.pending_work();
        let due: Vec<CpuId> = all.filter(|w| w.due <= now).map(|w| w.cpu).collect();
        for cpu in due {
            // Whoever is next in line finds it out by `granted`.
            let _ = self.handler.reenable(now, cpu);
        }
        now
    }

    fn follow(&mut self, vcpu: u32, action: Action) -> NextStep {
        let punishments = &mut self.punishments[vcpu as usize];
        match action {
            Action::Sleep { wake, .. } => NextStep::Wait {
                until: self.time_of(wake),
            },
            Action::Queue { .. } => self.keep_waiting(),
            Action::Retry(Retry::DetectionOn(_)) => {
                punishments.interrupted += 1;
                NextStep::Retry
            }
            Action::Retry(Retry::WindowOpen { .. }) => {
                punishments.windows += 1;
                NextStep::Retry
            }
            Action::Retry(Retry::ThreadExempt | Retry::BusLockDone) => NextStep::Retry,
            // Guests never ask for alignment checks here, and nothing kills their threads.
            Action::Sigbus | Action::InjectAlignmentCheck | Action::Die => NextStep::Sigbus,
        }
    }

    /// Until the next hand-over that is already certain, or else the next tick: whoever holds the
    /// semaphore may not yet have opened its window.
    fn keep_waiting(&self) -> NextStep {
        let next_tick = self.now().plus(Jiffies(1));
        let tick = self.handler.pending_work().map(|work| work.due).min();
        NextStep::Wait {
            until: self.time_of(tick.unwrap_or(next_tick)),
        }
    }

    fn now(&self) -> Jiffies {
        let since_boot = MonotonicTime::now().saturating_since(self.boot);
        self.clock.jiffies_at(Nanos(since_boot.as_nanos() as u64))
    }

    fn time_of(&self, tick: Jiffies) -> MonotonicTime {
        let since_boot = self.clock.time_of(tick).0;
        MonotonicTime::from_nanos(self.boot.as_nanos().saturating_add(since_boot))
    }
}
