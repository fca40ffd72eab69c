//! The semaphore: who gets it, who queues and in which order, and who leaves.

use std::collections::{HashMap, HashSet, VecDeque};

use split_lock_model::handler::{Action, Interrupted, Retry, Signal, TaskId};
use split_lock_model::machine::CpuId;
use split_lock_model::time::Jiffies;

use super::{Before, Follower, Stage, Thread};
use crate::journal::{Event, Kind};

/// How each thread's waits in the queue end, in their order: with the semaphore, or without.
pub(super) fn ends_of_waits(journal: &[Event]) -> HashMap<i32, VecDeque<bool>> {
    let mut ends: HashMap<i32, VecDeque<bool>> = HashMap::new();
    let mut waiting = HashSet::new();
    for event in journal {
        match event.kind {
            Kind::Line => {
                waiting.insert(event.pid);
            }
            Kind::Took { taken } if waiting.remove(&event.pid) => {
                ends.entry(event.pid).or_default().push_back(taken);
            }
            _ => {}
        }
    }
    ends
}

impl Thread {
    /// Whether the thread is in the queue no more, although that is not noted yet.
    fn has_left_queue(&self) -> bool {
        self.stage == Stage::Queued && self.will_leave && self.signalled.is_some()
    }
}

impl Follower {
    pub(super) fn down(&mut self, event: &Event) {
        let before = match self.stage(event) {
            Stage::Slept { wake } => Before::Sleep { wake },
            Stage::Entered => Before::Trap,
            stage => return self.unexpected(event, stage),
        };
        self.thread(event.pid).queued_at = event.jiffies;
        self.go_to(event, Stage::Wanting(before));
    }

    pub(super) fn line(&mut self, event: &Event) {
        let Stage::Wanting(_) = self.stage(event) else {
            let stage = self.stage(event);
            return self.unexpected(event, stage);
        };
        let waits = self.waits.get_mut(&event.pid);
        let taken = waits.and_then(VecDeque::pop_front);
        self.thread(event.pid).will_leave = taken == Some(false);
        if !self.join_queue(event) {
            self.deferred.push(*event);
        }
    }

    /// Whether the model, too, finds the semaphore taken. If not, somebody has taken it whose note of
    /// that is still to come, or the work that releases it has been noted and has not yet done so.
    fn join_queue(&mut self, event: &Event) -> bool {
        let before = self.handler.clone();
        let stage = match self.ask_for_semaphore(event) {
            Some(Action::Queue { .. }) => Stage::Queued,
            Some(Action::Retry(Retry::DetectionOn(Interrupted::Queued))) => {
                Stage::Back(Interrupted::Queued)
            }
            _ => {
                self.handler = before;
                return false;
            }
        };
        self.go_to(event, stage);
        true
    }

    /// The model's view of a thread that comes to the semaphore.
    fn ask_for_semaphore(&mut self, event: &Event) -> Option<Action> {
        let Stage::Wanting(before) = self.stage(event) else {
            return None;
        };
        let pending = event.signal_pending;
        let Before::Sleep { wake } = before else {
            return Some(self.trapped(event, event.jiffies, pending));
        };
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        let now = Jiffies(event.jiffies);
        match now.0 >= wake {
            true => self.handler.sleep_over(now, id, cpu, pending),
            false => self.handler.signal(now, id, cpu, Signal::Ordinary),
        }
    }

    pub(super) fn took(&mut self, event: &Event, taken: bool) {
        let queued_at = self.thread(event.pid).queued_at;
        self.note_row(event, |row| {
            row.queued_ticks = Some(event.jiffies.saturating_sub(queued_at));
        });
        let was_deferred = self.deferred.iter().any(|other| other.pid == event.pid);
        self.deferred.retain(|other| other.pid != event.pid);
        self.report.allowed.races += u64::from(was_deferred);
        match (self.stage(event), taken) {
            (Stage::Back(Interrupted::Queued), false) => {}
            (Stage::Queued, true) => self.granted(event),
            (Stage::Queued, false) => self.left_queue(event),
            (Stage::Wanting(_), true) => self.take_free(event),
            // It queued, and left, before the work that was under way got to releasing it.
            (Stage::Wanting(_), false) if was_deferred && event.signal_pending => {
                self.go_to(event, Stage::Back(Interrupted::Queued));
            }
            (Stage::Lost, _) => {}
            (stage, _) => self.unexpected(event, stage),
        }
        self.ask_deferred_again();
    }

    fn take_free(&mut self, event: &Event) {
        match self.ask_for_semaphore(event) {
            Some(Action::Retry(Retry::WindowOpen { closes, .. })) => {
                self.through(event, event.jiffies, closes);
            }
            other => self.lose(event, format!("past the sleep; model: {other:?}")),
        }
    }

    fn first_in_line(&self) -> Option<TaskId> {
        self.handler.waiters().next()
    }

    /// Before the semaphore is handed over: who is first in line, has a signal, and does not get it, has
    /// left. That happens under the semaphore's lock and is noted later, maybe after the hand-over.
    pub(super) fn remove_leavers(&mut self) {
        while let Some(first) = self.first_in_line() {
            let thread = self.threads.values_mut().find(|thread| thread.id == first);
            let Some(thread) = thread.filter(|thread| thread.has_left_queue()) else {
                return;
            };
            thread.stage = Stage::Back(Interrupted::Queued);
            // Neither the tick nor the CPU matters to a thread that leaves.
            let (tick, cpu) = (Jiffies(thread.queued_at), CpuId(0));
            self.handler.signal(tick, first, cpu, Signal::Ordinary);
            self.report.allowed.races += 1;
        }
    }

    /// In the order of the queue.
    fn ask_deferred_again(&mut self) {
        let deferred = std::mem::take(&mut self.deferred);
        for event in deferred {
            if self.join_queue(&event) {
                self.report.allowed.races += 1;
            } else {
                self.deferred.push(event);
            }
        }
    }

    fn granted(&mut self, event: &Event) {
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        match self.handler.granted(Jiffies(event.jiffies), id, cpu) {
            Some(Action::Retry(Retry::WindowOpen { closes, .. })) => {
                self.through(event, event.jiffies, closes);
            }
            other => self.lose(event, format!("got the semaphore; model: {other:?}")),
        }
    }

    fn left_queue(&mut self, event: &Event) {
        self.note_late_thread(event);
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        let now = Jiffies(event.jiffies);
        match self.handler.signal(now, id, cpu, Signal::Ordinary) {
            Some(Action::Retry(Retry::DetectionOn(cause))) => {
                self.go_to(event, Stage::Back(cause));
            }
            other => self.lose(
                event,
                format!("a signal at the semaphore; model: {other:?}"),
            ),
        }
    }
}
