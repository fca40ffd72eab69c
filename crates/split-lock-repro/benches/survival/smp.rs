//! What emulating costs a VM with more than one vCPU: the others are paused meanwhile.

use std::thread;
use std::time::Duration;

use split_lock_assist::pause::Pause;
use split_lock_repro::guest::Level;

use crate::common::LEVELS;
use crate::extent::Extent;
use crate::load::time;
use crate::rounds::{progress, sample_all};
use crate::scheme::{EMULATE, EMULATE_BY_KICKS, GRACE, GUARDED, NO_DETECTION, Scheme};
use crate::subject::{Machine, Sample, Setting, Subject};
use crate::table::Distribution;

const KICKS_EVERY: Duration = Duration::from_millis(5);
const SPAN: Duration = Duration::from_millis(100);

/// So that the vCPU is back in the guest.
const BETWEEN_PAUSES: Duration = Duration::from_micros(500);

pub(crate) fn measure(machine: &Machine, extent: &Extent) {
    println!("\nSeveral vCPUs, kicked every {KICKS_EVERY:?}");
    contend(machine, extent);
    pause(machine, extent);
}

/// All count in the same word, with split locks.
fn contend(machine: &Machine, extent: &Extent) {
    let span = SPAN / extent.hurry;
    let at_cpl0 = [NO_DETECTION, GRACE, EMULATE].map(|scheme| (Level::Cpl0, scheme));
    let at_cpl3 = [NO_DETECTION, GRACE, EMULATE_BY_KICKS].map(|scheme| (Level::Cpl3, scheme));
    println!(
        "  {:34}{:>32}{:>32}",
        "`contend`: turns per second", "1 vCPU", "2 vCPUs together"
    );
    for (level, scheme) in at_cpl0.into_iter().chain(at_cpl3) {
        let subjects = [1, 2].map(|vcpus| start(machine, "contend", level, vcpus, scheme));
        for subject in &subjects {
            subject.sample(span);
        }
        let progress = progress("smp", subjects.len() * extent.rounds);
        let samples = sample_all(&subjects, span, extent.rounds, &progress);
        progress.finish_and_clear();
        let rates = samples
            .iter()
            .map(|of| Distribution::of(of.iter().map(Sample::rate)).text(0));
        let rates: String = rates.map(|rate| format!("{rate:>32}")).collect();
        println!("    {:32}{rates}", format!("{level}, {}", scheme.name()));
    }
}

/// Asked for by a thread that runs no vCPU, while one runs, and while none does.
fn pause(machine: &Machine, extent: &Extent) {
    println!("  a pause, us");
    for level in LEVELS {
        let subject = start(machine, "aligned", level, 1, GUARDED);
        let pass = subject.gate().pass(|| ());
        let pauses = || {
            let each = (0..20 * extent.short_rounds).map(|_| {
                thread::sleep(BETWEEN_PAUSES);
                time(|| drop(pass.pause_others())).as_secs_f64() * 1e6
            });
            Distribution::of(each).text(1)
        };
        if level == LEVELS[0] {
            println!("    {:32}{:>24}", "of nobody", pauses());
        }
        subject.begin(BETWEEN_PAUSES * 40 * extent.short_rounds as u32);
        println!("    {:32}{:>24}", format!("of a vCPU at {level}"), pauses());
        subject.end();
    }
}

fn start(machine: &Machine, guest: &str, level: Level, vcpus: u32, scheme: Scheme) -> Subject {
    let setting = Setting {
        guest: guest.into(),
        level,
        vcpus,
        scheme,
        kicks_every: KICKS_EVERY,
    };
    Subject::start(machine, &setting)
}
