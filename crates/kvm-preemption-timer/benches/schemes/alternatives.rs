//! What others do, each as close to its source as one file allows.

use std::time::Duration;

use kvm_ioctls::VcpuFd;

use crate::scheme::{RunEnd, Scheme};
use crate::sys::{
    RawTimer, TimerThreadHandle, block, drain, install_counting_handler, unblock_in_kvm,
};

/// Those whose signals can be lost send another one after this time, or they would never end.
const AGAIN: Duration = Duration::from_millis(2);

fn run(vcpu: &mut VcpuFd) -> RunEnd {
    match vcpu.run() {
        Ok(_) => RunEnd::Exit,
        Err(error) if error.errno() == libc::EINTR => RunEnd::Over,
        Err(error) => panic!("KVM_RUN: {error}"),
    }
}

/// KVM_RUN and nothing else.
pub(crate) struct Bare(VcpuFd);

impl Bare {
    pub(crate) fn new(vcpu: VcpuFd) -> Self {
        Bare(vcpu)
    }
}

impl Scheme for Bare {
    fn name(&self) -> &'static str {
        "bare KVM_RUN, unbounded"
    }

    fn begin(&mut self, _: Duration) {}

    fn enter(&mut self) -> RunEnd {
        run(&mut self.0)
    }
}

/// A masked signal from a relative timer: before every KVM_RUN what is pending is consumed and the
/// timer is set.
pub(crate) struct Reference {
    vcpu: VcpuFd,
    timer: RawTimer,
    budget: Duration,
}

impl Reference {
    pub(crate) fn new(vcpu: VcpuFd, realtime_signal: u32) -> Self {
        let signal = libc::SIGRTMIN() + realtime_signal as i32;
        unblock_in_kvm(&vcpu, signal, block(signal));
        Reference {
            vcpu,
            timer: RawTimer::new(signal),
            budget: Duration::ZERO,
        }
    }
}

impl Scheme for Reference {
    fn name(&self) -> &'static str {
        "relative timer, armed every run"
    }

    fn begin(&mut self, budget: Duration) {
        self.budget = budget;
    }

    fn enter(&mut self) -> RunEnd {
        drain(self.timer.signal);
        self.timer.arm(self.budget, Duration::ZERO);
        run(&mut self.vcpu)
    }

    /// Its signal would stay pending until its own next run, and the others share its thread.
    fn end(&mut self) {
        drain(self.timer.signal);
    }
}

/// The same, but disarmed and drained after every KVM_RUN.
pub(crate) struct Gem5(Reference);

impl Gem5 {
    pub(crate) fn new(vcpu: VcpuFd, realtime_signal: u32) -> Self {
        Gem5(Reference::new(vcpu, realtime_signal))
    }
}

impl Scheme for Gem5 {
    fn name(&self) -> &'static str {
        "arm, run, disarm, drain"
    }

    fn begin(&mut self, budget: Duration) {
        self.0.budget = budget;
    }

    fn enter(&mut self) -> RunEnd {
        self.0.timer.arm(self.0.budget, Duration::ZERO);
        let entered = run(&mut self.0.vcpu);
        self.0.timer.arm(Duration::ZERO, Duration::ZERO);
        drain(self.0.timer.signal);
        entered
    }
}

/// A signal with a handler that does nothing, from a timer that is set once a budget.
pub(crate) struct EmptyHandler {
    vcpu: VcpuFd,
    timer: RawTimer,
}

impl EmptyHandler {
    pub(crate) fn new(vcpu: VcpuFd, realtime_signal: u32) -> Self {
        let signal = libc::SIGRTMIN() + realtime_signal as i32;
        install_counting_handler(signal);
        EmptyHandler {
            vcpu,
            timer: RawTimer::new(signal),
        }
    }
}

impl Scheme for EmptyHandler {
    fn name(&self) -> &'static str {
        "empty handler"
    }

    fn begin(&mut self, budget: Duration) {
        self.timer.arm(budget, AGAIN);
    }

    fn enter(&mut self) -> RunEnd {
        run(&mut self.vcpu)
    }

    fn end(&mut self) {
        self.timer.arm(Duration::ZERO, Duration::ZERO);
    }
}

/// A thread that waits for a timerfd and then signals the vCPU's thread, whose handler does nothing.
pub(crate) struct TimerThread {
    vcpu: VcpuFd,
    thread: TimerThreadHandle,
}

impl TimerThread {
    pub(crate) fn new(vcpu: VcpuFd, realtime_signal: u32) -> Self {
        let signal = libc::SIGRTMIN() + realtime_signal as i32;
        install_counting_handler(signal);
        TimerThread {
            vcpu,
            thread: TimerThreadHandle::new(signal),
        }
    }
}

impl Scheme for TimerThread {
    fn name(&self) -> &'static str {
        "kicker thread on a timerfd"
    }

    fn begin(&mut self, budget: Duration) {
        self.thread.arm(budget, AGAIN);
    }

    fn enter(&mut self) -> RunEnd {
        run(&mut self.vcpu)
    }

    fn end(&mut self) {
        self.thread.arm(Duration::ZERO, Duration::ZERO);
    }
}
