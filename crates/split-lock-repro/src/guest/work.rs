//! Work that is measured in turns of a loop, and how many of them a guest makes in a second.

use std::time::Duration;

use kvm_bindings::kvm_regs;

use split_lock_assist::cpu::Gpr;

use super::Register;

/// How fast a guest works: turns of its work loop in a second in which it really runs. That depends
/// on the CPU, and on the privilege level where KVM emulates one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkRate {
    turns_per_second: u64,
}

/// In which register a `sparse` guest counts down what is left of its work. It holds all of it from
/// the start, so that it can be read at any time.
pub(crate) const WORK_LEFT: Register = Register(Gpr::Rdx);

/// The registers with `turns` of work before each access.
pub(super) fn working(turns: u64, registers: kvm_regs) -> kvm_regs {
    kvm_regs {
        rbx: turns,
        rdx: turns,
        ..registers
    }
}

impl WorkRate {
    /// So fast that no guest ever comes to the end of its work: to see how far it comes.
    pub(crate) const ENDLESS: WorkRate = WorkRate {
        turns_per_second: u64::MAX,
    };

    /// The rate of a loop that made `turns` in `time`; `None` if that is less than one turn a second,
    /// or no time at all.
    pub(crate) fn from_measured(turns: u64, time: Duration) -> Option<Self> {
        let per_second = (u128::from(turns) * 1_000_000_000).checked_div(time.as_nanos())?;
        let turns_per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        (turns_per_second > 0).then_some(WorkRate { turns_per_second })
    }

    /// Turns of the work loop in a second.
    #[must_use]
    pub fn turns_per_second(self) -> u64 {
        self.turns_per_second
    }

    /// How many turns fill `work`, to the nearest; at least one.
    #[must_use]
    pub fn turns_in(self, work: Duration) -> u64 {
        let turns = work
            .as_nanos()
            .saturating_mul(u128::from(self.turns_per_second))
            .saturating_add(500_000_000)
            / 1_000_000_000;
        u64::try_from(turns).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slow_loop_is_rounded_and_makes_one_turn_at_least() {
        let slow = WorkRate::from_measured(10, Duration::from_millis(20)).unwrap();
        assert_eq!(slow.turns_per_second(), 500);
        assert_eq!(slow.turns_in(Duration::from_millis(10)), 5);
        assert_eq!(slow.turns_in(Duration::from_millis(11)), 6);
        assert_eq!(slow.turns_in(Duration::from_nanos(1)), 1);
    }

    #[test]
    fn what_was_not_measured_is_no_rate() {
        assert_eq!(WorkRate::from_measured(1, Duration::ZERO), None);
        assert_eq!(WorkRate::from_measured(0, Duration::from_secs(1)), None);
        assert_eq!(WorkRate::from_measured(1, Duration::from_secs(2)), None);
    }

    #[test]
    fn endless_work_outlasts_every_run() {
        let shortest = Duration::from_nanos(1);
        assert!(WorkRate::ENDLESS.turns_in(shortest) > 1_000_000_000);
    }

    proptest! {
        #[test]
        fn nothing_overflows(turns: u64, time: Duration, work: Duration) {
            if let Some(rate) = WorkRate::from_measured(turns, time) {
                prop_assert!(rate.turns_in(work) > 0);
            }
        }

        #[test]
        fn work_as_long_as_the_measurement_is_as_many_turns(turns in 1_u64..1 << 40, ms in 1_u64..1000) {
            let time = Duration::from_millis(ms);
            if let Some(rate) = WorkRate::from_measured(turns, time) {
                prop_assert!(rate.turns_in(time).abs_diff(turns) <= 1, "{:?}", rate);
            }
        }
    }
}
