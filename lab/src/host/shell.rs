//! A console on the machine, for a person.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, ttyname, write};
use split_lock_lab::cpu::script::{PlacedFile, Script};

use crate::host::args::ShellArgs;
use crate::host::machine::bochs::{Console, Limits, stop};
use crate::host::machine::lab::Lab;
use crate::host::machine::rootfs;

/// Nobody waits for a person; the CPU's own limit is as far away as it goes.
const LIMITS: Limits = Limits {
    guest: Duration::from_secs(4000),
    wall: Duration::MAX,
};

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

pub(crate) fn run(args: &ShellArgs) -> Result<bool> {
    let options = args.cpu;
    options.topology()?;
    let lab = Lab::open([options.cpus])?;
    let kernel = lab.kernel(&args.kernel)?;
    let script = Script {
        modules: rootfs::kvm_modules(&kernel, options.vendor),
        shell: true,
        files: args.with.iter().cloned().map(PlacedFile::in_root).collect(),
        ..Script::default()
    };
    let folder: PathBuf = lab.results(&kernel, "shell");
    let machine = lab.machine(&folder, &kernel, "", &script, &options)?;
    let pty = openpty(None, None).context("no pseudo terminal")?;
    make_raw(pty.slave.as_fd())?;
    let path = ttyname(&pty.slave)?;
    eprintln!(
        "lab: booting {}; `poweroff -f` or Ctrl-] ends it; the CPU's journal: {}",
        kernel.release,
        folder.join("journal.jsonl").display()
    );
    let mut child = machine.start(Console::Terminal(&path), LIMITS)?;
    let terminal = RawTerminal::new()?;
    let relayed = relay(&pty.master, &mut child);
    drop(terminal);
    if child.try_wait()?.is_none() {
        stop(&mut child)?;
    }
    relayed?;
    eprintln!("\nlab: the machine is off");
    Ok(true)
}

/// Between the person and the machine, until either of them ends it.
fn relay(master: &OwnedFd, child: &mut Child) -> Result<()> {
    let stdin = io::stdin();
    let mut stdin = Some(stdin.as_fd());
    let mut buffer = [0; 4096];
    while child.try_wait()?.is_none() {
        let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![wanted(master.as_fd())];
        fds.extend(stdin.map(wanted));
        poll(&mut fds, PollTimeout::from(100u16))?;
        let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        let (from_machine, from_person) = (ready(0), ready(1));
        if from_machine {
            let length = read(master, &mut buffer)?;
            let mut stdout = io::stdout().lock();
            stdout.write_all(&buffer[..length])?;
            stdout.flush()?;
        }
        if from_person && let Some(fd) = stdin {
            let length = read(fd, &mut buffer)?;
            let typed = &buffer[..length];
            if typed.contains(&ESCAPE) {
                return Ok(());
            }
            send(master.as_fd(), typed)?;
            // Whatever was piped in has been typed; the machine goes on.
            if length == 0 {
                stdin = None;
            }
        }
    }
    Ok(())
}

fn send(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let written = write(to, bytes)?;
        ensure!(written > 0, "the machine takes no input");
        bytes = &bytes[written..];
    }
    Ok(())
}

fn make_raw(terminal: BorrowedFd<'_>) -> Result<()> {
    let mut settings = tcgetattr(terminal)?;
    cfmakeraw(&mut settings);
    Ok(tcsetattr(terminal, SetArg::TCSANOW, &settings)?)
}

/// Keys go to the machine as they are; afterwards the terminal is as it was.
#[derive(Debug)]
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    /// Where standard input is no terminal, there is nothing to do.
    fn new() -> Result<Self> {
        let stdin = io::stdin();
        let Ok(before) = tcgetattr(&stdin) else {
            return Ok(Self(None));
        };
        make_raw(stdin.as_fd())?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing better is left to do where this fails.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
