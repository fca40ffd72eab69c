//! A thread on its way through the simulation.

use super::program::Program;
use super::report::TaskReport;
use super::scenario::{TaskKind, TaskSpec};
use super::timeline::SpanKind;
use crate::handler::{TrapOrigin, Wait};

/// Where a thread is, as the scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    NotStarted,
    OnCpu,
    Ready,
    Asleep(Wait),
    Queued(Wait),
    /// Somebody who is not in the scenario has its CPU.
    Preempted,
    Dead,
}

/// What a thread does, or will do once it has a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Program,
    /// The guest's own handlers, before it comes back to its program.
    Interrupts,
    Trap,
    Wake(WakeCause),
    /// The VMM's loop, or the user thread's signal handler.
    Vmm,
}

/// What woke a thread up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WakeCause {
    Timer,
    Signal,
    Kill,
    Semaphore,
}

#[derive(Clone, Debug)]
pub(super) struct Thread {
    pub(super) program: Program,
    pub(super) kind: TaskKind,
    pub(super) origin: TrapOrigin,
    pub(super) cpu: usize,
    pub(super) state: State,
    pub(super) activity: Activity,
    /// What is left of an activity of fixed length.
    pub(super) left: u64,
    /// How far into the program's turn.
    pub(super) position: u64,
    /// Its times are added up to here.
    pub(super) since: u64,
    /// While it runs its program: split locks complete.
    pub(super) undetected: bool,
    /// While it runs its program: detection is off on the core.
    pub(super) in_window: bool,
    pub(super) pending_since: Option<u64>,
    pub(super) killed_at: Option<u64>,
    /// The CPU time at which its CPU-time timer expires.
    pub(super) cpu_deadline: u64,
    pub(super) deadline: u64,
    pub(super) run_start: RunStart,
    pub(super) cpu_time: u64,
    /// Before it goes on with its program: for how long somebody else has its CPU,
    pub(super) owed_preemption: u64,
    /// and how long its guest serves interrupts.
    pub(super) owed_work: u64,
    /// What has happened to it so far.
    pub(super) report: TaskReport,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunStart {
    pub(super) at: u64,
    pub(super) turns: u64,
    pub(super) cpu_time: u64,
}

impl Thread {
    pub(super) fn new(spec: &TaskSpec) -> Self {
        Self {
            program: spec.program,
            kind: spec.kind,
            origin: match spec.kind {
                TaskKind::Vcpu(_) => TrapOrigin::Guest,
                TaskKind::User { .. } => TrapOrigin::User,
            },
            cpu: spec.cpu.0 as usize,
            state: State::NotStarted,
            activity: Activity::Program,
            left: 0,
            position: 0,
            since: spec.start.0,
            undetected: false,
            in_window: false,
            pending_since: None,
            killed_at: None,
            cpu_deadline: 0,
            deadline: 0,
            run_start: RunStart::default(),
            cpu_time: 0,
            owed_preemption: 0,
            owed_work: 0,
            report: TaskReport {
                name: spec.name.clone(),
                ..TaskReport::default()
            },
        }
    }

    /// What is left until its CPU-time timer expires.
    pub(super) fn cpu_budget(&self) -> u64 {
        self.cpu_deadline.saturating_sub(self.cpu_time)
    }

    pub(super) fn runs_program(&self) -> bool {
        self.state == State::OnCpu && self.activity == Activity::Program
    }

    /// Whether it is in its guest or program, or will be once it has a CPU.
    pub(super) fn is_in_guest(&self) -> bool {
        matches!(self.activity, Activity::Program | Activity::Interrupts)
    }

    /// What is left of the split lock it is executing, if it is executing one.
    pub(super) fn split_in_progress(&self, now: u64) -> Option<u64> {
        if !(self.runs_program() && self.undetected) {
            return None;
        }
        let mut position = self.position;
        self.program.advance(&mut position, now - self.since);
        self.program.split_rest(position)
    }

    pub(super) fn span_kind(&self) -> Option<SpanKind> {
        Some(match (self.state, self.activity) {
            (State::NotStarted | State::Dead, _) => return None,
            (State::Asleep(_), _) => SpanKind::Asleep,
            (State::Queued(_), _) => SpanKind::Queued,
            (State::Ready | State::Preempted, _) => SpanKind::WaitingForCpu,
            (State::OnCpu, Activity::Interrupts) => SpanKind::Interrupts,
            (State::OnCpu, Activity::Trap) => SpanKind::Trap,
            (State::OnCpu, Activity::Wake(_)) => SpanKind::Waking,
            (State::OnCpu, Activity::Vmm) => match self.origin {
                TrapOrigin::Guest => SpanKind::Vmm,
                TrapOrigin::User => SpanKind::SignalHandler,
            },
            (State::OnCpu, Activity::Program) if self.undetected => SpanKind::GuestUndetected,
            (State::OnCpu, Activity::Program) => SpanKind::Guest,
        })
    }

    /// Everything about the thread that decides its future and is not a moment in the calendar.
    pub(super) fn relative_state(&self, now: u64, out: &mut Vec<u64>) {
        let wait = |wait: Wait| wait as u64;
        let state = match self.state {
            State::NotStarted => 0,
            State::OnCpu => 1,
            State::Ready => 2,
            State::Dead => 3,
            State::Asleep(w) => 4 + wait(w),
            State::Queued(w) => 8 + wait(w),
            State::Preempted => 12,
        };
        let activity = match self.activity {
            Activity::Program => 0,
            Activity::Trap => 1,
            Activity::Vmm => 2,
            Activity::Interrupts => 3,
            Activity::Wake(cause) => 4 + cause as u64,
        };
        let flags = u64::from(self.pending_since.is_some())
            | u64::from(self.killed_at.is_some()) << 1
            | u64::from(self.undetected) << 2
            | u64::from(self.in_window) << 3;
        let deadline = self.deadline.saturating_sub(now);
        let (cpu, words) = (self.cpu as u64, state << 8 | activity << 4 | flags);
        out.extend([
            words,
            cpu,
            self.left,
            self.position,
            self.cpu_budget(),
            deadline,
            self.owed_preemption,
            self.owed_work,
        ]);
    }
}
