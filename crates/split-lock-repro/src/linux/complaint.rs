//! What a guest's kernel says when something in it does not get on.

use std::fmt;

use serde::Serialize;

/// What a kernel complains about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Complaint {
    /// RCU: a grace period does not come to its end.
    RcuStall,
    /// The thread that ends grace periods does not get a CPU.
    RcuStarved,
    /// A CPU has not scheduled for a long time.
    SoftLockup,
    /// A task has been waiting for a long time.
    HungTask,
    /// A workqueue does not get on.
    WorkqueueLockup,
    /// Real-time tasks have used all that they may have.
    RtThrottling,
    /// The end.
    Panic,
}

/// All words must be in the line. What the kernel puts between them differs from release to release.
const WORDS: [(Complaint, &[&str]); 9] = [
    (Complaint::Panic, &["Kernel panic - not syncing"]),
    (Complaint::RcuStall, &["rcu", "detected stall"]),
    (Complaint::RcuStall, &["rcu", "self-detected stall"]),
    (Complaint::RcuStall, &["rcu", "detected expedited stall"]),
    (Complaint::RcuStarved, &["kthread starved for"]),
    (Complaint::SoftLockup, &["BUG: soft lockup"]),
    (
        Complaint::HungTask,
        &["INFO: task ", " blocked for more than "],
    ),
    (Complaint::WorkqueueLockup, &["BUG: workqueue lockup"]),
    (Complaint::RtThrottling, &["sched: RT throttling activated"]),
];

impl Complaint {
    /// The complaint that this line of a kernel's log is, or begins with.
    ///
    /// ```
    /// use split_lock_repro::linux::Complaint;
    ///
    /// let line = "[   10.2] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:";
    /// assert_eq!(Complaint::in_line(line), Some(Complaint::RcuStall));
    /// ```
    #[must_use]
    pub fn in_line(line: &str) -> Option<Self> {
        let is_it = |words: &[&str]| words.iter().all(|word| line.contains(word));
        let found = WORDS.iter().find(|(_, words)| is_it(words));
        found.map(|&(complaint, _)| complaint)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RcuStall => "RCU stall",
            Self::RcuStarved => "RCU's thread starved",
            Self::SoftLockup => "soft lockup",
            Self::HungTask => "hung task",
            Self::WorkqueueLockup => "workqueue lockup",
            Self::RtThrottling => "real-time throttling",
            Self::Panic => "panic",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_several_kernels_are_known() {
        use Complaint::*;
        for (complaint, line) in [
            (
                RcuStall,
                "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            ),
            (RcuStall, "rcu: INFO: rcu_sched self-detected stall on CPU"),
            (RcuStall, "INFO: rcu_sched detected stalls on CPUs/tasks:"),
            (
                RcuStarved,
                "rcu: rcu_preempt kthread starved for 752 jiffies! g-531 f0x2 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0",
            ),
            (
                SoftLockup,
                "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [split:133]",
            ),
            (
                HungTask,
                "INFO: task kworker/0:1:12 blocked for more than 120 seconds.",
            ),
            (
                WorkqueueLockup,
                "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
            ),
            (RtThrottling, "sched: RT throttling activated"),
            (
                Panic,
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
            ),
        ] {
            assert_eq!(Complaint::in_line(line), Some(complaint), "{line}");
        }
    }

    #[test]
    fn what_a_kernel_says_when_all_is_well_is_none() {
        let lines = [
            "rcu: Hierarchical SRCU implementation.",
            "RCU CPU stall warnings timeout set to 3 (rcu_cpu_stall_timeout).",
            "Fair server disabled in CPU 0, system may crash due to starvation.",
            "clocksource: Switched to clocksource kvm-clock",
        ];
        for line in lines {
            assert_eq!(Complaint::in_line(line), None, "{line}");
        }
    }
}
