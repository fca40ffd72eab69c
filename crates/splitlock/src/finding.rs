//! What a sweep shows, in one sentence.

use split_lock_repro::results::Sweep;
use split_lock_repro::summary::{Curve, Line, curves};

use crate::number;

/// A line that explains more of the variance than this is a line.
const LINEAR_R_SQUARED: f64 = 0.99;

/// What became of the splitting guest, and how it compares with the aligned one.
pub(crate) fn of_progress(sweep: &Sweep) -> String {
    let curves = curves(sweep);
    let of = |guest| curves.iter().find(|curve| curve.guest == guest);
    let Some(split) = of("split") else {
        return "Stopped before the splitting guest was measured.".into();
    };
    let ratio = of("aligned").and_then(|aligned| ratio(aligned, split));
    let compared = ratio.map_or(String::new(), |ratio| {
        format!(" The same code with its operand inside one line was {ratio:.0} times as fast.")
    });
    format!("{}{compared}", progress(split, against_cpu_time(sweep)))
}

fn progress(split: &Curve, against_cpu_time: Option<Line>) -> String {
    let stuck = split
        .points
        .iter()
        .filter(|point| point.turns.median == 0.0);
    let longest_stuck = stuck.map(|point| point.timeout_ns).max();
    let is_line = |line: &Line| line.r_squared > LINEAR_R_SQUARED;
    let made = |line: Line| {
        let (rate, r_squared) = (number::turns_per_s(line.slope), line.r_squared);
        (rate, format!("R\u{b2} = {r_squared:.4}"))
    };
    if let Some(timeout_ns) = longest_stuck {
        return format!(
            "The splitting guest did not get past its instruction within timeouts of up to {} ms: \
             a livelock.",
            timeout_ns as f64 / 1e6
        );
    }
    if let Some((rate, fit)) = split.line().filter(is_line).map(made) {
        return format!(
            "The splitting guest made {rate} at every timeout, in proportion to it ({fit}): \
             nothing here interrupts a split lock but the hardware's own bus lock."
        );
    }
    if let Some((rate, fit)) = against_cpu_time.filter(is_line).map(made) {
        return format!(
            "The splitting guest made {rate} of CPU time at every timeout ({fit}): nothing here \
             interrupts a split lock but the hardware's own bus lock. Other work kept this machine \
             busy meanwhile, so the curves against wall time are uneven."
        );
    }
    "The splitting guest made progress at every timeout, but not in proportion to it.".to_owned()
}

/// All runs of the splitting guest: turns against the CPU time, in seconds, that its thread got.
fn against_cpu_time(sweep: &Sweep) -> Option<Line> {
    let of_split = sweep
        .samples
        .iter()
        .filter(|sample| sample.guest == "split");
    let runs = of_split.map(|sample| (sample.cpu_ns as f64 / 1e9, sample.turns as f64));
    Line::fit(&runs.collect::<Vec<_>>())
}

/// Of the turns per second at all timeouts.
fn ratio(fast: &Curve, slow: &Curve) -> Option<f64> {
    let slope = |curve: &Curve| {
        curve
            .line()
            .map(|line| line.slope)
            .filter(|&slope| slope > 0.0)
    };
    Some(slope(fast)? / slope(slow)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use split_lock_repro::results::{Outcome, Sample};

    /// Turns and share of the CPU at timeouts of 1 to 49 ms.
    fn runs(guest: &str, at_ms: impl Fn(u64) -> (f64, f64)) -> Vec<Sample> {
        let sample = |ms| {
            let (turns, cpu_share) = at_ms(ms);
            Sample {
                series: "measured (native)".into(),
                guest: guest.into(),
                host: "native".into(),
                vcpu: 0,
                timeout_ns: ms * 1_000_000,
                run: 0,
                turns: turns as u64,
                elapsed_ns: ms * 1_000_000,
                cpu_ns: (ms as f64 * 1e6 * cpu_share) as u64,
                exits: 0,
                outcome: Outcome::Expired,
            }
        };
        (1..50).map(sample).collect()
    }

    fn finding(samples: Vec<Sample>) -> String {
        of_progress(&Sweep {
            provenance: None,
            samples,
        })
    }

    #[test]
    fn linear_progress_is_called_so_and_compared() {
        let mut samples = runs("split", |ms| (ms as f64 * 900.0, 1.0));
        samples.extend(runs("aligned", |ms| (ms as f64 * 360_000.0, 1.0)));
        let finding = finding(samples);
        assert!(finding.contains("in proportion to it (R"), "{finding}");
        assert!(finding.contains("400 times"), "{finding}");
    }

    #[test]
    fn no_progress_below_a_threshold_is_a_livelock() {
        let stuck = |ms| if ms < 12 { 0.0 } else { ms as f64 };
        let finding = finding(runs("split", |ms| (stuck(ms), 0.0)));
        assert!(finding.contains("up to 11 ms: a livelock"), "{finding}");
    }

    #[test]
    fn a_busy_machine_is_not_taken_for_an_interrupted_guest() {
        let share = |ms| 1.0 - (ms % 3) as f64 * 0.3;
        let finding = finding(runs("split", |ms| {
            (ms as f64 * 900.0 * share(ms), share(ms))
        }));
        assert!(
            finding.contains("of CPU time at every timeout"),
            "{finding}"
        );
    }

    #[test]
    fn anything_else_is_not_called_linear() {
        let finding = finding(runs("split", |ms| ((ms % 7 + 1) as f64, 1.0)));
        assert!(finding.contains("not in proportion"), "{finding}");
    }

    #[test]
    fn without_the_splitting_guest_there_is_nothing_to_say() {
        let finding = finding(runs("aligned", |ms| (ms as f64, 1.0)));
        assert!(finding.contains("Stopped before"), "{finding}");
    }
}
