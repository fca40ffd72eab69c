//! Keeping the other vCPUs of a VM out of the guest, so that a read and a write become one access.

mod gate;

pub use gate::{GuestPass, Inside, Kick, PauseGate, Paused};

/// Whoever can pause the other vCPUs.
pub trait Pause {
    /// While this lives, they are paused.
    type Paused<'a>
    where
        Self: 'a;

    /// Waits until no other vCPU executes guest code, and keeps it so until the answer is dropped.
    ///
    /// Two vCPUs may ask at the same time: one of them then waits for the other, itself counting as
    /// paused.
    fn pause_others(&self) -> Self::Paused<'_>;
}

/// For a VM with a single vCPU: there is nobody to pause.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleVcpu;

impl Pause for SingleVcpu {
    type Paused<'a> = ();

    fn pause_others(&self) {}
}
