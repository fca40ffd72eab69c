//! The sleep: when it ends, what is left of it, and whether the thread gets past it.

use std::ops::RangeInclusive;

use split_lock_model::handler::{Action, Interrupted, OnSignal, Retry, Signal, Wait};
use split_lock_model::machine::CpuId;
use split_lock_model::time::Jiffies;

use super::{CUT_SHORT, Follower, Sleep, Stage};
use crate::journal::Event;

impl Follower {
    pub(super) fn sleep(&mut self, event: &Event) {
        match self.stage(event) {
            Stage::Entered => self.go_to(event, Stage::AboutToSleep(event.jiffies)),
            Stage::BusLocked { .. } => {}
            stage => self.unexpected(event, stage),
        }
    }

    /// Whether a signal sends a thread in its sleep back to the instruction.
    fn signals_end_sleeps(&self) -> bool {
        self.rules.wait == Wait::Interruptible && self.rules.on_signal != OnSignal::Proceed
    }

    /// The wheel fires a timer in the tick after the one that it asks for, or that it was set in.
    pub(super) fn fall_asleep(&mut self, event: &Event, noted: u64, expires: u64) {
        let trap = self.trap_of(event, false);
        let wake = Jiffies(expires.saturating_add(1));
        let (action, since) = self.ask(
            event,
            noted,
            |handler, tick| Some(handler.trap(tick, trap).action),
            |action| matches!(action, Action::Sleep { wake: model, .. } if *model == wake),
        );
        let Some(Action::Sleep { wake: model, .. }) = action else {
            return self.lose(event, format!("a sleep; model: {action:?}"));
        };
        if model != wake {
            let (found, model) = (wake.0.wrapping_sub(since), model.0.wrapping_sub(since));
            self.mismatch(event, format!("a sleep of {found} ticks; model: {model}"));
        }
        self.note_row(event, |row| {
            row.asleep_after_ns = Some(event.ns.saturating_sub(row.ns));
        });
        let sleep = Sleep {
            since,
            expires: model.0 - 1,
            wake: model.0.max(event.jiffies.saturating_add(1)),
            cancelled: None,
        };
        self.go_to(event, Stage::Asleep(sleep));
    }

    pub(super) fn cancel(&mut self, event: &Event, expires: u64) {
        match self.stage(event) {
            Stage::Asleep(sleep) if sleep.expires == expires && sleep.cancelled.is_none() => {
                let cancelled = Some(event.jiffies);
                self.go_to(event, Stage::Asleep(Sleep { cancelled, ..sleep }));
            }
            stage => self.unexpected(event, stage),
        }
    }

    pub(super) fn wake(&mut self, event: &Event) {
        let wake = match self.stage(event) {
            Stage::Asleep(Sleep { wake, .. }) if !event.signal_pending => wake,
            Stage::Throttled { wake } => wake,
            _ => return,
        };
        self.compare_expiry(event, "the sleep's timer", wake);
    }

    /// A timer of the kernel's wheel that should have expired in the tick `due`.
    pub(super) fn compare_expiry(&mut self, event: &Event, timer: &str, due: u64) {
        let (ticks, than) = match event.jiffies {
            now if now < due => (due - now, "before"),
            now if now > due => (now - due, "after"),
            _ => return,
        };
        let counted_by = self.counted_by.get(&due);
        if event.jiffies.checked_sub(1) == Some(due)
            && counted_by.is_some_and(|&cpu| cpu != event.cpu)
        {
            self.report.allowed.counted_elsewhere += 1;
            return;
        }
        self.mismatch(
            event,
            format!("{timer} expired {ticks} ticks {than} the model's"),
        );
    }

    pub(super) fn slept(&mut self, event: &Event, left: i64) {
        self.note_row(event, |row| {
            row.awake_after_ns = Some(event.ns.saturating_sub(row.ns));
        });
        match self.stage(event) {
            Stage::AboutToSleep(noted) => self.did_not_sleep(event, noted, left),
            Stage::Asleep(sleep) => self.did_sleep(event, sleep, left),
            Stage::Throttled { wake } => {
                if event.jiffies < wake {
                    self.mismatch(event, "the rate limit's sleep was cut short");
                }
                let since = event.jiffies;
                self.go_to(
                    event,
                    Stage::BusLocked {
                        since,
                        has_slept: true,
                    },
                );
            }
            stage => self.unexpected(event, stage),
        }
    }

    fn did_sleep(&mut self, event: &Event, sleep: Sleep, left: i64) {
        self.note_row(event, |row| {
            row.slept_ticks = Some(event.jiffies.saturating_sub(sleep.since));
        });
        self.note_late_thread(event);
        if sleep.cancelled.is_none() && event.jiffies < sleep.wake {
            self.mismatch(event, "the sleep's timer fired early");
        }
        let looked = sleep.cancelled.unwrap_or(event.jiffies)..=event.jiffies;
        let tick = self.compare_left(event, looked, sleep.expires, left);
        if left > 0 && self.signals_end_sleeps() {
            self.cut_short(event, tick, left);
        } else {
            self.go_to(event, Stage::Slept { wake: sleep.wake });
        }
    }

    /// Something was there before the sleep's timer was set: a signal or, in a sentence, its end.
    fn did_not_sleep(&mut self, event: &Event, noted: u64, left: i64) {
        let trap = self.trap_of(event, false);
        let tick = if left > 0 { noted } else { event.jiffies };
        let action = self.handler.clone().trap(Jiffies(tick), trap).action;
        match action {
            Action::Sleep { wake, .. } if left > 0 && event.signal_pending => {
                let looked = match self.rules.on_signal {
                    OnSignal::FixedEnd => noted..=event.jiffies,
                    // What is left is all of it, however long it was about to be.
                    OnSignal::StartOver | OnSignal::Proceed | OnSignal::RemainingSleep => {
                        noted..=noted
                    }
                };
                self.compare_left(event, looked, wake.0 - 1, left);
                if self.signals_end_sleeps() {
                    self.no_sleep(event, noted);
                } else {
                    self.go_to(event, Stage::Entered);
                }
            }
            Action::Sleep { .. } => self.lose(event, format!("no sleep; model: {action:?}")),
            _ if left == 0 => self.go_to(event, Stage::Entered),
            _ => self.lose(event, format!("{left} ms left; model: {action:?}")),
        }
    }

    fn no_sleep(&mut self, event: &Event, noted: u64) {
        match self.trapped(event, noted, true) {
            Action::Retry(Retry::DetectionOn(cause)) => self.go_to(event, Stage::Back(cause)),
            other => self.lose(
                event,
                format!("a signal before the sleep; model: {other:?}"),
            ),
        }
    }

    pub(super) fn note_late_thread(&mut self, event: &Event) {
        let signalled = self.thread(event.pid).signalled;
        let late = signalled.is_some_and(|tick| tick < event.jiffies);
        self.report.allowed.late_threads += u64::from(late);
    }

    /// In which of the ticks in which the kernel may have looked so much was left; the last one, if in none.
    fn compare_left(
        &mut self,
        event: &Event,
        looked: RangeInclusive<u64>,
        expires: u64,
        left: i64,
    ) -> u64 {
        let last = *looked.end();
        let mut ticks = looked.clone().rev();
        if let Some(tick) = ticks.find(|&tick| self.left_at(tick, expires) == left) {
            self.report.allowed.tick_within_step += u64::from(tick != last);
            return tick;
        }
        let model: Vec<i64> = looked.map(|tick| self.left_at(tick, expires)).collect();
        self.mismatch(
            event,
            format!("{left} ms of the sleep left; model: {model:?} ms"),
        );
        last
    }

    fn cut_short(&mut self, event: &Event, tick: u64, left: i64) {
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        let now = Jiffies(tick);
        match self.handler.signal(now, id, cpu, Signal::Ordinary) {
            Some(CUT_SHORT) => self.go_to(event, Stage::Back(Interrupted::Asleep)),
            action => self.lose(
                event,
                format!("cut short with {left} ms left; model: {action:?}"),
            ),
        }
    }

    /// Milliseconds that are left, in this tick, of a sleep whose timer asks for `expires`.
    fn left_at(&self, tick: u64, expires: u64) -> i64 {
        // The tick that a timer asks for counts as left only in a sentence, which knows no mercy.
        let counted = match self.rules.on_signal {
            OnSignal::FixedEnd => expires.saturating_add(1),
            OnSignal::StartOver | OnSignal::Proceed | OnSignal::RemainingSleep => expires,
        };
        let ticks = counted.saturating_sub(tick);
        let ms = ticks.saturating_mul(1000).div_ceil(self.hz);
        ms.cast_signed()
    }
}
