//! What to do about the timer before a run and after an interruption: decisions without I/O.
//!
//! Two rules carry everything else. `now >= deadline` decides whether a budget has expired, never
//! the interruption itself: a signal may be left over from an earlier deadline, and KVM_RUN is also
//! interrupted by what is none of our business. And a timer that has fired is armed again before
//! the guest is entered again: its signal is used up, so nothing else would end the run.

use std::mem;
use std::time::Duration;

use crate::{Deadline, KickReasons};

/// What is known about the timer that enforces a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeadlineTimer {
    /// The deadline that the timer will send a signal for, or has sent one for that is pending.
    armed: Deadline,
    /// An expiry was reported last, so it is a kick's turn.
    kick_is_next: bool,
}

/// What an interruption means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Tell the caller about the kick.
    Kicked(KickReasons),
    /// Tell the caller that the budget is used up.
    Expired(Duration),
    /// Neither.
    Other,
}

impl DeadlineTimer {
    pub(crate) const fn new() -> Self {
        DeadlineTimer {
            armed: Deadline::Never,
            kick_is_next: false,
        }
    }

    /// Before a run until `deadline`: has `set` set the timer, unless it is set so already. `set` is
    /// told what the timer was set to.
    #[inline]
    pub(crate) fn arm<E>(
        &mut self,
        deadline: Deadline,
        set: impl FnOnce(Deadline) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.armed != deadline {
            // If setting it fails half-way, the timer is in no known state.
            set(mem::replace(&mut self.armed, Deadline::Never))?;
            self.armed = deadline;
        }
        Ok(())
    }

    /// Whether there may be a kick that was not looked for, because an expiry had its turn. Its signal
    /// may be used up: if there is one, see to it that the next run ends at once.
    #[inline]
    pub(crate) const fn owes_kick(&self) -> bool {
        self.kick_is_next
    }

    /// After an interruption: `take_signal` consumes what signals there are and says whether one may
    /// have been a timer's, `take_kick` takes the reasons if somebody has kicked since the last run
    /// that said so, and `overshoot` says how far the deadline has passed, if it has. Each is called
    /// once at most.
    ///
    /// The order is what loses nothing: a kick or a deadline that comes after it was looked for
    /// sends a signal after the signal was taken, and that interrupts the next run.
    pub(crate) fn interrupted(
        &mut self,
        take_signal: impl FnOnce() -> bool,
        take_kick: impl FnOnce() -> Option<KickReasons>,
        overshoot: impl FnOnce() -> Option<Duration>,
    ) -> Cause {
        if take_signal() {
            self.armed = Deadline::Never;
        }
        let cause = if self.kick_is_next {
            let kick = take_kick().map(Cause::Kicked);
            kick.or_else(|| overshoot().map(Cause::Expired))
        } else {
            let expiry = overshoot().map(Cause::Expired);
            expiry.or_else(|| take_kick().map(Cause::Kicked))
        };
        let cause = cause.unwrap_or(Cause::Other);
        match cause {
            Cause::Expired(_) => self.kick_is_next = true,
            Cause::Kicked(_) => self.kick_is_next = false,
            Cause::Other => {}
        }
        cause
    }
}

#[cfg(test)]
mod tests {
    //! The timer state against a small model of the kernel, in which signals, kicks and time come
    //! between any two steps.

    use super::*;
    use std::cell::RefCell;
    use std::convert::Infallible;

    use crate::MonotonicTime;
    use proptest::prelude::*;

    /// As much of the kernel and of a kicker as `DeadlineTimer` sees: one timer, one signal that can be
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
        /// The next run ends at once.
        exit_requested: bool,
        /// How often in a row a kick has waited for an expiry to be reported, and the other way round.
        passed_over: [u32; 2],
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
            if mem::take(&mut self.kick_to_send) {
                self.kick_pending |= !self.timer_pending;
            }
        }

        fn arm(&mut self, deadline: Deadline) -> Result<(), Infallible> {
            self.expires_at = deadline.timer().map(|(_, at)| at);
            self.happen(Event::Pass(0));
            Ok(())
        }

        fn run_would_end(&self) -> bool {
            self.timer_pending || self.kick_pending || self.exit_requested
        }

        fn take_signal(&mut self) -> bool {
            self.exit_requested = false;
            self.kick_pending = false;
            mem::take(&mut self.timer_pending)
        }

        fn take_kick(&mut self) -> Option<KickReasons> {
            mem::take(&mut self.kick_flag).then_some(KickReasons::NONE)
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
        /// deadline, no deadline is reported early, and every kick is reported or will be, however often
        /// the other comes.
        #[test]
        fn no_run_is_left_without_an_end(
            steps in prop::collection::vec((step(), between()), 1..60),
        ) {
            let mut kernel = Kernel { now: 1, ..Kernel::default() };
            let mut state = DeadlineTimer::new();
            let mut deadline_ns = 40;
            for (step, between) in steps {
                let mut stray = false;
                match step {
                    Step::Happen(event) => kernel.happen(event),
                    Step::StrayInterruption => stray = true,
                    Step::MoveDeadline(ahead) => {
                        deadline_ns = kernel.now + ahead;
                        kernel.passed_over[1] = 0;
                    }
                }
                let deadline = Deadline::Wall(MonotonicTime::from_nanos(deadline_ns));
                state.arm(deadline, |_| kernel.arm(deadline)).unwrap();
                kernel.exit_requested |= state.owes_kick() && kernel.kick_flag;
                let in_time = kernel.expires_at.is_some_and(|at| at <= deadline_ns);
                prop_assert!(kernel.timer_pending || in_time, "entered without an end in sight");
                let kick_will_end_it = kernel.kick_to_send || kernel.run_would_end();
                prop_assert!(!kernel.kick_unreported || kick_will_end_it, "lost a kick");
                if stray || kernel.run_would_end() {
                    let shared_kernel = RefCell::new(&mut kernel);
                    let between = RefCell::new(between.into_iter());
                    // The kernel as it is after more events.
                    let look = || {
                        let mut kernel = shared_kernel.borrow_mut();
                        for event in between.borrow_mut().next().into_iter().flatten() {
                            kernel.happen(event);
                        }
                        kernel
                    };
                    let interruption = state.interrupted(
                        || look().take_signal(),
                        || look().take_kick(),
                        || look().now.checked_sub(deadline_ns).map(Duration::from_nanos),
                    );
                    let expiry_due = kernel.now >= deadline_ns;
                    match interruption {
                        Cause::Kicked(_) => {
                            kernel.kick_unreported = kernel.kick_flag;
                            kernel.passed_over[0] = 0;
                            kernel.passed_over[1] = if expiry_due { kernel.passed_over[1] + 1 } else { 0 };
                        }
                        Cause::Expired(late) => {
                            prop_assert!(kernel.now >= deadline_ns + late.as_nanos() as u64);
                            kernel.passed_over[1] = 0;
                            kernel.passed_over[0] = if kernel.kick_flag { kernel.passed_over[0] + 1 } else { 0 };
                        }
                        Cause::Other => {}
                    }
                    // A second time may be due to what came after it was looked for.
                    let passed_over = kernel.passed_over;
                    prop_assert!(passed_over.iter().all(|&times| times <= 2), "{:?}", passed_over);
                }
            }
        }
    }
}
