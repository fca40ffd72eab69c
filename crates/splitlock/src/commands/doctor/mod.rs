//! `splitlock doctor`

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use split_lock_host::{Answer, Diagnosis, History, LogCollector, Observed, Root};
use split_lock_log::{Record, Source};
use split_lock_report::text;

use self::instruction::Located;
use crate::args::doctor::{DoctorArgs, DoctorFormat};
use crate::exit::Exit;
use crate::output::Output;
use crate::page::Page;
use crate::stdout;
use crate::stdout::is_standard;

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
    let name = args.root.display();
    let root = Root::open(&args.root).with_context(|| format!("cannot look at {name}"))?;
    let diagnosis = diagnosis(&root, args.log.as_deref())?;
    let instructions = instruction::of_groups(&root, &diagnosis);
    if let Some(to) = capture {
        let mut capture = diagnosis.capture(root);
        if args.redact {
            capture.redact();
        }
        to.write(|to| capture.write_to(to))?;
    }
    tell(&diagnosis, &instructions, format(args), out)?;
    Ok(exit(diagnosis.verdict.answer()))
}

fn format(args: &DoctorArgs) -> DoctorFormat {
    if args.json {
        DoctorFormat::Json
    } else {
        args.format
    }
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

fn diagnosis(root: &Root, log: Option<&Path>) -> Result<Diagnosis> {
    let Some(path) = log else {
        return Ok(Diagnosis::of_machine(root));
    };
    let mut collector = LogCollector::default();
    let history = history_in(path, |record| collector.add(record))?;
    Ok(Diagnosis::of(root, history, collector))
}

/// Of a log that was asked for by name: if that cannot be read, there is nothing to go on with.
fn history_in(path: &Path, look: impl FnMut(&Record)) -> Result<History> {
    let (source, name) = if is_standard(path) {
        let stdin = Source::from_reader(io::stdin());
        (stdin, "standard input".to_owned())
    } else {
        (Source::open(path), path.display().to_string())
    };
    let cannot = || format!("cannot read {name}");
    let mut log = BufReader::new(source.with_context(cannot)?);
    if log.fill_buf().with_context(cannot)?.is_empty() {
        bail!(
            "{name} is empty, as no kernel's log is: did the command that should have printed it fail?"
        );
    }
    let events = History::of_log(log, look).with_context(cannot)?;
    Ok(History {
        value: Observed::Is(events),
        from: name,
    })
}
