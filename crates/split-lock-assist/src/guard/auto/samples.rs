//! A cost that was measured several times.

use std::collections::VecDeque;

/// How many are kept.
const ENOUGH: usize = 16;

/// The last measurements of one cost. Some of them were disturbed.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(VecDeque<f64>);

impl Samples {
    pub(super) fn add(&mut self, nanos: f64) {
        if self.0.len() == ENOUGH {
            self.0.pop_front();
        }
        self.0.push_back(nanos);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The mean of the middle half.
    pub(super) fn typical(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let aside = sorted.len() / 4;
        let middle = &sorted[aside..sorted.len() - aside];
        (!middle.is_empty()).then(|| middle.iter().sum::<f64>() / middle.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_disturbed_does_not_count() {
        let mut samples = Samples::default();
        assert_eq!(samples.typical(), None);
        samples.add(10.0);
        assert_eq!(samples.typical(), Some(10.0));
        for sample in [12.0, 1e9, 11.0, 9.0, 0.0, 10.0, 8.0] {
            samples.add(sample);
        }
        assert_eq!(samples.count(), 8);
        assert_eq!(samples.typical(), Some(10.0));
    }

    #[test]
    fn the_last_ones_count() {
        let mut samples = Samples::default();
        (0..1000).for_each(|_| samples.add(1.0));
        (0..ENOUGH).for_each(|_| samples.add(2.0));
        assert_eq!((samples.count(), samples.typical()), (ENOUGH, Some(2.0)));
    }
}
