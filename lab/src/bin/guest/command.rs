//! Runs a program of the project's own in the machine.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use split_lock_lab::bundle;
use split_lock_lab::plan::{GuestCommand, QEMU_INTERRUPTED};

use crate::lab_device::LabDevice;
use crate::tick::settle;

/// What our programs' exit codes call a usage or environment error.
const COULD_NOT_BE_DONE: i32 = 2;

/// What it prints goes out as `NAME.out` and `NAME.err`, its exit code as `NAME.code`.
pub(crate) fn run(command: &GuestCommand, device: &LabDevice, line: &mut File) -> Result<()> {
    let mut output = attempt(command, device)?;
    for _ in 1..command.attempts {
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let why = if output.status.code() == Some(COULD_NOT_BE_DONE) {
            complaint.trim()
        } else if printed.contains(QEMU_INTERRUPTED) {
            QEMU_INTERRUPTED
        } else {
            break;
        };
        eprintln!("lab-guest: {} once more: {why}", command.name);
        output = attempt(command, device)?;
    }
    let code = output.status.code().map_or(-1, i64::from).to_string();
    let name = &command.name;
    bundle::send(line, &format!("{name}.out"), &output.stdout)?;
    bundle::send(line, &format!("{name}.err"), &output.stderr)?;
    bundle::send(line, &format!("{name}.code"), code.as_bytes())?;
    Ok(())
}

/// With the machine as the command wants it.
fn attempt(command: &GuestCommand, device: &LabDevice) -> Result<Output> {
    crate::set_mitigate(command.mitigate)?;
    settle(device)?;
    device.detect(command.detection)?;
    device.clear()?;
    let (program, arguments) = command.argv.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))
}
