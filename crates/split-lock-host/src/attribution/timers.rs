//! POSIX timers and timerfds of a process, as far as procfs shows them.

use std::time::Duration;

use serde::Serialize;

use crate::{Observed, Root};

const MOST_TIMERS: usize = 256;
const MOST_FILES: usize = 512;

/// A timer of `timer_create`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PosixTimer {
    /// What it does when it expires.
    pub notifies: Notifies,
    /// The number of the signal.
    pub signal: u32,
    /// What it counts.
    pub clock: Clock,
}

/// Whom a timer notifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Notifies {
    /// This thread (`SIGEV_THREAD_ID`).
    Thread(u32),
    /// Some thread of the process that does not block the signal.
    Process,
    /// Nobody.
    Nobody,
}

/// What a timer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Time that goes on while a thread sleeps.
    Time,
    /// CPU time, which a thread that is punished does not use.
    CpuTime,
}

impl PosixTimer {
    /// All of a process.
    pub fn of_process(root: &Root, pid: u32) -> Observed<Vec<Self>> {
        let text = root.text(format!("proc/{pid}/timers"));
        text.map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Vec<Self> {
        let mut timers = vec![];
        let mut signal = None;
        let mut notifies = None;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(": ") else {
                continue;
            };
            match name {
                "ID" => (signal, notifies) = (None, None),
                "signal" => signal = value.split_once('/').and_then(|(n, _)| n.parse().ok()),
                "notify" => notifies = Notifies::parse(value),
                "ClockID" => {
                    let timer = signal.zip(notifies).map(|(signal, notifies)| PosixTimer {
                        notifies,
                        signal,
                        clock: Clock::parse(value),
                    });
                    timers.extend(timer);
                }
                _ => {}
            }
            if timers.len() == MOST_TIMERS {
                break;
            }
        }
        timers
    }

    /// Whether it can interrupt the sleep of a thread that is punished.
    #[must_use]
    pub fn can_interrupt_a_sleep(&self) -> bool {
        self.clock == Clock::Time && self.notifies != Notifies::Nobody
    }
}

impl Notifies {
    /// `signal/tid.123`
    fn parse(text: &str) -> Option<Self> {
        let (how, whom) = text.trim().split_once('/')?;
        let (kind, number) = whom.split_once('.')?;
        Some(match (how, kind) {
            ("none", _) => Notifies::Nobody,
            (_, "tid") => Notifies::Thread(number.parse().ok()?),
            _ => Notifies::Process,
        })
    }
}

impl Clock {
    /// Numbers below zero are clocks of a process or a thread.
    fn parse(text: &str) -> Self {
        match text.trim() {
            "2" | "3" => Clock::CpuTime,
            number if number.starts_with('-') => Clock::CpuTime,
            _ => Clock::Time,
        }
    }
}

/// The periods of a process's timerfds that are periodic, the shortest first.
pub fn timerfd_periods(root: &Root, pid: u32) -> Observed<Vec<Duration>> {
    let files = root.list(format!("proc/{pid}/fd"));
    files.map(|files| {
        let files = files.iter().filter_map(|name| name.to_str());
        let is_timer = |file: &&str| {
            let target = root.link(format!("proc/{pid}/fd/{file}"));
            target.or_default().as_os_str() == "anon_inode:[timerfd]"
        };
        let mut periods: Vec<_> = files
            .take(MOST_FILES)
            .filter(is_timer)
            .filter_map(|file| {
                interval(&root.text(format!("proc/{pid}/fdinfo/{file}")).or_default())
            })
            .filter(|period| !period.is_zero())
            .collect();
        periods.sort_unstable();
        periods
    })
}

/// `it_interval: (0, 2000000)`: seconds and nanoseconds.
fn interval(info: &str) -> Option<Duration> {
    const NANOS_PER_SEC: u32 = 1_000_000_000;
    let mut lines = info.lines();
    let value = lines.find_map(|line| line.strip_prefix("it_interval:"))?;
    let numbers = value.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (seconds, nanos) = numbers.split_once(',')?;
    let nanos = nanos.trim().parse().ok();
    let nanos = nanos.filter(|&nanos| nanos < NANOS_PER_SEC)?;
    Some(Duration::new(seconds.trim().parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timers_are_read_as_the_kernel_writes_them() {
        let timers = PosixTimer::parse(
            "ID: 2\nsignal: 10/0000000000000000\nnotify: signal/pid.16179\nClockID: -2\n\
             ID: 1\nsignal: 0/0000000000000000\nnotify: none/pid.16179\nClockID: 0\n\
             ID: 0\nsignal: 34/00007f84ee6a1df2\nnotify: signal/tid.16180\nClockID: 1\n",
        );
        let expected = [
            (Notifies::Process, 10, Clock::CpuTime, false),
            (Notifies::Nobody, 0, Clock::Time, false),
            (Notifies::Thread(16180), 34, Clock::Time, true),
        ];
        for (timer, (notifies, signal, clock, interrupts)) in timers.iter().zip(expected) {
            assert_eq!(
                (timer.notifies, timer.signal, timer.clock),
                (notifies, signal, clock)
            );
            assert_eq!(timer.can_interrupt_a_sleep(), interrupts);
        }
        assert_eq!(timers.len(), 3);
    }

    #[test]
    fn the_interval_of_a_timerfd_is_its_period() {
        let info = "pos:\t0\nclockid: 1\nticks: 1\nit_value: (0, 5)\nit_interval: (1, 2000000)\n";
        assert_eq!(interval(info), Some(Duration::new(1, 2_000_000)));
        for damaged in [
            "",
            "it_interval: 1",
            "it_interval: (1)",
            "it_interval: (1, 1000000000)",
        ] {
            assert_eq!(interval(damaged), None);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(
            text in "(ID|signal|notify|ClockID|: |/|tid\\.|it_interval:|\\(|,|\\)|\n|[0-9]{1,25}|\\PC){0,30}",
        ) {
            let _ = (PosixTimer::parse(&text), interval(&text));
        }
    }
}
