//! How curves are told apart: by marker and by line style, so that a grey print shows the same as
//! the screen, and by colour on top of that.

/// A curve's appearance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CurveStyle {
    pub(crate) color: Color,
    pub(crate) marker: Marker,
    pub(crate) line: LineStyle,
}

/// How a line is drawn. On curves it says how the numbers were obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineStyle {
    /// Measured natively.
    Solid,
    /// Measured, with the trap emulated.
    Dashed,
    /// Measured on a CPU in software.
    LongDashed,
    /// Modelled.
    Dotted,
    /// A series that does not say.
    DashDotted,
}

/// The mark at each point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Disc,
    Square,
    Triangle,
    Diamond,
    Ring,
    Cross,
    Plus,
    OpenSquare,
}

/// Every colour of a figure. Curves use those of Okabe and Ito, which people with colour-blind
/// eyes can tell apart, without the yellow that paper swallows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Color {
    Paper,
    Text,
    Muted,
    Grid,
    Band,
    Detection,
    Curve(u8),
}

const MARKERS: [Marker; 8] = [
    Marker::Disc,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Ring,
    Marker::Cross,
    Marker::Plus,
    Marker::OpenSquare,
];

/// On light paper, and on dark.
const CURVE_COLORS: [(u32, u32); 8] = [
    (0x0000_72B2, 0x0056_B4E9),
    (0x00D5_5E00, 0x00F2_8445),
    (0x0000_9E73, 0x002C_C499),
    (0x0088_2E72, 0x00D6_9AC4),
    (0x00B5_7800, 0x00E6_9F00),
    (0x003A_99D0, 0x009A_D1F2),
    (0x0044_4444, 0x00C8_C8C8),
    (0x007A_4A21, 0x00C7_9A6B),
];

impl CurveStyle {
    /// The style of the `index`-th curve, of the given series.
    pub(crate) fn new(index: usize, series: &str) -> Self {
        // A second round of colours must not meet the same markers again.
        let marker = MARKERS[(index + index / MARKERS.len()) % MARKERS.len()];
        CurveStyle {
            color: Color::Curve((index % CURVE_COLORS.len()) as u8),
            marker,
            line: LineStyle::of_series(series),
        }
    }
}

impl LineStyle {
    fn of_series(series: &str) -> Self {
        if series.starts_with("measured (trap emulated") {
            LineStyle::Dashed
        } else if series.starts_with("measured (CPU emulated") {
            LineStyle::LongDashed
        } else if series.starts_with("measured") {
            LineStyle::Solid
        } else if series.starts_with("modelled") {
            LineStyle::Dotted
        } else {
            LineStyle::DashDotted
        }
    }

    /// Lengths of dash and gap in turn, in the figure's unit; empty for an unbroken line.
    pub(crate) fn dashes(self) -> &'static [f64] {
        match self {
            LineStyle::Solid => &[],
            LineStyle::Dashed => &[9.0, 5.0],
            LineStyle::LongDashed => &[18.0, 4.0],
            LineStyle::Dotted => &[2.0, 4.0],
            LineStyle::DashDotted => &[9.0, 4.0, 2.0, 4.0],
        }
    }
}

impl Marker {
    /// The mark as one character, for terminals.
    pub(crate) fn symbol(self) -> char {
        match self {
            Marker::Disc => '●',
            Marker::Square => '■',
            Marker::Triangle => '▲',
            Marker::Diamond => '◆',
            Marker::Ring => '○',
            Marker::Cross => '×',
            Marker::Plus => '+',
            Marker::OpenSquare => '□',
        }
    }
}

impl Color {
    /// All of them, once.
    pub(crate) fn all() -> impl Iterator<Item = Color> {
        [
            Color::Paper,
            Color::Text,
            Color::Muted,
            Color::Grid,
            Color::Band,
            Color::Detection,
        ]
        .into_iter()
        .chain((0..CURVE_COLORS.len() as u8).map(Color::Curve))
    }

    pub(crate) fn light(self) -> [u8; 3] {
        rgb(self.colors().0)
    }

    pub(crate) fn dark(self) -> [u8; 3] {
        rgb(self.colors().1)
    }

    fn colors(self) -> (u32, u32) {
        match self {
            Color::Paper => (0x00FF_FFFF, 0x0016_191D),
            Color::Text => (0x001A_1A1A, 0x00E8_E8E8),
            Color::Muted => (0x0055_5555, 0x00A9_AFB6),
            Color::Grid => (0x00E2_E2E2, 0x0032_383F),
            Color::Band => (0x00F3_EBDC, 0x003A_3120),
            Color::Detection => (0x008A_3B00, 0x00F2_A365),
            Color::Curve(index) => CURVE_COLORS[usize::from(index) % CURVE_COLORS.len()],
        }
    }
}

fn rgb(color: u32) -> [u8; 3] {
    let [_, red, green, blue] = color.to_be_bytes();
    [red, green, blue]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_style_says_how_a_series_was_obtained() {
        let line = |series| CurveStyle::new(0, series).line;
        assert_eq!(line("measured (native)"), LineStyle::Solid);
        assert_eq!(
            line("measured (native); beside 1 x split"),
            LineStyle::Solid
        );
        assert_eq!(line("measured (trap emulated: 6.12)"), LineStyle::Dashed);
        assert_eq!(
            line("measured (CPU emulated); guard auto"),
            LineStyle::LongDashed
        );
        assert_eq!(line("modelled (6.12)"), LineStyle::Dotted);
        assert_eq!(line("from a friend"), LineStyle::DashDotted);
    }

    #[test]
    fn sixteen_curves_look_different() {
        let styles: Vec<_> = (0..16)
            .map(|index| CurveStyle::new(index, "measured"))
            .collect();
        for (index, style) in styles.iter().enumerate() {
            assert!(!styles[..index].contains(style), "curve {index}");
        }
    }

    #[test]
    fn colors_differ_so_that_a_dark_scheme_can_tell_them_apart() {
        let colors: Vec<_> = Color::all().map(Color::light).collect();
        for (index, color) in colors.iter().enumerate() {
            assert!(!colors[..index].contains(color), "color {index}");
        }
    }
}
