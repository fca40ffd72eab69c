//! What it is made of: exits, bus locks, an emulated instruction, and a guard with nothing to do.
//! `cargo bench -p split-lock-assist` measures decoding and emulating alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use split_lock_repro::guest::{Guest, Level};
use split_lock_repro::vm::{Vcpu, Vm};

use crate::common::{file_guest, guest};
use crate::rounds::{Divisor, interleave, ratios, text};
use crate::runs::{
    EMULATE_AT_BREAKPOINTS, GUARDED, Machine, NO_DETECTION, NO_DETECTION_ARMED, Scheme, Setting,
    set_breakpoint,
};

/// `out 0xe9, al`, and a jump back to it.
const OUT_LOOP: [u8; 4] = [0xe6, 0xe9, 0xeb, 0xfc];

const SPAN: Duration = Duration::from_millis(20);

pub(crate) fn measure(machine: &Machine, divisor: Divisor) {
    println!("\nCosts");
    calls(machine, divisor);
    bus_lock(machine, divisor);
    if machine.support.at(0).is_some() {
        breakpoint(machine, divisor);
    }
    guard(machine, divisor);
}

fn row(what: &str, values: impl IntoIterator<Item = f64>, digits: usize, unit: &str) {
    println!("  {what:44} {:>24} {unit}", text(values, digits));
}

type Call<'a> = Box<dyn FnMut() + 'a>;

/// The way out of the guest and back, and what KVM takes for a question.
fn calls(machine: &Machine, divisor: Divisor) {
    const CALLS: u32 = 200;
    let mut vm = Vm::new(&machine.kvm).expect("KVM was there a moment ago");
    let mut vcpu = |guest: &Guest, level| vm.add_vcpu(guest, level).expect("it can be loaded");
    let out = file_guest(&OUT_LOOP);
    let split = guest("split");
    let [mut out_cpl0, mut out_cpl3] = [Level::Cpl0, Level::Cpl3].map(|level| vcpu(&out, level));
    let [mut stopped, asked] = [(), ()].map(|()| vcpu(&split, Level::Cpl0));
    // Where it stays.
    set_breakpoint(&stopped.fd, split.load_address());
    let mut calls: Vec<(&str, Call<'_>)> = vec![
        (
            "exit and back, OUT at cpl0",
            Box::new(|| run(&mut out_cpl0)),
        ),
        (
            "exit and back, OUT at cpl3",
            Box::new(|| run(&mut out_cpl3)),
        ),
        (
            "KVM_GET_REGS",
            Box::new(|| {
                black_box(asked.fd.get_regs().expect("KVM tells registers"));
            }),
        ),
    ];
    if machine.support.at(0).is_some() {
        let name = "exit and back, breakpoint at cpl0";
        calls.push((name, Box::new(|| run(&mut stopped))));
    }
    let us = interleave(calls.len(), divisor.short_rounds(), |i| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| calls[i].1());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
    });
    for ((name, _), us) in calls.iter().zip(us) {
        row(name, us, 1, "us");
    }
}

fn run(vcpu: &mut Vcpu) {
    black_box(vcpu.fd.run().expect("the guest can run"));
}

/// Turns per second of several settings: a guest, a scheme, and the length of runs.
fn rates<const N: usize>(
    machine: &Machine,
    divisor: Divisor,
    level: Level,
    settings: [(&str, Scheme, Duration); N],
) -> [Vec<f64>; N] {
    let rates = interleave(N, divisor.short_rounds(), |i| {
        let (guest, scheme, timeout) = settings[i];
        let setting = Setting {
            guest,
            level,
            scheme,
            timeout,
        };
        machine.rate(setting, SPAN)
    });
    rates.try_into().expect("one for each setting")
}

/// At CPL3 without detection, where the CPU itself executes the guest.
fn bus_lock(machine: &Machine, divisor: Divisor) {
    let settings = ["aligned", "split"].map(|guest| (guest, NO_DETECTION, SPAN));
    let [aligned, split] = rates(machine, divisor, Level::Cpl3, settings);
    let ns = |rates: &[f64]| rates.iter().map(|rate| 1e9 / rate).collect::<Vec<_>>();
    row("a turn of `aligned` at cpl3", ns(&aligned), 2, "ns");
    row("a turn of `split` at cpl3: a bus lock", ns(&split), 0, "ns");
    let turns = ratios(&aligned, &split);
    row(
        "so a bus lock is as long as",
        turns,
        0,
        "turns of `aligned`",
    );
}

/// What a turn of a dense loop takes longer if its split lock is emulated at a breakpoint.
fn breakpoint(machine: &Machine, divisor: Divisor) {
    let settings =
        [NO_DETECTION_ARMED, EMULATE_AT_BREAKPOINTS].map(|scheme| ("split", scheme, SPAN));
    let [native, emulated] = rates(machine, divisor, Level::Cpl0, settings);
    let lost = native.iter().zip(&emulated);
    let lost_us = lost.map(|(native, emulated)| (1.0 / emulated - 1.0 / native) * 1e6);
    row("emulating at a breakpoint, all told", lost_us, 1, "us");
}

/// What a guard costs a guest that never splits a lock, and what the same without one seems to cost.
fn guard(machine: &Machine, divisor: Divisor) {
    for timeout in [1000, 100].map(Duration::from_micros) {
        let settings =
            [NO_DETECTION, NO_DETECTION, GUARDED].map(|scheme| ("aligned", scheme, timeout));
        let [without, again, guarded] = rates(machine, divisor, Level::Cpl3, settings);
        let what = format!("`aligned` in runs of {timeout:?}, guarded");
        row(&what, ratios(&guarded, &without), 4, "of unguarded");
        row(
            "  and unguarded again",
            ratios(&again, &without),
            4,
            "of unguarded",
        );
    }
}
