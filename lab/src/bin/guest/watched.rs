//! Carries out an experiment while a program watches.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use split_lock_lab::bundle;
use split_lock_lab::plan::WatchedExperiment;
use split_lock_lab::watch::{OutputLine, Run};

use crate::clock::{cpu_time_ns, monotonic_ns};
use crate::experiment;
use crate::lab_device::LabDevice;

/// Where the kernel offers its events.
const TRACING: &str = "/sys/kernel/tracing";

/// What the experiment was goes out like that of any other, and the program's run as `NAME.watch`.
pub(crate) fn run(
    watched: &WatchedExperiment,
    device: &mut LabDevice,
    line: &mut File,
) -> Result<()> {
    if !Path::new(TRACING).join("events").exists() {
        crate::mount_kernel_files("tracefs", TRACING)?;
    }
    let mut watcher = Watcher::start(&watched.argv)?;
    let outcome = watcher
        .wait_for_first_line()
        .and_then(|()| experiment::run(&watched.experiment, device));
    // Why it has said nothing is in what it complained about.
    let run = watcher.finish()?;
    let outcome = outcome.with_context(|| run.complaints.trim().to_owned())?;
    let name = &watched.experiment.name;
    outcome.send(line, name)?;
    bundle::send(line, &format!("{name}.watch"), &serde_json::to_vec(&run)?)?;
    Ok(())
}

/// The program that watches, and what it has said.
struct Watcher {
    program: Child,
    heard: Receiver<OutputLine>,
    said: Vec<OutputLine>,
}

impl Watcher {
    fn start(argv: &[String]) -> Result<Self> {
        let (program, arguments) = argv.split_first().context("an empty command")?;
        let mut program = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let out = program.stdout.take().context("no output")?;
        let (tell, heard) = channel();
        let id = program.id();
        thread::spawn(move || listen(out, id, &tell));
        Ok(Self {
            program,
            heard,
            said: Vec::new(),
        })
    }

    fn wait_for_first_line(&mut self) -> Result<()> {
        let first = self.heard.recv().context("the watch says nothing")?;
        self.said.push(first);
        Ok(())
    }

    fn finish(mut self) -> Result<Run> {
        // Until its output is at an end.
        self.said.extend(self.heard.iter());
        let mut complaints = String::new();
        if let Some(mut from) = self.program.stderr.take() {
            from.read_to_string(&mut complaints)?;
        }
        let id = self.program.id();
        // Ended, but can still be asked.
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(Pid::from_raw(id.cast_signed())), ended)
            .context("cannot wait for the watch")?;
        let cpu_ns = cpu_time_ns(id).context("cannot tell the watch's CPU time")?;
        let status = self.program.wait().context("cannot wait for the watch")?;
        Ok(Run {
            said: self.said,
            complaints,
            exit_code: status.code(),
            cpu_ns,
        })
    }
}

/// Until the program closes its output.
fn listen(out: ChildStdout, id: u32, tell: &Sender<OutputLine>) {
    for text in BufReader::new(out).lines() {
        let (Ok(ns), Ok(text), Ok(cpu_ns)) = (monotonic_ns(), text, cpu_time_ns(id)) else {
            return;
        };
        if tell.send(OutputLine { ns, cpu_ns, text }).is_err() {
            return;
        }
    }
}
