//! Guest work under each scheme, and what a split lock costs there.

use std::time::Duration;

use split_lock_repro::guest::Level;

use crate::column::{Column, Spans};
use crate::extent::Extent;
use crate::scheme::{NO_DETECTION_ARMED, all_at};
use crate::sheet::{Kicked, Sheet};
use crate::subject::Machine;

/// Spans are several punishments long, or at least several turns. There are fewer of the longest.
const GUESTS: [(&str, u64, usize); 4] = [
    (DENSE, 200, 0),
    ("sparse:1ms", 200, 0),
    ("sparse:10ms", 300, 0),
    ("sparse:100ms", 700, 2),
];
const DENSE: &str = "split";

/// Below the threshold of most kernels, and above that of all.
const KICKS_MS: [(Level, &[u64]); 2] = [(Level::Cpl0, &[1, 5, 20]), (Level::Cpl3, &[1, 20])];

/// What is to be reached: see the end of the output.
const LEAST_CHOICE: f64 = 0.9;

pub(crate) fn measure(machine: &Machine, extent: &Extent) {
    println!(
        "\nGuest work, and what a split lock costs: median (and quartiles)\n  \
         Time lost: against the same turns without detection; where there are breakpoints, against\n  \
         `{}`. The more work there is in a turn, the less can be seen of\n  \
         a short loss; so what emulating takes with breakpoints is taken from `{DENSE}` where it is\n  \
         compared with a sleep.",
        NO_DETECTION_ARMED.name()
    );
    let mut sheets: Vec<Sheet> = vec![];
    for (level, kicks_ms) in KICKS_MS {
        let mut operation_us = vec![];
        for (guest, span_ms, fewer_rounds) in extent.choose(&GUESTS) {
            let spans = Spans {
                length: Duration::from_millis(span_ms) / extent.hurry,
                rounds: extent.rounds.saturating_sub(fewer_rounds).max(1),
            };
            let column = |ms: u64| {
                let kicks_every = Duration::from_millis(ms);
                let schemes = all_at(level, machine.reach);
                Column::measure(machine, extent, (guest, level), schemes, kicks_every, spans)
            };
            let kicks_ms = extent.choose(kicks_ms);
            let columns: Vec<_> = kicks_ms.map(|ms| (ms, column(ms))).collect();
            if guest == DENSE {
                let lost = columns.iter().map(|(_, column)| column.operation_us());
                operation_us = lost.collect();
            }
            let columns = columns.into_iter().zip(&operation_us);
            let kicked = |((every_ms, column), &operation_us)| Kicked {
                every_ms,
                column,
                operation_us,
            };
            let sheet = Sheet {
                title: format!("{guest} at {level}"),
                columns: columns.map(kicked).collect(),
            };
            sheet.print();
            sheets.push(sheet);
        }
    }
    print_choices(&sheets);
}

/// Whether a guard that chooses is never much worse than the better of what it chooses from.
fn print_choices(sheets: &[Sheet]) {
    let mut all: Vec<_> = sheets.iter().flat_map(Sheet::choices).collect();
    all.sort_by(|(one, _), (other, _)| one.median().total_cmp(&other.median()));
    let good = all
        .iter()
        .filter(|(ratio, _)| ratio.median() >= LEAST_CHOICE);
    println!(
        "\n  auto makes at least {LEAST_CHOICE} of the better's work in {} of {} cases; the worst:",
        good.count(),
        all.len()
    );
    for (ratio, case) in all.iter().take(5) {
        println!("    {:24} {case}", ratio.text(3));
    }
}
