//! Experiments of real kernels, as the kernels and their CPU have told of them. Most of the split locks that were let
//! through are left out: of each window there is the first.

use split_lock_lab::cpu::join::join;
use split_lock_lab::cpu::journal::Journal;
use split_lock_lab::cpu::trace::{self, Noted, What};
use split_lock_lab::journal::{Event, Kind};
use split_lock_lab::replay::{Machine, Report, Ticks, replay};
use split_lock_model::handler::Rules;
use split_lock_model::machine::{Hardware, Topology};
use split_lock_model::policy::Alternative;

/// What a real kernel did, and what it is.
pub(crate) struct Recorded {
    pub(crate) profile: &'static str,
    pub(crate) rules: Rules,
    pub(crate) machine: Machine,
    pub(crate) journal: Vec<Event>,
}

macro_rules! recorded {
    ($name:literal, $profile:literal, $cpus:literal) => {
        Recorded::new(
            $profile,
            $cpus,
            include_str!(concat!("../data/", $name, ".trace")),
            include_str!(concat!("../data/", $name, ".jsonl")),
        )
    };
}

impl Recorded {
    fn new(profile: &'static str, cpus: u32, trace: &str, journal: &str) -> Self {
        let noted = trace::parse(trace).expect("a trace");
        let cpu = Journal::parse(journal).expect("a journal");
        let ticks = ticks(&noted, &cpu);
        Self {
            profile,
            rules: Rules::UPSTREAM,
            machine: Machine {
                hardware: Hardware::ICE_LAKE,
                topology: Topology::new(cpus, 1).expect("a machine"),
                ticks,
            },
            journal: join(&noted, &cpu, &ticks).expect("they agree").events,
        }
    }

    /// A vCPU with a signal every 13.1 ms.
    pub(crate) fn kicked() -> Self {
        recorded!("6.12-kicked", "6.12.117", 1)
    }

    /// Five threads on one CPU.
    pub(crate) fn contended() -> Self {
        recorded!("6.12-contended", "6.12.117", 1)
    }

    /// Four threads on two CPUs, two of which have signals while they queue.
    pub(crate) fn some_interrupted() -> Self {
        recorded!("6.12-some-interrupted", "6.12.117", 2)
    }

    /// Two threads on two CPUs, mitigate=0, and only one work item.
    pub(crate) fn unmitigated() -> Self {
        recorded!("6.12-unmitigated", "6.12.117,mitigate=0", 2)
    }

    /// Five threads on CPUs of their own, on a kernel with another policy; the first has a signal every 8 ms.
    pub(crate) fn sentence() -> Self {
        Self {
            rules: Alternative::FixedEnd.rules(),
            ..recorded!("6.12-sentence", "6.12.117,hz=1000", 5)
        }
    }

    /// Of unmodified kernels.
    pub(crate) fn all() -> [Self; 4] {
        [
            Self::kicked(),
            Self::contended(),
            Self::some_interrupted(),
            Self::unmitigated(),
        ]
    }

    pub(crate) fn against(&self, profile: &str) -> Report {
        let profile = profile.parse().expect("a profile");
        replay(&profile, self.rules, &self.machine, &self.journal)
    }

    pub(crate) fn report(&self) -> Report {
        self.against(self.profile)
    }
}

fn ticks(noted: &[Noted], cpu: &Journal) -> Ticks {
    let counts = noted
        .iter()
        .filter(|noted| noted.what == What::Event(Kind::Tick));
    let counts: Vec<_> = counts
        .filter_map(|noted| Some((cpu.nanos(noted.tick), noted.jiffies?)))
        .collect();
    Ticks::counted(&counts).expect("a tick rate")
}
