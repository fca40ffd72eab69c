//! `splitlock explain`

use std::io::{self, Read};

use anyhow::{Context, Result, anyhow, bail};
use split_lock_assist::cpu::Mode;
use split_lock_assist::partial::{
    KnownRegisters, NotAnInstruction, RegisterSetting, Split, analyze,
};
use split_lock_host::Facts;
use split_lock_symbols::{CodePlace, Error, LocatedCode, PastedBytes};

use crate::args::Host;
use crate::args::explain::{ExplainArgs, FailOn};
use crate::exit::Exit;
use crate::stdout;

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
        true => stdout::json(&answer.json())?,
        false => answer.text(),
    };
    stdout::print(&text)?;
    match args.fail_on {
        Some(FailOn::Split) if answer.is_split() => Ok(Exit::Found),
        _ => Ok(Exit::Fine),
    }
}

fn answer(args: &ExplainArgs) -> Result<Answer> {
    let (code, known, is_kernel) = code(args)?;
    let analysis = match analyze(&code.bytes, &known, code.mode) {
        Ok(analysis) => Some(analysis),
        Err(NotAnInstruction::Invalid) => None,
        Err(error @ NotAnInstruction::Incomplete(_)) => return Err(error.into()),
    };
    let can_split = analysis
        .as_ref()
        .is_some_and(|analysis| analysis.location.is_some() && analysis.split != Split::No);
    Ok(Answer {
        treatment: can_split.then(|| treatment(&args.host)).transpose()?,
        code,
        known,
        analysis,
        is_kernel,
    })
}

/// What is asked about, what is known of the registers while it runs, and whether it is from a kernel's oops.
fn code(args: &ExplainArgs) -> Result<(LocatedCode, KnownRegisters, bool)> {
    let mode = args.bits.map(Mode::from);
    let known = |settings: &[RegisterSetting], rip, mode| {
        KnownRegisters::new(settings, rip, mode).map_err(|error| anyhow!("--reg {error}"))
    };
    let code = match (&args.exe, args.pid, &args.address) {
        (Some(file), _, Some(place)) => {
            let name = file.display();
            if args.base.is_some() && matches!(place, CodePlace::InFunction(_)) {
                bail!(
                    "--base says where {name} was loaded, and a function is found without that: leave it out"
                );
            }
            place
                .in_file(file)
                .and_then(|address| LocatedCode::from_file(file, address, args.base, mode))
                .map_err(|error| {
                    let cannot = format!("cannot explain {} of {name}", written(place));
                    not_found(error, cannot)
                })?
        }
        (_, Some(pid), Some(place)) => {
            let address = place
                .in_process(pid)
                .with_context(|| format!("cannot explain {} in process {pid}", written(place)))?;
            LocatedCode::from_process(pid, address, mode)?
        }
        _ => {
            let text = match &args.bytes[..] {
                [dash] if dash == "-" => standard_input()?,
                words => words.join(" "),
            };
            let pasted = PastedBytes::parse(&text).map_err(|error| match error {
                Error::NoBytes => anyhow!("{error} to explain"),
                other => other.into(),
            })?;
            let mode = mode.unwrap_or(Mode::Bits64);
            let settings = with_pasted(&args.reg, &pasted)?;
            let known = known(&settings, args.rip.or(pasted.address), mode)?;
            let code = LocatedCode::from_bytes(&pasted, mode, known.rip);
            return Ok((code, known, pasted.is_kernel));
        }
    };
    let known = known(&args.reg, code.rip, code.mode)?;
    Ok((code, known, false))
}

/// The registers that were pasted, unless something else was given for one of them.
fn with_pasted(given: &[RegisterSetting], pasted: &PastedBytes) -> Result<Vec<RegisterSetting>> {
    let mut settings = given.to_vec();
    for (name, value) in &pasted.registers {
        let setting: RegisterSetting = format!("{name}={value:#x}").parse()?;
        let is_same = |given: &RegisterSetting| given.is_of_same_register(&setting);
        if !given.iter().any(is_same) {
            settings.push(setting);
        }
    }
    Ok(settings)
}

/// A place as it was given.
fn written(place: &CodePlace) -> String {
    match place {
        CodePlace::Address(address) => format!("{address:#x}"),
        CodePlace::InFunction(place) => format!("{}+{:#x}", place.function, place.offset),
    }
}

/// Why there is no code at an address of a file, and which option helps.
fn not_found(error: Error, cannot: String) -> anyhow::Error {
    let error = match error {
        Error::UnalignedBase(_) => anyhow!("--base {error}"),
        Error::NoPlace(_) => anyhow!("{error}; --base says where it was loaded"),
        Error::SeveralPlaces(_) => {
            anyhow!("{error}: --base says where it was loaded, as in /proc/PID/maps")
        }
        Error::Other(_) => return error.into(),
        _ => error.into(),
    };
    error.context(cannot)
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
