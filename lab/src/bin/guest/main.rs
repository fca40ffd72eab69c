//! The first program of the machine that the lab boots: carries out the plan, sends what came of it
//! over the second serial line, and switches the machine off.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};
use split_lock_lab::bundle;
use split_lock_lab::plan::{LAST_BUNDLE, MODULES, PLAN_FILE, Plan};

mod clock;
mod command;
mod experiment;
mod lab_device;
mod splitter;
mod sys;
mod tick;
mod watched;

fn main() {
    if let Err(error) = carry_out() {
        // Nobody but the serial log is listening.
        eprintln!("lab-guest: {error:#}");
    }
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("lab-guest: cannot switch the machine off: {error}");
}

fn carry_out() -> Result<()> {
    mount_what_is_needed()?;
    let mut line = results_line()?;
    let plan: Plan = serde_json::from_slice(&fs::read(PLAN_FILE).context("cannot read the plan")?)
        .context("the plan makes no sense")?;
    for module in &plan.modules {
        insert(module)?;
    }
    let mut device = lab_device::LabDevice::open()?;
    for experiment in &plan.experiments {
        eprintln!("lab-guest: {}", experiment.name);
        let outcome = experiment::run(experiment, &mut device)
            .with_context(|| format!("experiment {}", experiment.name))?;
        outcome.send(&mut line, &experiment.name)?;
    }
    for watched in &plan.watched {
        eprintln!("lab-guest: {}, watched", watched.experiment.name);
        watched::run(watched, &mut device, &mut line)
            .with_context(|| format!("watching {}", watched.experiment.name))?;
    }
    for command in &plan.commands {
        eprintln!("lab-guest: {}", command.name);
        command::run(command, &device, &mut line)
            .with_context(|| format!("command {}", command.name))?;
    }
    bundle::send(&mut line, "kernel-log", &sys::kernel_log()?)?;
    drop(device);
    unload()?;
    bundle::send(&mut line, LAST_BUNDLE, b"")?;
    line.flush()?;
    tcdrain(&line)?;
    Ok(())
}

fn mount_what_is_needed() -> Result<()> {
    for (kind, place) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        fs::create_dir_all(place)?;
        mount_kernel_files(kind, place)?;
    }
    Ok(())
}

fn mount_kernel_files(kind: &str, place: &str) -> Result<()> {
    mount(
        Some(kind),
        place,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("cannot mount {kind}"))
}

/// The second serial line, for bytes as they are.
fn results_line() -> Result<File> {
    let path = "/dev/ttyS1";
    let mut options = OpenOptions::new();
    let line = options.read(true).write(true).open(path);
    let line = line.with_context(|| format!("cannot open {path}"))?;
    let mut settings = tcgetattr(&line)?;
    cfmakeraw(&mut settings);
    tcsetattr(&line, SetArg::TCSANOW, &settings)?;
    Ok(line)
}

fn insert(name: &str) -> Result<()> {
    let file = File::open(Path::new(MODULES).join(name))
        .with_context(|| format!("cannot open the module {name}"))?;
    finit_module(&file, c"", ModuleInitFlags::empty())
        .with_context(|| format!("the kernel refuses the module {name}"))
}

/// The module has to go as cleanly as it came.
fn unload() -> Result<()> {
    delete_module(c"split_lock_lab", DeleteModuleFlags::empty())
        .context("the module does not unload")
}

fn write_setting(path: &str, value: &str) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.with_context(|| format!("cannot write {value} to {path}"))
}

/// The real switch of the real kernel.
fn set_mitigate(on: bool) -> Result<()> {
    let path = "/proc/sys/kernel/split_lock_mitigate";
    if !Path::new(path).exists() && on {
        return Ok(());
    }
    write_setting(path, if on { "1" } else { "0" })
}
