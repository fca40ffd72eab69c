//! Why a vCPU came out of the guest although the guest needed nothing.

use std::time::Duration;

use crate::{Deadline, KickReasons};

/// What has interrupted a run.
///
/// One interruption can have several causes. Each one of this crate's is reported, one at a time, by
/// this run or the next one; they take turns, so that neither hides the other. What the VMM itself
/// does to interrupt a run (a signal, `immediate_exit`) may be behind any of them: so look at the
/// VMM's own flags after each, not only after [`Interruption::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interruption {
    /// The deadline has passed. Pending I/O is complete: the vCPU's state can be read.
    Expired(Expiry),
    /// A [`Kicker`](crate::Kicker) has forced the vCPU out, for these reasons. Pending I/O is
    /// complete.
    Kicked(KickReasons),
    /// Neither: a signal or an `immediate_exit` of somebody else's, a debugger, or a signal that was
    /// left over from an earlier deadline or kick. By itself it is no message: run again with the same
    /// deadline unless the VMM's own flags say otherwise.
    Other,
}

/// A deadline that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The deadline.
    pub deadline: Deadline,
    /// How much later it was noticed, on the deadline's own clock.
    pub overshoot: Duration,
}
