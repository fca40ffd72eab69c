//! `splitlock doctor`

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use split_lock_host::{Answer, Diagnosis, Reports, Root};
use split_lock_report::text;

use self::instruction::Located;
use crate::args::doctor::{DoctorArgs, DoctorFormat};
use crate::exit::Exit;
use crate::output::Output;
use crate::page::Page;
use crate::stdout::{self, is_standard};

mod attribution;
mod counting;
mod instruction;
mod json;
mod page;
mod prometheus;

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit> {
    let prepare = |path: &Option<PathBuf>| path.as_deref().map(Output::prepare).transpose();
    let (out, capture) = (prepare(&args.out)?, prepare(&args.capture)?);
    if let (Some(out), Some(capture)) = (&out, &capture)
        && out.is_same_place(capture)
    {
        bail!("--out and --capture cannot go to the same place");
    }
    let (root, diagnosis) = look(args)?;
    let instructions = instruction::of_groups(&root, &diagnosis);
    if let Some(to) = capture {
        let mut capture = diagnosis.capture(root);
        if args.redact {
            capture.redact();
        }
        to.write(|to| capture.write_to(to))?;
    }
    tell(&diagnosis, &instructions, args.format(), out)?;
    Ok(exit(diagnosis.verdict.answer()))
}

fn tell(
    diagnosis: &Diagnosis,
    instructions: &[Located],
    format: DoctorFormat,
    out: Option<Output>,
) -> Result<()> {
    let lines = match (format, &out) {
        (DoctorFormat::Text, None | Some(Output::Standard)) => {
            return page::of(diagnosis, instructions, Page::for_terminal()).print();
        }
        (DoctorFormat::Text, Some(_)) => {
            page::of(diagnosis, instructions, Page::for_file()).into_text()
        }
        (DoctorFormat::Json, _) => json::of(diagnosis, instructions)?,
        (DoctorFormat::Prometheus, _) => prometheus::of(diagnosis),
    };
    let lines = text::plain_lines(&lines);
    match out {
        Some(out) => out.write(|to| to.write_all(lines.as_bytes())),
        None => stdout::print(&lines),
    }
}

fn exit(answer: Answer) -> Exit {
    match answer {
        Answer::Fine => Exit::Fine,
        Answer::Found => Exit::Found,
        Answer::CannotSay => Exit::CannotSay,
    }
}

/// What is looked at, and what there is to say about it.
fn look(args: &DoctorArgs) -> Result<(Root, Diagnosis)> {
    if !args.from.is_empty() {
        let mut reports = Reports::default();
        for path in &args.from {
            add(&mut reports, path)?;
        }
        return Ok(Diagnosis::of_reports(reports));
    }
    let name = args.root.display();
    let root = Root::open(&args.root).with_context(|| format!("cannot look at {name}"))?;
    let diagnosis = match &args.log {
        None => Diagnosis::of_machine(&root),
        Some(path) => {
            let mut reports = Reports::for_log();
            add(&mut reports, path)?;
            let (history, collector) = reports.into_log().context("there is no log")?;
            Diagnosis::of(&root, history, collector)
        }
    };
    Ok((root, diagnosis))
}

/// What was asked for by name: if that cannot be read, there is nothing to go on with.
fn add(reports: &mut Reports, path: &Path) -> Result<()> {
    if is_standard(path) {
        let added = reports.add_input("standard input", io::stdin());
        return added.context("cannot read standard input");
    }
    let cannot = || format!("cannot read {}", path.display());
    reports.add(path).with_context(cannot)
}
