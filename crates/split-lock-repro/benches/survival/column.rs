//! One guest under all schemes, kicked every so often.

use std::time::Duration;

use split_lock_repro::guest::Level;

use crate::extent::Extent;
use crate::rounds::{progress, sample_all};
use crate::scheme::{EMULATE, GRACE, NO_DETECTION, Scheme};
use crate::subject::{Machine, Sample, Setting, Subject};
use crate::table::Distribution;

pub(crate) struct Column {
    schemes: Vec<Scheme>,
    /// By scheme.
    samples: Vec<Vec<Sample>>,
}

/// How long, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Spans {
    pub(crate) length: Duration,
    pub(crate) rounds: usize,
}

impl Column {
    /// All subjects are there together, and take turns.
    pub(crate) fn measure(
        machine: &Machine,
        extent: &Extent,
        (guest, level): (&str, Level),
        schemes: Vec<Scheme>,
        kicks_every: Duration,
        spans: Spans,
    ) -> Self {
        let start = |&scheme: &Scheme| {
            let guest = guest.to_owned();
            let setting = Setting {
                guest,
                level,
                vcpus: 1,
                scheme,
                kicks_every,
            };
            let subject = Subject::start(machine, &setting);
            subject.sample(if scheme.chooses() {
                extent.settling
            } else {
                spans.length / 2
            });
            subject
        };
        let subjects: Vec<Subject> = schemes.iter().map(start).collect();
        let progress = progress("survival", spans.rounds * schemes.len());
        let samples = sample_all(&subjects, spans.length, spans.rounds, &progress);
        progress.finish_and_clear();
        Self { schemes, samples }
    }

    pub(crate) fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    fn of(&self, scheme: Scheme) -> &[Sample] {
        let place = self.schemes.iter().position(|&it| it == scheme);
        &self.samples[place.expect("the scheme is one of those at this level")]
    }

    /// Turns per second.
    pub(crate) fn rate(&self, scheme: Scheme) -> Distribution {
        Distribution::of(self.of(scheme).iter().map(Sample::rate))
    }

    /// Work per second, of that without detection.
    pub(crate) fn work(&self, scheme: Scheme) -> Distribution {
        self.ratio(scheme, NO_DETECTION)
    }

    /// Work under the one, of that under the other.
    pub(crate) fn ratio(&self, one: Scheme, other: Scheme) -> Distribution {
        Distribution::of_ratios(self.of(one), self.of(other), Sample::rate)
    }

    /// What each split lock costs, in microseconds; `None` if most rounds had none that was done.
    pub(crate) fn lost_us(&self, scheme: Scheme) -> Option<Distribution> {
        let (samples, baseline) = (self.of(scheme), self.of(scheme.baseline()));
        let pairs = samples.iter().zip(baseline);
        let lost = pairs.filter_map(|(sample, native)| sample.lost_per_turn(native));
        self.most(scheme, lost.map(|seconds| seconds * 1e6).collect())
    }

    /// What emulating takes with breakpoints, if there are any here.
    pub(crate) fn operation_us(&self) -> Option<f64> {
        let has_breakpoints = self.schemes.contains(&EMULATE);
        let lost = has_breakpoints.then(|| self.lost_us(EMULATE)).flatten();
        lost.map(|lost| lost.median())
    }

    /// How long the thread sleeps for each split lock, in microseconds; `None` if most rounds had none
    /// that was done.
    pub(crate) fn asleep_us(&self, scheme: Scheme) -> Option<Distribution> {
        let asleep = self.of(scheme).iter().filter_map(Sample::asleep_per_turn);
        self.most(scheme, asleep.map(|seconds| seconds * 1e6).collect())
    }

    fn most(&self, scheme: Scheme, values: Vec<f64>) -> Option<Distribution> {
        (2 * values.len() > self.of(scheme).len()).then(|| Distribution::of(values))
    }

    /// Exits that a split lock causes, over all rounds.
    pub(crate) fn exits_per_turn(&self, scheme: Scheme) -> f64 {
        let total = |of: fn(&Sample) -> u64| self.of(scheme).iter().map(of).sum::<u64>() as f64;
        total(|sample| sample.exits) / total(|sample| sample.turns)
    }

    /// Work under a scheme that chooses, of that under the better of the two that it chooses from.
    pub(crate) fn choice(&self, auto: Scheme) -> Distribution {
        let emulate = auto.emulating();
        let better = if self.work(GRACE).median() > self.work(emulate).median() {
            GRACE
        } else {
            emulate
        };
        self.ratio(auto, better)
    }

    /// Those that choose.
    pub(crate) fn choosing(&self) -> impl Iterator<Item = Scheme> {
        self.schemes
            .iter()
            .copied()
            .filter(|scheme| scheme.chooses())
    }
}
