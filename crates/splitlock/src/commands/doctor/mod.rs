//! `splitlock doctor`

use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use split_lock_host::log::{Record, Source};
use split_lock_host::{Answer, Capture, Facts, History, LogCopy, Root, Seen, Verdict};

use crate::args_doctor::{DoctorArgs, DoctorFormat};
use crate::output::Output;
use crate::{Exit, terminal};

mod json;
mod page;
mod prometheus;

/// All that there is to say about a machine.
#[derive(Debug)]
struct Checkup {
    facts: Facts,
    history: History,
    verdict: Verdict,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit> {
    let capture = args.capture.as_deref().map(Output::prepare).transpose()?;
    let name = args.root.display();
    let root = Root::open(&args.root).with_context(|| format!("cannot look at {name}"))?;
    let mut log = LogCopy::default();
    let checkup = Checkup::of(&root, args.log.as_deref(), |record| log.add(record))?;
    if let Some(to) = capture {
        let mut capture = Capture::of(root, &checkup.history, &log, &[]);
        if args.redact {
            capture.redact();
        }
        to.write(|to| capture.write_to(to))?;
    }
    match args.format {
        DoctorFormat::Text if !args.json => terminal::print_page(checkup.page())?,
        DoctorFormat::Prometheus => terminal::print(&checkup.prometheus())?,
        _ => terminal::print(&checkup.json()?)?,
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

impl Checkup {
    fn of(root: &Root, log: Option<&Path>, mut look: impl FnMut(&Record)) -> Result<Self> {
        let facts = Facts::read(root);
        let history = match log {
            Some(path) => history_in(path, &mut look)?,
            None => History::of_machine(root, &mut look),
        };
        let verdict = Verdict::of(root, &facts, &history);
        Ok(Checkup {
            facts,
            history,
            verdict,
        })
    }
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
