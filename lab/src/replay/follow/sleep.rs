//! The sleep: when it ends, what is left of it, and whether the thread gets past it.

use split_lock_model::handler::{Action, Interrupted, OnSignal, Path, Retry, Signal, Trap, Wait};
use split_lock_model::machine::CpuId;
use split_lock_model::time::Jiffies;

use super::{CUT_SHORT, Follower, Stage};
use crate::journal::Event;

impl Follower {
    pub(super) fn sleep(&mut self, event: &Event) {
        match self.stage(event) {
            Stage::Entered if event.signal_pending && self.signals_end_sleeps() => {
                self.no_sleep(event);
            }
            Stage::Entered => self.go_to(event, Stage::Sleepy(event.jiffies)),
            stage => self.unexpected(event, stage),
        }
    }

    /// Whether a signal sends a thread in its sleep back to the instruction.
    fn signals_end_sleeps(&self) -> bool {
        self.rules.wait == Wait::Interruptible && self.rules.on_signal != OnSignal::Proceed
    }

    /// A signal was there before the sleep.
    fn no_sleep(&mut self, event: &Event) {
        match self.trapped(event, event.jiffies, true) {
            Action::Retry(Retry::DetectionOn(cause)) => self.go_to(event, Stage::Back(cause)),
            other => self.lose(
                event,
                format!("a signal before the sleep; model: {other:?}"),
            ),
        }
    }

    /// The wheel fires a timer in the tick after the one that it asks for.
    pub(super) fn fall_asleep(&mut self, event: &Event, noted: u64, expires: u64) {
        let path = if event.guest { Path::Guest } else { Path::User };
        let trap = Trap::new(self.thread(event.pid).id, CpuId(event.cpu.into()), path);
        let wake = Jiffies(expires + 1);
        let (action, tick) = self.ask(
            event,
            noted,
            |handler, tick| Some(handler.trap(tick, trap).action),
            |action| matches!(action, Action::Sleep { wake: model, .. } if *model == wake),
        );
        match action {
            Some(Action::Sleep { wake: model, .. }) => {
                if model != wake {
                    let (found, model) = (wake.0 - tick, model.0.wrapping_sub(tick));
                    self.mismatch(event, format!("a sleep of {found} ticks; model: {model}"));
                }
                let (since, wake) = (tick, model.0);
                self.go_to(event, Stage::Asleep { since, wake });
            }
            other => self.lose(event, format!("a sleep; model: {other:?}")),
        }
    }

    pub(super) fn wake(&mut self, event: &Event) {
        let stage = self.stage(event);
        self.thread(event.pid).woken = event.jiffies;
        let Stage::Asleep { wake, .. } = stage else {
            return;
        };
        if event.signal_pending {
            return;
        }
        if event.jiffies < wake {
            let early = wake - event.jiffies;
            self.mismatch(
                event,
                format!("the sleep's timer fired {early} ticks before the model's"),
            );
        }
        self.report.allowed.late_timers += u64::from(event.jiffies > wake);
    }

    pub(super) fn slept(&mut self, event: &Event, left: i64) {
        match self.stage(event) {
            Stage::Back(Interrupted::BeforeSleep) if left > 0 => {}
            // It goes on to the semaphore all the same.
            Stage::Sleepy(_) if left > 0 && !self.signals_end_sleeps() => {
                self.go_to(event, Stage::Entered);
            }
            // The signal came after the note of the sleep.
            Stage::Sleepy(_) if left > 0 => self.no_sleep(event),
            Stage::Asleep { since, wake } => {
                self.note_row(event, |row| row.slept_ticks = Some(event.jiffies - since));
                self.note_late_thread(event);
                if left > 0 && self.signals_end_sleeps() {
                    self.cut_short(event, wake, left);
                } else {
                    let tick = event.jiffies;
                    self.go_to(event, Stage::Slept { wake, tick });
                }
            }
            stage => self.unexpected(event, stage),
        }
    }

    pub(super) fn note_late_thread(&mut self, event: &Event) {
        let signalled = self.thread(event.pid).signalled;
        let late = signalled.is_some_and(|tick| tick < event.jiffies);
        self.report.allowed.late_threads += u64::from(late);
    }

    fn cut_short(&mut self, event: &Event, wake: u64, left: i64) {
        let (id, woken) = (self.thread(event.pid).id, self.thread(event.pid).woken);
        let cpu = CpuId(event.cpu.into());
        // The kernel reads the ticks right before it comes back; if one has just come, maybe before it.
        let just_before = self.ticks.at(event.ns - self.step_ns).max(woken);
        let tick = if self.left_at(event.jiffies, wake) != left
            && self.left_at(just_before, wake) == left
        {
            self.report.allowed.tick_within_step += 1;
            just_before
        } else {
            event.jiffies
        };
        let now = Jiffies(tick);
        let action = self.handler.signal(now, id, cpu, Signal::Ordinary);
        if action != Some(CUT_SHORT) {
            self.lose(
                event,
                format!("cut short with {left} ms left; model: {action:?}"),
            );
            return;
        }
        let expected = self.left_at(tick, wake);
        if left != expected {
            self.mismatch(
                event,
                format!("{left} ms of the sleep left; model: {expected} ms"),
            );
        }
        self.go_to(event, Stage::Back(Interrupted::Asleep));
    }

    /// Milliseconds that are left, in this tick, of a sleep until `wake`.
    fn left_at(&self, tick: u64, wake: u64) -> i64 {
        // The last tick of the wait is the wheel's, and counts as left only in a sentence, which knows
        // no mercy.
        let counted = match self.rules.on_signal {
            OnSignal::Sentence => wake,
            OnSignal::StartOver | OnSignal::Proceed | OnSignal::Debt => wake - 1,
        };
        let ms = (counted.saturating_sub(tick) * 1000).div_ceil(self.hz);
        ms.cast_signed()
    }
}
