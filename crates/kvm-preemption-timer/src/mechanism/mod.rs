//! The two ways in which a signal forces a vCPU out of KVM_RUN.

use std::os::fd::OwnedFd;

use crate::{Error, Mechanism, Signal};

mod active;
mod handler;
mod masked;

pub(crate) use active::ActiveMechanism;
use handler::HandledSignal;
use masked::MaskedSignal;

/// Puts a mechanism to work; dropping it restores everything.
pub(crate) fn activate(
    mechanism: Mechanism,
    vcpu: OwnedFd,
    signal: Signal,
) -> Result<Box<dyn ActiveMechanism>, Error> {
    Ok(match mechanism {
        Mechanism::MaskedSignal => Box::new(MaskedSignal::new(vcpu, signal)?),
        Mechanism::ImmediateExit => Box::new(HandledSignal::new(&vcpu, signal)?),
    })
}
