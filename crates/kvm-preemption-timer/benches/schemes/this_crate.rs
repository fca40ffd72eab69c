//! This crate as one of the schemes.

use std::time::Duration;

use kvm_ioctls::VcpuFd;
use kvm_preemption_timer::{Config, Deadline, Mechanism, Outcome, PreemptibleVcpu, Signal};

use crate::scheme::{RunEnd, Scheme};

pub(crate) struct ThisCrate {
    vcpu: PreemptibleVcpu,
    name: &'static str,
    deadline: Deadline,
}

impl ThisCrate {
    pub(crate) fn new(vcpu: VcpuFd, mechanism: Mechanism, realtime_signal: u32) -> Self {
        let signal = Signal::realtime(realtime_signal).expect("there are about thirty");
        let config = Config::new().signal(signal).mechanism(mechanism);
        ThisCrate {
            vcpu: PreemptibleVcpu::with_config(vcpu, config).expect("nobody else uses the signal"),
            name: match mechanism {
                Mechanism::MaskedSignal => "this crate: masked signal",
                _ => "this crate: immediate_exit",
            },
            deadline: Deadline::Never,
        }
    }
}

impl Scheme for ThisCrate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn begin(&mut self, budget: Duration) {
        self.deadline = Deadline::after(budget);
    }

    fn enter(&mut self) -> RunEnd {
        match self
            .vcpu
            .run_until(self.deadline)
            .expect("the guest can run")
        {
            Outcome::Exit(_) => RunEnd::Exit,
            Outcome::Expired(_) | Outcome::Kicked => RunEnd::Over,
        }
    }
}
