//! Axes: where a value lies, and which values are written beside the axis.

use split_lock_repro::summary::Spread;

use crate::number::si;

/// The horizontal axis, always linear.
#[derive(Debug, Clone)]
pub(crate) struct XAxis {
    pub(crate) label: String,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) ticks: Vec<Tick>,
}

/// A vertical axis.
#[derive(Debug, Clone)]
pub(crate) struct YAxis {
    pub(crate) label: String,
    pub(crate) ticks: Vec<Tick>,
    scale: Scale,
}

/// A value written beside an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) text: String,
}

impl Tick {
    pub(crate) fn new(value: f64, text: impl Into<String>) -> Self {
        let text = text.into();
        Tick { value, text }
    }
}

#[derive(Debug, Clone, Copy)]
enum Scale {
    Linear { top: f64 },
    Log { low: f64, high: f64, floor: f64 },
}

/// Zero is drawn this far above the frame, so that marks on it are seen whole.
const ZERO_AT: f64 = 0.05;

/// On a logarithmic axis that must show zero, the decades begin here, and zero has the room below.
const DECADES_ABOVE_ZERO: f64 = 0.18;

impl XAxis {
    /// An axis from 0 past `max`, for times.
    pub(crate) fn from_zero(label: String, max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = nice_step(max / 8.0);
        XAxis {
            label,
            min: 0.0,
            max: max * 1.02,
            ticks: ticks(step, max * 1.001, |value| format!("{}", tidy(value))),
        }
    }

    /// Where `value` lies, from 0 at the left to 1 at the right.
    pub(crate) fn position(&self, value: f64) -> f64 {
        (value - self.min) / (self.max - self.min)
    }
}

impl YAxis {
    /// From zero to the largest value.
    pub(crate) fn linear(label: String, values: impl IntoIterator<Item = f64>) -> Self {
        let largest = values.into_iter().fold(0.0, f64::max);
        let largest = if largest > 0.0 { largest } else { 1.0 };
        YAxis {
            label,
            ticks: ticks(nice_step(largest / 5.0), largest * 1.001, si),
            scale: Scale::Linear { top: largest },
        }
    }

    /// Whole decades around the values that have a logarithm, with room for zero below them if
    /// there are any that have none: a guest that stands still must not fall off the picture.
    pub(crate) fn log(label: String, spreads: &[Spread]) -> Self {
        let all = || spreads.iter().flat_map(|s| [s.min, s.median, s.max]);
        let smallest = all().filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min);
        let largest = all().fold(0.0, f64::max);
        if largest <= 0.0 {
            return YAxis::linear(label, []);
        }
        let low = (smallest.log10() + 1e-9).floor();
        let high = (largest.log10() - 1e-9).ceil().max(low + 1.0);
        let has_zero = all().any(|y| y <= 0.0);
        let floor = if has_zero { DECADES_ABOVE_ZERO } else { 0.0 };
        let step = ((high - low) / 6.0).ceil() as usize;
        let zero = has_zero.then(|| Tick::new(0.0, "0"));
        let decades = (low as i32..=high as i32).step_by(step).map(|decade| {
            let value = 10f64.powi(decade);
            Tick::new(value, si(value))
        });
        YAxis {
            label,
            ticks: zero.into_iter().chain(decades).collect(),
            scale: Scale::Log { low, high, floor },
        }
    }

    /// Where `value` lies, from 0 at the bottom to 1 at the top.
    pub(crate) fn position(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear { top } => ZERO_AT + (1.0 - ZERO_AT) * value / top,
            Scale::Log { .. } if value <= 0.0 => ZERO_AT,
            Scale::Log { low, high, floor } => {
                let share = (value.log10() - low) / (high - low);
                floor + (1.0 - floor) * share
            }
        }
    }

    /// Where a logarithmic axis is broken to make room for zero.
    pub(crate) fn broken_at(&self) -> Option<f64> {
        match self.scale {
            Scale::Log { floor, .. } if floor > 0.0 => Some((ZERO_AT + floor) / 2.0),
            _ => None,
        }
    }

    /// The largest value of a linear axis.
    pub(crate) fn top(&self) -> Option<f64> {
        match self.scale {
            Scale::Linear { top } => Some(top),
            Scale::Log { .. } => None,
        }
    }
}

/// The least of 1, 2, 5, 10, 20, 50, ... that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * decade >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * decade
}

fn ticks(step: f64, up_to: f64, text: impl Fn(f64) -> String) -> Vec<Tick> {
    (0..)
        .map(|n| f64::from(n) * step)
        .take_while(|value| *value <= up_to)
        .map(|value| Tick::new(value, text(value)))
        .collect()
}

/// Without the noise that a product of decimal fractions leaves behind.
fn tidy(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| &*tick.text).collect()
    }

    #[test]
    fn linear_axes_have_round_numbers_and_begin_at_zero() {
        let y = YAxis::linear(String::new(), [44_100.0]);
        assert_eq!(texts(&y.ticks), ["0", "10 k", "20 k", "30 k", "40 k"]);
        let x = XAxis::from_zero(String::new(), 49.0);
        assert_eq!(texts(&x.ticks), ["0", "10", "20", "30", "40"]);
        let tiny = XAxis::from_zero(String::new(), 0.3);
        assert_eq!(texts(&tiny.ticks)[1], "0.05");
    }

    #[test]
    fn a_logarithmic_axis_makes_room_for_zero_only_if_needed() {
        let spread = |y| Spread::of([y]).unwrap();
        let without = YAxis::log(String::new(), &[spread(9e5), spread(4e8)]);
        assert_eq!(
            texts(&without.ticks),
            ["100 k", "1 M", "10 M", "100 M", "1 G"]
        );
        assert_eq!(without.broken_at(), None);
        let with = YAxis::log(String::new(), &[spread(0.0), spread(4e8)]);
        assert_eq!(texts(&with.ticks), ["0", "100 M", "1 G"]);
        let gap = with.broken_at().unwrap();
        assert!(with.position(0.0) < gap && gap < with.position(1e8));
    }

    proptest! {
        #[test]
        fn every_value_lies_on_its_axis(values in prop::collection::vec(0.0..1e19f64, 1..9)) {
            let linear = YAxis::linear(String::new(), values.iter().copied());
            let spreads: Vec<_> = values.iter().map(|y| Spread::of([*y]).unwrap()).collect();
            let log = YAxis::log(String::new(), &spreads);
            for axis in [linear, log] {
                prop_assert!(axis.ticks.len() >= 2 && axis.ticks.len() <= 12);
                for y in &values {
                    prop_assert!((-1e-6..=1.0 + 1e-6).contains(&axis.position(*y)));
                }
            }
        }
    }
}
