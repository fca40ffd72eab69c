//! One interface for all ways of bounding a run.

use std::time::Duration;

use kvm_ioctls::VcpuFd;
use kvm_preemption_timer::{Deadline, Mechanism, MonotonicTime, Outcome, PreemptibleVcpu, Signal};

use crate::alternatives::{Bare, EmptyHandler, Gem5, Reference, TimerThread};
use crate::common::{TestVm, config_with, vm};

/// How KVM_RUN came back.
pub(crate) enum RunEnd {
    /// The guest needs something.
    Exit,
    /// The time is over, as far as this scheme can tell.
    Over,
}

/// A vCPU and a way of bounding its runs.
pub(crate) trait Scheme {
    fn name(&self) -> &'static str;
    /// A new budget from now on.
    fn begin(&mut self, budget: Duration);
    /// Enters the guest, with whatever the scheme does before and after that.
    fn enter(&mut self) -> RunEnd;
    /// The budget is not wanted any more, or is over.
    fn end(&mut self) {}
}

/// How much later than its budget a run ends.
pub(crate) fn overshoot(scheme: &mut dyn Scheme, budget_us: u64) -> Duration {
    let budget = Duration::from_micros(budget_us);
    let deadline = MonotonicTime::now() + budget;
    scheme.begin(budget);
    while matches!(scheme.enter(), RunEnd::Exit) {}
    let now = MonotonicTime::now();
    assert!(now >= deadline, "{} ended a run early", scheme.name());
    let late = now.saturating_since(deadline);
    scheme.end();
    late
}

/// A scheme for each vCPU, each with a signal of its own. Bare KVM_RUN never comes back from a guest
/// without exits, so it can be left out.
pub(crate) fn all(code: &[u8], with_bare: bool) -> (TestVm, Vec<Box<dyn Scheme>>) {
    let (vm, mut vcpus) = vm(code, 7).expect("KVM was there a moment ago");
    let mut next = || vcpus.pop().expect("one vCPU for each scheme");
    let mut schemes: Vec<Box<dyn Scheme>> = vec![
        Box::new(ThisCrate::new(next(), Mechanism::MaskedSignal, 1)),
        Box::new(ThisCrate::new(next(), Mechanism::ImmediateExit, 2)),
        Box::new(Reference::new(next(), 3)),
        Box::new(Gem5::new(next(), 4)),
        Box::new(EmptyHandler::new(next(), 5)),
        Box::new(TimerThread::new(next(), 6)),
    ];
    if with_bare {
        schemes.insert(0, Box::new(Bare::new(next())));
    }
    (vm, schemes)
}

/// This crate.
pub(crate) struct ThisCrate {
    vcpu: PreemptibleVcpu,
    name: &'static str,
    deadline: Deadline,
}

impl ThisCrate {
    pub(crate) fn new(vcpu: VcpuFd, mechanism: Mechanism, realtime_signal: u32) -> Self {
        let signal = Signal::realtime(realtime_signal).expect("there are about thirty");
        let config = config_with(mechanism, signal);
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
