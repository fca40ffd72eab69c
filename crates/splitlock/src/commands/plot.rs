//! `splitlock plot`

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use split_lock_repro::results::Sweep;

use crate::Exit;
use crate::args::PlotArgs;
use crate::figure::{self, Figure};
use crate::output::Output;
use crate::report::{self, NamedSweep, Report, Section};

/// A file larger than this is not a sweep that anybody has made.
const LARGEST_FILE_BYTES: u64 = 4 << 30;

enum Form {
    Svg,
    Png,
    Html,
}

pub(crate) fn run(args: &PlotArgs) -> Result<Exit> {
    let form = form(&args.out)?;
    let output = Output::prepare(&args.out)?;
    let sweeps: Vec<Sweep> = args
        .files
        .iter()
        .map(|path| read(path))
        .collect::<Result<_>>()?;
    let figure = Figure::most_telling(&sweeps)?;
    let bytes = match form {
        Form::Svg => figure::render_svg(&figure)?.into_bytes(),
        Form::Png => figure::render_png(&figure, args.width)?,
        Form::Html => page(&figure, sweeps, &args.files)?.into_bytes(),
    };
    output.write(|out| out.write_all(&bytes))?;
    Ok(Exit::Fine)
}

fn page(figure: &Figure, sweeps: Vec<Sweep>, files: &[PathBuf]) -> Result<String> {
    let caption = "How each series was obtained stands in the legend.";
    let mut section = Section::new(figure.title()).figure(figure, caption)?;
    for sweep in &sweeps {
        section = section.table(if Figure::offsets(sweep).is_ok() {
            report::offsets_table(sweep)
        } else {
            report::timeouts_table(sweep)
        });
    }
    let stem = |file: &PathBuf| {
        let stem = file.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    };
    let names: Vec<String> = files.iter().map(stem).collect();
    let named = names.iter().zip(sweeps).map(|(name, sweep)| NamedSweep {
        name: name.clone(),
        sweep,
    });
    Ok(report::render(&Report {
        title: figure.title().into(),
        finding: format!("Drawn from {}.", names.join(", ")),
        sections: vec![section],
        sweeps: named.collect(),
    })?)
}

fn form(out: &Path) -> Result<Form> {
    match out.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok(Form::Svg),
        Some("png") => Ok(Form::Png),
        Some("html") => Ok(Form::Html),
        _ => bail!(
            "cannot tell what to draw for {}: end the name in .svg, .png or .html",
            out.display()
        ),
    }
}

fn read(path: &Path) -> Result<Sweep> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let mut file = BufReader::new(file.take(LARGEST_FILE_BYTES));
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    if is_json {
        Sweep::read_json(file).with_context(cannot)
    } else {
        Sweep::read_csv(&mut file).with_context(cannot)
    }
}
