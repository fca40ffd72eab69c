//! Running programs in the machine.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use split_lock_lab::bundle;
use split_lock_lab::cpu::script;

use crate::sys;

const PATH: &str = "/bin:/usr/bin";

/// What it prints goes out as `NAME.out` and `NAME.err`, its exit code as `NAME.code`, its beginning and end as
/// `NAME.ticks`.
pub(crate) fn run(command: &script::Command, port: &mut impl Write) -> Result<()> {
    let (program, arguments) = command.argv.split_first().context("an empty command")?;
    let begin = sys::ticks();
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let ticks = format!("{begin} {}", sys::ticks());
    let code = output.status.code().map_or(-1, i64::from).to_string();
    let name = &command.name;
    bundle::send(port, &format!("{name}.out"), &output.stdout)?;
    bundle::send(port, &format!("{name}.err"), &output.stderr)?;
    bundle::send(port, &format!("{name}.code"), code.as_bytes())?;
    bundle::send(port, &format!("{name}.ticks"), ticks.as_bytes())?;
    Ok(())
}

/// A shell on the console, until it ends.
pub(crate) fn shell() -> Result<()> {
    let busybox = || Command::new("/bin/busybox");
    busybox()
        .args(["--install", "-s", "/bin"])
        .status()
        .context("cannot run busybox")?;
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/ttyS0")
        .context("no console")?;
    let second = || terminal.try_clone().map(Stdio::from);
    // A session of its own, so that Ctrl-C reaches what runs in the shell.
    busybox()
        .args(["setsid", "-c", "/bin/sh"])
        .envs([
            ("PATH", PATH),
            ("HOME", "/"),
            ("TERM", "vt100"),
            ("PS1", "lab# "),
        ])
        .stdin(second()?)
        .stdout(second()?)
        .stderr(second()?)
        .status()
        .context("cannot run the shell")?;
    Ok(())
}
