//! What to do about the timer before a run and after an interruption: decisions without I/O.
//!
//! Two rules carry everything else. `now >= deadline` decides whether a budget has expired, never
//! the interruption itself: a signal may be left over from an earlier deadline, and KVM_RUN is also
//! interrupted by what is none of our business. And a timer that has fired is armed again before
//! the guest is entered again: its signal is used up, so nothing else would end the run.

use std::time::Duration;

use crate::Deadline;

/// What is known about the timer that enforces a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alarm {
    /// The deadline that the timer will send a signal for, or has sent one for that is pending.
    armed: Deadline,
}

/// What an interrupted run left behind. Taken in this order, so that nothing is lost: first the
/// signal, then the kick, then the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interruption {
    /// Whether a timer's signal was consumed.
    pub(crate) timer_fired: bool,
    /// Whether somebody has kicked since the last run that said so.
    pub(crate) kicked: bool,
    /// How far the deadline has passed, if it has.
    pub(crate) overshoot: Option<Duration>,
}

/// What an interruption means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Tell the caller about the kick.
    Kicked,
    /// Tell the caller that the budget is used up.
    Expired(Duration),
    /// Nothing that the caller asked for: enter the guest again.
    Spurious,
}

impl Alarm {
    pub(crate) const fn new() -> Self {
        Alarm {
            armed: Deadline::Never,
        }
    }

    /// Whether the timer has to be set before a run until `deadline`.
    #[inline]
    pub(crate) fn must_arm(&self, deadline: Deadline) -> bool {
        self.armed != deadline
    }

    /// The deadline that the timer is set for at the moment.
    pub(crate) const fn armed(&self) -> Deadline {
        self.armed
    }

    pub(crate) const fn set_armed(&mut self, deadline: Deadline) {
        self.armed = deadline;
    }

    pub(crate) fn interrupted(&mut self, by: Interruption) -> Verdict {
        if by.timer_fired {
            self.armed = Deadline::Never;
        }
        match by {
            Interruption { kicked: true, .. } => Verdict::Kicked,
            Interruption {
                overshoot: Some(overshoot),
                ..
            } => Verdict::Expired(overshoot),
            _ => Verdict::Spurious,
        }
    }
}

#[cfg(test)]
mod tests {
    //! The alarm against a small model of the kernel, in which signals, kicks and time come
    //! between any two steps.

    use super::*;
    use crate::MonotonicTime;
    use proptest::prelude::*;

    /// As much of the kernel as the alarm sees: one timer, one signal that can be pending for two
    /// reasons, and a clock.
    #[derive(Default)]
    struct Kernel {
        now: u64,
        expires_at: Option<u64>,
        timer_pending: bool,
        kick_pending: bool,
        kick_flag: bool,
    }

    impl Kernel {
        fn pass(&mut self, time: u64) {
            self.now += time;
            if self.expires_at.is_some_and(|at| at <= self.now) {
                self.expires_at = None;
                self.timer_pending = true;
            }
        }

        fn arm(&mut self, deadline: Deadline) {
            self.expires_at = deadline.timer().map(|(_, at)| at);
            self.pass(0);
        }

        /// As the kicker does it; a standard signal that is pending is not queued twice.
        fn kick(&mut self) {
            self.kick_flag = true;
            self.kick_pending |= !self.timer_pending;
        }

        /// Consumes one instance of the signal.
        fn drain(&mut self) -> bool {
            if self.timer_pending {
                self.timer_pending = false;
                return true;
            }
            self.kick_pending = false;
            false
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        Kick,
        StrayInterruption,
        MoveDeadline(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..50u64).prop_map(Step::Pass),
            Just(Step::Kick),
            Just(Step::StrayInterruption),
            (0..100u64).prop_map(Step::MoveDeadline),
        ]
    }

    fn handle_interruption(
        alarm: &mut Alarm,
        kernel: &mut Kernel,
        deadline: Deadline,
        between: &[u64],
    ) -> Verdict {
        let pause = |kernel: &mut Kernel, i: usize| kernel.pass(*between.get(i).unwrap_or(&0));
        let timer_fired = kernel.drain();
        pause(kernel, 0);
        let kicked = std::mem::take(&mut kernel.kick_flag);
        pause(kernel, 1);
        let at = deadline.timer().map(|(_, at)| at);
        let overshoot = at.and_then(|at| kernel.now.checked_sub(at));
        alarm.interrupted(Interruption {
            timer_fired,
            kicked,
            overshoot: overshoot.map(Duration::from_nanos),
        })
    }

    proptest! {
        /// Whatever happens, a guest is never entered such that nothing would end its run at the
        /// deadline, no deadline is reported early, and every kick is reported.
        #[test]
        fn no_run_is_left_without_an_end(
            steps in prop::collection::vec(step(), 1..60),
            between in prop::collection::vec(0..30u64, 2),
        ) {
            let mut kernel = Kernel { now: 1, ..Kernel::default() };
            let mut alarm = Alarm::new();
            let mut deadline_ns = 40;
            let mut unreported_kick = false;
            for step in steps {
                let mut stray = false;
                match step {
                    Step::Pass(time) => kernel.pass(time),
                    Step::Kick => { kernel.kick(); unreported_kick = true; }
                    Step::StrayInterruption => stray = true,
                    Step::MoveDeadline(ahead) => deadline_ns = kernel.now + ahead,
                }
                let deadline = Deadline::Wall(MonotonicTime::from_nanos(deadline_ns));
                if alarm.must_arm(deadline) {
                    kernel.arm(deadline);
                    alarm.set_armed(deadline);
                }
                let will_end = kernel.timer_pending || kernel.expires_at.is_some_and(|at| at <= deadline_ns);
                prop_assert!(will_end, "entered the guest without an end in sight");
                prop_assert!(!unreported_kick || kernel.timer_pending || kernel.kick_pending, "lost a kick");
                if stray || kernel.timer_pending || kernel.kick_pending {
                    match handle_interruption(&mut alarm, &mut kernel, deadline, &between) {
                        Verdict::Kicked => unreported_kick = false,
                        Verdict::Expired(late) => prop_assert_eq!(kernel.now, deadline_ns + late.as_nanos() as u64),
                        Verdict::Spurious => prop_assert!(kernel.now < deadline_ns),
                    }
                }
            }
        }
    }
}
