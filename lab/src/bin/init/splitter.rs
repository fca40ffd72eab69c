//! Something that splits locks, in one of two ways.

use anyhow::{Context, Result, bail};
use kvm_ioctls::VcpuExit;
use split_lock_lab::real_mode::RealModeVcpu;
use split_lock_model::handler::TrapOrigin;

use crate::sys::CrossingWord;

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// The split lock is done.
    Completed,
    /// A signal came before it was.
    Interrupted,
    /// KVM gave up, with KVM_EXIT_EXCEPTION.
    Exception,
}

/// A thread's own means.
#[derive(Debug)]
pub(crate) enum Splitter {
    User(CrossingWord),
    Guest(RealModeVcpu),
}

impl Splitter {
    pub(crate) fn new(origin: TrapOrigin) -> Result<Self> {
        Ok(match origin {
            TrapOrigin::User => Self::User(CrossingWord::default()),
            TrapOrigin::Guest => Self::Guest(RealModeVcpu::new(&GUEST_CODE, 0)?),
        })
    }

    pub(crate) fn try_once(&mut self) -> Result<Tried> {
        match self {
            Self::User(word) => Ok(match word.increment() {
                true => Tried::Completed,
                false => Tried::Interrupted,
            }),
            Self::Guest(guest) => run(guest),
        }
    }
}

/// A split lock and an exit, for ever. The word at 0x203f lies in two lines.
const GUEST_CODE: [u8; 10] = [
    0xf0, 0x83, 0x06, 0x3f, 0x20, 0x01, // 1: lock add word [0x203f], 1
    0xe6, 0x10, // out 0x10, al
    0xeb, 0xf6, // jmp 1b
];

/// Until the guest's exit, or a signal.
fn run(guest: &mut RealModeVcpu) -> Result<Tried> {
    match guest.run() {
        Ok(VcpuExit::IoOut(..)) => Ok(Tried::Completed),
        Ok(VcpuExit::Exception) => Ok(Tried::Exception),
        Ok(other) => bail!("the guest stopped with {other:?}"),
        Err(error) if error.errno() == libc::EINTR => Ok(Tried::Interrupted),
        Err(error) => Err(error).context("KVM_RUN failed"),
    }
}
