//! Runs a program of the project's own in the machine.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use split_lock_lab::parcel;
use split_lock_lab::plan::Errand;

use crate::lab_device::LabDevice;
use crate::tick::settle;

/// What it prints goes out as `NAME.out` and `NAME.err`, its exit code as `NAME.code`.
pub(crate) fn run(errand: &Errand, device: &LabDevice, line: &mut File) -> Result<()> {
    crate::set_mitigate(errand.mitigate)?;
    settle(device)?;
    device.detect(errand.detection)?;
    device.clear()?;
    let (program, arguments) = errand.command.split_first().context("an empty command")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let code = output.status.code().map_or(-1, i64::from).to_string();
    let name = &errand.name;
    parcel::send(line, &format!("{name}.out"), &output.stdout)?;
    parcel::send(line, &format!("{name}.err"), &output.stderr)?;
    parcel::send(line, &format!("{name}.code"), code.as_bytes())?;
    Ok(())
}
