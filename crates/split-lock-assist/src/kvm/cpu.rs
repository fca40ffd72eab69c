//! A vCPU's registers.

use kvm_bindings::{KVM_MP_STATE_RUNNABLE, KVM_VCPUEVENT_VALID_SHADOW, kvm_regs};

use super::KvmError;
use super::sys::voluntary_context_switches;
use super::vcpu::KvmVcpu;
use crate::cpu::{Context, Cpu, Registers};
use crate::guard::{Inaccessible, Vcpu};

/// The registers of a vCPU of KVM: see [`KvmVcpu::stopped`].
#[derive(Debug)]
pub struct KvmCpu<'a> {
    pub(super) vcpu: &'a KvmVcpu,
}

impl Cpu for KvmCpu<'_> {
    type Error = KvmError;

    fn registers(&self) -> Result<Registers, KvmError> {
        self.vcpu.registers().map(|registers| *registers)
    }

    fn context(&self) -> Result<Context, KvmError> {
        let breakpoints = self.vcpu.guest_breakpoints()?;
        Ok(Context {
            breakpoints,
            ..self.vcpu.special()?.context
        })
    }

    #[inline]
    fn look<T>(&self, act: impl FnOnce(&Registers, &Context) -> T) -> Result<T, KvmError> {
        let breakpoints = self.vcpu.guest_breakpoints()?;
        let (registers, special) = (self.vcpu.registers()?, self.vcpu.special()?);
        Ok(if breakpoints {
            act(
                &registers,
                &Context {
                    breakpoints,
                    ..special.context
                },
            )
        } else {
            act(&registers, &special.context)
        })
    }

    #[inline]
    fn retire(&mut self, after: &Registers) -> Result<(), KvmError> {
        let events = self.vcpu.events()?;
        let in_shadow = events.interrupt.shadow != 0;
        if in_shadow {
            let mut after = events;
            after.interrupt.shadow = 0;
            // Nothing else is to be set: an NMI may have come in since they were read.
            after.flags = KVM_VCPUEVENT_VALID_SHADOW;
            self.vcpu.set_shadow(&after)?;
        }
        let result = self.vcpu.set_registers(after);
        if result.is_err() && in_shadow {
            let mut before = events;
            before.flags = KVM_VCPUEVENT_VALID_SHADOW;
            // There is an error to report already, which says more.
            let _ = self.vcpu.set_shadow(&before);
        }
        result
    }
}

impl Vcpu for KvmCpu<'_> {
    /// Where the VMM has the interrupt controllers, HLT is an exit, and nobody is ever halted.
    fn is_halted(&self) -> Result<bool, KvmError> {
        Ok(self.vcpu.mp_state()? != KVM_MP_STATE_RUNNABLE)
    }

    #[inline]
    fn inaccessible(&self) -> Result<Option<Inaccessible>, KvmError> {
        self.vcpu.inaccessible()
    }

    #[inline]
    fn has_event(&self) -> Result<bool, KvmError> {
        self.vcpu.has_event()
    }

    fn voluntary_context_switches(&self) -> Option<u64> {
        voluntary_context_switches()
    }
}

impl From<&kvm_regs> for Registers {
    fn from(kvm: &kvm_regs) -> Self {
        Self {
            gpr: [
                kvm.rax, kvm.rcx, kvm.rdx, kvm.rbx, kvm.rsp, kvm.rbp, kvm.rsi, kvm.rdi, kvm.r8,
                kvm.r9, kvm.r10, kvm.r11, kvm.r12, kvm.r13, kvm.r14, kvm.r15,
            ],
            rip: kvm.rip,
            rflags: kvm.rflags,
        }
    }
}

impl From<&Registers> for kvm_regs {
    fn from(registers: &Registers) -> Self {
        let mut kvm = Self {
            rip: registers.rip,
            rflags: registers.rflags,
            ..Self::default()
        };
        [
            kvm.rax, kvm.rcx, kvm.rdx, kvm.rbx, kvm.rsp, kvm.rbp, kvm.rsi, kvm.rdi, kvm.r8, kvm.r9,
            kvm.r10, kvm.r11, kvm.r12, kvm.r13, kvm.r14, kvm.r15,
        ] = registers.gpr;
        kvm
    }
}
