//! Interleaving: a noisy machine is to be noisy for everybody.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::random::Random;
use crate::subject::{Sample, Subject};

/// Something is done with each of so many in turn, in another order each time.
pub(crate) fn interleave(count: usize, rounds: usize, mut each: impl FnMut(usize)) {
    let mut random = Random::new(count as u64);
    let mut order: Vec<usize> = (0..count).collect();
    for _ in 0..rounds {
        for i in (1..count).rev() {
            order.swap(i, random.below(i as u64 + 1) as usize);
        }
        order.iter().for_each(|&i| each(i));
    }
}

/// A sample of each subject per round; by subject.
pub(crate) fn sample_all(
    subjects: &[Subject],
    span: Duration,
    rounds: usize,
    progress: &ProgressBar,
) -> Vec<Vec<Sample>> {
    let mut samples = vec![vec![]; subjects.len()];
    interleave(subjects.len(), rounds, |i| {
        samples[i].push(subjects[i].sample(span));
        progress.inc(1);
    });
    samples
}

/// Shown on a terminal only.
pub(crate) fn progress(what: &'static str, steps: usize) -> ProgressBar {
    let style = "{msg:12} {wide_bar} {percent}% {eta} left";
    let style = ProgressStyle::with_template(style).expect("a template of ours");
    let progress = ProgressBar::new(steps as u64).with_style(style);
    progress.with_message(what)
}
