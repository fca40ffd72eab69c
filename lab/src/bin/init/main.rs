//! The first program of a machine with the detecting CPU: does what its script says, sends what came of it to the CPU's
//! results ports, and switches the machine off.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use split_lock_lab::bundle;
use split_lock_lab::cpu::script::{
    KERNEL_LOG, LAST_BUNDLE, MODULES, Module, SCRIPT_FILE, Script, TRACE,
};

mod commands;
mod experiment;
mod setting;
mod splitter;
mod sys;
mod tick;
mod tracer;

use sys::ResultsPort;
use tracer::Tracer;

fn main() {
    if let Err(error) = carry_out() {
        // Nobody but the serial log is listening.
        eprintln!("lab-init: {error:#}");
    }
    // The serial line has 16 bytes that it has not sent yet.
    thread::sleep(Duration::from_millis(100));
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("lab-init: cannot switch the machine off: {error}");
}

fn carry_out() -> Result<()> {
    mount_what_is_needed()?;
    let script = fs::read(SCRIPT_FILE).with_context(|| format!("cannot read {SCRIPT_FILE}"))?;
    let script: Script = serde_json::from_slice(&script).context("the script makes no sense")?;
    let mut port = ResultsPort::open().context("no permission for the results port")?;
    for module in &script.modules {
        insert(module)?;
    }
    if !script.probes.is_empty() {
        tracer::define(&script.probes)?;
    }
    thread::sleep(Duration::from_millis(script.settle_ms));
    if !script.experiments.is_empty() {
        let tracer = Tracer::new(script.policy)?;
        for experiment in &script.experiments {
            eprintln!("lab-init: {}", experiment.name);
            experiment::run(experiment, &tracer, &mut port)
                .with_context(|| format!("experiment {}", experiment.name))?;
        }
    }
    for command in &script.commands {
        eprintln!("lab-init: {}", command.name);
        commands::run(command, &mut port).with_context(|| format!("command {}", command.name))?;
    }
    if script.shell {
        commands::shell()?;
    }
    if !script.probes.is_empty() {
        bundle::send(&mut port, TRACE, &tracer::trace()?)?;
    }
    bundle::send(&mut port, KERNEL_LOG, &sys::kernel_log()?)?;
    bundle::send(&mut port, LAST_BUNDLE, b"")?;
    Ok(port.flush()?)
}

fn mount_what_is_needed() -> Result<()> {
    let places = [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/tmp"),
    ];
    for (kind, place) in places {
        fs::create_dir_all(place)?;
        mount_kernel_files(kind, place)?;
    }
    // Small kernels come without.
    for (kind, place) in [
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
    ] {
        if Path::new(place).exists() {
            mount_kernel_files(kind, place)?;
        }
    }
    Ok(())
}

fn mount_kernel_files(kind: &str, place: &str) -> Result<()> {
    let (no_flags, no_data) = (MsFlags::empty(), None::<&str>);
    mount(Some(kind), place, Some(kind), no_flags, no_data)
        .with_context(|| format!("cannot mount {kind}"))
}

fn insert(module: &Module) -> Result<()> {
    let name = &module.file;
    let file = File::open(Path::new(MODULES).join(name))
        .with_context(|| format!("cannot open the module {name}"))?;
    let parameters = std::ffi::CString::new(module.parameters.as_str())?;
    finit_module(&file, &parameters, ModuleInitFlags::empty())
        .with_context(|| format!("the kernel refuses the module {name}"))
}
