//! A picture, and how a drawing backend writes it: as SVG, or as pixels and from there as PNG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::FigureError;
use super::font::{self, FAMILY, SIZE_PER_EM};
use super::scene::{Align, Line, Point, Scene, Shape, Text};
use super::style::Color;

/// The backends know whole numbers only: an SVG is drawn this much larger than it is shown.
const SVG_FINENESS: f64 = 10.0;

/// Pixels are drawn this much finer, then averaged: the backend smooths only some of its edges.
const OVERSAMPLING: u32 = 2;

/// The backends differ in what they take for the middle of a line of text: the small letters' or the
/// line's. So much of the text's size lower is where it has to be asked for.
const SVG_TEXT_LOWERED: f64 = 0.08;
const PNG_TEXT_LOWERED: f64 = 0.15;

/// Shapes in their places, ready to be written.
#[derive(Debug)]
pub struct Picture(pub(super) Scene);

impl Picture {
    /// As an SVG document that may also stand inside an HTML page.
    ///
    /// # Errors
    /// [`FigureError::Draw`] if the drawing library fails.
    pub fn svg(&self) -> Result<String, FigureError> {
        let scene = &self.0;
        let size = [scene.width, scene.height].map(|length| (length * SVG_FINENESS) as u32);
        let mut svg = String::new();
        let backend = SVGBackend::with_string(&mut svg, size.into());
        paint(scene, backend, SVG_FINENESS, SVG_TEXT_LOWERED)?;
        Ok(with_head(&svg, scene))
    }

    /// As a PNG, `width` pixels wide and as high as it needs to be.
    ///
    /// # Errors
    /// [`FigureError::Width`] for a width that makes no sense, [`FigureError::Draw`] if the drawing
    /// library fails.
    pub fn png(&self, width: u32) -> Result<Vec<u8>, FigureError> {
        if !(200..=4000).contains(&width) {
            return Err(FigureError::Width(width));
        }
        let scene = &self.0;
        let scale = f64::from(width) / scene.width;
        let height = (scene.height * scale).ceil() as u32;
        let fine = [width, height].map(|length| length * OVERSAMPLING);
        let mut pixels = vec![0; fine[0] as usize * fine[1] as usize * 3];
        let backend = BitMapBackend::with_buffer(&mut pixels, fine.into());
        let fine_scale = scale * f64::from(OVERSAMPLING);
        paint(scene, backend, fine_scale, PNG_TEXT_LOWERED)?;
        let pixels = averaged(&pixels, width as usize, height as usize);
        encode(&pixels, width, height).map_err(|error| FigureError::Draw(error.to_string()))
    }
}

/// CSS that turns a figure inside a page dark: presentation attributes yield to any rule.
pub(crate) fn dark_scheme_css() -> String {
    let rules = Color::all().map(|color| {
        let [light, dark] = [color.light(), color.dark()].map(hex);
        format!(
            "figure svg [fill=\"{light}\"]{{fill:{dark}}}figure svg [stroke=\"{light}\"]{{stroke:{dark}}}\n"
        )
    });
    rules.collect()
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Replaces the backend's opening tag by one that also says how large the figure is meant to be,
/// what it shows, and how lines meet.
fn with_head(svg: &str, scene: &Scene) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let (width, height) = (scene.width, scene.height);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" stroke-linejoin=\"round\">\n<title>{}</title>{body}",
        width * SVG_FINENESS,
        height * SVG_FINENESS,
        escaped(&scene.title),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn paint<DB: DrawingBackend>(
    scene: &Scene,
    backend: DB,
    scale: f64,
    text_lowered: f64,
) -> Result<(), FigureError> {
    font::ensure_registered()?;
    let area = backend.into_drawing_area();
    let painter = Painter {
        area: &area,
        scale,
        text_lowered,
    };
    let drawn = area
        .fill(&rgb(Color::Paper))
        .and_then(|()| {
            scene
                .shapes
                .iter()
                .try_for_each(|shape| painter.draw(shape))
        })
        .and_then(|()| area.present());
    drawn.map_err(|error| FigureError::Draw(error.to_string()))
}

struct Painter<'a, DB: DrawingBackend> {
    area: &'a DrawingArea<DB, Shift>,
    scale: f64,
    text_lowered: f64,
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

impl<DB: DrawingBackend> Painter<'_, DB> {
    fn draw(&self, shape: &Shape) -> Drawn<DB> {
        match shape {
            Shape::Line(line) => self.line(line),
            Shape::Polygon { corners, color } => {
                let corners: Vec<_> = corners.iter().map(|at| self.pixel(*at)).collect();
                self.area.draw(&Polygon::new(corners, rgb(*color).filled()))
            }
            Shape::Disc {
                center,
                radius,
                color,
            } => self.area.draw(&Circle::new(
                self.pixel(*center),
                self.length(*radius),
                rgb(*color).filled(),
            )),
            Shape::Text(text) => self.text(text),
        }
    }

    fn line(&self, line: &Line) -> Drawn<DB> {
        let style = rgb(line.color).stroke_width(self.length(line.width));
        line.dashes().into_iter().try_for_each(|dash| {
            let mut points: Vec<_> = dash.into_iter().map(|at| self.pixel(at)).collect();
            points.dedup();
            self.area.draw(&PathElement::new(points, style))
        })
    }

    fn text(&self, text: &Text) -> Drawn<DB> {
        let align = match text.align {
            Align::Left => HPos::Left,
            Align::Center => HPos::Center,
            Align::Right => HPos::Right,
        };
        let color = rgb(text.color);
        let style = TextStyle::from((FAMILY, text.size * SIZE_PER_EM * self.scale).into_font())
            .color(&color)
            .pos(Pos::new(align, VPos::Center));
        let at = self.pixel((text.at.0, text.at.1 + self.text_lowered * text.size));
        self.area.draw_text(&text.text, &style, at)
    }

    fn pixel(&self, (x, y): Point) -> (i32, i32) {
        let scaled = |value: f64| (value * self.scale).round() as i32;
        (scaled(x), scaled(y))
    }

    fn length(&self, length: f64) -> u32 {
        (length * self.scale).round().max(1.0) as u32
    }
}

fn rgb(color: Color) -> RGBColor {
    let [red, green, blue] = color.light();
    RGBColor(red, green, blue)
}

/// Averages squares of fine pixels.
fn averaged(fine: &[u8], width: usize, height: usize) -> Vec<u8> {
    let times = OVERSAMPLING as usize;
    let mut pixels = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0u32; width * 3];
    for rows in fine.chunks_exact(width * times * 3 * times).take(height) {
        sums.fill(0);
        for row in rows.chunks_exact(width * times * 3) {
            for (sum, fine_pixels) in sums.chunks_exact_mut(3).zip(row.chunks_exact(3 * times)) {
                for pixel in fine_pixels.chunks_exact(3) {
                    for (channel, value) in sum.iter_mut().zip(pixel) {
                        *channel += u32::from(*value);
                    }
                }
            }
        }
        let averages = sums.iter().map(|sum| sum / (OVERSAMPLING * OVERSAMPLING));
        pixels.extend(averages.map(|average| average as u8));
    }
    pixels
}

fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(bytes)
}
