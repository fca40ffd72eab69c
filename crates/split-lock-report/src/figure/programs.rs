//! How far a program gets beside a timer of its own, against the timer's period.

use split_lock_repro::program::is_program;
use split_lock_repro::results::Sweep;
use split_lock_repro::summary::{self, Point, Spread};

use super::model::{Curve, Figure};
use super::progress::{Unit, against_time, longest_ns, names};
use super::{CurveStyle, FigureError, caption};
use crate::number::{duration, si};

impl Figure {
    /// Median turns per run against the period of the program's timer, with the spread of the runs. What is measured and
    /// modelled with the same timer has the same colour.
    ///
    /// # Errors
    /// [`FigureError::NoPrograms`] if there is anything but programs, or nothing.
    pub fn programs(sweeps: &[Sweep]) -> Result<Self, FigureError> {
        let samples = || sweeps.iter().flat_map(|sweep| &sweep.samples);
        if !samples().all(|sample| is_program(&sample.guest)) {
            return Err(FigureError::NoPrograms);
        }
        let curves: Vec<summary::Curve> = sweeps.iter().flat_map(summary::curves).collect();
        let unit = Unit::for_longest(longest_ns(&curves).ok_or(FigureError::NoPrograms)?);
        let counts = curves.iter().flat_map(|c| &c.points).map(|p| p.turns.count);
        let length = Spread::of(samples().map(|sample| sample.elapsed_ns as f64));
        let reading = format!(
            "Marks: median of {}; bars: smallest to largest; turns: how often the program got round its loop in a run of \
             {}. A timer that counts time and is shorter than the sleep that punishes a split lock ends every such sleep, and \
             the program stands still; one that counts CPU time stands still while the program sleeps.",
            caption::runs(counts),
            duration(length.map_or(0.0, |length| length.min)),
        );
        let mut guests: Vec<&str> = curves.iter().map(|curve| curve.guest.as_str()).collect();
        guests.sort_unstable();
        guests.dedup();
        let drawn = curves.iter().zip(names(sweeps)).map(|(curve, name)| {
            let index = guests.iter().position(|guest| *guest == curve.guest);
            let style = CurveStyle::new(index.unwrap_or_default(), &curve.series);
            let facts = facts(&curve.points, unit);
            Curve::connected(name, facts, style, unit.marks(&curve.points))
        });
        let words = [
            "Programs with timers that split locks: progress against the timer's period",
            "period of the program's timer",
        ];
        Ok(against_time(sweeps, words, reading, unit, drawn.collect()))
    }
}

/// Where it stands still, if it does: in most runs, for on a busy machine a signal may come late.
fn facts(points: &[Point], unit: Unit) -> String {
    let stands_still = |point: &&Point| point.turns.median == 0.0;
    let still = points.iter().filter(stands_still).count();
    match points.iter().take_while(stands_still).last() {
        _ if still == points.len() => "stands still at every period".into(),
        Some(last) if points[still - 1] == *last => {
            let longest = si(last.timeout_ns as f64 / unit.ns);
            format!("stands still at periods up to {longest} {}", unit.name)
        }
        _ if still == 0 => "gets on at every period".into(),
        _ => format!("stands still at {still} of {} periods", points.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{curve, native, sweep};
    use super::*;

    const MODELLED: &str = "modelled (6.12,hz=250)";
    const EMULATED: &str = "measured (trap emulated: 6.12,hz=250)";

    fn programs(series: &str) -> Sweep {
        let wall = |ms: f64| if ms < 14.0 { 0.0 } else { 40_000.0 };
        let mut samples = curve(series, "program:itimer-real", 49, wall);
        samples.extend(curve(series, "program:thread-cpu", 49, |_| 40_000.0));
        sweep(samples)
    }

    #[test]
    fn legend_says_where_a_program_stands_still() {
        let figure = Figure::programs(&[programs(EMULATED)]).unwrap();
        let legends: Vec<_> = figure.curves().map(Curve::legend).collect();
        assert!(
            legends
                .iter()
                .any(|it| it.ends_with("stands still at periods up to 13 ms")),
            "{legends:?}"
        );
        assert!(
            legends
                .iter()
                .any(|it| it.ends_with("gets on at every period"))
        );
    }

    #[test]
    fn measured_and_modelled_series_of_a_timer_share_their_colour() {
        let figure = Figure::programs(&[programs(EMULATED), programs(MODELLED)]).unwrap();
        let of = |timer: &str| {
            let curves = figure.curves().filter(|curve| curve.name.contains(timer));
            curves.map(|curve| curve.style).collect::<Vec<_>>()
        };
        for timer in ["itimer-real", "thread-cpu"] {
            let [one, other] = of(timer)[..] else {
                panic!("not two curves");
            };
            assert_eq!(one.color, other.color);
            assert_ne!(one.line, other.line);
        }
    }

    #[test]
    fn tables_of_programs_get_this_figure_and_mixed_ones_do_not() {
        let both = [programs(EMULATED), programs(MODELLED)];
        let figure = Figure::for_sweeps(&both).unwrap();
        assert!(figure.title.contains("timer's period"));
        assert!(Figure::programs(&[programs(EMULATED), native()]).is_err());
        assert!(Figure::programs(&[]).is_err());
    }
}
