//! `splitlock thresholds`

use std::iter;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use split_lock_model::analysis::ThresholdRow;
use split_lock_model::explain::kernel_in_words;
use split_lock_model::kernel::Profile;
use split_lock_model::time::{Hz, Nanos};
use split_lock_report::columns::columns;

use crate::args::model::ThresholdsArgs;
use crate::exit::Exit;
use crate::stdout;
use crate::terminal::paragraphs;

/// A release from before and one from after the sleep lost its extra tick.
const ERAS: [&str; 2] = ["6.11", "6.12"];

/// A row, with what follows from it for one thread that splits without pause.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    row: ThresholdRow,
    hz: Hz,
    /// From one of its windows to the next.
    cycle: Nanos,
    /// The share of its time with detection off.
    share_off: f64,
}

pub(crate) fn run(args: &ThresholdsArgs) -> Result<Exit> {
    let kernels = match &args.kernel {
        Some(kernel) => vec![kernel.clone()],
        None => every_kernel()?,
    };
    let rows: Vec<Shown> = kernels
        .iter()
        .filter_map(|kernel| shown(kernel, args.others))
        .collect();
    let text = if args.json {
        stdout::json(&json!({
            "schema": "splitlock-thresholds",
            "schema_version": 1,
            "durations_in": "ns",
            "rows": rows,
            "why_none": rows.is_empty().then(|| kernel_in_words(&kernels[0])),
        }))?
    } else if rows.is_empty() {
        let why = kernel_in_words(&kernels[0]);
        paragraphs(&format!("{why} There are no thresholds."))
    } else {
        as_text(args, &rows)
    };
    stdout::print(&text)?;
    Ok(Exit::Fine)
}

fn every_kernel() -> Result<Vec<Profile>> {
    let mut kernels = vec![];
    for hz in Hz::ALL {
        for era in ERAS {
            kernels.push(era.parse::<Profile>()?.with_hz(hz));
        }
    }
    Ok(kernels)
}

fn shown(kernel: &Profile, others: u32) -> Option<Shown> {
    let mut row = ThresholdRow::of(kernel, others.max(1))?;
    let alone = row.saturated[0];
    row.contended.truncate(others as usize);
    Some(Shown {
        hz: kernel.hz(),
        cycle: kernel.hz().longest_span(alone.cycle),
        share_off: alone.share().as_f64(),
        row,
    })
}

fn as_text(args: &ThresholdsArgs, rows: &[Shown]) -> String {
    let mut text = paragraphs(
        "A thread that splits a lock on a kernel with split_lock_detect=warn, and a signal, such as \
         a VMM's kick, that comes so long after its trap. Times in ms; (a,b] is more than a and at \
         most b.",
    );
    text.push('\n');
    let kernel = |shown: &Shown| match args.kernel {
        Some(_) => shown.row.kernel.to_string(),
        None => format!("{} Hz, {}", shown.hz, era(shown)),
    };
    let headings = [
        "kernel",
        "T",
        "sleep",
        "window",
        "cycle",
        "off",
        "never up to",
        "always from",
    ];
    let cells = |shown: &Shown| {
        let row = &shown.row;
        vec![
            kernel(shown),
            row.sleep_ticks.to_string(),
            range(row.sleep_longer_than, row.sleep_at_most),
            range(row.window_longer_than, row.window_at_most),
            ms(shown.cycle),
            format!("{:.3}", shown.share_off),
            ms(row.never_up_to),
            ms(row.always_from),
        ]
    };
    text.push_str(&columns(headings, rows.iter().map(cells)));
    text.push('\n');
    text.push_str(&paragraphs(
        "old: before Linux 6.12, new: since. T: ticks of the sleep. window: detection is off. cycle and off: a thread that splits \
         without pause, from window to window, and the share of time with detection off.",
    ));
    if args.others > 0 {
        text.push_str(
            "\nThe smallest safe timeout, in ms, while k other cores split without pause:\n\n",
        );
        let kernels = rows.iter().map(|row| format!("{} {}", row.hz, era(row)));
        let headings = iter::once("k".to_owned()).chain(kernels);
        let cells = |k: usize| {
            let safe = |shown: &Shown| ms(shown.row.contended[k].safe_from);
            let number = iter::once((k + 1).to_string());
            number.chain(rows.iter().map(safe)).collect()
        };
        text.push_str(&columns(headings, (0..args.others as usize).map(cells)));
    }
    text
}

fn era(shown: &Shown) -> &'static str {
    match shown.row.kernel.features().extra_jiffy {
        true => "old",
        false => "new",
    }
}

fn range(above: Nanos, up_to: Nanos) -> String {
    format!("({},{}]", ms(above), ms(up_to))
}

/// Tenths, and only where there are any.
fn ms(time: Nanos) -> String {
    let text = format!("{:.1}", time.as_millis_f64());
    text.strip_suffix(".0")
        .map_or_else(|| text.clone(), str::to_owned)
}
