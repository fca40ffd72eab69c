//! The command line of Splitlock.

#![forbid(unsafe_code)]

mod chart;
mod figure;
mod number;
mod text;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, bail};
use figure::Figure;
use split_lock_repro::results::Sweep;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ["plot", file, "--out", out] = args[..] else {
        bail!("usage: splitlock plot FILE.csv --out F.svg|F.png");
    };
    let sweep = Sweep::read_csv(BufReader::new(File::open(file)?)).context(file.to_owned())?;
    let figure = Figure::most_telling(std::slice::from_ref(&sweep))?;
    print!("{}", chart::render(&figure, 80, false));
    let extension = Path::new(out).extension().and_then(|e| e.to_str());
    let bytes = match extension {
        Some("svg") => figure::render_svg(&figure)?.into_bytes(),
        Some("png") => figure::render_png(&figure, 1600)?,
        _ => bail!("{out}: should end in .svg or .png"),
    };
    std::io::copy(
        &mut bytes.as_slice(),
        &mut File::options().write(true).create_new(true).open(out)?,
    )?;
    Ok(())
}
