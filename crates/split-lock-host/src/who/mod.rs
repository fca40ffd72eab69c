//! Who splits locks: programs and instructions in a log, processes and virtual machines on a host, and timers
//! that could keep one of them from ever getting past a split lock.

mod cgroup;
mod culprits;
mod fingerprint;
mod kvm;
mod machines;
mod owner;
mod owners;
mod process;
mod program;
mod text;
mod thread;
mod timers;
mod traps;
mod vm;

pub use cgroup::{Container, Engine};
pub use culprits::{Confidence, Culprit, Suspicion};
pub use fingerprint::Fingerprint;
pub use kvm::{ExitsOfMachine, SignalExits};
pub use machines::{Machine, Machines, Vcpu};
pub use owner::{Difference, INITIAL_NAMESPACE, Owner};
pub(crate) use owners::MOST_LOOKUPS;
pub use owners::{Owners, Owning};
pub use process::Process;
pub use program::{Program, ProgramKind, Space};
pub use timers::{
    Clock, Evidence, Notifies, PosixTimer, Strength, TimerSuspect, TimerSuspects, timerfd_periods,
};
pub use traps::{
    Address, Group, MOST_ADDRESSES, MOST_GROUPS, MOST_THREADS, Summary, Suppressed, Thread, Traps,
    When,
};
pub use vm::{Manager, Vm, Vmm};
