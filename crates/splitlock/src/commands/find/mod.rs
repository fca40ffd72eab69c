//! `splitlock find`: starts a program or a guest in the emulator with the plugin, and tells what split locks.

mod emulator;
mod json;
mod place;
mod records;
mod sarif;
mod site;
mod suppression;
mod symbols;
mod system_map;
mod text;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::args::find::{FindArgs, FindFailOn, FindFormat};
use crate::child::{PrivateFolder, Signals, Users};
use crate::exit::Exit;
use crate::output::Output;
use emulator::Needs;
use records::{Collector, Recordings};
use site::Sites;
use suppression::Suppressions;
use symbols::GuestSymbols;

/// Everything that was found.
#[derive(Debug)]
struct Found {
    command: Vec<String>,
    emulator: String,
    is_system: bool,
    recordings: Recordings,
    sites: Sites,
    /// Suppressions that matched nothing, as they are named.
    unused_suppressions: Vec<String>,
}

pub(crate) fn run(args: &FindArgs) -> Result<Exit> {
    let format = args.format();
    let out = args.out.as_deref().map(Output::prepare).transpose()?;
    let suppressions = Suppressions::read(&args.suppress)?;
    let symbols = GuestSymbols::read(&args.symbols)?;
    let folder = PrivateFolder::new(Users::All)?;
    let needs = Needs {
        program: &args.program,
        qemu: args.qemu.as_deref(),
        records: folder.path(),
        has_notes: format == FindFormat::Text,
    };
    let started = match args.system {
        true => needs.system()?,
        false => needs.user()?,
    };
    // A result on standard output has it for itself.
    let is_on_stdout = match &out {
        Some(out) => matches!(out, Output::Standard),
        None => format != FindFormat::Text,
    };

    let signals = Signals::catch()?;
    let mut command = Command::new(&started.emulator);
    command
        .args(&started.arguments[1..])
        .env_clear()
        .envs(started.environment.iter().filter_map(variable));
    if is_on_stdout {
        let stderr = io::stderr();
        let stderr = stderr.as_fd().try_clone_to_owned();
        command.stdout(Stdio::from(
            stderr.context("cannot duplicate standard error")?,
        ));
    }
    let shown = started.emulator.display();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let collector = Collector::start(folder.path())?;
    let evaluate = {
        let base = Base {
            command: args
                .program
                .iter()
                .map(|it| it.to_string_lossy().into_owned())
                .collect(),
            emulator: shown.to_string(),
            is_system: args.system,
        };
        move |recordings| base.found(recordings, &symbols, &suppressions)
    };
    let evaluate = std::sync::Arc::new(evaluate);
    let (reader, evaluate_then) = (collector.reader(), std::sync::Arc::clone(&evaluate));
    signals.pass_on(child.id(), move || {
        print_page(&evaluate_then(reader.read()));
    })?;
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {shown}"))?;

    let recordings = collector.finish();
    if recordings.files == 0 {
        let exit = Exit::of_program(status).code();
        bail!(
            "nothing was recorded: {shown} ended with code {exit} before it ran the program; what it says is above"
        );
    }
    let found = evaluate(recordings);
    let is_in_file = matches!(&out, Some(Output::File { .. }));
    write(&found, format, out)?;
    let has_splits = found.sites.counted().next().is_some();
    let failure = if has_splits && args.fail_on.contains(&FindFailOn::Split) {
        Some(Exit::Found)
    } else if found.recordings.is_incomplete() && args.fail_on.contains(&FindFailOn::Unwatched) {
        Some(Exit::CannotSay)
    } else {
        None
    };
    // Whoever reads a pipeline's log wants to know why it has failed, and does not see the file.
    if failure.is_some() && is_in_file {
        print_page(&found);
    }
    Ok(failure.unwrap_or_else(|| Exit::of_program(status)))
}

fn variable(it: &std::ffi::OsString) -> Option<(std::ffi::OsString, std::ffi::OsString)> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = it.as_bytes();
    let at = bytes.iter().skip(1).position(|&byte| byte == b'=')? + 1;
    let part = |part: &[u8]| std::ffi::OsString::from_vec(part.to_vec());
    Some((part(&bytes[..at]), part(&bytes[at + 1..])))
}

/// What is known before anything has run.
struct Base {
    command: Vec<String>,
    emulator: String,
    is_system: bool,
}

impl Base {
    fn found(
        &self,
        recordings: Recordings,
        symbols: &GuestSymbols,
        suppressions: &Suppressions,
    ) -> Found {
        let (sites, unused_suppressions) = Sites::new(&recordings, symbols, suppressions);
        Found {
            command: self.command.clone(),
            emulator: self.emulator.clone(),
            is_system: self.is_system,
            recordings,
            sites,
            unused_suppressions,
        }
    }
}

/// The page is for whoever looks at the terminal; the program has standard output.
fn write(found: &Found, format: FindFormat, out: Option<Output>) -> Result<()> {
    if out.is_none() && format == FindFormat::Text {
        print_page(found);
        return Ok(());
    }
    let text = match format {
        FindFormat::Text => text::page(found),
        FindFormat::Json => json::text(found)?,
        FindFormat::Sarif => sarif::text(found, &current_folder())?,
    };
    match out {
        Some(out) => out.write(|file| file.write_all(text.as_bytes())),
        None => crate::stdout::print_plain(&text),
    }
}

/// On standard error, which may be closed.
fn print_page(found: &Found) {
    let _closed = io::stderr().write_all(text::page(found).as_bytes());
}

fn current_folder() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}
