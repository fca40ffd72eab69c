//! A kernel's thresholds as one row of data.

use serde::Serialize;

use super::contention::Contended;
use super::thresholds::{Saturation, Thresholds};
use crate::kernel::Profile;
use crate::time::Nanos;

/// Everything the closed forms say about one kernel, with durations in nanoseconds.
///
/// ```
/// use split_lock_model::analysis::ThresholdRow;
///
/// let row = ThresholdRow::of(&"6.12,hz=300".parse()?, 8).expect("this kernel sleeps");
/// assert_eq!(row.never_up_to.0, 6_666_666);
/// assert_eq!(row.contended.len(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThresholdRow {
    /// The kernel.
    pub kernel: Profile,
    /// T: the ticks that the sleep asks for.
    pub sleep_ticks: u64,
    /// The undisturbed sleep lasts longer than this,
    pub sleep_longer_than: Nanos,
    /// and at most this.
    pub sleep_at_most: Nanos,
    /// A window lasts longer than this,
    pub window_longer_than: Nanos,
    /// and at most this.
    pub window_at_most: Nanos,
    /// Signal periods up to this never let a thread through.
    pub never_up_to: Nanos,
    /// Signal periods from this on always do.
    pub always_from: Nanos,
    /// What 1, 2, 3 ... threads get that split without pause.
    pub saturated: Vec<Saturation>,
    /// What 1, 2, 3 ... such threads do to one with a signal period.
    pub contended: Vec<Contended>,
}

impl ThresholdRow {
    /// The row of a kernel, with up to `threads` splitting threads; `None` where
    /// [`Thresholds::of`] has none.
    #[must_use]
    pub fn of(kernel: &Profile, threads: u32) -> Option<Self> {
        let limits = Thresholds::of(kernel)?;
        let ((sleep_longer_than, sleep_at_most), (window_longer_than, window_at_most)) =
            (limits.sleep(), limits.window());
        Some(Self {
            kernel: kernel.clone(),
            sleep_ticks: limits.sleep_ticks().0,
            sleep_longer_than,
            sleep_at_most,
            window_longer_than,
            window_at_most,
            never_up_to: limits.never_up_to(),
            always_from: limits.always_from(),
            saturated: (1..=threads).map(|k| limits.saturated(k)).collect(),
            contended: (1..=threads).map(|k| limits.contended(k)).collect(),
        })
    }
}
