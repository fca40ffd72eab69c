//! Which cores detect, and the delayed work that switches them on again.

use super::task::TaskId;
use crate::machine::{CoreId, CpuId, Topology};
use crate::time::Jiffies;

/// `schedule_delayed_work_on(cpu, work, 2)`.
const WORK_DELAY: Jiffies = Jiffies(2);

/// Delayed work that waits for its tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReenableWork {
    /// The CPU on which it will run.
    pub cpu: CpuId,
    /// It runs once the count of ticks has reached this.
    pub due: Jiffies,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    due: Jiffies,
    /// The work also releases the semaphore, held by this thread (mitigate=1).
    unlocks: Option<TaskId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detection {
    topology: Topology,
    off: Vec<bool>,
    pending: Vec<Option<Pending>>,
    /// One work item for the whole machine (mitigate=0 before c929d08df8be).
    one_work_item: bool,
}

impl Detection {
    pub(super) fn new(topology: Topology, one_work_item: bool) -> Self {
        Self {
            topology,
            off: vec![false; topology.cores() as usize],
            pending: vec![None; topology.cpus() as usize],
            one_work_item,
        }
    }

    pub(super) fn is_off(&self, cpu: CpuId) -> bool {
        self.off[self.topology.core_of(cpu).0 as usize]
    }

    pub(super) fn works(&self) -> impl Iterator<Item = ReenableWork> {
        self.pending.iter().zip(0..).filter_map(|(pending, cpu)| {
            pending.as_ref().map(|pending| ReenableWork {
                cpu: CpuId(cpu),
                due: pending.due,
            })
        })
    }

    pub(super) fn due_on(&self, cpu: CpuId) -> Option<Jiffies> {
        self.pending[cpu.0 as usize]
            .as_ref()
            .map(|pending| pending.due)
    }

    /// Schedules the work, then switches detection off on the CPU's core. The answer is the tick at
    /// which the work can run: one more than its delay, because a timer never fires early.
    ///
    /// Work that is already pending is not scheduled again; that is harmless for a CPU's own work, and
    /// is the old bug where one work item serves all CPUs.
    pub(super) fn open(
        &mut self,
        now: Jiffies,
        cpu: CpuId,
        unlocks: Option<TaskId>,
    ) -> Option<Jiffies> {
        let shared = self.one_work_item && unlocks.is_none();
        let busy_elsewhere = shared && self.pending.iter().any(Option::is_some);
        let slot = &mut self.pending[cpu.0 as usize];
        if slot.is_none() && !busy_elsewhere {
            let due = now.plus(WORK_DELAY).plus(Jiffies(1));
            *slot = Some(Pending { due, unlocks });
        }
        let closes = slot.as_ref().map(|pending| pending.due);
        self.off[self.topology.core_of(cpu).0 as usize] = true;
        closes
    }

    /// Runs the work of `cpu` if it is due: the core on which it runs detects again. The answer is
    /// that core, and the thread whose hold on the semaphore ends.
    pub(super) fn close(
        &mut self,
        now: Jiffies,
        cpu: CpuId,
        runs_on: CpuId,
    ) -> Option<(CoreId, Option<TaskId>)> {
        let core = self.topology.core_of(runs_on);
        let off = self.off.get_mut(core.0 as usize)?;
        let slot = self.pending.get_mut(cpu.0 as usize)?;
        let pending = slot.take_if(|pending| pending.due <= now)?;
        *off = false;
        Some((core, pending.unlocks))
    }

    pub(super) fn relative_state(&self, now: Jiffies, out: &mut Vec<u64>) {
        out.extend(self.off.iter().map(|&off| u64::from(off)));
        out.extend(self.pending.iter().map(|pending| match pending {
            None => 0,
            Some(Pending { due, unlocks }) => {
                (due.since(now).0 << 1 | u64::from(unlocks.is_some())) + 1
            }
        }));
    }
}
