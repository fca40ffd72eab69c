//! What is changed for a vCPU is restored after it, and clashes are errors.

mod common;

use std::time::Duration;

use common::{
    BOTH_MECHANISMS, COUNT, OUT_LOOP, SPIN, blocked_signals, config, config_with, one_vcpu, vm,
};
use kvm_ioctls::VcpuExit;
use kvm_preemption_timer::{Deadline, Error, Mechanism, Outcome, PreemptibleVcpu, Signal};

fn run_briefly<V: std::borrow::BorrowMut<kvm_ioctls::VcpuFd>>(vcpu: &mut PreemptibleVcpu<V>) {
    let outcome = vcpu
        .run_until(Deadline::after(Duration::from_micros(100)))
        .unwrap();
    assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
}

#[test]
fn the_thread_is_left_as_it_was_found() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let before = (blocked_signals(), common::pending_signals());
        let mut bounded = PreemptibleVcpu::with_config(&mut vcpu, config(mechanism)).unwrap();
        run_briefly(&mut bounded);
        bounded.kicker().kick().unwrap();
        let masked = mechanism == Mechanism::MaskedSignal;
        assert_eq!(blocked_signals() != before.0, masked);
        drop(bounded);
        assert_eq!((blocked_signals(), common::pending_signals()), before);
    }
}

#[test]
fn the_vcpu_can_be_bounded_again_and_on_another_thread() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let mut bounded = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        run_briefly(&mut bounded);
        let vcpu = bounded.into_inner();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let bounded = PreemptibleVcpu::with_config(vcpu, config(mechanism));
                run_briefly(&mut bounded.unwrap());
            });
        });
    }
}

#[test]
fn every_usable_signal_works() {
    let standard = [10, 12, 14, 16, 23, 24, 25, 26, 27, 28, 29, 30];
    let realtime = (0..30).map(|offset| Signal::realtime(offset).unwrap());
    let signals = standard
        .map(|n| Signal::new(n).unwrap())
        .into_iter()
        .chain(realtime);
    for signal in signals {
        for mechanism in BOTH_MECHANISMS {
            let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
                return;
            };
            match PreemptibleVcpu::with_config(vcpu, config_with(mechanism, signal)) {
                Ok(mut bounded) => {
                    run_briefly(&mut bounded);
                    bounded.kicker().kick().unwrap();
                    let outcome = bounded.run_until(Deadline::after(Duration::from_secs(20)));
                    assert!(matches!(outcome.unwrap(), Outcome::Kicked));
                }
                // The test harness or a library has a handler for it.
                Err(Error::SignalHandled { .. }) => {}
                Err(error) => panic!("{signal}: {error}"),
            }
        }
    }
}

#[test]
fn two_vcpus_on_one_thread_need_two_signals() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, mut vcpus)) = vm(SPIN, 2) else {
            return;
        };
        let (mut first, mut second) = (vcpus.remove(0), vcpus.remove(0));
        let mut a = PreemptibleVcpu::with_config(&mut first, config(mechanism)).unwrap();
        let error = PreemptibleVcpu::with_config(&mut second, config(mechanism)).unwrap_err();
        assert!(matches!(error, Error::SignalTaken { .. }), "{error}");
        let other = config_with(mechanism, Signal::realtime(5).unwrap());
        let mut b = PreemptibleVcpu::with_config(&mut second, other).unwrap();
        for _ in 0..20 {
            a.kicker().kick().unwrap();
            run_briefly(&mut b);
            assert!(matches!(
                a.run_until(Deadline::Never).unwrap(),
                Outcome::Kicked
            ));
            run_briefly(&mut a);
        }
        drop(a);
        PreemptibleVcpu::with_config(&mut first, config(mechanism)).unwrap();
    }
}

#[test]
fn a_signal_that_is_pending_already_is_somebody_elses() {
    let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
        return;
    };
    let signal = Signal::realtime(7).unwrap();
    common::foreign::block_and_raise(signal.number());
    for mechanism in BOTH_MECHANISMS {
        let error = PreemptibleVcpu::with_config(&mut vcpu, config_with(mechanism, signal));
        let error = error.unwrap_err();
        assert!(matches!(error, Error::SignalPending { .. }), "{error}");
    }
    assert_ne!(
        common::pending_signals(),
        "0000000000000000",
        "it was taken"
    );
}

#[test]
fn a_signal_with_a_handler_is_somebody_elses() {
    let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
        return;
    };
    let signal = Signal::realtime(8).unwrap();
    common::foreign::handle(signal.number());
    for mechanism in BOTH_MECHANISMS {
        let error = PreemptibleVcpu::with_config(&mut vcpu, config_with(mechanism, signal));
        let error = error.unwrap_err();
        assert!(matches!(error, Error::SignalHandled { .. }), "{error}");
    }
}

#[test]
fn a_signal_of_somebody_else_does_not_reach_the_caller() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let noise = Signal::realtime(11).unwrap();
        common::foreign::handle(noise.number());
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        let stop = common::foreign::pester_this_thread(noise.number());
        for _ in 0..20 {
            let deadline = kvm_preemption_timer::MonotonicTime::now() + Duration::from_millis(5);
            let outcome = vcpu.run_until(deadline).unwrap();
            assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
            assert!(kvm_preemption_timer::MonotonicTime::now() >= deadline);
        }
        assert!(stop() > 100, "hardly any signals came");
    }
}

#[test]
fn a_signal_that_was_blocked_before_stays_blocked() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let signal = Signal::realtime(12).unwrap();
        common::foreign::block(signal.number());
        let before = blocked_signals();
        let bounded = PreemptibleVcpu::with_config(&mut vcpu, config_with(mechanism, signal));
        run_briefly(&mut bounded.unwrap());
        assert_eq!(blocked_signals(), before);
    }
}

/// Counts the turns of a guest that has one millisecond.
fn turns<V: std::borrow::BorrowMut<kvm_ioctls::VcpuFd>>(vcpu: &mut PreemptibleVcpu<V>) -> u64 {
    common::restart(vcpu.vcpu());
    let outcome = vcpu.run_until(Deadline::after(Duration::from_millis(10)));
    assert!(matches!(outcome.unwrap(), Outcome::Expired(_)));
    vcpu.vcpu().get_regs().unwrap().rax
}

/// A signal that KVM lets through and nobody takes would keep the guest out for ever.
#[test]
fn a_signal_that_is_blocked_later_and_pending_does_not_keep_the_guest_out() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, mut vcpus)) = vm(COUNT, 2) else {
            return;
        };
        let (mut first, mut second) = (vcpus.remove(0), vcpus.remove(0));
        let mut a = PreemptibleVcpu::with_config(&mut first, config(mechanism)).unwrap();
        let other = config_with(mechanism, Signal::realtime(5).unwrap());
        let b = PreemptibleVcpu::with_config(&mut second, other).unwrap();
        b.kicker().kick().unwrap();
        assert!(
            turns(&mut a) > 0,
            "a kick of one vCPU keeps another one out"
        );

        common::foreign::block_and_raise(Signal::realtime(13).unwrap().number());
        assert!(turns(&mut a) > 0, "a pending signal keeps the vCPU out");
    }
}

#[test]
fn immediate_exit_left_by_somebody_else_does_not_keep_the_guest_out() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, mut vcpu)) = one_vcpu(COUNT) else {
            return;
        };
        vcpu.set_kvm_immediate_exit(1);
        let mut bounded = PreemptibleVcpu::with_config(&mut vcpu, config(mechanism)).unwrap();
        assert!(turns(&mut bounded) > 0);
        bounded.vcpu_mut().set_kvm_immediate_exit(1);
        assert!(turns(&mut bounded) > 0);
        bounded.kicker().kick().unwrap();
        drop(bounded);
        assert_eq!(vcpu.get_kvm_run().immediate_exit, 0);
    }
}

/// If the mask were left in KVM, the pending signal, which the thread blocks, would interrupt
/// every run of whoever has the vCPU next.
#[test]
fn kvm_is_left_without_a_mask() {
    let Some((_vm, mut vcpu)) = one_vcpu(OUT_LOOP) else {
        return;
    };
    let signal = Signal::realtime(14).unwrap();
    let config = config_with(Mechanism::MaskedSignal, signal);
    drop(PreemptibleVcpu::with_config(&mut vcpu, config).unwrap());
    common::foreign::block_and_raise(signal.number());
    assert!(matches!(vcpu.run().unwrap(), VcpuExit::IoOut(0x10, _)));
}
