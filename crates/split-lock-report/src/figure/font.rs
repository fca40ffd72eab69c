//! The font, which is part of the program, and how much room text takes.
//!
//! A PNG is drawn with this font. An SVG names only the generic family, so a viewer may choose a
//! wider one: everything is laid out with that much room to spare.

use std::sync::LazyLock;

use plotters::style::{FontStyle, IntoFont, register_font};

use super::FigureError;
use crate::text::wrap;

/// The only family that figures name.
pub(super) const FAMILY: &str = "sans-serif";

/// The widest common sans-serif faces take this much more room than ours.
const WIDER_FACES: f64 = 1.14;

/// plotters counts a font's size from the top of the tallest letter to the bottom of the lowest.
pub(super) const SIZE_PER_EM: f64 = 1.24;

static REGISTERED: LazyLock<bool> = LazyLock::new(|| {
    register_font(
        FAMILY,
        FontStyle::Normal,
        epaint_default_fonts::UBUNTU_LIGHT,
    )
    .is_ok()
});

pub(super) fn ensure_registered() -> Result<(), FigureError> {
    if *REGISTERED {
        Ok(())
    } else {
        Err(FigureError::Draw("the built-in font is damaged".into()))
    }
}

/// How wide `text` may come out at `size`, in the same unit.
pub(super) fn width(text: &str, size: f64) -> f64 {
    // Measured large, because widths are rounded to whole pixels.
    const LARGE: f64 = 100.0;
    let measured = ensure_registered().ok().and_then(|()| {
        (FAMILY, LARGE * SIZE_PER_EM)
            .into_font()
            .box_size(text)
            .ok()
    });
    let large = measured.map_or(LARGE * 0.6 * text.chars().count() as f64, |(w, _)| {
        f64::from(w)
    });
    large * WIDER_FACES * size / LARGE
}

/// Breaks `text` into lines no wider than `room` at `size`.
pub(super) fn lines(text: &str, size: f64, room: f64) -> Vec<String> {
    wrap(text, room, |line| width(line, size))
}
