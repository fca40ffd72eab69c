//! How much work there has to be between two split locks for emulating to be as fast as the kernel's
//! windows.

use std::time::Duration;

use split_lock_repro::guest::Level;

use crate::column::{Column, Spans};
use crate::extent::Extent;
use crate::scheme::{AUTO, AUTO_BY_KICKS, GRACE, NO_DETECTION, Scheme};
use crate::subject::Machine;

const WORK: [&str; 6] = ["5us", "20us", "50us", "200us", "500us", "2ms"];

/// So often that nothing would get through without a guard.
const KICKS_EVERY: Duration = Duration::from_millis(1);

pub(crate) fn measure(machine: &Machine, extent: &Extent) {
    println!("\nWhere emulating is as fast as the kernel's windows: kicked every {KICKS_EVERY:?}");
    let has_breakpoints = machine.reach.at(0).is_some();
    for (level, auto) in [(Level::Cpl0, AUTO), (Level::Cpl3, AUTO_BY_KICKS)] {
        if auto != AUTO || has_breakpoints {
            sweep(machine, extent, level, auto);
        }
    }
}

fn sweep(machine: &Machine, extent: &Extent, level: Level, auto: Scheme) {
    let emulate = auto.emulating();
    println!("\n  {level}, {}", emulate.name());
    println!(
        "  {:12}{:>21}{:>21}{:>21}{:>21}",
        "work between", "grace", "emulate", "emulate / grace", "auto / better"
    );
    let spans = Spans {
        length: Duration::from_millis(200) / extent.hurry,
        rounds: extent.rounds.div_ceil(2),
    };
    let mut slower = None;
    let mut crossing = None;
    for work in extent.choose(&WORK) {
        let guest = format!("sparse:{work}");
        let schemes = vec![NO_DETECTION, GRACE, emulate, auto];
        let column = Column::measure(
            machine,
            extent,
            (&guest, level),
            schemes,
            KICKS_EVERY,
            spans,
        );
        let ratio = column.ratio(emulate, GRACE);
        println!(
            "  {work:12}{:>21}{:>21}{:>21}{:>21}",
            column.work(GRACE).text(2),
            column.work(emulate).text(2),
            ratio.text(2),
            column.choice(auto).text(2),
        );
        if ratio.median() < 1.0 {
            slower = Some(work);
        } else if crossing.is_none() {
            crossing = Some((slower, work));
        }
    }
    println!("  {}", verdict(crossing));
}

fn verdict(crossing: Option<(Option<&str>, &str)>) -> String {
    match crossing {
        Some((Some(slower), faster)) => {
            format!("emulating is slower at {slower}, and faster from {faster} on")
        }
        Some((None, faster)) => format!("emulating is faster from {faster} on, or less"),
        None => "emulating is slower everywhere".into(),
    }
}
