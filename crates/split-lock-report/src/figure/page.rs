//! The page that a picture is put together on.

use super::scene::{Align, Scene};
use super::style::Color;
use super::{Picture, font};

pub(super) const MARGIN: f64 = 26.0;
pub(super) const TITLE: f64 = 21.0;
pub(super) const HEADING: f64 = 15.0;
pub(super) const LABEL: f64 = 13.0;
pub(super) const NOTE: f64 = 12.0;
pub(super) const LEADING: f64 = 1.45;

/// A picture that is being filled from the top, so that nothing can overlap.
pub(super) struct Page {
    pub(super) scene: Scene,
    pub(super) y: f64,
}

impl Page {
    pub(super) fn new(title: &str, width: f64) -> Self {
        let mut page = Page {
            scene: Scene {
                title: title.into(),
                width,
                ..Scene::default()
            },
            y: MARGIN * 0.7,
        };
        page.paragraph(title, TITLE, Color::Text);
        page
    }

    pub(super) fn paragraph(&mut self, text: &str, size: f64, color: Color) {
        self.paragraph_from(MARGIN, text, size, color);
    }

    pub(super) fn paragraph_from(&mut self, left: f64, text: &str, size: f64, color: Color) {
        let room = self.scene.width - left - MARGIN;
        for line in font::lines(text, size, room) {
            let at = (left, self.y + size * LEADING / 2.0);
            self.scene.text(at, &line, size, color, Align::Left);
            self.y += size * LEADING;
        }
    }

    pub(super) fn finish(mut self) -> Picture {
        self.scene.height = self.y + MARGIN * 0.5;
        Picture(self.scene)
    }
}
