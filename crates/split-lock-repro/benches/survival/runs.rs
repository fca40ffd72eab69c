//! A guest that goes on and on in bounded runs, measured for a span of time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_USE_HW_BP, kvm_guest_debug};
use kvm_ioctls::{Kvm, VcpuFd};
use kvm_preemption_timer::MonotonicTime;
use split_lock_assist::breakpoint_slots::dr7;
use split_lock_assist::guard::{Config, Reaction};
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_assist::pause::PauseGate;
use split_lock_model::kernel::Profile;
use split_lock_repro::guest::Level;
use split_lock_repro::host::{Ended, GuardedVcpu, HostedVcpu, Kernel, grace};
use split_lock_repro::vm::{Vcpu, VcpuSlot, Vm};

use crate::common::guest;

/// What all measurements have in common.
pub(crate) struct Machine {
    pub(crate) kvm: Kvm,
    pub(crate) kernel: Profile,
    pub(crate) support: BreakpointSupport,
}

/// What becomes of a guest's split locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    pub(crate) name: &'static str,
    /// Whether the host punishes them.
    detects: bool,
    /// What a guard does about it, if there is one.
    reaction: Option<Reaction>,
    /// Whether the guard may use breakpoints; without a guard, whether there is one that is never hit.
    breakpoints: bool,
}

/// The host lets everything pass.
pub(crate) const NO_DETECTION: Scheme = Scheme {
    name: "no detection",
    detects: false,
    reaction: None,
    breakpoints: false,
};
/// The same with a breakpoint where the guest never comes. A KVM that emulates the guest looks for it
/// at every instruction, which is not the guard's cost.
pub(crate) const NO_DETECTION_ARMED: Scheme = Scheme {
    breakpoints: true,
    ..NO_DETECTION
};
/// With a guard that finds nothing to do.
pub(crate) const GUARDED: Scheme = Scheme {
    name: "guarded",
    reaction: Some(Reaction::Emulate),
    breakpoints: true,
    ..NO_DETECTION
};
/// The host punishes, and nobody helps.
pub(crate) const WARN: Scheme = Scheme {
    name: "warn",
    detects: true,
    ..NO_DETECTION
};
pub(crate) const EMULATE: Scheme = Scheme {
    name: "emulate, no breakpoints",
    reaction: Some(Reaction::Emulate),
    ..WARN
};
pub(crate) const EMULATE_AT_BREAKPOINTS: Scheme = Scheme {
    name: "emulate, breakpoints",
    breakpoints: true,
    ..EMULATE
};

/// What runs, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) guest: &'a str,
    pub(crate) level: Level,
    pub(crate) scheme: Scheme,
    /// The length of each run.
    pub(crate) timeout: Duration,
}

impl Machine {
    /// Turns per second of a guest in consecutive runs, as a VMM makes them, for at least `span`.
    ///
    /// A turn that is not complete counts by the work in it. A guard that can use breakpoints first gets
    /// time to set one. The measurement begins half a span and a random part of a punishment later: a
    /// sleep at the beginning of each would count too much.
    pub(crate) fn rate(&self, setting: Setting<'_>, span: Duration) -> f64 {
        let (level, scheme) = (setting.level, setting.scheme);
        let guest = guest(setting.guest);
        let mut vm = Vm::new(&self.kvm).expect("KVM was there a moment ago");
        let Vcpu { mut fd, slot } = if scheme.detects && level == Level::Cpl3 {
            vm.add_vcpu_that_checks_alignment(&guest)
        } else {
            vm.add_vcpu(&guest, level)
        }
        .expect("the guest can be loaded");
        let hosted = if scheme.detects {
            let kernel = Arc::new(Kernel::new(self.kernel.clone(), 1));
            HostedVcpu::emulated(&mut fd, &slot, &guest, level, kernel)
        } else {
            if scheme == NO_DETECTION_ARMED {
                set_breakpoint(&fd, guest.load_address() - 1);
            }
            HostedVcpu::native(&mut fd, &slot)
        };
        let guard = scheme.reaction.map(Config::new);
        let support = if scheme.breakpoints {
            self.support
        } else {
            BreakpointSupport::NONE
        };
        let hosted = hosted.expect("the vCPU can be bounded");
        let mut vcpu = GuardedVcpu::new(hosted, guard, &PauseGate::new(), support).unwrap();
        if scheme.detects && scheme.breakpoints {
            run_to_breakpoint(&mut vcpu, setting.timeout);
        }
        run_for(&mut vcpu, setting.timeout, span / 2 + self.phase());
        let before = work(&vcpu, &slot);
        let start = Instant::now();
        run_for(&mut vcpu, setting.timeout, span);
        let elapsed = start.elapsed();
        (work(&vcpu, &slot) - before) / elapsed.as_secs_f64()
    }

    /// Anything up to a punishment and the window after it, by the clock.
    fn phase(&self) -> Duration {
        let cycle_ns = grace(&self.kernel, 0).unwrap_or_default().as_nanos() as u64;
        Duration::from_nanos(MonotonicTime::now().as_nanos() % (cycle_ns + 1))
    }
}

/// The vCPU stops whenever it is about to execute what is there.
pub(crate) fn set_breakpoint(vcpu: &VcpuFd, address: u64) {
    let mut debug = kvm_guest_debug {
        control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
        ..Default::default()
    };
    debug.arch.debugreg[0] = address;
    debug.arch.debugreg[7] = dr7(&[Some(address), None, None, None]);
    vcpu.set_guest_debug(&debug).expect("every KVM has it");
}

/// Runs until the guard has emulated at a breakpoint, or until it is clear that it will not.
fn run_to_breakpoint(vcpu: &mut GuardedVcpu<'_>, timeout: Duration) {
    let start = Instant::now();
    let has_hit = |vcpu: &GuardedVcpu<'_>| {
        let statistics = vcpu.statistics();
        statistics.is_some_and(|statistics| statistics.emulated_at_breakpoints > 0)
    };
    while !has_hit(vcpu) && start.elapsed() < Duration::from_secs(1) {
        run_for(vcpu, timeout, timeout);
    }
}

fn run_for(vcpu: &mut GuardedVcpu<'_>, timeout: Duration, span: Duration) {
    let mut now = MonotonicTime::now();
    let end = now + span;
    while now < end {
        match vcpu.run_until(now + timeout).expect("the guest can run") {
            Ended::Expired => now = MonotonicTime::now(),
            other => panic!("the guest is alone and makes no exits: {other:?}"),
        }
    }
}

/// Turns so far. A guest that works has all of a turn's work in RBX, and what is left of it in RDX.
fn work(vcpu: &GuardedVcpu<'_>, slot: &VcpuSlot) -> f64 {
    let fd = vcpu.vcpu().fd();
    let registers = slot.guest_registers(fd).expect("KVM tells registers");
    let part = match registers.rbx {
        0 => 0.0,
        all => 1.0 - registers.rdx as f64 / all as f64,
    };
    slot.turns(fd).expect("KVM tells registers") as f64 + part
}
