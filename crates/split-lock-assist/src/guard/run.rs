//! What is known of a run without asking anybody.

use std::time::Duration;

/// A bounded run that is over: what the VMM has in its hands anyway.
///
/// If it goes back into the guest several times with the same deadline, it is up to the VMM whether
/// that is one run or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How long it took.
    pub wall: Duration,
    /// How much CPU time the vCPU's thread has used meanwhile, in the guest, in the kernel and in the
    /// VMM.
    pub cpu: Duration,
    /// How it ended.
    pub ended: Ended,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// Its budget was used up.
    Expired,
    /// The guest needed something.
    Exited,
    /// Somebody has forced the vCPU out. The budget stands.
    Kicked,
}

impl Run {
    pub(super) const ZERO: Self = Self {
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
        ended: Ended::Expired,
    };

    /// This one and what came after it, as one run.
    pub(super) fn and(&self, next: &Self) -> Self {
        Self {
            wall: self.wall.saturating_add(next.wall),
            cpu: self.cpu.saturating_add(next.cpu),
            ended: next.ended,
        }
    }
}
