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

#[derive(Debug)]
enum Form {
    Svg,
    Png,
}

impl PictureFile {
    /// # Errors
    /// If the name does not say what to draw, or nothing can be written there.
    pub(crate) fn prepare(path: &Path) -> Result<Self> {
        let form = match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Form::Svg,
            Some("png") => Form::Png,
            _ => bail!(
                "cannot tell what to draw for {}: end the name in .svg or .png",
                path.display()
            ),
        };
        let output = Output::prepare(path)?;
        Ok(PictureFile { form, output })
    }

    /// # Errors
    /// If it cannot be drawn or written.
    pub(crate) fn write(self, picture: &Picture) -> Result<()> {
        let bytes = match self.form {
            Form::Svg => picture.svg()?.into_bytes(),
            Form::Png => picture.png(PNG_WIDTH)?,
        };
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
