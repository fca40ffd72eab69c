//! Noticing that split locks hold a vCPU up, and getting it on.
//!
//! On a host with `split_lock_detect=warn`, a guest's split lock makes the vCPU's thread sleep inside
//! KVM_RUN. If the VMM calls it out before the kernel is done with its punishment, nothing has been
//! executed, and next time it begins anew. What the VMM sees: the run has taken its whole budget, the
//! thread has used hardly any CPU time, and the vCPU is where it was, at a locked instruction whose
//! operand crosses a cache line.
//!
//! A [`VcpuGuard`] looks for exactly this. It begins with what costs nothing:
//!
//! 1. CPU time and wall time of the run. A vCPU that has used its time is not asked anything: a tight
//!    loop, `pause`, a long `rep movs`, polling a device.
//! 2. Does it halt? Then it needs no time.
//! 3. Its registers. Has it been there before, in a run like this one? And has its thread gone to sleep
//!    in between, as the kernel makes it do? If not, somebody else had the CPU.
//! 4. Only then the instruction, which has to be a locked access that crosses a line.
//!
//! What happened in between does not matter: below the threshold a guest goes on taking interrupts
//! and running its other tasks, and one of them does not move.
//!
//! # Reactions
//! | [`Reaction`] | at a stall | the VMM's deadlines |
//! |---|---|---|
//! | `Report` | says so, once for each instruction | hold |
//! | `Grace` | one run is long enough for sleep, semaphore and window ([`Config::grace`]) | are exceeded by that |
//! | `Emulate`, `Auto` | the instruction is emulated and [watched](crate::breakpoint_slots); where breakpoints do not [reach](Breakpoints::work_at), the next budgets are short, to notice the next stall soon | hold, but for what cannot be emulated |
//!
//! What cannot be emulated (an operand that is not mapped, or not RAM, or a lock that is no access to
//! data) is left to the CPU, with `Grace` where [`Config::grace`] allows that. Without it all deadlines
//! hold.
//!
//! `Grace` gets more done where split locks are dense, and `Emulate` where they are sparse. With
//! breakpoints both are equally fast between 5 and 20 us of work between two split locks, and without
//! them between 50 and 200 us (`docs/measurements.md`).
//!
//! # What it leaves alone
//! What a vCPU executes that is in a nested guest, in system management mode or confidential
//! ([`Inaccessible`]). A hypervisor in a VM whose own guests split locks needs deadlines that are longer
//! than the kernel's sleep.
//!
//! # Trying it out
//! Where the host does not detect split locks, nothing stalls. [`VcpuGuard::feign_stall`] takes a vCPU that is at a
//! split lock at the end of a run for a stalled one, so that everything from there on can be tested.
//!
//! # What it does not see
//! - A vCPU that splits all the time, is starved by others, and whose thread sleeps now and then for
//!   another reason looks slow. Emulating is still correct then.
//! - Of a guest whose budgets are far longer than the kernel's sleep, few runs end in it. With
//!   [`Reaction::Emulate`] runs are made shorter after one that has lost some milliseconds; with
//!   [`Reaction::Report`] it may take some time until it is noticed.

mod access;
mod breakpoints;
mod config;
mod position;
mod probe;
mod progress;
mod reported;
mod run;
#[cfg(test)]
mod simulated_test;
mod state;
mod vcpu;
mod vcpu_guard;
#[cfg(test)]
mod vcpu_guard_test;

pub use access::{CodePosition, VcpuAccess, VcpuParts};
pub use breakpoints::{Breakpoints, DebugExit};
pub use config::{Config, Reaction, UnknownReaction};
pub use progress::{Response, SplitInstruction, Stall, VcpuProgress};
pub use run::{Ended, Run};
pub use vcpu::{Inaccessible, Vcpu};
pub use vcpu_guard::{BreakpointOutcome, Statistics, VcpuGuard};
