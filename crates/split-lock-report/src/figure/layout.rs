//! Decides where everything in a figure goes: one column, from the title down to the notes, each
//! block exactly as high as its text needs, so that nothing can overlap whatever the text is.

use super::font;
use super::model::{Annotation, Band, Curve, Figure, Mark, Panel};
use super::page::{LABEL, LEADING, MARGIN, NOTE, Page};
use super::scene::{Align, Point, Scene};
use super::style::{Color, Marker};
use super::{LineStyle, Picture, YAxis};

const DETECTION: f64 = 15.0;
pub(super) const TICK: f64 = 12.5;
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

impl Figure {
    /// Places everything.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let mut page = Page::new(&self.title, self.width);
        page.detection(&self.detection);
        for panel in &self.panels {
            page.panel(self, panel);
        }
        page.x_label(&self.x.label);
        for note in &self.notes {
            page.paragraph(note, NOTE, Color::Muted);
        }
        page.finish()
    }
}

impl Page {
    fn detection(&mut self, states: &[String]) {
        let top = self.y + 3.0;
        self.y += 3.0;
        for state in states {
            self.paragraph_from(MARGIN + 12.0, state, DETECTION, Color::Detection);
        }
        self.scene
            .rectangle((MARGIN, top), (MARGIN + 4.0, self.y), Color::Detection);
        self.y += 6.0;
    }

    fn panel(&mut self, figure: &Figure, panel: &Panel) {
        self.y += 8.0;
        for curve in &panel.curves {
            self.legend(curve);
        }
        self.y += 4.0;
        self.paragraph(&panel.y.label, LABEL, Color::Text);
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
        let style = curve.style;
        if curve.connected {
            self.scene
                .styled_line(vec![(left, y), (right, y)], style.color, 1.6, style.line);
        }
        self.scene
            .marker(style.marker, ((left + right) / 2.0, y), 4.2, style.color);
        let text = if curve.facts.is_empty() {
            curve.name.clone()
        } else {
            format!("{}: {}", curve.name, curve.facts)
        };
        self.paragraph_from(MARGIN + LEGEND_SAMPLE, &text, LABEL, Color::Text);
    }

    fn band_label(&mut self, band: &Band) {
        let y = self.y + NOTE * LEADING / 2.0;
        let left = MARGIN + LEGEND_SAMPLE;
        let swatch = (left - 10.0 - 20.0, left - 10.0);
        self.scene
            .rectangle((swatch.0, y - 6.0), (swatch.1, y + 6.0), Color::Band);
        self.paragraph_from(left, &band.label, NOTE, Color::Muted);
        self.y += 4.0;
    }

    fn x_label(&mut self, label: &str) {
        let room = self.scene.width - 2.0 * MARGIN;
        for line in font::lines(label, LABEL, room) {
            let at = (self.scene.width / 2.0, self.y + LABEL * LEADING / 2.0 - 2.0);
            self.scene
                .text(at, &line, LABEL, Color::Text, Align::Center);
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
            self.scene.rectangle(
                (left, self.plot.top),
                (right, self.plot.bottom),
                Color::Band,
            );
        }
        self.x_axis();
        self.y_axis();
        self.frame();
        for curve in &panel.curves {
            self.curve(curve);
        }
        for annotation in &panel.annotations {
            self.annotation(annotation);
        }
    }

    /// Beside its mark, on a patch of paper that keeps the grid out of the letters.
    fn annotation(&mut self, annotation: &Annotation) {
        let (mark_x, mark_y) = self.at(annotation.x, annotation.y);
        let left = mark_x + 10.0;
        let leading = LABEL * 1.25;
        let height = leading * annotation.lines.len() as f64;
        let top =
            (mark_y - height / 2.0).clamp(self.plot.top + 2.0, self.plot.bottom - height - 2.0);
        let width = annotation.lines.iter().map(|line| font::width(line, LABEL));
        let right = left + width.fold(0.0, f64::max);
        self.scene
            .rectangle((left, top), (right, top + height), Color::Paper);
        for (line, y) in annotation.lines.iter().zip(0..) {
            let at = (left, top + (f64::from(y) + 0.5) * leading);
            self.scene.text(at, line, LABEL, Color::Text, Align::Left);
        }
    }

    fn x_axis(&mut self) {
        let Plot { top, bottom, .. } = self.plot;
        for tick in &self.figure.x.ticks {
            let x = self.x_at(tick.value);
            self.scene
                .line(vec![(x, top), (x, bottom)], Color::Grid, 0.8);
            self.scene
                .line(vec![(x, bottom), (x, bottom + 4.0)], Color::Muted, 1.0);
            let at = (x, bottom + 6.0 + TICK * LEADING / 2.0);
            self.scene
                .text(at, &tick.text, TICK, Color::Muted, Align::Center);
        }
    }

    fn y_axis(&mut self) {
        let Plot { left, right, .. } = self.plot;
        for tick in &self.y.ticks {
            let y = self.y_at(tick.value);
            // Zero is the line to which every height is compared.
            let color = if tick.value == 0.0 {
                Color::Muted
            } else {
                Color::Grid
            };
            self.scene.line(vec![(left, y), (right, y)], color, 0.8);
            self.scene
                .line(vec![(left - 4.0, y), (left, y)], Color::Muted, 1.0);
            self.scene.text(
                (left - 8.0, y),
                &tick.text,
                TICK,
                Color::Muted,
                Align::Right,
            );
        }
        if let Some(share) = self.y.broken_at() {
            let y = self.height_at(share);
            let line = vec![(left, y), (right, y)];
            self.scene
                .styled_line(line, Color::Muted, 0.8, LineStyle::Dashed);
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
            self.scene.line(side.to_vec(), Color::Muted, 1.0);
        }
    }

    fn curve(&mut self, curve: &Curve) {
        let style = curve.style;
        for (x, y) in &curve.runs {
            let at = self.at(*x, *y);
            self.scene.marker(Marker::Disc, at, RUN_RADIUS, style.color);
        }
        for mark in &curve.marks {
            self.whisker(mark, style.color);
        }
        if curve.connected && curve.marks.len() > 1 {
            let medians = curve.marks.iter().map(|m| self.at(m.x, m.y.median));
            let line = medians.collect();
            self.scene.styled_line(line, style.color, 1.6, style.line);
        }
        let every = curve.marks.len().div_ceil(MOST_MARKS).max(1);
        for mark in curve.marks.iter().step_by(every) {
            let at = self.at(mark.x, mark.y.median);
            self.scene
                .marker(style.marker, at, MARK_RADIUS, style.color);
        }
    }

    fn whisker(&mut self, mark: &Mark, color: Color) {
        let (x, low) = self.at(mark.x, mark.y.min);
        let high = self.y_at(mark.y.max);
        if low - high < 1.0 {
            return;
        }
        self.scene.line(vec![(x, low), (x, high)], color, 1.0);
        for y in [low, high] {
            self.scene
                .line(vec![(x - 3.0, y), (x + 3.0, y)], color, 1.0);
        }
    }

    fn at(&self, x: f64, y: f64) -> Point {
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
