//! What is changed for a vCPU is restored after it, and clashes are errors.

mod common;

use std::time::Duration;

use common::foreign;
use common::{
    COUNT, OUT_LOOP, SPIN, blocked_signals, each_mechanism, each_pair, expired, far_deadline,
    kicked, one_vcpu, pending_signals,
};
use kvm_ioctls::VcpuExit;
use kvm_preemption_timer::{
    Config, Deadline, Error, Mechanism, MonotonicTime, PreemptibleVcpu, Signal,
};

fn run_briefly<V: std::borrow::BorrowMut<kvm_ioctls::VcpuFd>>(vcpu: &mut PreemptibleVcpu<V>) {
    expired(vcpu.run_until(Deadline::after(Duration::from_micros(100))));
}

#[test]
fn the_thread_is_left_as_it_was_found() {
    each_mechanism(SPIN, |config, mut vcpu| {
        let before = (blocked_signals(), pending_signals());
        let mut bounded = PreemptibleVcpu::with_config(&mut vcpu, config).unwrap();
        run_briefly(&mut bounded);
        bounded.kicker().kick().unwrap();
        let masked = config.mechanism == Mechanism::MaskedSignal;
        assert_eq!(blocked_signals() != before.0, masked);
        drop(bounded);
        assert_eq!((blocked_signals(), pending_signals()), before);
    });
}

#[test]
fn the_vcpu_can_be_bounded_again_and_on_another_thread() {
    each_mechanism(SPIN, |config, vcpu| {
        let mut bounded = PreemptibleVcpu::with_config(vcpu, config).unwrap();
        run_briefly(&mut bounded);
        let vcpu = bounded.into_inner();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let bounded = PreemptibleVcpu::with_config(vcpu, config);
                run_briefly(&mut bounded.unwrap());
            });
        });
    });
}

#[test]
fn every_usable_signal_works() {
    let standard = [10, 12, 14, 16, 26, 27];
    let realtime = (0..30).map(|offset| Signal::realtime(offset).unwrap());
    let signals = standard
        .map(|n| Signal::new(n).unwrap())
        .into_iter()
        .chain(realtime);
    for signal in signals {
        each_mechanism(SPIN, |config, vcpu| {
            match PreemptibleVcpu::with_config(vcpu, config.signal(signal)) {
                Ok(mut bounded) => {
                    run_briefly(&mut bounded);
                    bounded.kicker().kick().unwrap();
                    kicked(bounded.run_until(far_deadline()));
                }
                // The test harness or a library has a handler for it.
                Err(Error::SignalHandled { .. }) => {}
                Err(error) => panic!("{signal}: {error}"),
            }
        });
    }
}

#[test]
fn two_vcpus_on_one_thread_need_two_signals() {
    each_pair(SPIN, |config, mut first, mut second| {
        let mut a = PreemptibleVcpu::with_config(&mut first, config).unwrap();
        let error = PreemptibleVcpu::with_config(&mut second, config).unwrap_err();
        assert!(matches!(error, Error::SignalTaken { .. }), "{error}");
        let mut b = PreemptibleVcpu::with_config(&mut second, with_signal(5, config)).unwrap();
        for _ in 0..20 {
            a.kicker().kick().unwrap();
            run_briefly(&mut b);
            kicked(a.run_until(Deadline::Never));
            run_briefly(&mut a);
        }
        drop(a);
        PreemptibleVcpu::with_config(&mut first, config).unwrap();
    });
}

fn with_signal(offset: u32, config: Config) -> Config {
    config.signal(Signal::realtime(offset).unwrap())
}

#[test]
fn a_signal_that_is_pending_already_is_somebody_elses() {
    each_mechanism(SPIN, |config, vcpu| {
        let config = with_signal(7, config);
        foreign::block_and_raise(config.signal.number());
        let error = PreemptibleVcpu::with_config(vcpu, config).unwrap_err();
        assert!(matches!(error, Error::SignalPending { .. }), "{error}");
        assert_ne!(pending_signals(), "0000000000000000", "it was taken");
    });
}

#[test]
fn a_signal_with_a_handler_is_somebody_elses() {
    each_mechanism(SPIN, |config, vcpu| {
        let config = with_signal(8, config);
        foreign::handle(config.signal.number());
        let error = PreemptibleVcpu::with_config(vcpu, config).unwrap_err();
        assert!(matches!(error, Error::SignalHandled { .. }), "{error}");
    });
}

#[test]
fn a_signal_of_somebody_else_does_not_reach_the_caller() {
    each_mechanism(SPIN, |config, vcpu| {
        let noise = Signal::realtime(11).unwrap();
        foreign::handle(noise.number());
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config).unwrap();
        let stop = foreign::signal_this_thread_repeatedly(noise.number());
        for _ in 0..20 {
            let deadline = MonotonicTime::now() + Duration::from_millis(5);
            expired(vcpu.run_until(deadline));
            assert!(MonotonicTime::now() >= deadline);
        }
        assert!(stop() > 100, "hardly any signals came");
    });
}

#[test]
fn a_signal_that_was_blocked_before_stays_blocked() {
    each_mechanism(SPIN, |config, mut vcpu| {
        let config = with_signal(12, config);
        foreign::block(config.signal.number());
        let before = blocked_signals();
        run_briefly(&mut PreemptibleVcpu::with_config(&mut vcpu, config).unwrap());
        assert_eq!(blocked_signals(), before);
    });
}

/// Counts the turns of a guest in 10 ms of its thread's CPU time: other threads may have the CPU first.
fn turns<V: std::borrow::BorrowMut<kvm_ioctls::VcpuFd>>(vcpu: &mut PreemptibleVcpu<V>) -> u64 {
    common::restart(vcpu.vcpu());
    expired(vcpu.run_until(Deadline::after_cpu(Duration::from_millis(10))));
    vcpu.vcpu().get_regs().unwrap().rax
}

/// A signal that KVM lets through and nobody takes would keep the guest out for ever.
#[test]
fn a_signal_that_is_blocked_later_and_pending_does_not_keep_the_guest_out() {
    each_pair(COUNT, |config, mut first, second| {
        let mut a = PreemptibleVcpu::with_config(&mut first, config).unwrap();
        let b = PreemptibleVcpu::with_config(second, with_signal(5, config)).unwrap();
        b.kicker().kick().unwrap();
        assert!(
            turns(&mut a) > 0,
            "a kick of one vCPU keeps another one out"
        );

        foreign::block_and_raise(Signal::realtime(13).unwrap().number());
        assert!(turns(&mut a) > 0, "a pending signal keeps the vCPU out");
    });
}

#[test]
fn immediate_exit_left_by_somebody_else_does_not_keep_the_guest_out() {
    each_mechanism(COUNT, |config, mut vcpu| {
        vcpu.set_kvm_immediate_exit(1);
        let mut bounded = PreemptibleVcpu::with_config(&mut vcpu, config).unwrap();
        assert!(turns(&mut bounded) > 0);
        bounded.vcpu_mut().set_kvm_immediate_exit(1);
        assert!(turns(&mut bounded) > 0);
        bounded.kicker().kick().unwrap();
        drop(bounded);
        assert_eq!(vcpu.get_kvm_run().immediate_exit, 0);
    });
}

/// If the mask were left in KVM, the pending signal, which the thread blocks, would interrupt
/// every run of whoever has the vCPU next.
#[test]
fn kvm_is_left_without_a_mask() {
    let Some((_vm, mut vcpu)) = one_vcpu(OUT_LOOP) else {
        return;
    };
    let config = with_signal(14, Config::default());
    drop(PreemptibleVcpu::with_config(&mut vcpu, config).unwrap());
    foreign::block_and_raise(config.signal.number());
    assert!(matches!(vcpu.run().unwrap(), VcpuExit::IoOut(0x10, _)));
}
