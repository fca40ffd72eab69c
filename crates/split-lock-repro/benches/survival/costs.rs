//! What everything is made of: exits, bus locks, decoding and emulating.

use std::hint::black_box;
use std::time::Duration;

use split_lock_repro::guest::Level;
use split_lock_repro::guest::{FileOptions, Guest};
use split_lock_repro::vm::{Vcpu, Vm};

use crate::breakpoint::set_breakpoint;
use crate::common::{file_guest, guest};
use crate::emulation;
use crate::extent::Extent;
use crate::load::time;
use crate::rounds::{interleave, progress, sample_all};
use crate::scheme::{EMULATE, NO_DETECTION, Scheme};
use crate::subject::{Machine, Sample, Setting, Subject};
use crate::table::Distribution;

/// `out 0xe9, al`, and a jump back to it.
const OUT_LOOP: [u8; 4] = [0xe6, 0xe9, 0xeb, 0xfc];

/// In between two operations.
const WORK: [&str; 3] = ["split", "sparse:100us", "sparse:1ms"];

pub(crate) fn measure(machine: &Machine, extent: &Extent) {
    println!("\nWhat it is made of: median (and quartiles)");
    calls(machine, extent);
    row(
        "decoding and emulating `lock bts`",
        &emulation::nanoseconds(extent.short_rounds),
        0,
        "ns",
    );
    bus_lock(machine, extent);
    if machine.reach.at(0).is_some() {
        operations(machine, extent);
    }
}

fn row(what: &str, values: &Distribution, digits: usize, unit: &str) {
    println!("  {what:44} {:>24} {unit}", values.text(digits));
}

/// The way out of the guest and back, and what KVM takes for a question.
fn calls(machine: &Machine, extent: &Extent) {
    const CALLS: u32 = 200;
    let mut vm = Vm::new(&machine.kvm).expect("KVM was there a moment ago");
    let mut vcpu = |guest: &Guest, level| vm.add_vcpu(guest, level).expect("it can be loaded");
    let out = file_guest(&OUT_LOOP, FileOptions::default());
    let split = guest("split");
    let [mut out_cpl0, mut out_cpl3] = [Level::Cpl0, Level::Cpl3].map(|level| vcpu(&out, level));
    let [mut stopped, asked] = [(), ()].map(|()| vcpu(&split, Level::Cpl0));
    // Where it stays.
    set_breakpoint(&stopped.fd, split.load_address());
    let mut calls: Vec<(&str, Call)> = vec![
        (
            "a bare exit and back, OUT at cpl0",
            Box::new(|| run(&mut out_cpl0)),
        ),
        (
            "a bare exit and back, OUT at cpl3",
            Box::new(|| run(&mut out_cpl3)),
        ),
        ("KVM_GET_REGS", Box::new(|| ask(&asked))),
    ];
    if machine.reach.at(0).is_some() {
        let name = "a bare exit and back, breakpoint at cpl0";
        calls.push((name, Box::new(|| run(&mut stopped))));
    }
    let mut us = vec![vec![]; calls.len()];
    interleave(calls.len(), extent.short_rounds, |i| {
        let took = time(|| (0..CALLS).for_each(|_| calls[i].1()));
        us[i].push(took.as_secs_f64() * 1e6 / f64::from(CALLS));
    });
    for ((name, _), us) in calls.iter().zip(us) {
        row(name, &Distribution::of(us), 1, "us");
    }
}

type Call<'a> = Box<dyn FnMut() + 'a>;

fn ask(vcpu: &Vcpu) {
    black_box(vcpu.fd.get_regs().expect("KVM tells registers"));
}

fn run(vcpu: &mut Vcpu) {
    black_box(vcpu.fd.run().expect("the guest can run"));
}

/// At CPL3 without detection, where the CPU itself executes the guest.
fn bus_lock(machine: &Machine, extent: &Extent) {
    let subject = |guest| start(machine, guest, Level::Cpl3, NO_DETECTION);
    let subjects = ["aligned", "split"].map(subject);
    let samples = sample_all(
        &subjects,
        SPAN,
        extent.short_rounds,
        &progress("bus lock", 0),
    );
    let ns = |of: &[Sample]| Distribution::of(of.iter().map(|sample| 1e9 / sample.rate()));
    row("a turn of `aligned` at cpl3", &ns(&samples[0]), 2, "ns");
    row(
        "a turn of `split` at cpl3: a bus lock",
        &ns(&samples[1]),
        0,
        "ns",
    );
    let times = Distribution::of_ratios(&samples[0], &samples[1], Sample::rate);
    row(
        "so a bus lock is as long as",
        &times,
        0,
        "turns of `aligned`",
    );
}

/// What a split lock costs that is emulated at a breakpoint, all told, in pairs of short spans.
fn operations(machine: &Machine, extent: &Extent) {
    for guest in extent.choose(&WORK) {
        let subject = |scheme| start(machine, guest, Level::Cpl0, scheme);
        let subjects = [EMULATE.baseline(), EMULATE].map(subject);
        // Until it watches.
        subjects[1].sample(20 * SPAN / extent.hurry);
        let rounds = 2 * extent.short_rounds;
        let progress = progress("operations", 2 * rounds);
        let samples = sample_all(&subjects, SPAN, rounds, &progress);
        progress.finish_and_clear();
        let pairs = samples[0].iter().zip(&samples[1]);
        let us = pairs.filter_map(|(native, emulated)| emulated.lost_per_turn(native));
        let what = format!("emulating at a breakpoint, all told: {guest}");
        row(
            &what,
            &Distribution::of(us.map(|seconds| seconds * 1e6)),
            1,
            "us",
        );
    }
}

const SPAN: Duration = Duration::from_millis(20);

fn start(machine: &Machine, guest: &str, level: Level, scheme: Scheme) -> Subject {
    let setting = Setting {
        guest: guest.into(),
        level,
        vcpus: 1,
        scheme,
        kicks_every: SPAN,
    };
    Subject::start(machine, &setting)
}
