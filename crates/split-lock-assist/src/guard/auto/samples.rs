//! A cost that was measured several times.

/// How many times, at most.
const ENOUGH: usize = 16;

/// Measurements of one cost, some of which were disturbed.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// Beyond a number that is enough, samples are ignored.
    pub(super) fn add(&mut self, nanos: f64) {
        if self.0.len() < ENOUGH {
            self.0.push(nanos);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The mean of the middle half.
    pub(super) fn typical(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
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
    fn there_is_an_end_to_it() {
        let mut samples = Samples::default();
        (0..1000).for_each(|_| samples.add(1.0));
        assert_eq!(samples.count(), ENOUGH);
    }
}
