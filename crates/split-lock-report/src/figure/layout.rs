//! Decides where everything in a figure goes: one column, from the title down to the notes, each
//! block exactly as high as its text needs, so that nothing can overlap whatever the text is.

use super::font;
use super::look::{Ink, Marker};
use super::model::{Band, Curve, Figure, Mark, Panel, Remark};
use super::scene::{Align, At, Scene};
use super::{Stroke, YAxis};

const MARGIN: f64 = 26.0;
const TITLE: f64 = 21.0;
const DETECTION: f64 = 15.0;
const LABEL: f64 = 13.0;
pub(super) const TICK: f64 = 12.5;
const NOTE: f64 = 12.0;
const LEADING: f64 = 1.45;
const LEGEND_SAMPLE: f64 = 46.0;
const MARK_RADIUS: f64 = 3.4;
const RUN_RADIUS: f64 = 1.6;

/// More marks than this hide the line between them.
const MOST_MARKS: usize = 64;

/// Where a panel's curves are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// A scene that is being filled from the top.
struct Page {
    scene: Scene,
    y: f64,
}

/// Places everything.
pub(super) fn layout(figure: &Figure) -> Scene {
    let mut page = Page {
        scene: Scene {
            title: figure.title.clone(),
            width: figure.width,
            ..Scene::default()
        },
        y: MARGIN * 0.7,
    };
    page.paragraph(&figure.title, TITLE, Ink::Text, MARGIN);
    page.detection(&figure.detection);
    for panel in &figure.panels {
        page.panel(figure, panel);
    }
    page.x_label(&figure.x.label);
    for note in &figure.notes {
        page.paragraph(note, NOTE, Ink::Muted, MARGIN);
    }
    page.scene.height = page.y + MARGIN * 0.5;
    page.scene
}

impl Page {
    fn paragraph(&mut self, text: &str, size: f64, ink: Ink, left: f64) {
        let room = self.scene.width - left - MARGIN;
        for line in font::lines(text, size, room) {
            let at = (left, self.y + size * LEADING / 2.0);
            self.scene.text(at, &line, size, ink, Align::Left);
            self.y += size * LEADING;
        }
    }

    fn detection(&mut self, states: &[String]) {
        let top = self.y + 3.0;
        self.y += 3.0;
        for state in states {
            self.paragraph(state, DETECTION, Ink::Detection, MARGIN + 12.0);
        }
        self.scene
            .rectangle((MARGIN, top), (MARGIN + 4.0, self.y), Ink::Detection);
        self.y += 6.0;
    }

    fn panel(&mut self, figure: &Figure, panel: &Panel) {
        self.y += 8.0;
        for curve in &panel.curves {
            self.legend(curve);
        }
        self.y += 4.0;
        self.paragraph(&panel.y.label, LABEL, Ink::Text, MARGIN);
        self.y += 6.0;
        if let Some(band) = &panel.band {
            self.band_label(band);
        }
        let plot = Plot {
            left: MARGIN + y_tick_room(figure),
            right: self.scene.width - MARGIN,
            top: self.y,
            bottom: self.y + plot_height(figure.panels.len()),
        };
        self.y = plot.bottom;
        let mut drawing = Drawing {
            scene: &mut self.scene,
            plot,
            figure,
            y: &panel.y,
        };
        drawing.panel(panel);
        self.y += TICK * LEADING + 8.0;
    }

    fn legend(&mut self, curve: &Curve) {
        let y = self.y + LABEL * LEADING / 2.0;
        let (left, right) = (MARGIN, MARGIN + LEGEND_SAMPLE - 10.0);
        let look = curve.look;
        if curve.connected {
            self.scene
                .stroked(vec![(left, y), (right, y)], look.ink, 1.6, look.stroke);
        }
        self.scene
            .marker(look.marker, ((left + right) / 2.0, y), 4.2, look.ink);
        let text = if curve.facts.is_empty() {
            curve.name.clone()
        } else {
            format!("{}: {}", curve.name, curve.facts)
        };
        self.paragraph(&text, LABEL, Ink::Text, MARGIN + LEGEND_SAMPLE);
    }

    fn band_label(&mut self, band: &Band) {
        let y = self.y + NOTE * LEADING / 2.0;
        let left = MARGIN + LEGEND_SAMPLE;
        let swatch = (left - 10.0 - 20.0, left - 10.0);
        self.scene
            .rectangle((swatch.0, y - 6.0), (swatch.1, y + 6.0), Ink::Band);
        self.paragraph(&band.label, NOTE, Ink::Muted, left);
        self.y += 4.0;
    }

    fn x_label(&mut self, label: &str) {
        let room = self.scene.width - 2.0 * MARGIN;
        for line in font::lines(label, LABEL, room) {
            let at = (self.scene.width / 2.0, self.y + LABEL * LEADING / 2.0 - 2.0);
            self.scene.text(at, &line, LABEL, Ink::Text, Align::Center);
            self.y += LABEL * LEADING;
        }
        self.y += 8.0;
    }
}

/// The plots of all panels begin at the same place, or their times could not be compared.
fn y_tick_room(figure: &Figure) -> f64 {
    let ticks = figure.panels.iter().flat_map(|panel| &panel.y.ticks);
    ticks
        .map(|tick| font::width(&tick.text, TICK))
        .fold(0.0, f64::max)
        + 12.0
}

fn plot_height(panels: usize) -> f64 {
    match panels {
        0 | 1 => 340.0,
        2 => 230.0,
        _ => 180.0,
    }
}

/// One panel's plot.
struct Drawing<'a> {
    scene: &'a mut Scene,
    plot: Plot,
    figure: &'a Figure,
    y: &'a YAxis,
}

impl Drawing<'_> {
    fn panel(&mut self, panel: &Panel) {
        if let Some(band) = &panel.band {
            let (left, right) = (self.x_at(band.from), self.x_at(band.to));
            self.scene
                .rectangle((left, self.plot.top), (right, self.plot.bottom), Ink::Band);
        }
        self.x_axis();
        self.y_axis();
        self.frame();
        for curve in &panel.curves {
            self.curve(curve);
        }
        for remark in &panel.remarks {
            self.remark(remark);
        }
    }

    /// Beside its mark, on a patch of paper that keeps the grid out of the letters.
    fn remark(&mut self, remark: &Remark) {
        let (mark_x, mark_y) = self.at(remark.x, remark.y);
        let left = mark_x + 10.0;
        let leading = LABEL * 1.25;
        let height = leading * remark.lines.len() as f64;
        let top =
            (mark_y - height / 2.0).clamp(self.plot.top + 2.0, self.plot.bottom - height - 2.0);
        let width = remark.lines.iter().map(|line| font::width(line, LABEL));
        let right = left + width.fold(0.0, f64::max);
        self.scene
            .rectangle((left, top), (right, top + height), Ink::Paper);
        for (line, y) in remark.lines.iter().zip(0..) {
            let at = (left, top + (f64::from(y) + 0.5) * leading);
            self.scene.text(at, line, LABEL, Ink::Text, Align::Left);
        }
    }

    fn x_axis(&mut self) {
        let Plot { top, bottom, .. } = self.plot;
        for tick in &self.figure.x.ticks {
            let x = self.x_at(tick.value);
            self.scene.line(vec![(x, top), (x, bottom)], Ink::Grid, 0.8);
            self.scene
                .line(vec![(x, bottom), (x, bottom + 4.0)], Ink::Muted, 1.0);
            let at = (x, bottom + 6.0 + TICK * LEADING / 2.0);
            self.scene
                .text(at, &tick.text, TICK, Ink::Muted, Align::Center);
        }
    }

    fn y_axis(&mut self) {
        let Plot { left, right, .. } = self.plot;
        for tick in &self.y.ticks {
            let y = self.y_at(tick.value);
            // Zero is the line to which every height is compared.
            let ink = if tick.value == 0.0 {
                Ink::Muted
            } else {
                Ink::Grid
            };
            self.scene.line(vec![(left, y), (right, y)], ink, 0.8);
            self.scene
                .line(vec![(left - 4.0, y), (left, y)], Ink::Muted, 1.0);
            self.scene
                .text((left - 8.0, y), &tick.text, TICK, Ink::Muted, Align::Right);
        }
        if let Some(share) = self.y.broken_at() {
            let y = self.height_at(share);
            let line = vec![(left, y), (right, y)];
            self.scene.stroked(line, Ink::Muted, 0.8, Stroke::Dashed);
        }
    }

    fn frame(&mut self) {
        let Plot {
            left,
            right,
            top,
            bottom,
        } = self.plot;
        let corners = [
            (left, top),
            (right, top),
            (right, bottom),
            (left, bottom),
            (left, top),
        ];
        for side in corners.windows(2) {
            self.scene.line(side.to_vec(), Ink::Muted, 1.0);
        }
    }

    fn curve(&mut self, curve: &Curve) {
        let look = curve.look;
        for (x, y) in &curve.runs {
            let at = self.at(*x, *y);
            self.scene.marker(Marker::Disc, at, RUN_RADIUS, look.ink);
        }
        for mark in &curve.marks {
            self.whisker(mark, look.ink);
        }
        if curve.connected && curve.marks.len() > 1 {
            let medians = curve.marks.iter().map(|m| self.at(m.x, m.y.median));
            let line = medians.collect();
            self.scene.stroked(line, look.ink, 1.6, look.stroke);
        }
        let every = curve.marks.len().div_ceil(MOST_MARKS).max(1);
        for mark in curve.marks.iter().step_by(every) {
            let at = self.at(mark.x, mark.y.median);
            self.scene.marker(look.marker, at, MARK_RADIUS, look.ink);
        }
    }

    fn whisker(&mut self, mark: &Mark, ink: Ink) {
        let (x, low) = self.at(mark.x, mark.y.min);
        let high = self.y_at(mark.y.max);
        if low - high < 1.0 {
            return;
        }
        self.scene.line(vec![(x, low), (x, high)], ink, 1.0);
        for y in [low, high] {
            self.scene.line(vec![(x - 3.0, y), (x + 3.0, y)], ink, 1.0);
        }
    }

    fn at(&self, x: f64, y: f64) -> At {
        (self.x_at(x), self.y_at(y))
    }

    fn x_at(&self, value: f64) -> f64 {
        let Plot { left, right, .. } = self.plot;
        left + (right - left) * self.figure.x.position(value)
    }

    fn y_at(&self, value: f64) -> f64 {
        self.height_at(self.y.position(value))
    }

    fn height_at(&self, share: f64) -> f64 {
        let Plot { top, bottom, .. } = self.plot;
        // The highest mark keeps clear of the frame.
        let top = top + 8.0;
        bottom - (bottom - top) * share
    }
}
