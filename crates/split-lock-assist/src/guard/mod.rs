//! Noticing that split locks hold a vCPU up, and getting it on.
//!
//! On a host with `split_lock_detect=warn`, a guest's split lock makes the vCPU's thread sleep inside
//! KVM_RUN. If the VMM calls it out before the kernel is done with its punishment, nothing has been
//! executed, and next time it begins anew. What the VMM sees: the run has taken its whole budget, the
//! thread has used hardly any CPU time, and the vCPU is where it was, at a locked instruction whose
//! operand crosses a cache line.
//!
//! A [`Keeper`] looks for exactly this. It begins with what costs nothing:
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
//! | `Emulate` | the instruction is emulated and [watched](crate::watch); where breakpoints do not [reach](Breakpoints::reach), the next budgets are short, to notice the next stall soon | hold |
//! | `Auto` | whichever of the last two gets the guest on faster | as those of its choice |
//!
//! What cannot be emulated (an operand that is not mapped, or not RAM, or a lock that is no access to
//! data) is left to the CPU, with `Grace` where that is allowed.
//!
//! # How `Auto` chooses
//! Let *w* be the guest's work from one split lock to the next, *b* what one costs with detection off,
//! *e* what an emulated one costs (the way out of the guest and back, and emulating), and *s* the
//! share of time that the guest runs under the kernel's punishment. Emulating gets 1/(w + e)
//! operations done in a second, waiting for the kernel s/(w + b). So emulating is better as long as
//!
//! > w + b ≥ s (w + e)
//!
//! * E = w + e is the time per operation while emulating, and *s* is the share of CPU time while
//!   waiting; both are simply counted.
//! * w is the thread's CPU time per operation while emulating, less what is known to be overhead: at
//!   a breakpoint the way out and back (measured by leaving a breakpoint as it is once in a while: it
//!   is hit again at once) and emulating; in each run what a run costs in which nothing is executed
//!   (measured whenever a vCPU was stalled).
//! * b is asked for only if it matters. If w ≥ 0.9 E, emulating takes a tenth of the time at most, and
//!   nothing is tried at all. If w ≥ s E, even a split lock for free would not help.
//! * With breakpoints, b is how much longer it takes to the next one after stepping over one than
//!   after emulating, while detection is off. Without, a run that begins just behind a split lock and
//!   is a little longer than w ends just behind the next one, and has taken w + b: no interrupt is
//!   taken in the middle of it. Where b is too small for that, [`Config::native_cost`] is believed.
//!
//! For a dense loop (w = 0) under a 6.12 kernel with 250 Hz, s is 3/7: emulating pays if a bus lock
//! costs more than 3/7 of an exit with emulation. For sparse ones s is about w/(w + 14 ms), and
//! emulating always pays.
//!
//! A trial of all that takes about half a second, of which most is spent waiting for the kernel, and
//! at most one part in 32 of all time; after trials without a surprise the next one comes later, after
//! rates have changed by a factor of two sooner. The other way has to be better by 5 % to be taken.
//! Without [`Config::grace`] a guest that is kicked too early does not move in the second step of the
//! trial, which ends it at once.
//!
//! # What it does not see
//! - A vCPU that splits all the time, is starved by others, and whose thread sleeps now and then for
//!   another reason looks slow. Emulating is still correct then.
//! - Of a guest whose budgets are far longer than the kernel's sleep, few runs end in it. With
//!   [`Reaction::Emulate`] and [`Reaction::Auto`] runs are made shorter after one that has lost some
//!   milliseconds; with [`Reaction::Report`] it may take some time until it is noticed.

mod auto;
mod breakpoints;
mod config;
mod hands;
mod keeper;
#[cfg(test)]
mod keeper_test;
mod pace;
mod reported;
mod run;
#[cfg(test)]
mod simulation;
mod state;
mod suspicion;
mod vcpu;
mod verdict;

pub use breakpoints::{Breakpoints, Meaning};
pub use config::{Config, MEASURABLE_NATIVE_COST, Reaction, UnknownReaction};
pub use hands::{Hands, Place, Side};
pub use keeper::{Hit, Keeper, Statistics};
pub use run::{Ended, Run};
pub use vcpu::Vcpu;
pub use verdict::{Culprit, Response, Stall, Verdict};
