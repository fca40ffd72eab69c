//! A host that punishes split locks as a given kernel does, on any CPU.
//!
//! The guest's split lock raises a real trap: an alignment check at CPL3, a hardware breakpoint at
//! CPL0. What the kernel would then do to the thread inside KVM_RUN, the thread does to itself before
//! it enters the guest again, step by step as [`split_lock_model::handler`] says: it really sleeps
//! until a tick, a real signal ends the sleep early, and for two jiffies the trap is really off.
//!
//! * [`Kernel`]: what all vCPUs share: the handler, its semaphore, and the ticks. No I/O.
//! * [`HostedVcpu`]: a vCPU that is bounded as ever, on such a host or on the real one.
//! * [`GuardedVcpu`]: the same with a guard that gets it past its split locks.
//!
//! What differs from a real host: the trap is an exit to user space, and so is the end of a window; a
//! vCPU is alone on its CPU, whose re-enable work runs exactly on its tick; and a core is one CPU. At
//! CPL3 the trap is a flag of the guest's (AC): a flat binary that changes its flags by POPF escapes, and
//! one that pushes them sees it.

mod grace;
mod guarded;
mod kernel;
mod punish;
mod stopped;
mod trap;
mod vcpu;
mod wait;

pub use grace::grace;
pub use guarded::GuardedVcpu;
pub use kernel::{Kernel, Punishments};
pub(crate) use punish::{Punished, PunishedThread};
pub use vcpu::{Ended, HostError, HostedVcpu};
