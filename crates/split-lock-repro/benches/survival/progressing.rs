//! What a guard costs a guest that never splits a lock.

use std::time::Duration;

use split_lock_repro::guest::Level;

use crate::extent::Extent;
use crate::rounds::{progress, sample_all};
use crate::scheme::{GUARDED, NO_DETECTION};
use crate::subject::{Machine, Sample, Setting, Subject};
use crate::table::Distribution;

/// The usual one, and one at which everything that is done once a run weighs ten times as much.
const KICKS_US: [u64; 2] = [1000, 100];

const SPAN: Duration = Duration::from_millis(40);

/// Without a guard, the same again, and with one.
pub(crate) fn measure(machine: &Machine, extent: &Extent) {
    println!("\nA run that progresses: work of `aligned` at cpl3, of that without a guard");
    for kick_us in KICKS_US {
        let subjects = [NO_DETECTION, NO_DETECTION, GUARDED].map(|scheme| {
            let setting = Setting {
                guest: "aligned".into(),
                level: Level::Cpl3,
                vcpus: 1,
                scheme,
                kicks_every: Duration::from_micros(kick_us),
            };
            Subject::start(machine, &setting)
        });
        let rounds = extent.short_rounds;
        let progress = progress("progress", rounds * subjects.len());
        let samples = sample_all(&subjects, SPAN, rounds, &progress);
        progress.finish_and_clear();
        let against_none = |these| Distribution::of_ratios(these, &samples[0], Sample::rate);
        println!("  kicked every {kick_us} us, {rounds} rounds");
        println!(
            "    {:32}{:>24}",
            "without a guard, the same again",
            against_none(&samples[1]).text(4)
        );
        println!(
            "    {:32}{:>24}",
            "with a guard that emulates",
            against_none(&samples[2]).text(4)
        );
    }
}
