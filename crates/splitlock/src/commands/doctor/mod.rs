//! `splitlock doctor`

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use split_lock_host::{Answer, Checkup, History, Root, Seen, Witness};
use split_lock_log::{Record, Source};

use self::instruction::Located;
use crate::args::doctor::{DoctorArgs, DoctorFormat};
use crate::output::Output;
use crate::page::Page;
use crate::{Exit, stdout, text};

mod instruction;
mod json;
mod page;
mod prometheus;
mod who;
mod words;

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
    let checkup = checkup(&root, args.log.as_deref())?;
    let instructions = instruction::of_groups(&root, &checkup);
    if let Some(to) = capture {
        let mut capture = checkup.capture(root);
        if args.redact {
            capture.redact();
        }
        to.write(|to| capture.write_to(to))?;
    }
    tell(&checkup, &instructions, format(args), out)?;
    Ok(exit(checkup.verdict.answer()))
}

fn format(args: &DoctorArgs) -> DoctorFormat {
    if args.json {
        DoctorFormat::Json
    } else {
        args.format
    }
}

fn tell(
    checkup: &Checkup,
    instructions: &[Located],
    format: DoctorFormat,
    out: Option<Output>,
) -> Result<()> {
    let lines = match (format, &out) {
        (DoctorFormat::Text, None | Some(Output::Standard)) => {
            return page::of(checkup, instructions, Page::for_terminal()).print();
        }
        (DoctorFormat::Text, Some(_)) => {
            page::of(checkup, instructions, Page::for_file()).into_text()
        }
        (DoctorFormat::Json, _) => json::of(checkup, instructions)?,
        (DoctorFormat::Prometheus, _) => prometheus::of(checkup),
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

fn checkup(root: &Root, log: Option<&Path>) -> Result<Checkup> {
    let Some(path) = log else {
        return Ok(Checkup::of_machine(root));
    };
    let mut witness = Witness::default();
    let history = history_in(path, |record| witness.hear(record))?;
    Ok(Checkup::of(root, history, witness))
}

/// Of a log that was asked for by name: if that cannot be read, there is nothing to go on with.
fn history_in(path: &Path, look: impl FnMut(&Record)) -> Result<History> {
    let (source, name) = if path == Path::new("-") {
        (
            Source::from_reader(io::stdin()),
            "standard input".to_owned(),
        )
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
        seen: Seen::Is(events),
        from: name,
    })
}
