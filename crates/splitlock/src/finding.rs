//! What a sweep shows, in one sentence.

use split_lock_repro::summary::Curve;

use crate::number;

/// A line that explains more of the variance than this is a line.
const LINEAR_R_SQUARED: f64 = 0.99;

/// What became of the splitting guest, and how it compares with the aligned one.
pub(crate) fn of_progress(split: &Curve, aligned: Option<&Curve>) -> String {
    let ratio = aligned.and_then(|aligned| ratio(aligned, split));
    let compared = ratio.map_or(String::new(), |ratio| {
        format!(" The same code with its operand inside one line was {ratio:.0} times as fast.")
    });
    format!("{}{compared}", progress(split))
}

fn progress(split: &Curve) -> String {
    let stuck = split
        .points
        .iter()
        .filter(|point| point.turns.median == 0.0);
    let longest_stuck = stuck.map(|point| point.timeout_ns).max();
    match (longest_stuck, split.line()) {
        (Some(timeout_ns), _) => format!(
            "The splitting guest did not get past its instruction within timeouts of up to {} ms: \
             a livelock.",
            timeout_ns as f64 / 1e6
        ),
        (None, Some(line)) if line.r_squared > LINEAR_R_SQUARED => format!(
            "The splitting guest made {} at every timeout, in proportion to it (R\u{b2} = {:.4}): \
             nothing here interrupts a split lock but the hardware's own bus lock.",
            number::turns_per_s(line.slope),
            line.r_squared
        ),
        _ => "The splitting guest made progress at every timeout, but not in proportion to it."
            .to_owned(),
    }
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
    use split_lock_repro::summary::{Point, Spread};

    fn curve(turns_at_ms: impl Fn(u64) -> f64) -> Curve {
        let point = |ms| {
            let exactly = |value| Spread::of([value]).unwrap();
            Point {
                timeout_ns: ms * 1_000_000,
                turns: exactly(turns_at_ms(ms)),
                turns_per_s: exactly(0.0),
                overshoot_ns: exactly(0.0),
            }
        };
        Curve {
            series: "measured (native)".into(),
            guest: "split".into(),
            host: "native".into(),
            vcpu: 0,
            points: (1..50).map(point).collect(),
        }
    }

    #[test]
    fn linear_progress_is_called_so_and_compared() {
        let finding = of_progress(
            &curve(|ms| ms as f64 * 900.0),
            Some(&curve(|ms| ms as f64 * 360_000.0)),
        );
        assert!(finding.contains("in proportion"), "{finding}");
        assert!(finding.contains("400 times"), "{finding}");
    }

    #[test]
    fn no_progress_below_a_threshold_is_a_livelock() {
        let finding = of_progress(&curve(|ms| if ms < 12 { 0.0 } else { ms as f64 }), None);
        assert!(finding.contains("up to 11 ms: a livelock"), "{finding}");
    }

    #[test]
    fn anything_else_is_not_called_linear() {
        let finding = of_progress(&curve(|ms| (ms % 7 + 1) as f64), None);
        assert!(finding.contains("not in proportion"), "{finding}");
    }
}
