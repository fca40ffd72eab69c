//! What a program can be interrupted by, as far as the kernel shows it.

use serde::Serialize;

use super::{Notifies, PosixTimer};
use crate::Root;

/// The signal of setitimer(ITIMER_REAL). Those of its other timers count CPU time, which does not pass while a thread is
/// made to sleep.
const SIGALRM: u32 = 14;

/// Timers that can interrupt the sleep of some threads of a program. How often they do cannot be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProgramTimers {
    /// Those of timer_create.
    pub timers: Vec<PosixTimer>,
    /// The program handles SIGALRM, which setitimer sends. Whether it has such a timer is shown nowhere.
    pub handles_alarm: bool,
}

impl ProgramTimers {
    /// Those that concern these threads of a process; none where they may not be looked at.
    #[must_use]
    pub fn of(root: &Root, pid: u32, threads: &[u32]) -> Self {
        let concerns = |timer: &PosixTimer| {
            timer.can_interrupt_a_sleep()
                && match timer.notifies {
                    Notifies::Thread(tid) => threads.contains(&tid),
                    Notifies::Process | Notifies::Nobody => true,
                }
        };
        let timers = PosixTimer::of_process(root, pid).or_default().into_iter();
        let status = root.text(format!("proc/{pid}/status")).or_default();
        Self {
            timers: timers.filter(concerns).collect(),
            handles_alarm: handles(&status, SIGALRM),
        }
    }

    /// What they are, in a sentence or two; empty if there is nothing to tell.
    #[must_use]
    pub fn in_words(&self) -> String {
        let timer = self.timers.first();
        let sends_alarm = timer.is_some_and(|timer| timer.signal == SIGALRM);
        let timer = timer.map(|timer| {
            let signal = timer.signal;
            format!("It has a timer that sends it signal {signal}.")
        });
        let alarm = "It handles SIGALRM, which setitimer sends; whether it has such a timer is shown nowhere.";
        let alarm = (self.handles_alarm && !sends_alarm).then(|| alarm.to_owned());
        let both: Vec<String> = timer.into_iter().chain(alarm).collect();
        both.join(" ")
    }
}

/// Whether a process handles a signal, by the line `SigCgt` of its status.
fn handles(status: &str, signal: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::attribution::Clock;
    use crate::facts::fixture;

    fn timer(notifies: Notifies, signal: u32) -> PosixTimer {
        PosixTimer {
            notifies,
            signal,
            clock: Clock::Time,
        }
    }

    #[test]
    fn handled_signals_are_read_from_the_mask() {
        assert!(handles("Name:\tx\nSigCgt:\t0000000000002000\n", SIGALRM));
        assert!(handles("SigCgt:\tfffffffffffffeff\n", SIGALRM));
        for without in [
            "",
            "SigCgt:\t0000000000001000\n",
            "SigCgt:\n",
            "SigCgt:\tx\n",
        ] {
            assert!(!handles(without, SIGALRM), "{without}");
        }
    }

    #[test]
    fn live_process_shows_that_it_handles_the_alarm() {
        let handles_alarm = |script: &str| {
            let mut shell = Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let output = shell.stdout.take().unwrap();
            BufReader::new(output).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            let found = ProgramTimers::of(&Root::live().unwrap(), shell.id(), &[shell.id()]);
            // The shell ends when there is nothing left to read.
            drop(shell.stdin.take());
            shell.wait().unwrap();
            found.handles_alarm
        };
        assert!(handles_alarm("trap : ALRM; echo ready; read line"));
        assert!(!handles_alarm("echo ready; read line"));
    }

    #[test]
    fn only_timers_that_concern_the_threads_count() {
        let folder = fixture::folder(&[
            (
                "proc/7/timers",
                "ID: 0\nsignal: 14/0\nnotify: signal/tid.8\nClockID: 1\n\
                 ID: 1\nsignal: 10/0\nnotify: signal/pid.7\nClockID: 1\n\
                 ID: 2\nsignal: 10/0\nnotify: signal/pid.7\nClockID: -6\n",
            ),
            ("proc/7/status", "Name:\tgame\nSigCgt:\t0000000000002000\n"),
        ]);
        let root = Root::open(folder.path()).unwrap();
        let all = ProgramTimers::of(&root, 7, &[7, 8]);
        let (thread, process) = (timer(Notifies::Thread(8), 14), timer(Notifies::Process, 10));
        assert_eq!(all.timers, [thread, process]);
        assert_eq!(ProgramTimers::of(&root, 7, &[7]).timers, [process]);
        assert!(all.handles_alarm);
    }

    #[test]
    fn words_tell_what_is_seen_and_what_is_not() {
        let words = |timers: &[PosixTimer], handles_alarm| {
            let timers = timers.to_vec();
            ProgramTimers {
                timers,
                handles_alarm,
            }
            .in_words()
        };
        let alarm = timer(Notifies::Process, SIGALRM);
        assert_eq!(words(&[], false), "");
        assert!(words(&[], true).contains("setitimer"));
        assert!(!words(&[alarm], true).contains("setitimer"));
        assert!(words(&[timer(Notifies::Process, 10)], true).contains("setitimer"));
    }
}
