//! Timers that could keep a thread from ever getting past a split lock.
//!
//! A thread that is interrupted by signals more often than the kernel's punishment lasts never gets past it. What
//! a host shows of that, as tried out with Linux 6.18:
//!
//! * `/proc/PID/timers` lists POSIX timers to everybody, with the thread that each of them signals, but neither its
//!   period nor whether it is armed.
//! * `/proc/PID/fdinfo` of a timerfd has its period. But a timerfd sends no signal: it only wakes up somebody who may
//!   then send one. And only a process's user may look.
//! * `setitimer` leaves no trace: the field `itrealvalue` of `/proc/PID/stat` is always 0, and nothing else
//!   there tells.
//! * debugfs counts the exits that signals have caused, of all vCPUs of a machine together. That is a measurement: it
//!   says what counts, whoever sends the signals. It needs root, and a kernel that is locked down (Secure Boot) refuses
//!   it to root as well.
//!
//! So of an ordinary process nothing of use is visible, and none is accused here; see [`PosixTimer::of_process`] for
//! one that is known to split locks. Of VMMs it is said what is visible, and how strong that is.

use std::time::Duration;

use serde::Serialize;
use split_lock_model::analysis::{PassPrediction, Thresholds};
use split_lock_model::time::Nanos;

use super::kvm::{ExitsOfMachine, SignalExits};
use super::machines::Machine;
use crate::{Root, Seen};

/// Of a process no more timers are looked at.
const MOST_TIMERS: usize = 256;

/// Of a process no more open files are looked at.
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
    pub fn of_process(root: &Root, pid: u32) -> Seen<Vec<Self>> {
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
                "signal" => signal = number_before_slash(value),
                "notify" => notifies = Notifies::parse(value),
                "ClockID" => {
                    if let (Some(signal), Some(notifies)) = (signal, notifies) {
                        let clock = Clock::parse(value);
                        timers.push(PosixTimer {
                            notifies,
                            signal,
                            clock,
                        });
                    }
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

fn number_before_slash(text: &str) -> Option<u32> {
    text.split_once('/')?.0.parse().ok()
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
pub fn timerfd_periods(root: &Root, pid: u32) -> Seen<Vec<Duration>> {
    let files = root.list(format!("proc/{pid}/fd"));
    files.map(|files| {
        let files = files.iter().filter_map(|name| name.to_str());
        let is_timer = |file: &&str| {
            let target = root.link(format!("proc/{pid}/fd/{file}"));
            target
                .known()
                .is_some_and(|target| target.as_os_str() == "anon_inode:[timerfd]")
        };
        let mut periods: Vec<_> = files
            .take(MOST_FILES)
            .filter(is_timer)
            .filter_map(|file| {
                let info = root.text(format!("proc/{pid}/fdinfo/{file}"));
                interval(info.known()?)
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
    let nanos = nanos
        .trim()
        .parse()
        .ok()
        .filter(|&nanos| nanos < NANOS_PER_SEC)?;
    Some(Duration::new(seconds.trim().parse().ok()?, nanos))
}

/// A machine that could livelock, if its guest splits a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimerSuspect {
    /// The process that runs it.
    pub pid: u32,
    /// The machine's name or id.
    pub machine: Option<String>,
    /// What was seen.
    pub evidence: Evidence,
    /// How strong that is.
    pub strength: Strength,
    /// What becomes of a split lock with such a period, if one is known.
    pub outlook: Option<PassPrediction>,
}

/// What was seen of a machine's timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Signals have ended the runs of the machine's vCPUs as often as this.
    SignalExits {
        /// How many vCPUs it has.
        vcpus: u32,
        /// How many exits there were, of all of them together.
        exits: u64,
        /// How long they were counted.
        over_ns: u64,
        /// At least one vCPU was interrupted as often as this, on average, or more often.
        period_ns: u64,
    },
    /// A POSIX timer signals a vCPU's thread. Its period cannot be seen.
    TimerOfVcpu {
        /// The thread.
        tid: u32,
        /// The signal.
        signal: u32,
    },
    /// A POSIX timer signals the process, or a thread of it that may be a vCPU's. Its period cannot be seen.
    TimerOfProcess {
        /// The signal.
        signal: u32,
    },
    /// A timerfd has a short period. By itself it sends no signal.
    Timerfd {
        /// The time from one expiration to the next.
        period_ns: u64,
    },
}

/// How strong evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strength {
    /// A period is visible, but not that it interrupts a vCPU.
    Hint,
    /// Perhaps it interrupts a vCPU, at a period that is not visible.
    Weak,
    /// It interrupts a vCPU, at a period that is not visible.
    PeriodUnknown,
    /// The exits of vCPUs have been counted.
    Measured,
}

/// What is visible of timers that are short enough to livelock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimerSuspects {
    /// The strongest evidence first.
    pub suspects: Vec<TimerSuspect>,
    /// The measurement: absent where there are no virtual machines that KVM tells of.
    pub measured: Seen<SignalExits>,
    /// Machines whose POSIX timers, or timerfds, may not be looked at.
    pub not_looked_into: u32,
}

impl TimerSuspects {
    /// Looks at the timers of machines, on a host whose kernel has these thresholds. On a live host with
    /// machines, and as root, this takes 40 ms.
    ///
    /// ```
    /// use split_lock_host::Root;
    /// use split_lock_host::who::{Machines, TimerSuspects};
    /// use split_lock_model::analysis::Thresholds;
    ///
    /// let root = Root::live()?;
    /// let machines = Machines::read(&root);
    /// let thresholds = Thresholds::of(&"6.12,hz=250".parse()?).unwrap();
    /// let suspects = TimerSuspects::read(&root, &machines.machines, &thresholds);
    /// println!("{} machines to look after", suspects.suspects.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn read(root: &Root, machines: &[Machine], thresholds: &Thresholds) -> Self {
        let mut found = TimerSuspects {
            suspects: vec![],
            measured: match machines {
                [] => Seen::Absent,
                _ => SignalExits::read(root),
            },
            not_looked_into: 0,
        };
        for machine in machines {
            let measured = found.measured.known();
            let exits = measured.and_then(|measured| {
                let exits = measured.of(machine.process.pid)?;
                Some(Exits::of(exits, measured.over_ns, thresholds))
            });
            match exits {
                // Whatever the timers are, they do not interrupt.
                Some(Exits::Rare) => continue,
                Some(Exits::Frequent(evidence, outlook)) => found.suspects.push(TimerSuspect {
                    outlook: Some(outlook),
                    ..suspect(machine, evidence)
                }),
                Some(Exits::Undecided) | None => found.add_timerfds(root, machine, thresholds),
            }
            found.add_timers(root, machine);
        }
        found
            .suspects
            .sort_by_key(|suspect| std::cmp::Reverse(suspect.strength));
        found
    }

    fn add_timers(&mut self, root: &Root, machine: &Machine) {
        let timers = match PosixTimer::of_process(root, machine.process.pid) {
            Seen::Is(timers) => timers,
            // The kernel has no such file, or the process has ended.
            Seen::Absent => return,
            Seen::CouldNotSee { .. } => return self.not_looked_into += 1,
        };
        let timers = timers.iter().filter(|timer| timer.can_interrupt_a_sleep());
        let mut suspects: Vec<TimerSuspect> = vec![];
        for timer in timers {
            let Some(evidence) = evidence_of(timer, machine) else {
                continue;
            };
            if suspects.iter().all(|suspect| suspect.evidence != evidence) {
                suspects.push(suspect(machine, evidence));
            }
        }
        self.suspects.append(&mut suspects);
    }

    fn add_timerfds(&mut self, root: &Root, machine: &Machine, thresholds: &Thresholds) {
        let periods = match timerfd_periods(root, machine.process.pid) {
            Seen::Is(periods) => periods,
            Seen::Absent => return,
            Seen::CouldNotSee { .. } => return self.not_looked_into += 1,
        };
        let Some(period) = periods.first() else {
            return;
        };
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let outlook = thresholds.predict(Nanos(period_ns));
        if outlook != PassPrediction::Always {
            self.suspects.push(TimerSuspect {
                outlook: Some(outlook),
                ..suspect(machine, Evidence::Timerfd { period_ns })
            });
        }
    }
}

/// What the exits of a machine's vCPUs say.
enum Exits {
    /// Even if they are all of one vCPU it gets past a split lock.
    Rare,
    /// Even if they are of all vCPUs alike some split lock may not get past.
    Frequent(Evidence, PassPrediction),
    /// That depends on whose they are.
    Undecided,
}

impl Exits {
    fn of(counted: &ExitsOfMachine, over_ns: u64, thresholds: &Thresholds) -> Self {
        let ExitsOfMachine { vcpus, exits, .. } = *counted;
        // Of a single one nobody knows how long after the one before it came.
        let Some(of_one) = over_ns.checked_div(exits).filter(|_| exits > 1) else {
            return Exits::Rare;
        };
        if thresholds.predict(Nanos(of_one)) == PassPrediction::Always {
            return Exits::Rare;
        }
        let period_ns = of_one.saturating_mul(vcpus.into());
        match thresholds.predict(Nanos(period_ns)) {
            PassPrediction::Always => Exits::Undecided,
            outlook => {
                let evidence = Evidence::SignalExits {
                    vcpus,
                    exits,
                    over_ns,
                    period_ns,
                };
                Exits::Frequent(evidence, outlook)
            }
        }
    }
}

/// What a timer says of a machine, if anything.
fn evidence_of(timer: &PosixTimer, machine: &Machine) -> Option<Evidence> {
    let signal = timer.signal;
    match (timer.notifies, &machine.vcpus[..]) {
        (Notifies::Nobody, _) => None,
        (Notifies::Thread(tid), _) if machine.vcpu(tid).is_some() => {
            Some(Evidence::TimerOfVcpu { tid, signal })
        }
        // Whoever signals a process of one thread signals that one.
        (Notifies::Process, [vcpu]) if machine.process.threads == Some(1) => {
            let tid = vcpu.tid;
            Some(Evidence::TimerOfVcpu { tid, signal })
        }
        // Where its vCPUs are known this is none of them.
        (Notifies::Thread(_), [_, ..]) => None,
        (Notifies::Thread(_), []) | (Notifies::Process, _) => {
            Some(Evidence::TimerOfProcess { signal })
        }
    }
}

fn suspect(machine: &Machine, evidence: Evidence) -> TimerSuspect {
    let vm = &machine.vm;
    TimerSuspect {
        pid: machine.process.pid,
        machine: vm.name.clone().or_else(|| vm.id.clone()),
        strength: match evidence {
            Evidence::SignalExits { .. } => Strength::Measured,
            Evidence::TimerOfVcpu { .. } => Strength::PeriodUnknown,
            Evidence::TimerOfProcess { .. } => Strength::Weak,
            Evidence::Timerfd { .. } => Strength::Hint,
        },
        evidence,
        outlook: None,
    }
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
