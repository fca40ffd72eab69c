//! What the machine is: its CPUs, which of them share a core, and what its CPUs can detect.

use serde::Serialize;

/// A logical CPU, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CpuId(pub u32);

/// A physical core, counted from 0: the unit whose split-lock detection is switched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CoreId(pub u32);

/// How many CPUs there are, and how many of them share one core.
///
/// CPUs of one core are numbered next to each other: with two siblings, CPU 0 and 1 are core 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Topology {
    cpus: u32,
    siblings: u32,
}

/// A machine that cannot exist, or is larger than the model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// No CPU, or more than [`Topology::MOST_CPUS`].
    #[error("cpus: {0} is not between 1 and {max}", max = Topology::MOST_CPUS)]
    Cpus(u32),
    /// SMT siblings do not divide the CPUs into whole cores.
    #[error("siblings: {siblings} SMT siblings a core do not make whole cores of {cpus} CPUs")]
    Siblings {
        /// CPUs asked for.
        cpus: u32,
        /// Siblings per core asked for.
        siblings: u32,
    },
}

impl Topology {
    /// The largest machine the model takes.
    pub const MOST_CPUS: u32 = 4096;

    /// One CPU, alone on its core.
    pub const SINGLE: Self = Self {
        cpus: 1,
        siblings: 1,
    };

    /// `cpus` logical CPUs in cores of `siblings` each.
    ///
    /// # Errors
    /// [`TopologyError`] if there is no CPU, too many, or the cores do not come out whole.
    pub fn new(cpus: u32, siblings: u32) -> Result<Self, TopologyError> {
        if cpus == 0 || cpus > Self::MOST_CPUS {
            return Err(TopologyError::Cpus(cpus));
        }
        if siblings == 0 || siblings > cpus || !cpus.is_multiple_of(siblings) {
            return Err(TopologyError::Siblings { cpus, siblings });
        }
        Ok(Self { cpus, siblings })
    }

    /// The CPU of the `n`th thread as Linux spreads threads: first one on each core, then on the cores' other CPUs.
    #[must_use]
    pub const fn spread(self, n: u32) -> CpuId {
        let n = n % self.cpus;
        CpuId(n % self.cores() * self.siblings + n / self.cores())
    }

    /// The number of logical CPUs.
    #[must_use]
    pub const fn cpus(self) -> u32 {
        self.cpus
    }

    /// The number of cores.
    #[must_use]
    pub const fn cores(self) -> u32 {
        self.cpus / self.siblings
    }

    /// The core a CPU belongs to.
    #[must_use]
    pub const fn core_of(self, cpu: CpuId) -> CoreId {
        CoreId(cpu.0 / self.siblings)
    }

    /// The CPUs of a core.
    pub fn cpus_of(self, core: CoreId) -> impl Iterator<Item = CpuId> {
        let first = core.0 * self.siblings;
        (first..first + self.siblings).map(CpuId)
    }
}

/// What the CPU can report about split and bus locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hardware {
    /// Split-lock detection: #AC before the access (Intel, Ice Lake and later).
    pub split_lock_ac: bool,
    /// Bus-lock detection: #DB after the access.
    pub bus_lock_db: Option<Vendor>,
}

/// Who made the CPU: kernels learned to use bus-lock #DB at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Intel, Sapphire Rapids and later.
    Intel,
    /// AMD, Zen 5 and later.
    Amd,
}

impl Hardware {
    /// An Intel CPU from Ice Lake on: split-lock #AC only.
    pub const ICE_LAKE: Self = Self {
        split_lock_ac: true,
        bus_lock_db: None,
    };
    /// An Intel CPU from Sapphire Rapids on: both.
    pub const SAPPHIRE_RAPIDS: Self = Self {
        split_lock_ac: true,
        bus_lock_db: Some(Vendor::Intel),
    };
    /// An AMD CPU from Zen 5 on: bus-lock #DB only.
    pub const ZEN_5: Self = Self {
        split_lock_ac: false,
        bus_lock_db: Some(Vendor::Amd),
    };
    /// A CPU that notices neither.
    pub const NONE: Self = Self {
        split_lock_ac: false,
        bus_lock_db: None,
    };
}

impl Default for Hardware {
    fn default() -> Self {
        Self::ICE_LAKE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_share_a_core() {
        let machine = Topology::new(8, 2).expect("a plain machine");
        assert_eq!(machine.cores(), 4);
        assert_eq!(machine.core_of(CpuId(5)), CoreId(2));
        assert_eq!(
            machine.cpus_of(CoreId(2)).collect::<Vec<_>>(),
            [CpuId(4), CpuId(5)]
        );
    }

    #[test]
    fn threads_are_spread_over_cores_first() {
        let machine = Topology::new(4, 2).expect("a plain machine");
        let places: Vec<_> = (0..5).map(|n| machine.spread(n).0).collect();
        assert_eq!(places, [0, 2, 1, 3, 0]);
    }

    #[test]
    fn impossible_machines_name_the_field() {
        let field = |cpus, siblings| {
            Topology::new(cpus, siblings)
                .expect_err("refused")
                .to_string()
        };
        assert!(field(0, 1).starts_with("cpus:"));
        assert!(field(5000, 1).starts_with("cpus:"));
        for (cpus, siblings) in [(2, 4), (4, 3), (4, 0)] {
            assert!(field(cpus, siblings).starts_with("siblings:"));
        }
    }
}
