//! The command line of Splitlock.

#![forbid(unsafe_code)]

mod chart;
mod figure;
mod number;
mod report;
mod text;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, bail};
use figure::Figure;
use report::{NamedSweep, Report, Section};
use split_lock_repro::results::Sweep;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ["plot", file, "--out", out] = args[..] else {
        bail!("usage: splitlock plot FILE.csv --out F.svg|F.png|F.html");
    };
    let sweep = Sweep::read_csv(BufReader::new(File::open(file)?)).context(file.to_owned())?;
    let figure = Figure::most_telling(std::slice::from_ref(&sweep))?;
    print!("{}", chart::render(&figure, 80, false));
    let extension = Path::new(out).extension().and_then(|e| e.to_str());
    let bytes = match extension {
        Some("svg") => figure::render_svg(&figure)?.into_bytes(),
        Some("png") => figure::render_png(&figure, 1600)?,
        Some("html") => page(&figure, sweep)?.into_bytes(),
        _ => bail!("{out}: should end in .svg, .png or .html"),
    };
    std::io::copy(
        &mut bytes.as_slice(),
        &mut File::options().write(true).create_new(true).open(out)?,
    )?;
    Ok(())
}

fn page(figure: &Figure, sweep: Sweep) -> anyhow::Result<String> {
    let section = Section::new(figure.title())
        .paragraph("Drawn from one table.")
        .figure(
            figure,
            "How the numbers were obtained stands in the legend.",
        )?
        .table(report::timeouts_table(&sweep))
        .table(report::offsets_table(&sweep));
    Ok(report::render(&Report {
        title: figure.title().into(),
        finding: "One sweep.".into(),
        sections: vec![section],
        sweeps: vec![NamedSweep {
            name: "sweep".into(),
            sweep,
        }],
    })?)
}
