//! `splitlock plot`

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use split_lock_report::figure::Figure;
use split_lock_report::html::{self, NamedSweep, Report, Section};
use split_lock_repro::program::is_program;
use split_lock_repro::results::Sweep;

use crate::args::measure::PlotArgs;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::Output;
use crate::picture_file::Form;
use crate::stdout::is_standard;

/// A file larger than this is not a sweep that anybody has made.
const LARGEST_FILE_BYTES: u64 = 4 << 30;

pub(crate) fn run(args: &PlotArgs) -> Result<Exit> {
    let form = Form::of(&args.out, args.width);
    if form.is_none() && args.out.extension().is_none_or(|ending| ending != "html") {
        bail!(
            "cannot tell what to draw for {}: end the name in .svg, .png or .html",
            args.out.display()
        );
    }
    if args.files.iter().filter(|path| is_standard(path)).count() > 1 {
        bail!("standard input can be read once: give `-` once");
    }
    let sweeps = args.files.iter().map(|path| read(path));
    let sweeps = sweeps.collect::<Result<Vec<Sweep>>>()?;
    let figure = Figure::for_sweeps(&sweeps)?;
    let bytes = match form {
        Some(form) => form.draw(&figure.picture())?,
        None => page(&figure, &sweeps, &args.files)?.into_bytes(),
    };
    // Nothing is drafted while an input may keep us waiting.
    interrupt::leave_on_ctrl_c()?;
    Output::prepare(&args.out)?.write(|out| out.write_all(&bytes))?;
    Ok(Exit::Fine)
}

fn page(figure: &Figure, sweeps: &[Sweep], files: &[PathBuf]) -> Result<String> {
    let caption = "How each series was obtained stands in the legend.";
    let mut section = Section::new(figure.title()).picture(&figure.picture(), caption)?;
    for sweep in sweeps {
        section = section.table(if Figure::offsets(sweep).is_ok() {
            html::offsets_table(sweep)
        } else if sweep.samples.iter().all(|sample| is_program(&sample.guest)) {
            html::programs_table(sweep)
        } else {
            html::timeouts_table(sweep)
        });
    }
    let stem = |file: &PathBuf| {
        if is_standard(file) {
            return "standard-input".into();
        }
        let stem = file.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    };
    let names: Vec<String> = files.iter().map(stem).collect();
    let named = names.iter().zip(sweeps);
    Ok(html::render(&Report {
        title: figure.title().into(),
        findings: vec![format!("Drawn from {}.", names.join(", "))],
        sections: vec![section],
        sweeps: named
            .map(|(name, sweep)| NamedSweep { name, sweep })
            .collect(),
    })?)
}

fn read(path: &Path) -> Result<Sweep> {
    if is_standard(path) {
        return Sweep::read_csv(limited(io::stdin())).context("cannot read standard input");
    }
    let cannot = || format!("cannot read {}", path.display());
    let file = limited(File::open(path).with_context(cannot)?);
    match path.extension().is_some_and(|ending| ending == "json") {
        true => Sweep::read_json(file).with_context(cannot),
        false => Sweep::read_csv(file).with_context(cannot),
    }
}

fn limited(input: impl Read) -> BufReader<impl Read> {
    BufReader::new(Limited {
        input,
        left_bytes: LARGEST_FILE_BYTES,
    })
}

/// An input that ends with an error, and not silently, where it is too long.
struct Limited<R> {
    input: R,
    left_bytes: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left_bytes == 0 {
            let limit = LARGEST_FILE_BYTES >> 30;
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is larger than {limit} GiB: this is no sweep"),
            ));
        }
        let count = self.input.by_ref().take(self.left_bytes).read(to)?;
        self.left_bytes -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_at_its_limit_is_an_error_and_not_an_end() {
        let limited = |input, left_bytes| {
            let mut read = vec![];
            Limited { input, left_bytes }
                .read_to_end(&mut read)
                .map(|_| read)
        };
        assert_eq!(limited(&b"short"[..], 6).unwrap(), b"short");
        assert!(limited(&b"longer"[..], 6).is_err());
    }
}
