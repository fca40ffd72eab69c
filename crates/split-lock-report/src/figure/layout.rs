//! Decides where everything in a figure goes: one column, from the title down to the notes, each
//! block exactly as high as its text needs, so that nothing can overlap whatever the text is.

use super::font;
use super::model::{Annotation, Band, Curve, Figure, Mark, Panel};
use super::page::{LABEL, LEADING, MARGIN, NOTE, Page};
use super::scene::{Align, Point, Scene};
use super::style::{Color, Marker};
use super::{CurveStyle, LineStyle, Picture, XAxis, YAxis};

const DETECTION: f64 = 15.0;
pub(super) const TICK: f64 = 12.5;
const LEGEND_SAMPLE: f64 = 46.0;
const MARK_RADIUS: f64 = 3.4;
const RUN_RADIUS: f64 = 1.6;

/// More marks than this hide the line between them.
const MOST_MARKS: usize = 64;

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
            x: &figure.x,
            y: &panel.y,
        };
        self.y = plot.bottom;
        plot.draw(&mut self.scene, panel);
        self.y += TICK * LEADING + 8.0;
    }

    fn legend(&mut self, curve: &Curve) {
        let y = self.y + LABEL * LEADING / 2.0;
        let (left, right) = (MARGIN, MARGIN + LEGEND_SAMPLE - 10.0);
        let CurveStyle {
            color,
            marker,
            line,
        } = curve.style;
        if curve.connected {
            let sample = vec![(left, y), (right, y)];
            self.scene.styled_line(sample, color, 1.6, line);
        }
        let middle = ((left + right) / 2.0, y);
        self.scene.marker(marker, middle, 4.2, color);
        let text = curve.legend();
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
    let widths = ticks.map(|tick| font::width(&tick.text, TICK));
    widths.fold(0.0, f64::max) + 12.0
}

fn plot_height(panels: usize) -> f64 {
    match panels {
        0 | 1 => 340.0,
        2 => 230.0,
        _ => 180.0,
    }
}

/// Where a panel's curves are drawn, and against which axes.
struct Plot<'a> {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: &'a XAxis,
    y: &'a YAxis,
}

impl Plot<'_> {
    fn at(&self, x: f64, y: f64) -> Point {
        (self.x_at(x), self.y_at(y))
    }

    fn x_at(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * self.x.position(value)
    }

    fn y_at(&self, value: f64) -> f64 {
        self.height_at(self.y.position(value))
    }

    fn height_at(&self, share: f64) -> f64 {
        // The highest mark keeps clear of the frame.
        let top = self.top + 8.0;
        self.bottom - (self.bottom - top) * share
    }

    fn draw(&self, scene: &mut Scene, panel: &Panel) {
        if let Some(band) = &panel.band {
            let (left, right) = (self.x_at(band.from), self.x_at(band.to));
            scene.rectangle((left, self.top), (right, self.bottom), Color::Band);
        }
        self.x_axis(scene);
        self.y_axis(scene);
        self.frame(scene);
        for curve in &panel.curves {
            self.curve(scene, curve);
        }
        for annotation in &panel.annotations {
            self.annotation(scene, annotation);
        }
    }

    /// Beside its mark, on a patch of paper that keeps the grid out of the letters.
    fn annotation(&self, scene: &mut Scene, annotation: &Annotation) {
        let (mark_x, mark_y) = self.at(annotation.x, annotation.y);
        let left = mark_x + 10.0;
        let leading = LABEL * 1.25;
        let height = leading * annotation.lines.len() as f64;
        let top = (mark_y - height / 2.0).clamp(self.top + 2.0, self.bottom - height - 2.0);
        let width = annotation.lines.iter().map(|line| font::width(line, LABEL));
        let right = left + width.fold(0.0, f64::max);
        scene.rectangle((left, top), (right, top + height), Color::Paper);
        for (line, y) in annotation.lines.iter().zip(0..) {
            let at = (left, top + (f64::from(y) + 0.5) * leading);
            scene.text(at, line, LABEL, Color::Text, Align::Left);
        }
    }

    fn x_axis(&self, scene: &mut Scene) {
        for tick in &self.x.ticks {
            let x = self.x_at(tick.value);
            scene.vertical(x, [self.top, self.bottom], Color::Grid, 0.8);
            scene.vertical(x, [self.bottom, self.bottom + 4.0], Color::Muted, 1.0);
            let at = (x, self.bottom + 6.0 + TICK * LEADING / 2.0);
            scene.text(at, &tick.text, TICK, Color::Muted, Align::Center);
        }
    }

    fn y_axis(&self, scene: &mut Scene) {
        let Plot { left, right, .. } = *self;
        for tick in &self.y.ticks {
            let y = self.y_at(tick.value);
            // Zero is the line to which every height is compared.
            let is_zero = tick.value == 0.0;
            let color = if is_zero { Color::Muted } else { Color::Grid };
            scene.horizontal(y, [left, right], color, 0.8);
            scene.horizontal(y, [left - 4.0, left], Color::Muted, 1.0);
            scene.text(
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
            scene.styled_line(line, Color::Muted, 0.8, LineStyle::Dashed);
        }
    }

    fn frame(&self, scene: &mut Scene) {
        scene.horizontal(self.top, [self.left, self.right], Color::Muted, 1.0);
        scene.vertical(self.right, [self.top, self.bottom], Color::Muted, 1.0);
        scene.horizontal(self.bottom, [self.right, self.left], Color::Muted, 1.0);
        scene.vertical(self.left, [self.bottom, self.top], Color::Muted, 1.0);
    }

    fn curve(&self, scene: &mut Scene, curve: &Curve) {
        let CurveStyle {
            color,
            marker,
            line,
        } = curve.style;
        for (x, y) in &curve.runs {
            scene.marker(Marker::Disc, self.at(*x, *y), RUN_RADIUS, color);
        }
        for mark in &curve.marks {
            self.whisker(scene, mark, color);
        }
        let medians = curve.marks.iter().map(|m| self.at(m.x, m.y.median));
        if curve.connected && curve.marks.len() > 1 {
            scene.styled_line(medians.clone().collect(), color, 1.6, line);
        }
        let every = curve.marks.len().div_ceil(MOST_MARKS).max(1);
        for median in medians.step_by(every) {
            scene.marker(marker, median, MARK_RADIUS, color);
        }
    }

    fn whisker(&self, scene: &mut Scene, mark: &Mark, color: Color) {
        let (x, low) = self.at(mark.x, mark.y.min);
        let high = self.y_at(mark.y.max);
        if low - high < 1.0 {
            return;
        }
        scene.vertical(x, [low, high], color, 1.0);
        for y in [low, high] {
            scene.horizontal(y, [x - 3.0, x + 3.0], color, 1.0);
        }
    }
}
