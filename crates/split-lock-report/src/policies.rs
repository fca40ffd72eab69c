//! What each behaviour of the kernel gives and takes, as text; [`crate::figure::policies`] draws it.

use split_lock_model::kernel::Profile;
use split_lock_model::policy::{Assessment, Comparison, Progress};
use split_lock_model::time::Nanos;

use crate::columns::columns;
use crate::text::paragraphs;

/// Columns that a full bar takes.
const BAR: usize = 40;

/// The comparison in words, tables and bars, its paragraphs wrapped at `width` columns.
pub fn text(kernel: &Profile, plan: &Comparison, found: &[Assessment], width: usize) -> String {
    let timeouts = plan.timeouts.len();
    let intro = format!(
        "What the kernel could do about a thread that splits locks, modelled on kernel {kernel}, \
         with split locks of {}. `upstream` is what it does.",
        plan.split_cost
    );
    let mut text = paragraphs(&intro, width);
    let mut section = |words: &str, table: &str| {
        text.push_str(&format!("\n{}\n{table}", paragraphs(words, width)));
    };
    section(
        &format!(
            "Progress under VMM timers of 1 to {timeouts} ms, alone and contended (next to {} cores \
             that split without pause): timers stuck at some phase of the ticks, and the share of \
             full speed at 1 and 20 ms.",
            plan.others
        ),
        &progress_table(found),
    );
    section(
        &format!(
            "Attackers: what a thread gains by choosing its timer, detection off on its core, bus \
             time asked for by {} of them, and how much slower a thread gets that splits once in \
             10 ms.",
            plan.others + 1
        ),
        &attack_table(found),
    );
    section(
        "The longest that a signal waits, contended:",
        &delay_table(found),
    );
    for (title, value) in charts() {
        text.push_str(&format!("\n{title}\n"));
        text.push_str(&chart(found, value));
    }
    text
}

fn progress_table(found: &[Assessment]) -> String {
    let headings = [
        "policy",
        "stuck",
        "1 ms",
        "20 ms",
        "stuck contended",
        "1 ms",
        "20 ms",
    ];
    table(&headings, found, |a| {
        let at = |progress: &[Progress], ms| {
            let wanted = Nanos::from_millis(ms);
            let found = progress.iter().find(|progress| progress.timeout == wanted);
            found.map_or("-".into(), |progress| percent(progress.share))
        };
        let stuck = |progress: &[_]| format!("{}/{}", Assessment::stuck(progress), progress.len());
        vec![
            stuck(&a.progress),
            at(&a.progress, 1),
            at(&a.progress, 20),
            stuck(&a.contended),
            at(&a.contended, 1),
            at(&a.contended, 20),
        ]
    })
}

fn attack_table(found: &[Assessment]) -> String {
    let headings = [
        "policy",
        "gain",
        "its timer",
        "off",
        "bus",
        "alone",
        "next to attackers",
    ];
    table(&headings, found, |a| {
        vec![
            format!("{:.2}x", a.attack_gain()),
            a.attack_timer
                .map_or("none".into(), |timer| timer.to_string()),
            percent(a.attacker_share_off),
            percent(a.crowd_bus_share),
            format!("{:.1}x", a.sparse_slowdown_alone),
            format!("{:.1}x", a.sparse_slowdown),
        ]
    })
}

fn delay_table(found: &[Assessment]) -> String {
    table(&["policy", "a timer's", "a deadly one"], found, |a| {
        let ms = |time: Nanos| format!("{:.2} ms", time.as_millis_f64());
        vec![ms(a.worst_signal_delay), ms(a.worst_kill_delay)]
    })
}

fn table(
    headings: &[&str],
    found: &[Assessment],
    cells: impl Fn(&Assessment) -> Vec<String>,
) -> String {
    let row = |a: &Assessment| {
        let name = std::iter::once(a.policy.to_string());
        name.chain(cells(a)).collect()
    };
    columns(headings, found.iter().map(row))
}

type Value = fn(&Assessment) -> f64;

/// What is drawn: shorter is better everywhere.
fn charts() -> [(&'static str, Value); 4] {
    [
        ("Timeouts stuck, alone", |a| {
            Assessment::stuck(&a.progress) as f64
        }),
        ("Timeouts stuck, contended", |a| {
            Assessment::stuck(&a.contended) as f64
        }),
        (
            "What an attacker gains, times an honest thread",
            Assessment::attack_gain,
        ),
        ("Longest wait of a timer's signal, ms", |a| {
            a.worst_signal_delay.as_millis_f64()
        }),
    ]
}

fn chart(found: &[Assessment], value: Value) -> String {
    let longest = found.iter().map(value).fold(0.0, f64::max);
    let name_width = found
        .iter()
        .map(|a| a.policy.name().len())
        .max()
        .unwrap_or(0);
    let line = |a: &Assessment| {
        let length = if longest > 0.0 {
            (value(a) / longest * BAR as f64).round() as usize
        } else {
            0
        };
        let number = format!("{:.2}", value(a));
        let number = number.trim_end_matches('0').trim_end_matches('.');
        format!(
            "{:name_width$} {}{}{number}\n",
            a.policy.name(),
            "█".repeat(length),
            if length > 0 { " " } else { "" }
        )
    };
    found.iter().map(line).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
