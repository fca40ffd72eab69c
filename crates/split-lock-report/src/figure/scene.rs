//! Shapes at their places, in units of which a figure is some hundreds wide; no backend yet.

use super::LineStyle;
use super::style::{Color, Marker};

/// A place; y grows downwards.
pub(crate) type Point = (f64, f64);

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
    Polygon {
        corners: Vec<Point>,
        color: Color,
    },
    Disc {
        center: Point,
        radius: f64,
        color: Color,
    },
    Text(Text),
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) points: Vec<Point>,
    pub(crate) color: Color,
    pub(crate) width: f64,
    pub(crate) style: LineStyle,
}

/// One line of text, vertically centred on its place.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) at: Point,
    pub(crate) text: String,
    pub(crate) size: f64,
    pub(crate) color: Color,
    pub(crate) align: Align,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

impl Scene {
    pub(crate) fn line(&mut self, points: Vec<Point>, color: Color, width: f64) {
        self.styled_line(points, color, width, LineStyle::Solid);
    }

    pub(crate) fn styled_line(
        &mut self,
        points: Vec<Point>,
        color: Color,
        width: f64,
        style: LineStyle,
    ) {
        self.shapes.push(Shape::Line(Line {
            points,
            color,
            width,
            style,
        }));
    }

    pub(crate) fn horizontal(&mut self, y: f64, [from, to]: [f64; 2], color: Color, width: f64) {
        self.line(vec![(from, y), (to, y)], color, width);
    }

    pub(crate) fn vertical(&mut self, x: f64, [from, to]: [f64; 2], color: Color, width: f64) {
        self.line(vec![(x, from), (x, to)], color, width);
    }

    /// With an outline, for colours as bright as the paper.
    pub(crate) fn outlined(&mut self, from: Point, to: Point, color: Color) {
        self.rectangle(from, to, color);
        let corners = vec![from, (to.0, from.1), to, (from.0, to.1), from];
        self.line(corners, Color::Muted, 0.8);
    }

    pub(crate) fn rectangle(&mut self, (left, top): Point, (right, bottom): Point, color: Color) {
        let corners = vec![(left, top), (right, top), (right, bottom), (left, bottom)];
        self.shapes.push(Shape::Polygon { corners, color });
    }

    pub(crate) fn text(&mut self, at: Point, text: &str, size: f64, color: Color, align: Align) {
        self.shapes.push(Shape::Text(Text {
            at,
            text: text.into(),
            size,
            color,
            align,
        }));
    }

    pub(crate) fn marker(&mut self, marker: Marker, (x, y): Point, radius: f64, color: Color) {
        let offset = |points: &[Point]| -> Vec<Point> {
            let moved = points
                .iter()
                .map(|(dx, dy)| (x + dx * radius, y + dy * radius));
            moved.collect()
        };
        let mut polygon = |points: &[Point], color| {
            let corners = offset(points);
            self.shapes.push(Shape::Polygon { corners, color });
        };
        match marker {
            Marker::Disc => self.disc((x, y), radius, color),
            Marker::Ring => {
                self.disc((x, y), radius * 1.1, color);
                self.disc((x, y), radius * 0.6, Color::Paper);
            }
            Marker::Square => polygon(&square(0.9), color),
            Marker::OpenSquare => {
                polygon(&square(1.0), color);
                polygon(&square(0.55), Color::Paper);
            }
            Marker::Triangle => polygon(&[(0.0, -1.2), (1.15, 0.85), (-1.15, 0.85)], color),
            Marker::Diamond => {
                polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)], color);
            }
            Marker::Cross => {
                self.line(offset(&[(-0.9, -0.9), (0.9, 0.9)]), color, 1.8);
                self.line(offset(&[(-0.9, 0.9), (0.9, -0.9)]), color, 1.8);
            }
            Marker::Plus => {
                self.line(offset(&[(-1.2, 0.0), (1.2, 0.0)]), color, 1.8);
                self.line(offset(&[(0.0, -1.2), (0.0, 1.2)]), color, 1.8);
            }
        }
    }

    fn disc(&mut self, center: Point, radius: f64, color: Color) {
        let disc = Shape::Disc {
            center,
            radius,
            color,
        };
        self.shapes.push(disc);
    }
}

fn square(half: f64) -> [Point; 4] {
    [(-half, -half), (half, -half), (half, half), (-half, half)]
}

impl Line {
    /// The line in pieces: itself, or its dashes.
    pub(crate) fn dashes(&self) -> Vec<Vec<Point>> {
        let pattern = self.style.dashes();
        if pattern.is_empty() {
            return vec![self.points.clone()];
        }
        let mut dashes = vec![];
        let mut pattern = pattern.iter().cycle().enumerate();
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
                dashes.extend((!current.is_empty()).then(|| std::mem::take(&mut current)));
                (turn, left) = pattern.next().map_or((0, 0.0), |(n, l)| (n, *l));
            }
        }
        dashes.extend((!current.is_empty()).then_some(current));
        dashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_run_on_round_corners() {
        let line = Line {
            points: vec![(0.0, 0.0), (5.0, 0.0), (5.0, 10.0)],
            color: Color::Text,
            width: 1.0,
            style: LineStyle::Dashed,
        };
        assert_eq!(
            line.dashes(),
            [
                vec![(0.0, 0.0), (5.0, 0.0), (5.0, 4.0)],
                vec![(5.0, 9.0), (5.0, 10.0)]
            ]
        );
    }
}
