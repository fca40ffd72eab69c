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

use serde::Serialize;
use split_lock_model::analysis::{PassPrediction, Thresholds};
use split_lock_model::time::Nanos;

use super::kvm::{ExitsOfMachine, SignalExits};
use super::machines::{Machine, Vcpu};
use super::timers::{Notifies, PosixTimer, timerfd_periods};
use crate::{Observed, Root};

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
    pub measured: Observed<SignalExits>,
    /// Machines whose POSIX timers, or timerfds, may not be looked at.
    pub not_looked_into: u32,
}

impl TimerSuspects {
    /// Looks at the timers of machines, on a host whose kernel has these thresholds. On a live host with
    /// machines, and as root, this takes 40 ms.
    ///
    /// ```
    /// use split_lock_host::Root;
    /// use split_lock_host::attribution::{Machines, TimerSuspects};
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
                [] => Observed::Absent,
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
            Observed::Is(timers) => timers,
            // The kernel has no such file, or the process has ended.
            Observed::Absent => return,
            Observed::Unreadable { .. } => return self.not_looked_into += 1,
        };
        let timers = timers.iter().filter(|timer| timer.can_interrupt_a_sleep());
        let mut seen: Vec<Evidence> = vec![];
        for evidence in timers.filter_map(|timer| evidence_of(timer, machine)) {
            if !seen.contains(&evidence) {
                seen.push(evidence);
            }
        }
        let suspects = seen.into_iter().map(|evidence| suspect(machine, evidence));
        self.suspects.extend(suspects);
    }

    fn add_timerfds(&mut self, root: &Root, machine: &Machine, thresholds: &Thresholds) {
        let periods = match timerfd_periods(root, machine.process.pid) {
            Observed::Is(periods) => periods,
            Observed::Absent => return,
            Observed::Unreadable { .. } => return self.not_looked_into += 1,
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

fn evidence_of(timer: &PosixTimer, machine: &Machine) -> Option<Evidence> {
    let signal = timer.signal;
    match (timer.notifies, &machine.vcpus[..]) {
        (Notifies::Nobody, _) => None,
        (Notifies::Thread(tid), _) if machine.vcpu(tid).is_some() => {
            Some(Evidence::TimerOfVcpu { tid, signal })
        }
        // Whoever signals a process of one thread signals that one.
        (Notifies::Process, &[Vcpu { tid, .. }]) if machine.process.threads == Some(1) => {
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
