//! An interrupt that the VMM raises and the guest takes as soon as it can.

use kvm_ioctls::VcpuFd;

use super::{REPORT, VmError};
use crate::sys;

/// What connects a device that the VMM plays to the CPU, where there is no interrupt controller.
#[derive(Debug)]
pub(crate) struct InterruptLine {
    vector: u8,
    is_raised: bool,
}

impl InterruptLine {
    pub(crate) fn new(vector: u8) -> Self {
        Self {
            vector,
            is_raised: false,
        }
    }

    /// An interrupt that is still waiting becomes one with this.
    pub(crate) fn raise(&mut self) {
        self.is_raised = true;
    }

    /// To be called before each run: hands over what is raised. If the guest cannot take it now, the
    /// run ends with [`ExitCause::InterruptWindow`](super::ExitCause::InterruptWindow) when it can.
    pub(crate) fn connect(&mut self, vcpu: &mut VcpuFd) -> Result<(), VmError> {
        let run = vcpu.get_kvm_run();
        let is_taken = self.is_raised && run.ready_for_interrupt_injection != 0;
        self.is_raised &= !is_taken;
        run.request_interrupt_window = self.is_raised.into();
        if is_taken {
            sys::interrupt(vcpu, self.vector).map_err(|source| VmError::Call {
                call: "KVM_INTERRUPT",
                on: "the vCPU".into(),
                source,
                advice: REPORT,
            })?;
        }
        Ok(())
    }
}
