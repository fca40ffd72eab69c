//! What a simulated machine does, on a time axis: one panel for each scenario, below each other.

use split_lock_model::sim::SpanKind;
use split_lock_model::time::Nanos;

use super::axis::XAxis;
use super::page::{HEADING, LABEL, MARGIN, NOTE, Page};
use super::scene::{Align, Point, Scene, Shape};
use super::style::{Color, Marker};
use super::{Picture, font};
use crate::number::duration;
use crate::timeline::{TimelineRow, TimelineSpan, View};

const WIDTH: f64 = 1000.0;
const ROW: f64 = 27.0;
const BOX: f64 = 19.0;

/// A span shorter than this on paper would not be seen.
const THINNEST: f64 = 1.4;

/// Closer lines than this are a grey area.
const TICKS_APART: f64 = 6.0;

/// A view and what to say about it.
#[derive(Debug)]
pub(crate) struct TimelinePanel {
    pub(crate) heading: String,
    pub(crate) view: View,
}

/// Draws panels with a common legend.
pub(crate) fn timeline(title: &str, panels: &[TimelinePanel]) -> Picture {
    let mut page = Page::new(title, WIDTH);
    page.paragraph(
        "Modelled: it follows from the kernel's rules. Thin lines are the kernel's ticks.",
        NOTE,
        Color::Muted,
    );
    for panel in panels {
        page.y += 10.0;
        page.paragraph(&panel.heading, HEADING, Color::Text);
        page.y += 4.0;
        draw(&mut page, &panel.view);
        if let Some(missing) = panel.view.missing() {
            page.paragraph(&missing, NOTE, Color::Muted);
        }
    }
    page.y += 8.0;
    legend(&mut page, panels);
    page.finish()
}

/// Where a panel's times are.
struct Plot {
    left: f64,
    right: f64,
    length: Nanos,
}

impl Plot {
    fn x(&self, time: Nanos) -> f64 {
        self.left + (self.right - self.left) * time.0 as f64 / self.length.0 as f64
    }
}

fn draw(page: &mut Page, view: &View) {
    let names = view.rows.iter().map(|&row| view.name(row));
    let names = names.map(|name| font::width(&name, LABEL));
    let plot = Plot {
        left: MARGIN + names.fold(0.0, f64::max) + 10.0,
        right: WIDTH - MARGIN,
        length: view.length,
    };
    let (top, height) = (page.y, ROW * view.rows.len() as f64);
    let ticks: Vec<f64> = view.ticks().map(|tick| plot.x(tick)).collect();
    let mut gaps = ticks.windows(2).map(|pair| pair[1] - pair[0]);
    if gaps.all(|gap| gap >= TICKS_APART) {
        for x in ticks {
            page.scene
                .vertical(x, [top, top + height], Color::Grid, 1.0);
        }
    }
    for &row in &view.rows {
        let middle = page.y + ROW / 2.0;
        let (at, name) = ((plot.left - 10.0, middle), view.name(row));
        page.scene.text(at, &name, LABEL, Color::Text, Align::Right);
        draw_row(page, &plot, view, row, middle);
        page.y += ROW;
    }
    axis(page, &plot, view);
}

fn draw_row(page: &mut Page, plot: &Plot, view: &View, row: TimelineRow, middle: f64) {
    let spans = view.spans(row);
    let mut line = |from: Nanos, to: Nanos, color, width| {
        let ends = [plot.x(from), plot.x(to)];
        page.scene.horizontal(middle, ends, color, width);
    };
    match row {
        TimelineRow::Kicks(_) => {
            for span in &spans {
                arrow(page, plot.x(span.start), middle);
            }
            return;
        }
        TimelineRow::Thread(_) => {}
        // On is the rule: a line, interrupted where it is off.
        TimelineRow::Core(_) => {
            let mut since = Nanos::ZERO;
            for span in &spans {
                line(since, span.start, Color::Detection, 3.0);
                since = span.end;
            }
            if since < plot.length {
                line(since, plot.length, Color::Detection, 3.0);
            }
        }
        TimelineRow::Semaphore => line(Nanos::ZERO, plot.length, Color::Grid, 2.0),
    }
    for span in &spans {
        draw_span(page, plot, span, view, middle);
    }
    // Trapping takes no room on paper, so it is marked.
    for trap in spans.iter().filter(|span| span.kind == SpanKind::Trap) {
        let at = (plot.x(trap.start), middle - BOX / 2.0);
        page.scene
            .marker(Marker::Diamond, at, 3.2, Color::Detection);
    }
}

/// Onto the row below.
fn arrow(page: &mut Page, x: f64, middle: f64) {
    let (top, bottom) = (middle - BOX / 2.0, middle + BOX / 2.0);
    let (head, tip) = (bottom - 4.0, bottom + 2.0);
    page.scene.vertical(x, [top, head + 1.0], Color::Text, 1.5);
    page.scene.shapes.push(Shape::Polygon {
        corners: vec![(x - 3.5, head), (x + 3.5, head), (x, tip)],
        color: Color::Text,
    });
}

fn draw_span(page: &mut Page, plot: &Plot, span: &TimelineSpan, view: &View, middle: f64) {
    let (left, right) = (plot.x(span.start), plot.x(span.end));
    let right = right.max(left + THINNEST);
    let (top, bottom) = (middle - BOX / 2.0, middle + BOX / 2.0);
    let style = style(span.kind);
    style.draw_box(&mut page.scene, (left, top), (right, bottom));
    let label = match span.kind {
        SpanKind::Held(task) => format!("held by {}", view.task(task)),
        _ => style.label.into(),
    };
    let lasted = format!("{label} {}", duration(span.end.since(span.start).0 as f64));
    for text in [&lasted, &label, style.label] {
        if !label.is_empty() && font::width(text, NOTE) + 8.0 < right - left {
            let at = ((left + right) / 2.0, middle);
            let color = if style.is_dark {
                Color::Paper
            } else {
                Color::Text
            };
            page.scene.text(at, text, NOTE, color, Align::Center);
            break;
        }
    }
}

struct Style {
    fill: Color,
    is_dark: bool,
    /// Inside the box, where it fits.
    label: &'static str,
    /// In the legend.
    meaning: &'static str,
}

impl Style {
    fn draw_box(&self, scene: &mut Scene, from: Point, to: Point) {
        match self.is_dark {
            true => scene.rectangle(from, to, self.fill),
            false => scene.outlined(from, to, self.fill),
        }
    }
}

/// Told apart by brightness, so that a grey print shows the same.
fn style(kind: SpanKind) -> Style {
    let style = |is_dark| {
        move |fill, label, meaning| Style {
            fill,
            is_dark,
            label,
            meaning,
        }
    };
    let (dark, light) = (style(true), style(false));
    match kind {
        SpanKind::GuestUndetected => dark(
            Color::Curve(0),
            "runs",
            "runs, and its split locks complete",
        ),
        SpanKind::Guest => light(Color::Curve(5), "works", "runs, detection on"),
        SpanKind::Interrupts => light(Color::Curve(4), "interrupts", "its guest serves interrupts"),
        SpanKind::Asleep => light(Color::Band, "asleep", "asleep for splitting a lock"),
        SpanKind::Queued => light(Color::Paper, "waits", "waits for the semaphore"),
        SpanKind::Trap | SpanKind::Waking => {
            dark(Color::Detection, "kernel", "in the kernel, about a trap")
        }
        SpanKind::Vmm | SpanKind::SignalHandler => dark(
            Color::Text,
            "outside",
            "outside the guest: VMM, or signal handler",
        ),
        SpanKind::WaitingForCpu => light(Color::Grid, "", "waits for its CPU"),
        SpanKind::DetectionOff => light(Color::Paper, "off", "detection off"),
        SpanKind::WindowUnused => light(Color::Band, "unused", "detection off, and not used"),
        SpanKind::Held(_) | SpanKind::Running(_) => light(Color::Grid, "held", "semaphore held"),
    }
}

fn axis(page: &mut Page, plot: &Plot, view: &View) {
    let axis = XAxis::from_zero(String::new(), view.length.as_millis_f64());
    let (scene, y) = (&mut page.scene, page.y + 2.0);
    scene.horizontal(y, [plot.left, plot.right], Color::Muted, 1.0);
    for tick in axis.ticks {
        let x = plot.x(Nanos((tick.value * 1e6) as u64)).min(plot.right);
        scene.vertical(x, [y, y + 4.0], Color::Muted, 1.0);
        scene.text((x, y + 13.0), &tick.text, NOTE, Color::Muted, Align::Center);
    }
    let unit = match view.from {
        Nanos::ZERO => "time in ms".to_owned(),
        from => format!("time in ms, from {from} on"),
    };
    let middle = (plot.left + plot.right) / 2.0;
    scene.text((middle, y + 30.0), &unit, NOTE, Color::Muted, Align::Center);
    page.y = y + 42.0;
}

/// Explains what is to be seen, and nothing else.
fn legend(page: &mut Page, panels: &[TimelinePanel]) {
    let mut styles: Vec<Style> = vec![];
    let mut traps = false;
    for TimelinePanel { view, .. } in panels {
        let is_kicks = |row: &TimelineRow| matches!(row, TimelineRow::Kicks(_));
        let rows = view.rows.iter().filter(|row| !is_kicks(row));
        for span in rows.flat_map(|row| view.spans(*row)) {
            traps |= span.kind == SpanKind::Trap;
            let style = style(span.kind);
            if styles.iter().all(|known| known.meaning != style.meaning) {
                styles.push(style);
            }
        }
    }
    let mut at = MARGIN;
    let mut place = |page: &mut Page, text: &str| {
        let width = font::width(text, NOTE) + 46.0;
        if at + width > WIDTH - MARGIN {
            at = MARGIN;
            page.y += 20.0;
        }
        let (x, y) = (at, page.y + 8.0);
        page.scene
            .text((x + 28.0, y), text, NOTE, Color::Text, Align::Left);
        at += width;
        (x, y)
    };
    if traps {
        let (x, y) = place(page, "the split lock traps");
        page.scene
            .marker(Marker::Diamond, (x + 11.0, y), 3.2, Color::Detection);
    }
    let (x, y) = place(page, "detection on");
    page.scene
        .horizontal(y, [x, x + 22.0], Color::Detection, 3.0);
    for style in styles {
        let (x, y) = place(page, style.meaning);
        style.draw_box(&mut page.scene, (x, y - 6.0), (x + 22.0, y + 6.0));
    }
    page.y += 22.0;
}
