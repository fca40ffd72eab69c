//! `splitlock doctor`

use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use split_lock_host::log::{Record, Source};
use split_lock_host::{Answer, Checkup, History, Root, Seen, Witness};

use crate::args_doctor::{DoctorArgs, DoctorFormat};
use crate::output::Output;
use crate::{Exit, terminal};

mod instruction;
mod json;
mod page;
mod prometheus;
mod who;
mod words;

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit> {
    let capture = args.capture.as_deref().map(Output::prepare).transpose()?;
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
    match args.format {
        DoctorFormat::Text if !args.json => {
            terminal::print_page(page::of(&checkup, &instructions))?;
        }
        DoctorFormat::Prometheus => terminal::print(&prometheus::of(&checkup))?,
        _ => terminal::print(&json::of(&checkup, &instructions)?)?,
    }
    Ok(exit(checkup.verdict.answer()))
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
        (Source::of(io::stdin()), "standard input".to_owned())
    } else {
        (Source::open(path), path.display().to_string())
    };
    let events = source.and_then(|source| History::of_log(source, look));
    let events = events.with_context(|| format!("cannot read {name}"))?;
    Ok(History {
        seen: Seen::Is(events),
        from: name,
    })
}
