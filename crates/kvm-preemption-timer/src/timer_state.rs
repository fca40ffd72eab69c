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
pub(crate) struct TimerState {
    /// The deadline that the timer will send a signal for, or has sent one for that is pending.
    armed: Deadline,
}

/// What can be observed about an interrupted run. Each is looked at once.
pub(crate) trait InterruptSources {
    /// Consumes a signal; whether it may have been a timer's.
    fn take_signal(&mut self) -> bool;
    /// Whether somebody has kicked since the last run that said so.
    fn take_kick(&mut self) -> bool;
    /// How far the deadline has passed, if it has.
    fn overshoot(&mut self) -> Option<Duration>;
}

/// What an interruption means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// Tell the caller about the kick.
    Kicked,
    /// Tell the caller that the budget is used up.
    Expired(Duration),
    /// Nothing that the caller asked for: enter the guest again.
    Spurious,
}

impl TimerState {
    pub(crate) const fn new() -> Self {
        TimerState {
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

    /// The order is what loses nothing: a kick or a deadline that comes after it was looked for
    /// sends a signal after the signal was taken, and that interrupts the next run.
    pub(crate) fn interrupted(&mut self, by: &mut impl InterruptSources) -> Interruption {
        if by.take_signal() {
            self.armed = Deadline::Never;
        }
        if by.take_kick() {
            return Interruption::Kicked;
        }
        by.overshoot()
            .map_or(Interruption::Spurious, Interruption::Expired)
    }
}

#[cfg(test)]
mod tests {
    //! The state against a small model of the kernel, in which signals, kicks and time come
    //! between any two steps.

    use super::*;
    use crate::MonotonicTime;
    use proptest::prelude::*;

    /// As much of the kernel and of a kicker as it sees: one timer, one signal that can be
    /// pending for two reasons, a flag, and a clock.
    #[derive(Default)]
    struct Kernel {
        now: u64,
        expires_at: Option<u64>,
        timer_pending: bool,
        kick_pending: bool,
        kick_flag: bool,
        /// The second half of a kick, not yet done.
        kick_to_send: bool,
        kick_unreported: bool,
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Pass(u64),
        /// A kicker sets its flag.
        KickFlag,
        /// A kicker that has set its flag sends its signal.
        KickSignal,
    }

    impl Kernel {
        fn happen(&mut self, event: Event) {
            match event {
                Event::Pass(time) => self.now += time,
                Event::KickFlag if !self.kick_flag => {
                    self.finish_kick();
                    (self.kick_flag, self.kick_to_send, self.kick_unreported) = (true, true, true);
                }
                Event::KickFlag => {}
                Event::KickSignal => self.finish_kick(),
            }
            if self.expires_at.is_some_and(|at| at <= self.now) {
                self.expires_at = None;
                self.timer_pending = true;
            }
        }

        /// A standard signal that is pending is not queued twice for kicks.
        fn finish_kick(&mut self) {
            if std::mem::take(&mut self.kick_to_send) {
                self.kick_pending |= !self.timer_pending;
            }
        }

        fn arm(&mut self, deadline: Deadline) {
            self.expires_at = deadline.timer().map(|(_, at)| at);
            self.happen(Event::Pass(0));
        }

        fn signal_is_pending(&self) -> bool {
            self.timer_pending || self.kick_pending
        }
    }

    /// What an interrupted run finds, with events before each look.
    struct Scene<'a> {
        kernel: &'a mut Kernel,
        deadline_ns: u64,
        between: std::vec::IntoIter<Vec<Event>>,
    }

    impl Scene<'_> {
        fn pause(&mut self) {
            for event in self.between.next().into_iter().flatten() {
                self.kernel.happen(event);
            }
        }
    }

    impl InterruptSources for Scene<'_> {
        fn take_signal(&mut self) -> bool {
            self.pause();
            if std::mem::take(&mut self.kernel.timer_pending) {
                return true;
            }
            self.kernel.kick_pending = false;
            false
        }

        fn take_kick(&mut self) -> bool {
            self.pause();
            std::mem::take(&mut self.kernel.kick_flag)
        }

        fn overshoot(&mut self) -> Option<Duration> {
            self.pause();
            let late = self.kernel.now.checked_sub(self.deadline_ns);
            late.map(Duration::from_nanos)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Happen(Event),
        StrayInterruption,
        MoveDeadline(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..30u64).prop_map(Event::Pass),
            Just(Event::KickFlag),
            Just(Event::KickSignal),
        ]
    }

    /// What happens before each of the three looks.
    fn between() -> impl Strategy<Value = Vec<Vec<Event>>> {
        prop::collection::vec(prop::collection::vec(event(), 0..4), 3)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => event().prop_map(Step::Happen),
            1 => Just(Step::StrayInterruption),
            1 => (0..100u64).prop_map(Step::MoveDeadline),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever happens, a guest is never entered such that nothing would end its run at the
        /// deadline, no deadline is reported early, and every kick is reported or will be.
        #[test]
        fn no_run_is_left_without_an_end(
            steps in prop::collection::vec((step(), between()), 1..60),
        ) {
            let mut kernel = Kernel { now: 1, ..Kernel::default() };
            let mut state = TimerState::new();
            let mut deadline_ns = 40;
            for (step, between) in steps {
                let mut stray = false;
                match step {
                    Step::Happen(event) => kernel.happen(event),
                    Step::StrayInterruption => stray = true,
                    Step::MoveDeadline(ahead) => deadline_ns = kernel.now + ahead,
                }
                let deadline = Deadline::Wall(MonotonicTime::from_nanos(deadline_ns));
                if state.must_arm(deadline) {
                    kernel.arm(deadline);
                    state.set_armed(deadline);
                }
                let in_time = kernel.expires_at.is_some_and(|at| at <= deadline_ns);
                prop_assert!(kernel.timer_pending || in_time, "entered without an end in sight");
                let kick_will_end_it = kernel.kick_to_send || kernel.signal_is_pending();
                prop_assert!(!kernel.kick_unreported || kick_will_end_it, "lost a kick");
                if stray || kernel.signal_is_pending() {
                    let between = between.into_iter();
                    let mut scene = Scene { kernel: &mut kernel, deadline_ns, between };
                    match state.interrupted(&mut scene) {
                        Interruption::Kicked => kernel.kick_unreported = kernel.kick_flag,
                        Interruption::Expired(late) => {
                            prop_assert!(kernel.now >= deadline_ns + late.as_nanos() as u64);
                        }
                        Interruption::Spurious => {}
                    }
                }
            }
        }
    }
}
