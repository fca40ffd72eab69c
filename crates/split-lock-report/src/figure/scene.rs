//! Shapes at their places, in units of which a figure is some hundreds wide; no backend yet.

use super::Stroke;
use super::look::{Ink, Marker};

/// A place; y grows downwards.
pub(crate) type At = (f64, f64);

/// A picture as a list of shapes, the first undermost.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    pub(crate) title: String,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) shapes: Vec<Shape>,
}

#[derive(Debug)]
pub(crate) enum Shape {
    Line(Line),
    Polygon { corners: Vec<At>, ink: Ink },
    Disc { center: At, radius: f64, ink: Ink },
    Text(Text),
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) points: Vec<At>,
    pub(crate) ink: Ink,
    pub(crate) width: f64,
    pub(crate) stroke: Stroke,
}

/// One line of text, vertically centred on its place.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) at: At,
    pub(crate) text: String,
    pub(crate) size: f64,
    pub(crate) ink: Ink,
    pub(crate) align: Align,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

impl Scene {
    pub(crate) fn line(&mut self, points: Vec<At>, ink: Ink, width: f64) {
        self.stroked(points, ink, width, Stroke::Solid);
    }

    pub(crate) fn stroked(&mut self, points: Vec<At>, ink: Ink, width: f64, stroke: Stroke) {
        self.shapes.push(Shape::Line(Line {
            points,
            ink,
            width,
            stroke,
        }));
    }

    pub(crate) fn rectangle(&mut self, (left, top): At, (right, bottom): At, ink: Ink) {
        let corners = vec![(left, top), (right, top), (right, bottom), (left, bottom)];
        self.shapes.push(Shape::Polygon { corners, ink });
    }

    pub(crate) fn text(&mut self, at: At, text: &str, size: f64, ink: Ink, align: Align) {
        self.shapes.push(Shape::Text(Text {
            at,
            text: text.into(),
            size,
            ink,
            align,
        }));
    }

    pub(crate) fn marker(&mut self, marker: Marker, (x, y): At, radius: f64, ink: Ink) {
        let offset = |points: &[At]| -> Vec<At> {
            points
                .iter()
                .map(|(dx, dy)| (x + dx * radius, y + dy * radius))
                .collect()
        };
        let polygon = |points: &[At], ink| Shape::Polygon {
            corners: offset(points),
            ink,
        };
        let disc = |radius, ink| Shape::Disc {
            center: (x, y),
            radius,
            ink,
        };
        match marker {
            Marker::Disc => self.shapes.push(disc(radius, ink)),
            Marker::Ring => {
                self.shapes.push(disc(radius * 1.1, ink));
                self.shapes.push(disc(radius * 0.6, Ink::Paper));
            }
            Marker::Square => self.shapes.push(polygon(&square(0.9), ink)),
            Marker::OpenSquare => {
                self.shapes.push(polygon(&square(1.0), ink));
                self.shapes.push(polygon(&square(0.55), Ink::Paper));
            }
            Marker::Triangle => self
                .shapes
                .push(polygon(&[(0.0, -1.2), (1.15, 0.85), (-1.15, 0.85)], ink)),
            Marker::Diamond => self.shapes.push(polygon(
                &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
                ink,
            )),
            Marker::Cross => {
                self.line(offset(&[(-0.9, -0.9), (0.9, 0.9)]), ink, 1.8);
                self.line(offset(&[(-0.9, 0.9), (0.9, -0.9)]), ink, 1.8);
            }
            Marker::Plus => {
                self.line(offset(&[(-1.2, 0.0), (1.2, 0.0)]), ink, 1.8);
                self.line(offset(&[(0.0, -1.2), (0.0, 1.2)]), ink, 1.8);
            }
        }
    }
}

fn square(half: f64) -> [At; 4] {
    [(-half, -half), (half, -half), (half, half), (-half, half)]
}

impl Line {
    /// The strokes that make up the line: itself, or its dashes.
    pub(crate) fn strokes(&self) -> Vec<Vec<At>> {
        let dashes = self.stroke.dashes();
        if dashes.is_empty() {
            return vec![self.points.clone()];
        }
        let mut strokes = vec![];
        let mut pattern = dashes.iter().cycle().enumerate();
        let (mut turn, mut left) = pattern.next().map_or((0, 0.0), |(n, l)| (n, *l));
        let mut current = vec![];
        for ends in self.points.windows(2) {
            let (mut from, to) = (ends[0], ends[1]);
            loop {
                let length = (to.0 - from.0).hypot(to.1 - from.1);
                let drawing = turn % 2 == 0;
                if drawing && current.is_empty() {
                    current.push(from);
                }
                if length <= left {
                    left -= length;
                    current.extend(drawing.then_some(to));
                    break;
                }
                let share = left / length;
                from = (
                    from.0 + (to.0 - from.0) * share,
                    from.1 + (to.1 - from.1) * share,
                );
                current.extend(drawing.then_some(from));
                strokes.extend((!current.is_empty()).then(|| std::mem::take(&mut current)));
                (turn, left) = pattern.next().map_or((0, 0.0), |(n, l)| (n, *l));
            }
        }
        strokes.extend((!current.is_empty()).then_some(current));
        strokes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_run_on_round_corners() {
        let line = Line {
            points: vec![(0.0, 0.0), (5.0, 0.0), (5.0, 10.0)],
            ink: Ink::Text,
            width: 1.0,
            stroke: Stroke::Dashed,
        };
        assert_eq!(
            line.strokes(),
            [
                vec![(0.0, 0.0), (5.0, 0.0), (5.0, 4.0)],
                vec![(5.0, 9.0), (5.0, 10.0)]
            ]
        );
    }
}
