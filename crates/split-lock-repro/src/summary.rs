//! From samples to curves: one point per timeout, with its median and its spread.

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
}

impl Curve {
    /// The straight line through every point's median turns, against the timeout in seconds: its
    /// slope is turns per second of guest time, wherever progress is proportional to time.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        self.line_of(|point| point.timeout_ns as f64)
    }

    /// The same against the median CPU time in seconds: what other work on the machine takes from
    /// the vCPU's thread does not bend it.
    #[must_use]
    pub fn line_by_cpu_time(&self) -> Option<Line> {
        self.line_of(|point| point.cpu_ns.median)
    }

    fn line_of(&self, time_ns: impl Fn(&Point) -> f64) -> Option<Line> {
        let medians = self.points.iter();
        let medians: Vec<_> = medians
            .map(|p| (time_ns(p) / 1e9, p.turns.median))
            .collect();
        Line::fit(&medians)
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

    proptest! {
        #[test]
        fn a_spread_is_in_order(values in prop::collection::vec(-1e12..1e12, 1..40)) {
            let s = Spread::of(values).unwrap();
            prop_assert!(s.min <= s.lower_quartile && s.lower_quartile <= s.median);
            prop_assert!(s.median <= s.upper_quartile && s.upper_quartile <= s.max);
        }
    }
}
