//! Survival against timeouts: how much of its work a guest does where its split locks are punished.

use std::time::Duration;

use split_lock_repro::guest::Level;

use crate::common::LEVELS;
use crate::rounds::{Divisor, interleave, ratios, text};
use crate::runs::{EMULATE, EMULATE_AT_BREAKPOINTS, Machine, NO_DETECTION, Setting, WARN};

/// Each with a span of several punishments, or at least of several turns, in milliseconds.
const GUESTS: [(&str, u64); 4] = [
    ("split", 200),
    ("sparse:1ms", 200),
    ("sparse:10ms", 300),
    ("sparse:100ms", 700),
];

/// Below the threshold of most kernels, and above that of all.
const TIMEOUTS_MS: [u64; 3] = [1, 5, 20];

pub(crate) fn measure(machine: &Machine, divisor: Divisor) {
    println!("\nWork, of that without detection, in runs of");
    let timeouts = TIMEOUTS_MS.map(|ms| format!("{:>20}", format!("{ms} ms")));
    println!("{:48}{}", "", timeouts.concat());
    for level in LEVELS {
        for (guest, span_ms) in GUESTS {
            rows(machine, divisor, level, guest, span_ms);
        }
    }
}

/// Where no breakpoint stops a guest, guards with them are as guards without.
fn rows(machine: &Machine, divisor: Divisor, level: Level, guest: &str, span_ms: u64) {
    let mut schemes = vec![NO_DETECTION, WARN, EMULATE];
    if level == Level::Cpl0 && machine.support.at(0).is_some() {
        schemes.push(EMULATE_AT_BREAKPOINTS);
    }
    let span = Duration::from_millis(span_ms) / divisor.0;
    let columns = TIMEOUTS_MS.map(|ms| {
        interleave(schemes.len(), divisor.rounds(), |i| {
            let setting = Setting {
                guest,
                level,
                scheme: schemes[i],
                timeout: Duration::from_millis(ms),
            };
            machine.rate(setting, span)
        })
    });
    for (i, scheme) in schemes.iter().enumerate().skip(1) {
        let cell = |rates: &Vec<Vec<f64>>| text(ratios(&rates[i], &rates[0]), 2);
        let cells = columns.iter().map(|rates| format!("{:>20}", cell(rates)));
        let label = format!("{guest} at {level}");
        println!(
            "  {label:22}{:24}{}",
            scheme.name,
            cells.collect::<String>()
        );
    }
}
