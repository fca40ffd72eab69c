//! From samples to curves: one point per timeout, with its median and its spread.

use std::f64::consts::FRAC_PI_2;

use crate::results::{Sample, Sweep};

/// All samples of one series, guest, host and vCPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// How the numbers were obtained; see [`Sample::series`].
    pub series: String,
    /// The guest's name.
    pub guest: String,
    /// See [`Sample::host`].
    pub host: String,
    /// Which vCPU.
    pub vcpu: u32,
    /// One per timeout, in rising order.
    pub points: Vec<Point>,
}

/// The runs of one curve at one timeout.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The pending timeout, in nanoseconds.
    pub timeout_ns: u64,
    /// Turns per run.
    pub turns: Spread,
    /// Turns per second of elapsed time.
    pub turns_per_s: Spread,
    /// How long a run took beyond its timeout, in nanoseconds.
    pub overshoot_ns: Spread,
    /// CPU time that the vCPU's thread got in a run, in nanoseconds.
    pub cpu_ns: Spread,
    /// Turns per second of that CPU time.
    pub turns_per_cpu_s: Spread,
}

/// Five numbers that describe several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// A quarter is at or below it.
    pub lower_quartile: f64,
    /// Half are at or below it.
    pub median: f64,
    /// Three quarters are at or below it.
    pub upper_quartile: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

/// A straight line through points, and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Rise per unit.
    pub slope: f64,
    /// Value at zero.
    pub intercept: f64,
    /// Share of the variance that the line explains: 1 is a perfect fit.
    pub r_squared: f64,
}

/// What a curve's points say of turns and timeouts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trend {
    /// Turns change with the timeout: along this line, as far as it fits.
    Line(Line),
    /// The timeout says nothing about the turns.
    Independent,
}

impl Trend {
    /// The line, if there is one.
    #[must_use]
    pub fn line(self) -> Option<Line> {
        match self {
            Self::Line(line) => Some(line),
            Self::Independent => None,
        }
    }
}

impl Spread {
    /// Describes `values`; `None` if there are none. Quantiles are interpolated linearly.
    ///
    /// ```
    /// use split_lock_repro::summary::Spread;
    ///
    /// let spread = Spread::of([4.0, 1.0, 2.0]).unwrap();
    /// assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 4.0));
    /// ```
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let rank = q * (sorted.len() - 1) as f64;
            let below = sorted[rank as usize];
            let above = sorted[(rank.ceil() as usize).min(sorted.len() - 1)];
            below + (above - below) * rank.fract()
        };
        (!sorted.is_empty()).then(|| Spread {
            min: quantile(0.0),
            lower_quartile: quantile(0.25),
            median: quantile(0.5),
            upper_quartile: quantile(0.75),
            max: quantile(1.0),
            count: sorted.len(),
        })
    }
}

impl Line {
    /// The least-squares line through `points`; `None` if they do not determine one.
    #[must_use]
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
        let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
        let var_x: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
        let var_y: f64 = points.iter().map(|p| (p.1 - mean_y).powi(2)).sum();
        let covar: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
        (var_x > 0.0).then(|| Line {
            slope: covar / var_x,
            intercept: mean_y - mean_x * covar / var_x,
            r_squared: if var_y > 0.0 {
                covar * covar / (var_x * var_y)
            } else {
                1.0
            },
        })
    }

    /// How many of its standard errors the slope is away from zero, with so many degrees of freedom.
    fn t_of_slope(&self, degrees: usize) -> f64 {
        if self.slope == 0.0 {
            return 0.0;
        }
        (self.r_squared * degrees as f64 / (1.0 - self.r_squared).max(0.0)).sqrt()
    }
}

/// Whether the points lie nearer to the best horizontal line than to the best line through the origin.
fn is_constant_nearer(points: &[(f64, f64)]) -> bool {
    let sum = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    // What the one line and the other explain of the sum of squares.
    let constant = sum(|p| p.1).powi(2) / points.len() as f64;
    let proportional = sum(|p| p.0 * p.1).powi(2) / sum(|p| p.0 * p.0);
    constant >= proportional
}

/// The probability that Student's t lies between `-t` and `t`, as the finite series that it is for whole degrees of
/// freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
fn student(t: f64, degrees: usize) -> f64 {
    let (sin, cos) = (t / (degrees as f64).sqrt()).atan().sin_cos();
    let is_odd = degrees % 2 == 1;
    let mut term = if is_odd { cos } else { 1.0 };
    let mut sum = 0.0;
    for n in (2 + usize::from(is_odd)..=degrees).step_by(2) {
        sum += term;
        term *= cos * cos * (n - 1) as f64 / n as f64;
    }
    if is_odd {
        (sin.atan2(cos) + sin * sum) / FRAC_PI_2
    } else {
        sin * sum
    }
}

impl Curve {
    /// The straight line through every point's median turns, against the timeout in seconds: its
    /// slope is turns per second of guest time, wherever progress is proportional to time.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.line_of(|point| point.timeout_ns as f64)
    }

    /// Whether turns depend on the timeout. `None` for fewer than three timeouts, which do not show it.
    ///
    /// They are independent of it if both are so:
    /// - one number of turns for all timeouts is nearer to the medians, in the sum of squares, than turns in proportion
    ///   to the timeout are;
    /// - the slope of the line through the medians cannot be told from zero (Student's t-test, 95 %).
    #[must_use]
    pub fn trend(&self) -> Option<Trend> {
        const FEWEST: usize = 3;
        const CONFIDENCE: f64 = 0.95;
        let medians = self.medians(|point| point.timeout_ns as f64);
        let line = Line::fit(&medians).filter(|_| medians.len() >= FEWEST)?;
        let degrees = medians.len() - 2;
        let slopes = student(line.t_of_slope(degrees), degrees) >= CONFIDENCE;
        Some(if slopes || !is_constant_nearer(&medians) {
            Trend::Line(line)
        } else {
            Trend::Independent
        })
    }

    /// The same against the median CPU time in seconds: what other work on the machine takes from
    /// the vCPU's thread does not bend it.
    #[must_use]
    pub fn line_by_cpu_time(&self) -> Option<Line> {
        self.line_of(|point| point.cpu_ns.median)
    }

    fn line_of(&self, time_ns: impl Fn(&Point) -> f64) -> Option<Line> {
        Line::fit(&self.medians(time_ns))
    }

    fn medians(&self, time_ns: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
        let points = self.points.iter();
        points.map(|p| (time_ns(p) / 1e9, p.turns.median)).collect()
    }
}

/// Groups a sweep's samples into curves, sorted by series, guest, host and vCPU.
#[must_use]
pub fn curves(sweep: &Sweep) -> Vec<Curve> {
    let mut samples: Vec<&Sample> = sweep.samples.iter().collect();
    samples.sort_by_key(|sample| (curve_key(sample), sample.timeout_ns, sample.run));
    samples
        .chunk_by(|a, b| curve_key(a) == curve_key(b))
        .map(|of_curve| Curve {
            series: of_curve[0].series.clone(),
            guest: of_curve[0].guest.clone(),
            host: of_curve[0].host.clone(),
            vcpu: of_curve[0].vcpu,
            points: of_curve
                .chunk_by(|a, b| a.timeout_ns == b.timeout_ns)
                .filter_map(point)
                .collect(),
        })
        .collect()
}

fn curve_key(sample: &Sample) -> (&str, &str, &str, u32) {
    (&sample.series, &sample.guest, &sample.host, sample.vcpu)
}

fn point(of_timeout: &[&Sample]) -> Option<Point> {
    let spread = |value: fn(&Sample) -> f64| Spread::of(of_timeout.iter().map(|s| value(s)));
    Some(Point {
        timeout_ns: of_timeout[0].timeout_ns,
        turns: spread(|s| s.turns as f64)?,
        turns_per_s: spread(|s| s.turns as f64 / (s.elapsed_ns.max(1) as f64 / 1e9))?,
        overshoot_ns: spread(|s| s.elapsed_ns as f64 - s.timeout_ns as f64)?,
        cpu_ns: spread(|s| s.cpu_ns as f64)?,
        turns_per_cpu_s: spread(|s| s.turns as f64 / (s.cpu_ns.max(1) as f64 / 1e9))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixtures::sample;
    use proptest::prelude::*;

    #[test]
    fn samples_become_curves_with_one_point_per_timeout() {
        let sweep = Sweep {
            provenance: None,
            samples: vec![
                sample("split", 2, 0, 20),
                sample("aligned", 1, 0, 500),
                sample("split", 1, 1, 12),
                sample("split", 1, 0, 8),
            ],
        };
        let curves = curves(&sweep);
        assert_eq!(
            curves.iter().map(|c| &*c.guest).collect::<Vec<_>>(),
            ["aligned", "split"]
        );
        let split = &curves[1];
        assert_eq!(split.points.len(), 2);
        assert_eq!(split.points[0].turns.median, 10.0);
        assert_eq!(split.points[0].turns.count, 2);
        assert_eq!(split.points[0].overshoot_ns.median, 20_000.0);
    }

    #[test]
    fn quartiles_are_interpolated() {
        let spread = Spread::of([1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(
            (spread.lower_quartile, spread.median, spread.upper_quartile),
            (1.75, 2.5, 3.25)
        );
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_straight_line_is_found_exactly() {
        let line = Line::fit(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]).unwrap();
        assert!((line.slope - 2.0).abs() < 1e-12);
        assert!((line.intercept - 3.0).abs() < 1e-12);
        assert!((line.r_squared - 1.0).abs() < 1e-12);
        assert_eq!(Line::fit(&[(1.0, 5.0)]), None);
        assert_eq!(Line::fit(&[]), None);
    }

    /// Median turns at timeouts of 1 ms, 2 ms and so on.
    fn curve(turns: impl IntoIterator<Item = u64>) -> Curve {
        let samples = (1..).zip(turns);
        let samples = samples.map(|(ms, turns)| sample("split", ms, 0, turns));
        let sweep = Sweep {
            provenance: None,
            samples: samples.collect(),
        };
        curves(&sweep).remove(0)
    }

    #[test]
    fn turns_that_vary_about_the_same_number_are_independent_of_the_timeout() {
        // What a grant of 28 ms leaves room for, whatever the timeout.
        let granted = [795_211, 795_304, 794_877, 795_190, 795_002];
        assert_eq!(curve(granted).trend(), Some(Trend::Independent));
        assert_eq!(curve([7; 9]).trend(), Some(Trend::Independent));
        assert_eq!(curve([0; 9]).trend(), Some(Trend::Independent));
    }

    #[test]
    fn a_threshold_is_no_independence() {
        let late = curve([0, 0, 0, 0, 0, 0, 0, 0, 0, 3]).trend();
        assert!(matches!(late, Some(Trend::Line(_))), "{late:?}");
    }

    #[test]
    fn turns_that_grow_from_a_high_beginning_have_a_line() {
        let beginning = (1..10).map(|ms| 800_000 + 900 * ms + ms % 3);
        let line = curve(beginning).trend().and_then(Trend::line).unwrap();
        assert!((899_000.0..901_000.0).contains(&line.slope), "{line:?}");
    }

    #[test]
    fn few_points_in_proportion_are_not_taken_for_a_constant() {
        let steep = curve([10, 60, 200]).trend();
        assert!(matches!(steep, Some(Trend::Line(_))), "{steep:?}");
    }

    /// From the tables in every book.
    #[test]
    fn student_is_95_percent_sure_at_the_known_places() {
        for (degrees, t) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (10, 2.228),
            (30, 2.042),
            (47, 2.012),
        ] {
            let probability = student(t, degrees);
            assert!(
                (probability - 0.95).abs() < 5e-5,
                "{degrees}: {probability}"
            );
        }
        assert_eq!(student(0.0, 7), 0.0);
        assert!((student(f64::INFINITY, 7) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn two_timeouts_show_no_trend() {
        assert_eq!(curve([900, 1800]).trend(), None);
        assert!(curve([900, 1800, 2700]).trend().is_some());
    }

    proptest! {
        #[test]
        fn turns_in_proportion_to_the_timeout_have_a_line_although_the_machine_is_busy(
            lost_percent in prop::collection::vec(0..50u64, 20),
        ) {
            let turns = (1..).zip(lost_percent).map(|(ms, lost): (u64, _)| 900 * ms * (100 - lost) / 100);
            let line = curve(turns).trend().and_then(Trend::line);
            prop_assert!(line.is_some_and(|line| line.slope > 0.0), "{:?}", line);
        }

        #[test]
        fn the_unit_of_turns_does_not_matter(turns in prop::collection::vec(1..1000u64, 3..20)) {
            let is_line = |scale: u64| curve(turns.iter().map(|n| n * scale)).trend().map(|it| it.line().is_some());
            prop_assert_eq!(is_line(1), is_line(1 << 20));
        }

        #[test]
        fn a_spread_is_in_order(values in prop::collection::vec(-1e12..1e12, 1..40)) {
            let s = Spread::of(values).unwrap();
            prop_assert!(s.min <= s.lower_quartile && s.lower_quartile <= s.median);
            prop_assert!(s.median <= s.upper_quartile && s.upper_quartile <= s.max);
        }
    }
}
