//! A picture's file: the ending of its name decides on the form, before anything is computed.

use std::path::Path;

use anyhow::{Result, bail};
use split_lock_report::figure::Picture;

use crate::output::Output;

/// Wide enough for a page, at twice the usual fineness of a screen.
const PNG_WIDTH: u32 = 1920;

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
