//! What each behaviour of the kernel gives and takes, as bars: a row for each, a column for each
//! question.

use split_lock_model::kernel::Profile;
use split_lock_model::policy::{Assessment, Comparison};

use super::page::{HEADING, LABEL, MARGIN, NOTE, Page};
use super::scene::Align;
use super::style::Color;
use super::{Picture, font};

const WIDTH: f64 = 1080.0;
const ROW: f64 = 46.0;
const GAP: f64 = 26.0;
/// For the number behind the longest bar.
const NUMBER: f64 = 64.0;

/// What a bar shows, its colour, and how long it is.
type Bar = (&'static str, Color, fn(&Assessment) -> f64);

/// A question, and its answer for each behaviour.
struct Column {
    title: &'static str,
    unit: String,
    /// Bars of one row: brightness tells them apart.
    bars: Vec<Bar>,
    number: fn(f64) -> String,
}

/// Draws the comparison. Shorter is better in every column.
pub fn policies(kernel: &Profile, plan: &Comparison, found: &[Assessment]) -> Picture {
    let mut page = Page::new(
        "What the kernel does about split locks, and what it could do",
        WIDTH,
    );
    page.paragraph(
        &format!(
            "Modelled, on kernel {kernel}, split locks of {}. Shorter bars are better everywhere.",
            plan.split_cost
        ),
        NOTE,
        Color::Muted,
    );
    page.y += 8.0;
    place(&mut page, &columns(plan), found);
    page.finish()
}

fn columns(plan: &Comparison) -> [Column; 4] {
    let timeouts = plan.timeouts.len();
    [
        Column {
            title: "Timeouts without progress",
            unit: format!("of {timeouts} VMM timers, at some phase of the ticks"),
            bars: vec![
                ("alone", Color::Curve(0), |a| {
                    Assessment::stuck(&a.progress) as f64
                }),
                ("next to splitting cores", Color::Curve(5), |a| {
                    Assessment::stuck(&a.contended) as f64
                }),
            ],
            number: |value| format!("{value:.0}"),
        },
        Column {
            title: "What an attacker gains",
            unit: "times an honest thread's split locks".into(),
            bars: vec![(
                "with its best timer",
                Color::Curve(1),
                Assessment::attack_gain,
            )],
            number: |value| format!("{value:.2}x"),
        },
        Column {
            title: "Detection off for an attacker",
            unit: "% of time, on its core".into(),
            bars: vec![("with its best timer", Color::Curve(1), |a| {
                100.0 * a.attacker_share_off
            })],
            number: |value| format!("{value:.0} %"),
        },
        Column {
            title: "Longest wait of a signal",
            unit: format!("ms, next to {} splitting cores", plan.others),
            bars: vec![
                ("a timer's", Color::Curve(3), |a| {
                    a.worst_signal_delay.as_millis_f64()
                }),
                ("a deadly one", Color::Grid, |a| {
                    a.worst_kill_delay.as_millis_f64()
                }),
            ],
            number: |value| format!("{value:.2}"),
        },
    ]
}

fn place(page: &mut Page, columns: &[Column], found: &[Assessment]) {
    let names = found.iter().map(|a| font::width(a.policy.name(), LABEL));
    let left = MARGIN + names.fold(0.0, f64::max) + 14.0;
    let each = (WIDTH - MARGIN - left + GAP) / columns.len() as f64;
    let top = page.y;
    let heads = columns
        .iter()
        .enumerate()
        .map(|(index, column)| head(page, column, left + each * index as f64, each - GAP, top));
    let rows = heads.fold(top, f64::max) + 6.0;
    for (index, assessment) in found.iter().enumerate() {
        let middle = rows + ROW * (index as f64 + 0.5);
        if index > 0 {
            let y = middle - ROW / 2.0;
            let across = [MARGIN, WIDTH - MARGIN];
            page.scene.horizontal(y, across, Color::Grid, 1.0);
        }
        let (at, name) = ((left - 14.0, middle), assessment.policy.name());
        page.scene.text(at, name, LABEL, Color::Text, Align::Right);
    }
    for (index, column) in columns.iter().enumerate() {
        let at = left + each * index as f64;
        bars(page, column, found, (at, rows), each - GAP - NUMBER);
        let bottom = rows + ROW * found.len() as f64;
        page.scene.vertical(at, [rows, bottom], Color::Muted, 1.0);
    }
    page.y = rows + ROW * found.len() as f64;
}

/// Title, unit and legend of a column; says how far down they reach.
fn head(page: &mut Page, column: &Column, left: f64, room: f64, top: f64) -> f64 {
    let mut y = top;
    let mut lines = |page: &mut Page, text: &str, size: f64, color, indent: f64| {
        for line in font::lines(text, size, room - indent) {
            let at = (left + indent, y + size * 0.72);
            page.scene.text(at, &line, size, color, Align::Left);
            y += size * 1.4;
        }
        y
    };
    lines(page, column.title, HEADING, Color::Text, 0.0);
    lines(page, &column.unit, NOTE, Color::Muted, 0.0);
    let mut bottom = top;
    for (name, color, _) in &column.bars {
        bottom = lines(page, name, NOTE, Color::Text, 18.0);
        let middle = bottom - NOTE * 0.68;
        let (from, to) = ((left, middle - 5.0), (left + 12.0, middle + 5.0));
        page.scene.outlined(from, to, *color);
    }
    bottom
}

fn bars(
    page: &mut Page,
    column: &Column,
    found: &[Assessment],
    (left, top): (f64, f64),
    room: f64,
) {
    let values = found
        .iter()
        .flat_map(|a| column.bars.iter().map(move |(_, _, value)| value(a)));
    let longest = values.fold(0.0, f64::max);
    let height = (ROW - 14.0) / column.bars.len().max(2) as f64;
    for (index, assessment) in found.iter().enumerate() {
        let all = height * column.bars.len() as f64;
        let mut y = top + ROW * (index as f64 + 0.5) - all / 2.0;
        for (_, color, value) in &column.bars {
            let value = value(assessment);
            let width = room * value / longest.max(f64::MIN_POSITIVE);
            if width >= 0.5 {
                let (from, to) = ((left, y + 1.0), (left + width, y + height - 1.0));
                page.scene.outlined(from, to, *color);
            }
            let at = (left + width + 6.0, y + height / 2.0);
            let number = (column.number)(value);
            page.scene.text(at, &number, NOTE, Color::Text, Align::Left);
            y += height;
        }
    }
}
