//! What a sweep shows, in a few sentences that claim no more than that.

use split_lock_repro::cpu::Cpu;
use split_lock_repro::results::Sweep;
use split_lock_repro::summary::{Curve, Line, Spread, curves};

use crate::number;
use crate::text::plain;

/// A line that explains more of the variance than this is a line.
const LINEAR_R_SQUARED: f64 = 0.99;

/// Fewer timeouts than this lie on a line by chance.
const ENOUGH_POINTS: usize = 5;

/// A thread that got less of the CPU than this while it ran was kept from it by other work.
const UNDISTURBED_SHARE: f64 = 0.98;

/// Neighbours that run for less of the time than this have not been there enough.
const ENOUGH_OVERLAP: f64 = 0.9;

/// That it did not stand still with a guard.
fn of_guarded(split: &Curve) -> Option<String> {
    let runs = split.points.iter().map(|point| point.turns.min);
    let least = runs.min_by(f64::total_cmp)?;
    let treated = match Cpu::of_host(&split.host) {
        Some(_) => "On the same host".to_owned(),
        None => format!("Treated as kernel {} does it", plain(&split.host)),
    };
    (least > 0.0).then(|| {
        format!(
            "{treated}, but with a guard that emulates its split locks, it made progress in every \
             single run."
        )
    })
}

/// What became of the splitting guest, and how it compares with the aligned one: as it is, punished, and with a guard, as
/// far as these were measured.
pub fn of_progress(sweep: &Sweep) -> Vec<String> {
    let curves = curves(sweep);
    let of = |guest| {
        let is_wanted = move |curve: &&Curve| curve.guest == guest;
        curves.iter().filter(is_wanted)
    };
    let is_guarded = |curve: &&Curve| curve.series.contains("; guard ");
    let is_as_it_is = |curve: &&Curve| Cpu::of_host(&curve.host).is_some();
    let undisturbed = |guest| of(guest).find(|it| is_as_it_is(it) && !is_guarded(it));
    let punished = of("split").find(|it| !is_as_it_is(it) && !is_guarded(it));
    let stopped = stopped(sweep);
    let progress = match undisturbed("split") {
        Some(split) => progress(split, undisturbed("aligned")),
        None => "The splitting guest was not measured.".into(),
    };
    let guarded = of("split").find(is_guarded).and_then(of_guarded);
    let as_it_is = format!("{stopped}{progress}");
    let others = [punished.and_then(of_punished), guarded];
    std::iter::once(as_it_is)
        .chain(others.into_iter().flatten())
        .collect()
}

/// What became of programs with timers, timer by timer; empty if there are none.
pub fn of_programs(sweep: &Sweep) -> String {
    let of_timer = |curve: &Curve| {
        let treated = match Cpu::of_host(&curve.host) {
            Some(_) => "on this host".to_owned(),
            None => format!("treated as kernel {} does it", plain(&curve.host)),
        };
        let still = curve
            .points
            .iter()
            .filter(|point| point.turns.median == 0.0);
        let fate = match still.map(|point| point.timeout_ns).max() {
            Some(longest) => format!(
                "stood still in most runs at periods of up to {} ms",
                longest as f64 / 1e6
            ),
            None => "made progress at every period".to_owned(),
        };
        format!("{}, {treated}, {fate}.", plain(&curve.guest))
    };
    let all: Vec<String> = curves(sweep).iter().map(of_timer).collect();
    stopped(sweep) + &all.join(" ")
}

/// Where the guest stood still although this host is not to blame.
fn of_punished(split: &Curve) -> Option<String> {
    let still = split
        .points
        .iter()
        .take_while(|point| point.turns.max == 0.0);
    let timeout_ns = still.last()?.timeout_ns;
    Some(format!(
        "With its split locks trapped and punished as kernel {} does it, the same guest made not one \
         turn within timeouts of up to {} ms.",
        plain(&split.host),
        timeout_ns as f64 / 1e6
    ))
}

/// A few words before everything else, if the sweep did not get as far as it was meant to.
fn stopped(sweep: &Sweep) -> String {
    let planned = sweep.provenance.as_ref().map_or(0, |p| p.planned_samples);
    match sweep.stopped_early() {
        Some(true) => format!(
            "Stopped after {} of {planned} samples. ",
            sweep.samples.len()
        ),
        _ => String::new(),
    }
}

fn progress(split: &Curve, aligned: Option<&Curve>) -> String {
    let stuck = split
        .points
        .iter()
        .filter(|point| point.turns.median == 0.0);
    if let Some(timeout_ns) = stuck.map(|point| point.timeout_ns).max() {
        return format!(
            "The splitting guest did not get past its instruction within timeouts of up to {} ms: \
             a livelock.",
            timeout_ns as f64 / 1e6
        );
    }
    let is_line =
        |line: &Line| line.r_squared > LINEAR_R_SQUARED && split.points.len() >= ENOUGH_POINTS;
    let told = |line: Line| {
        let (rate, r_squared) = (number::turns_per_s(line.slope), line.r_squared);
        (rate, format!("R\u{b2} = {r_squared:.4}"))
    };
    let undisturbed = "nothing here interrupts a split lock but the hardware's own bus lock.";
    let compared = compared(split, aligned);
    if let Some((rate, fit)) = split.line().filter(is_line).map(told) {
        return format!(
            "The splitting guest made {rate}, in proportion to its timeout ({fit}): {undisturbed}\
             {compared}"
        );
    }
    if let Some((rate, fit)) = split.line_by_cpu_time().filter(is_line).map(told) {
        let busy = if share_of_cpu(split) < UNDISTURBED_SHARE {
            " Other work kept it from the CPU at times, so the curves against wall time are uneven."
        } else {
            ""
        };
        return format!(
            "The splitting guest made {rate} of CPU time ({fit}): {undisturbed}{busy}{compared}"
        );
    }
    "The splitting guest made progress at every timeout that was measured. Whether it is in \
     proportion to the timeout, these runs do not show: they are too few or too uneven."
        .to_owned()
}

/// By turns per second of CPU time, so that what other work takes from one of them does not count.
fn compared(split: &Curve, aligned: Option<&Curve>) -> String {
    let rate = |curve: &Curve| {
        let rates = curve
            .points
            .iter()
            .map(|point| point.turns_per_cpu_s.median);
        Spread::of(rates).map(|spread| spread.median)
    };
    match aligned.and_then(rate).zip(rate(split)) {
        Some((aligned, split)) if split > 0.0 => format!(
            " The same code with its operand inside one line was {:.0} times as fast.",
            aligned / split
        ),
        _ => String::new(),
    }
}

/// How much of its runs the guest's thread had a CPU.
fn share_of_cpu(curve: &Curve) -> f64 {
    let shares = curve.points.iter().map(|point| {
        let elapsed_ns = point.timeout_ns as f64 + point.overshoot_ns.median;
        point.cpu_ns.median / elapsed_ns
    });
    Spread::of(shares).map_or(1.0, |spread| spread.lower_quartile)
}

/// How far the neighbours of a vCPU were really there, if they were not all the time.
pub fn of_overlap(sweep: &Sweep) -> Option<String> {
    let neighbours = sweep.samples.iter().filter(|sample| sample.vcpu > 0);
    let shares = neighbours.map(|sample| sample.cpu_ns as f64 / sample.elapsed_ns.max(1) as f64);
    let share = Spread::of(shares)?.median;
    (share < ENOUGH_OVERLAP).then(|| {
        format!(
            "Other work kept the neighbours from the CPU: they ran for {:.0} % of the time (median), \
             so what they do to the first vCPU is more than this figure shows.",
            share * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::fixtures;
    use split_lock_repro::results::Sample;

    /// Turns and share of the CPU at timeouts of 1 to 49 ms.
    fn runs(guest: &str, at_ms: impl Fn(u64) -> (f64, f64)) -> Vec<Sample> {
        let sample = |ms: u64| {
            let (turns, cpu_share) = at_ms(ms);
            let timeout_ns = ms * 1_000_000;
            Sample {
                elapsed_ns: timeout_ns,
                cpu_ns: (timeout_ns as f64 * cpu_share) as u64,
                ..fixtures::sample(fixtures::NATIVE, guest, timeout_ns, 0, turns as u64)
            }
        };
        (1..50).map(sample).collect()
    }

    fn finding(samples: Vec<Sample>) -> String {
        of_progress(&fixtures::sweep(samples)).join(" ")
    }

    fn steady(ms: u64) -> (f64, f64) {
        (ms as f64 * 900.0, 1.0)
    }

    #[test]
    fn linear_progress_is_called_so_and_compared() {
        let mut samples = runs("split", steady);
        samples.extend(runs("aligned", |ms| (ms as f64 * 360_000.0, 1.0)));
        let finding = finding(samples);
        assert!(
            finding.contains("in proportion to its timeout (R"),
            "{finding}"
        );
        assert!(finding.contains("400 times"), "{finding}");
    }

    #[test]
    fn no_progress_below_a_threshold_is_a_livelock() {
        let stuck = |ms| if ms < 12 { 0.0 } else { ms as f64 };
        let finding = finding(runs("split", |ms| (stuck(ms), 0.0)));
        assert!(finding.contains("up to 11 ms: a livelock"), "{finding}");
    }

    #[test]
    fn guard_on_the_same_host_is_told_from_what_it_guards_against() {
        let stuck = runs("split", |ms| (if ms < 12 { 0.0 } else { 9.0 }, 0.0));
        let guarded = runs("split", steady).into_iter().map(|sample| Sample {
            series: format!("{}; guard emulate", sample.series),
            ..sample
        });
        let finding = finding(guarded.chain(stuck).collect());
        assert!(finding.contains("up to 11 ms: a livelock"), "{finding}");
        assert!(
            finding.contains("On the same host, but with a guard"),
            "{finding}"
        );
    }

    #[test]
    fn a_busy_machine_is_not_taken_for_an_interrupted_guest() {
        let share = |ms| 1.0 - (ms % 3) as f64 * 0.3;
        let mut samples = runs("split", |ms| (ms as f64 * 900.0 * share(ms), share(ms)));
        samples.extend(runs("aligned", |ms| (ms as f64 * 360_000.0, 1.0)));
        let finding = finding(samples);
        assert!(finding.contains("of CPU time (R"), "{finding}");
        assert!(finding.contains("kept it from the CPU"), "{finding}");
        assert!(finding.contains("400 times"), "{finding}");
    }

    #[test]
    fn nothing_is_claimed_that_the_runs_do_not_show() {
        let uneven = finding(runs("split", |ms| ((ms % 7 + 1) as f64, 1.0)));
        assert!(uneven.contains("do not show"), "{uneven}");
        let few = finding(runs("split", steady)[..3].to_vec());
        assert!(few.contains("do not show"), "{few}");
        let none = finding(runs("aligned", steady));
        assert!(none.contains("was not measured"), "{none}");
    }

    #[test]
    fn neighbours_that_hardly_ran_are_mentioned() {
        let overlap = |share| {
            let mut samples = runs("none", steady);
            let neighbours = runs("split", |ms| (ms as f64, share));
            samples.extend(
                neighbours
                    .into_iter()
                    .map(|sample| Sample { vcpu: 1, ..sample }),
            );
            of_overlap(&fixtures::sweep(samples))
        };
        assert_eq!(overlap(0.99), None);
        assert!(overlap(0.4).unwrap().contains("40 %"));
    }

    #[test]
    fn a_sweep_that_was_stopped_says_so_first() {
        let mut sweep = fixtures::sweep(runs("split", steady));
        sweep.provenance.as_mut().unwrap().planned_samples = 98;
        let finding = of_progress(&sweep).join(" ");
        assert!(
            finding.starts_with("Stopped after 49 of 98 samples."),
            "{finding}"
        );
    }
}
