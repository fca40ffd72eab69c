//! Files of pictures: one whose form the ending of its name decides, before anything is computed, or
//! both forms in a report.

use std::path::Path;

use anyhow::{Result, bail};
use split_lock_report::figure::Picture;

use crate::output::{Output, OutputFolder};

/// Wide enough for a page, at twice the usual fineness of a screen.
const PNG_WIDTH: u32 = 1920;
/// For a column of a report's page.
const REPORT_PNG_WIDTH: u32 = 1600;

#[derive(Debug)]
pub(crate) struct PictureFile {
    form: Form,
    output: Output,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Svg,
    Png { width: u32 },
}

impl Form {
    /// By the ending of a file's name; `None` if that says neither.
    pub(crate) fn of(path: &Path, width: u32) -> Option<Self> {
        match path.extension()?.to_str()? {
            "svg" => Some(Form::Svg),
            "png" => Some(Form::Png { width }),
            _ => None,
        }
    }

    /// # Errors
    /// If it cannot be drawn.
    pub(crate) fn draw(self, picture: &Picture) -> Result<Vec<u8>> {
        Ok(match self {
            Form::Svg => picture.svg()?.into_bytes(),
            Form::Png { width } => picture.png(width)?,
        })
    }
}

impl PictureFile {
    /// # Errors
    /// If the name does not say what to draw, or nothing can be written there.
    pub(crate) fn prepare(path: &Path) -> Result<Self> {
        let Some(form) = Form::of(path, PNG_WIDTH) else {
            let path = path.display();
            bail!("cannot tell what to draw for {path}: end the name in .svg or .png")
        };
        let output = Output::prepare(path)?;
        Ok(PictureFile { form, output })
    }

    /// # Errors
    /// If it cannot be drawn or written.
    pub(crate) fn write(self, picture: &Picture) -> Result<()> {
        let bytes = self.form.draw(picture)?;
        self.output.write(|out| out.write_all(&bytes))
    }
}

/// As SVG, and as PNG if that is wanted, in a report.
///
/// # Errors
/// If it cannot be drawn or written.
pub(crate) fn write_picture(
    folder: &OutputFolder,
    name: &str,
    picture: &Picture,
    with_png: bool,
) -> Result<()> {
    let svg = picture.svg()?;
    folder.write(&format!("{name}.svg"), |out| out.write_all(svg.as_bytes()))?;
    if with_png {
        let png = picture.png(REPORT_PNG_WIDTH)?;
        folder.write(&format!("{name}.png"), |out| out.write_all(&png))?;
    }
    Ok(())
}
