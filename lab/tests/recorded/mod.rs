//! Journals of real kernels.

use split_lock_lab::journal::{self, Event, State};
use split_lock_lab::replay::{Machine, Report, Ticks, replay};
use split_lock_model::machine::Topology;
use split_lock_model::policy::Alternative;

/// What a real kernel did, and what it is.
pub(crate) struct Recorded {
    pub(crate) profile: &'static str,
    pub(crate) policy: Alternative,
    pub(crate) cpus: u32,
    pub(crate) state: State,
    pub(crate) journal: Vec<Event>,
}

macro_rules! recorded {
    ($name:literal, $profile:literal, $cpus:literal) => {
        Recorded {
            profile: $profile,
            policy: Alternative::Upstream,
            cpus: $cpus,
            state: serde_json::from_str(include_str!(concat!("../data/", $name, ".state")))
                .expect("a state"),
            journal: journal::parse(include_bytes!(concat!("../data/", $name, ".journal")))
                .expect("a journal"),
        }
    };
}

impl Recorded {
    /// A vCPU with a signal every 13.1 ms.
    pub(crate) fn kicked() -> Self {
        recorded!("6.1.192-kicked", "6.1.192", 1)
    }

    /// Five threads on one CPU.
    pub(crate) fn contended() -> Self {
        recorded!("6.1.192-contended", "6.1.192", 1)
    }

    /// Four threads on two CPUs, two of which have signals while they queue.
    pub(crate) fn some_interrupted() -> Self {
        recorded!("6.12.117-impatient", "6.12.117", 2)
    }

    /// Two threads on two CPUs, mitigate=0, and only one work item.
    pub(crate) fn unmitigated() -> Self {
        recorded!("6.12.117-unmitigated", "6.12.117,mitigate=0", 2)
    }

    /// Four threads on one CPU, two of which have signals while they queue, under another handler.
    pub(crate) fn sentenced() -> Self {
        Self {
            policy: Alternative::FixedEnd,
            ..recorded!("6.1.192-sentence", "6.1.192", 1)
        }
    }

    pub(crate) fn all() -> [Self; 5] {
        [
            Self::kicked(),
            Self::contended(),
            Self::some_interrupted(),
            Self::unmitigated(),
            Self::sentenced(),
        ]
    }

    pub(crate) fn against(&self, profile: &str) -> Report {
        let machine = Machine {
            topology: Topology::new(self.cpus, 1).expect("a machine"),
            ticks: Ticks::new(&self.state).expect("ticks"),
        };
        let profile = profile.parse().expect("a profile");
        replay(&profile, self.policy.rules(), &machine, &self.journal)
    }

    pub(crate) fn report(&self) -> Report {
        self.against(self.profile)
    }
}
