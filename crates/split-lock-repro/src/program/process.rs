//! The process that splits locks, from outside.

use std::io::{self, PipeReader, Read, pipe};
use std::os::fd::AsFd;
use std::time::Duration;

use kvm_preemption_timer::MonotonicTime;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use split_lock_model::time::Nanos;

pub(super) use super::child::Ran;
use super::child::{self, Message};
use super::{ProgramError, Timer};
use crate::host::Kernel;
use crate::sweep::{Host, Stop};
use crate::sys::program::fork_process;

/// A pipe takes as much in one piece.
const LONGEST_MESSAGE: usize = 4096;

/// How often to look whether somebody wants no more of it.
const LOOK_MS: u16 = 50;

/// How much longer than planned a run may take: on a crowded machine, or by a kernel whose sleeps signals do not end.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// A process that runs, and is killed when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    from_child: PipeReader,
    kernel: String,
    latest: MonotonicTime,
    ended: bool,
}

impl Process {
    pub(super) fn start(
        timer: Timer,
        period: Duration,
        length: Duration,
        host: &Host,
        phase: Nanos,
    ) -> Result<Self, ProgramError> {
        let start = |error: Errno| ProgramError::Start(error.into());
        let kernel = match host {
            Host::Native => None,
            Host::Emulated(profile) => Some(Kernel::for_program(profile.clone())),
        };
        let (from_child, to) = pipe().map_err(ProgramError::Start)?;
        let pid = fork_process(|| {
            if let Some(kernel) = &kernel {
                kernel.reboot(phase);
            }
            child::run(timer, period, length, kernel, &to);
        });
        // Only the child's is left, so that its end is seen.
        drop(to);
        Ok(Self {
            pid: pid.map_err(start)?,
            from_child,
            kernel: match host {
                Host::Native => "of this host".into(),
                Host::Emulated(profile) => profile.to_string(),
            },
            latest: MonotonicTime::now() + length + LONGEST_DELAY,
            ended: false,
        })
    }

    /// Waits until the run is over; `None` if somebody stops it.
    pub(super) fn wait(mut self, stop: &Stop) -> Result<Option<Ran>, ProgramError> {
        loop {
            let mut fds = [PollFd::new(self.from_child.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK_MS)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => break,
                Err(error) => return Err(ProgramError::Wait(error.into())),
            }
            if stop.is_requested() {
                return Ok(None);
            }
            if MonotonicTime::now() >= self.latest {
                return Err(ProgramError::Ended(format!(
                    "it did not end within {LONGEST_DELAY:?} of its time"
                )));
            }
        }
        // One message, which a pipe takes in one piece, or nothing: it has ended.
        let mut message = [0; LONGEST_MESSAGE];
        let length = retry(|| self.from_child.read(&mut message)).map_err(ProgramError::Wait)?;
        let status = wait_for_end(self.pid).map_err(ProgramError::Wait)?;
        self.ended = true;
        match serde_json::from_slice(&message[..length]) {
            Ok(Message::Ran(ran)) => Ok(Some(ran)),
            Ok(Message::NoTrap) => Err(ProgramError::NoTrap),
            Ok(Message::Failed(why)) => Err(ProgramError::Child(why)),
            Ok(Message::Sigbus) => Err(ProgramError::Sigbus {
                kernel: self.kernel.clone(),
            }),
            Err(_) => Err(self.ended_by(status)),
        }
    }

    fn ended_by(&self, status: WaitStatus) -> ProgramError {
        match status {
            WaitStatus::Signaled(_, Signal::SIGBUS, _) => ProgramError::Sigbus {
                kernel: self.kernel.clone(),
            },
            WaitStatus::Signaled(_, signal, _) => ProgramError::Ended(signal.to_string()),
            other => ProgramError::Ended(format!("{other:?}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            // It is a child that nobody has waited for, so the number is still its own.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = wait_for_end(self.pid);
        }
    }
}

fn wait_for_end(pid: Pid) -> io::Result<WaitStatus> {
    retry(|| waitpid(pid, None).map_err(io::Error::from))
}

/// Does it again as long as signals interrupt it.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_that_a_signal_interrupts_is_made_again() {
        let mut results = [
            Err(Errno::EINTR.into()),
            Err(Errno::EINTR.into()),
            Ok(3),
            Ok(4),
        ]
        .into_iter();
        assert_eq!(retry(|| results.next().unwrap()).unwrap(), 3);
        let error = retry(|| Err::<(), _>(Errno::ECHILD.into())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ECHILD as i32));
    }
}
