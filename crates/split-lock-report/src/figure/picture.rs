//! A picture that is ready to be written, and the page that one is put together on.

use super::FigureError;
use super::font;
use super::look::Ink;
use super::paint::{scene_as_png, scene_as_svg};
use super::scene::{Align, Scene};

pub(super) const MARGIN: f64 = 26.0;
pub(super) const TITLE: f64 = 21.0;
pub(super) const HEADING: f64 = 15.0;
pub(super) const LABEL: f64 = 13.0;
pub(super) const NOTE: f64 = 12.0;
const LEADING: f64 = 1.45;

/// Shapes in their places.
#[derive(Debug)]
pub struct Picture(Scene);

impl Picture {
    /// As an SVG document that may also stand inside an HTML page.
    ///
    /// # Errors
    /// [`FigureError::Draw`] if the drawing library fails.
    pub fn svg(&self) -> Result<String, FigureError> {
        scene_as_svg(&self.0)
    }

    /// As a PNG of this width.
    ///
    /// # Errors
    /// [`FigureError::Width`] or [`FigureError::Draw`].
    pub fn png(&self, width: u32) -> Result<Vec<u8>, FigureError> {
        scene_as_png(&self.0, width)
    }

    #[cfg(test)]
    pub(super) fn into_scene(self) -> Scene {
        self.0
    }
}

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
        page.paragraph(title, TITLE, Ink::Text);
        page
    }

    pub(super) fn paragraph(&mut self, text: &str, size: f64, ink: Ink) {
        let room = self.scene.width - 2.0 * MARGIN;
        for line in font::lines(text, size, room) {
            let at = (MARGIN, self.y + size * LEADING / 2.0);
            self.scene.text(at, &line, size, ink, Align::Left);
            self.y += size * LEADING;
        }
    }

    pub(super) fn finish(mut self) -> Picture {
        self.scene.height = self.y + MARGIN * 0.5;
        Picture(self.scene)
    }
}
