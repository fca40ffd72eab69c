//! `splitlock explain`

use std::io::{self, Read};

use anyhow::{Context, Result, anyhow, bail};
use split_lock_assist::cpu::Mode;
use split_lock_assist::partial::{Known, NoInstruction, SettingError, Split, judge};
use split_lock_host::Facts;
use split_lock_symbols::Subject;

use crate::args::Host;
use crate::args::explain::{ExplainArgs, FailOn};
use crate::{Exit, stdout};

mod answer;
mod json;
mod linux;
mod picture;
mod text;

use answer::Answer;
use linux::Treatment;

/// More on standard input is no instruction.
const MOST_INPUT: u64 = 64 << 10;

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit> {
    let answer = answer(args)?;
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&answer.json())?),
        false => answer.text(),
    };
    stdout::print(&text)?;
    match args.fail_on {
        Some(FailOn::Split) if answer.is_split() => Ok(Exit::Found),
        _ => Ok(Exit::Fine),
    }
}

fn answer(args: &ExplainArgs) -> Result<Answer> {
    let (subject, known) = subject(args)?;
    let verdict = match judge(&subject.bytes, &known, subject.mode) {
        Ok(verdict) => Some(verdict),
        Err(NoInstruction::Invalid) => None,
        Err(NoInstruction::Incomplete(bytes)) => bail!(
            "the instruction does not end within the {bytes} bytes that there are: it takes more \
             of them"
        ),
    };
    let can_split = verdict
        .as_ref()
        .is_some_and(|verdict| verdict.place.is_some() && verdict.split != Split::No);
    Ok(Answer {
        treatment: can_split.then(|| treatment(&args.host)).transpose()?,
        subject,
        known,
        verdict,
    })
}

/// What is asked about, and what is known of the registers while it runs.
fn subject(args: &ExplainArgs) -> Result<(Subject, Known)> {
    let subject = match (&args.exe, args.pid, args.address) {
        (Some(file), _, Some(address)) => {
            split_lock_symbols::from_file(file, address, args.base, args.bits.map(Mode::from))?
        }
        (_, Some(pid), Some(address)) => {
            split_lock_symbols::from_process(pid, address, args.bits.map(Mode::from))?
        }
        _ => return from_bytes(args),
    };
    let known = known(args, subject.rip, subject.mode)?;
    Ok((subject, known))
}

fn from_bytes(args: &ExplainArgs) -> Result<(Subject, Known)> {
    let text = match &args.bytes[..] {
        [dash] if dash == "-" => standard_input()?,
        words => words.join(" "),
    };
    let pasted = split_lock_symbols::parse(&text)?;
    let mode = args.bits.map_or(Mode::Bits64, Mode::from);
    let known = known(args, args.rip, mode)?;
    Ok((
        split_lock_symbols::from_bytes(&pasted, mode, known.rip),
        known,
    ))
}

fn known(args: &ExplainArgs, rip: Option<u64>, mode: Mode) -> Result<Known> {
    Known::new(&args.reg, rip, mode).map_err(|error: SettingError| anyhow!("--reg {error}"))
}

fn standard_input() -> Result<String> {
    let cannot = "cannot read bytes from standard input";
    let mut text = vec![];
    let mut input = io::stdin().lock().take(MOST_INPUT + 1);
    input.read_to_end(&mut text).context(cannot)?;
    if text.len() as u64 > MOST_INPUT {
        bail!("{cannot}: an instruction is not {MOST_INPUT} characters long");
    }
    String::from_utf8(text).context(cannot)
}

fn treatment(host: &Host) -> Result<Treatment> {
    Ok(match host {
        Host::Native => Treatment::on_this_host(&Facts::live()?),
        Host::Kernel(kernel) => Treatment::by(kernel),
    })
}
