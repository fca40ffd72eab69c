//! The arithmetic of the choice: see [`guard`](crate::guard).

use super::trial::Emulating;

/// What is done about split locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They are emulated.
    Emulate,
    /// The kernel's punishment is waited for.
    LetThrough,
}

/// The other way has to be better by this factor to be worth a change.
const HYSTERESIS: f64 = 1.05;

/// If emulating takes no more than this share of the time, there is little to win.
const SMALL_OVERHEAD: f64 = 0.1;

/// Emulating is close to the best there is, whatever the kernel does.
pub(super) fn is_good_enough(emulating: &Emulating) -> bool {
    emulating.work >= (1.0 - SMALL_OVERHEAD) * emulating.per_operation
}

/// Emulating is better, whatever a split lock costs natively: even one that costs nothing is done
/// less often under the punishment.
pub(super) fn is_better_anyhow(emulating: &Emulating, cpu_share: f64) -> bool {
    emulating.work >= cpu_share * emulating.per_operation
}

/// The better way. `native_turn` is the time from one split lock to the next with nobody in the way,
/// in nanoseconds.
pub(super) fn better(emulating: &Emulating, cpu_share: f64, native_turn: f64, current: Way) -> Way {
    let emulated_per_let_through = native_turn / (cpu_share * emulating.per_operation).max(1e-3);
    let needed = match current {
        Way::Emulate => 1.0 / HYSTERESIS,
        Way::LetThrough => HYSTERESIS,
    };
    if emulated_per_let_through >= needed {
        Way::Emulate
    } else {
        Way::LetThrough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emulating(work: f64, cost: f64) -> Emulating {
        Emulating {
            per_operation: work + cost,
            work,
            to_next: None,
            round_trip: 0.0,
            empty_run_cpu: 0.0,
        }
    }

    #[test]
    fn a_dense_loop_is_emulated_if_the_bus_lock_is_dear_enough() {
        let dense = emulating(0.0, 10_000.0);
        for current in [Way::Emulate, Way::LetThrough] {
            // With 0.4 of the time, 4 us of bus lock are as good as 10 us of emulation.
            assert_eq!(better(&dense, 0.4, 3_700.0, current), Way::LetThrough);
            assert_eq!(better(&dense, 0.4, 4_300.0, current), Way::Emulate);
            assert_eq!(better(&dense, 0.4, 4_000.0, current), current);
        }
        assert!(!is_good_enough(&dense));
        assert!(!is_better_anyhow(&dense, 0.4));
    }

    #[test]
    fn a_sparse_one_is_emulated_anyhow() {
        let sparse = emulating(1e6, 10_000.0);
        assert!(is_good_enough(&sparse));
        let share = 1e6 / (1e6 + 16e6);
        assert!(is_better_anyhow(&sparse, share));
        assert_eq!(better(&sparse, share, 1e6, Way::LetThrough), Way::Emulate);
    }

    #[test]
    fn where_nothing_gets_through_everything_is_better() {
        let slow = emulating(0.0, 1e9);
        assert_eq!(better(&slow, 0.0, 1.0, Way::LetThrough), Way::Emulate);
    }
}
