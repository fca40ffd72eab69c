//! Noticing that runs end where they began.

use std::time::Duration;

use kvm_bindings::kvm_regs;

/// A vCPU that is held up somewhere is found there again and again. In between it may be found
/// elsewhere, because it goes on taking interrupts; not for as long as this.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(100);

/// A run in which a thread had more of its time than this was no stall, whatever the registers
/// say: a tight loop looks the same.
const IDLE_SHARE: u32 = 2;

/// Counts runs after which a vCPU is where it was before.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    at: Option<StallPosition>,
}

/// Where it stands, and since when.
#[derive(Debug)]
struct StallPosition {
    registers: kvm_regs,
    since: Duration,
    last: Duration,
}

/// A run that was over when its time was.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunSample {
    /// When it was over, on a clock of the caller's.
    pub(super) at: Duration,
    pub(super) wall: Duration,
    /// How much CPU time its thread had.
    pub(super) cpu: Duration,
}

impl StallDetector {
    /// How long the vCPU has been standing where it is after this run, if the run got it nowhere.
    pub(super) fn ran(&mut self, run: &RunSample, registers: &kvm_regs) -> Option<Duration> {
        if run.cpu * IDLE_SHARE > run.wall {
            return None;
        }
        match &mut self.at {
            Some(place) if place.registers == *registers => {
                place.last = run.at;
                return Some(run.at - place.since);
            }
            Some(place) if run.at - place.last < FORGOTTEN_AFTER => {}
            _ => {
                self.at = Some(StallPosition {
                    registers: *registers,
                    since: run.at,
                    last: run.at,
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn run(at_ms: u32, cpu_us: u64) -> RunSample {
        RunSample {
            at: MS * at_ms,
            wall: MS,
            cpu: Duration::from_micros(cpu_us),
        }
    }

    fn at(rip: u64) -> kvm_regs {
        kvm_regs {
            rip,
            ..Default::default()
        }
    }

    #[test]
    fn a_vcpu_that_is_found_at_one_place_stands_still_there() {
        let mut detector = StallDetector::default();
        assert_eq!(detector.ran(&run(1, 20), &at(7)), None);
        assert_eq!(detector.ran(&run(2, 20), &at(7)), Some(MS));
        // In an interrupt's handler.
        assert_eq!(detector.ran(&run(3, 20), &at(99)), None);
        assert_eq!(detector.ran(&run(4, 20), &at(7)), Some(3 * MS));
    }

    #[test]
    fn one_that_has_used_its_time_does_not() {
        let mut detector = StallDetector::default();
        for n in 0..10 {
            assert_eq!(detector.ran(&run(n, 900), &at(7)), None);
        }
    }

    #[test]
    fn one_that_comes_back_much_later_begins_anew() {
        let mut detector = StallDetector::default();
        detector.ran(&run(1, 20), &at(7));
        assert_eq!(detector.ran(&run(200, 20), &at(8)), None);
        assert_eq!(detector.ran(&run(201, 20), &at(7)), None);
        assert_eq!(detector.ran(&run(202, 20), &at(8)), Some(2 * MS));
    }
}
