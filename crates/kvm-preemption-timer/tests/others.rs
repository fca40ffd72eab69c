//! What a VMM and its libraries do with signals and with KVM keeps its effect, and the binding keeps
//! its own.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::foreign::{self, OwnRunPage, descriptor};
use common::{
    COUNT, SPIN, both_configs, each_bound, each_mechanism, far_deadline, interruption,
    kick_reasons, one_vcpu, run_to_the_end,
};
use kvm_ioctls::VcpuFd;
use kvm_preemption_timer::{
    Config, Deadline, Error, Interruption, KickError, KickReasons, Mechanism, Signal, SignalSet,
    VcpuBinding,
};
use nix::unistd::gettid;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn realtime(offset: u32) -> i32 {
    Signal::realtime(offset).unwrap().number()
}

/// Calls `act` on another thread once this one is in the guest, or close to it.
fn soon(act: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(ms(3));
        act();
    })
}

#[test]
fn a_signal_of_the_vmm_ends_the_run() {
    let signal = realtime(1);
    foreign::handle(signal);
    each_bound(SPIN, |_, mut binding, mut vcpu| {
        for _ in 0..20 {
            let me = gettid();
            let sender = soon(move || foreign::send(me, signal));
            let end = interruption(&mut binding, &mut vcpu, Deadline::Never);
            assert_eq!(end, Interruption::Other);
            sender.join().unwrap();
        }
    });
}

#[test]
fn immediate_exit_through_another_mapping_ends_the_run_and_is_the_vmms_to_clear() {
    each_bound(COUNT, |_, mut binding, mut vcpu| {
        let own = OwnRunPage::map(descriptor(&vcpu));
        for _ in 0..10 {
            own.set_immediate_exit(1);
            let end = interruption(&mut binding, &mut vcpu, far_deadline());
            assert_eq!(end, Interruption::Other);
            // A deadline and a kick are reported, and clear nothing of the VMM's.
            run_to_the_end(&mut binding, &mut vcpu, Deadline::after(ms(1)));
            binding.kicker().kick().unwrap();
            kick_reasons(&mut binding, &mut vcpu);
            assert_eq!(own.immediate_exit(), 1);
            own.set_immediate_exit(0);
            run_to_the_end(&mut binding, &mut vcpu, Deadline::after(ms(1)));
        }
    });
}

/// The vCPU's thread is done with the last run, and clears `immediate_exit` in the moment in which a
/// deadline passes.
#[test]
fn immediate_exit_cleared_by_the_vmm_forgets_no_deadline_and_no_kick() {
    each_bound(SPIN, |_, mut binding, mut vcpu| {
        for _ in 0..20 {
            let deadline = Deadline::after(ms(1));
            binding.arm(deadline).unwrap();
            binding.kicker().kick().unwrap();
            std::thread::sleep(ms(2));
            vcpu.set_kvm_immediate_exit(0);
            run_to_the_end(&mut binding, &mut vcpu, deadline);
            kick_reasons(&mut binding, &mut vcpu);
        }
    });
}

/// As gVisor's: KVM blocks everything but the VMM's own signal, which the thread blocks.
#[test]
fn a_mask_that_the_vmm_has_in_kvm_stays_in_force() {
    let kick = realtime(2);
    each_mechanism(SPIN, |config, mut vcpu| {
        let mask = SignalSet::from_bits(u64::MAX).without(kick);
        foreign::block(kick);
        foreign::set_kvm_mask(descriptor(&vcpu), mask.bits());
        let config = config.kvm_mask(mask);
        let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
        for _ in 0..5 {
            let me = gettid();
            let sender = soon(move || foreign::send(me, kick));
            let end = interruption(&mut binding, &mut vcpu, Deadline::Never);
            assert_eq!(end, Interruption::Other);
            sender.join().unwrap();
            assert!(foreign::consume(kick), "the VMM's signal was taken");
            run_to_the_end(&mut binding, &mut vcpu, Deadline::after(ms(1)));
        }
        drop(binding);
        foreign::send(gettid(), kick);
        let error = vcpu.run().unwrap_err();
        assert_eq!(error.errno(), libc::EINTR, "the VMM's mask is gone");
        foreign::consume(kick);
    });
}

/// As uhyve's: what the thread blocks, less the VMM's own signal.
#[test]
fn a_mask_in_kvm_that_the_vmm_does_not_tell_of_stays_in_force() {
    let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
        return;
    };
    let kick = realtime(3);
    foreign::block(kick);
    foreign::set_kvm_mask(descriptor(&vcpu), 0);
    let mut binding = VcpuBinding::of(&vcpu).unwrap();
    let me = gettid();
    let sender = soon(move || foreign::send(me, kick));
    let end = interruption(&mut binding, &mut vcpu, Deadline::Never);
    assert_eq!(end, Interruption::Other);
    sender.join().unwrap();
    drop(binding);
    let error = vcpu.run().unwrap_err();
    assert_eq!(error.errno(), libc::EINTR, "the VMM's mask is gone");
}

fn keeps_its_promises(binding: &mut VcpuBinding, vcpu: &mut VcpuFd) {
    run_to_the_end(binding, vcpu, Deadline::after(ms(1)));
    // While no run is active, so that the signal is sent to a thread in user space.
    binding.arm(Deadline::after(ms(1))).unwrap();
    std::thread::sleep(ms(2));
    run_to_the_end(binding, vcpu, Deadline::after(ms(1)));
    binding.kicker().kick().unwrap();
    while !matches!(
        interruption(binding, vcpu, far_deadline()),
        Interruption::Kicked(_)
    ) {}
}

#[test]
fn a_thread_that_unblocks_all_signals_lives_on() {
    each_bound(SPIN, |_, mut binding, mut vcpu| {
        for _ in 0..10 {
            binding.arm(Deadline::after(ms(1))).unwrap();
            foreign::block_exactly([]);
            std::thread::sleep(ms(2));
            keeps_its_promises(&mut binding, &mut vcpu);
        }
    });
}

#[test]
fn a_thread_that_blocks_all_signals_is_forced_out_all_the_same() {
    each_bound(SPIN, |config, mut binding, mut vcpu| {
        for _ in 0..10 {
            let deadline = Deadline::after(ms(1));
            binding.arm(deadline).unwrap();
            foreign::block_exactly(1..=64);
            if config.mechanism == Mechanism::MaskedSignal {
                run_to_the_end(&mut binding, &mut vcpu, deadline);
            }
            keeps_its_promises(&mut binding, &mut vcpu);
        }
        foreign::block_exactly([]);
    });
}

#[test]
fn a_mask_that_the_thread_changes_later_is_not_taken_back() {
    each_bound(SPIN, |config, mut binding, mut vcpu| {
        run_to_the_end(&mut binding, &mut vcpu, Deadline::after(ms(1)));
        foreign::block(realtime(12));
        match config.mechanism {
            Mechanism::MaskedSignal => foreign::block_exactly([realtime(12)]),
            _ => foreign::block(config.signal.number()),
        }
        let changed = common::blocked_signals();
        drop(binding);
        assert_eq!(common::blocked_signals(), changed);
        foreign::block_exactly([]);
    });
}

#[test]
fn a_signal_of_the_vmm_that_it_unblocks_later_ends_the_run() {
    let signal = realtime(4);
    foreign::handle(signal);
    for config in both_configs() {
        let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        foreign::block_exactly([signal]);
        let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
        run_to_the_end(&mut binding, &mut vcpu, Deadline::after(ms(1)));
        foreign::block_exactly([]);
        let me = gettid();
        let sender = soon(move || foreign::send(me, signal));
        let end = interruption(&mut binding, &mut vcpu, far_deadline());
        assert_eq!(end, Interruption::Other);
        sender.join().unwrap();
    }
}

#[test]
fn a_handler_that_somebody_installs_later_is_noticed_and_left_alone() {
    for (config, offset) in both_configs().into_iter().zip([5, 6]) {
        let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let config = config.signal(Signal::realtime(offset).unwrap());
        let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
        run_to_the_end(&mut binding, &mut vcpu, Deadline::after(ms(1)));
        foreign::handle(realtime(offset));
        match config.mechanism {
            Mechanism::MaskedSignal => keeps_its_promises(&mut binding, &mut vcpu),
            _ => {
                let result = binding.run_until(&mut vcpu, Deadline::after(ms(1)));
                let error = result.unwrap_err();
                assert!(matches!(error, Error::SignalHandled { .. }), "{error}");
            }
        }
        drop(binding);
        assert!(foreign::is_still_handled(realtime(offset)));
    }
}

/// The default action of these signals ends the process.
#[test]
fn a_handler_that_somebody_takes_out_is_put_back() {
    for (config, offset) in both_configs().into_iter().zip([10, 11]) {
        let Some((_vm, mut vcpu)) = one_vcpu(SPIN) else {
            return;
        };
        let config = config.signal(Signal::realtime(offset).unwrap());
        let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
        for set_action in [foreign::ignore_signal, foreign::set_default_action] {
            set_action(realtime(offset));
            run_to_the_end(&mut binding, &mut vcpu, Deadline::after(Duration::ZERO));
            set_action(realtime(offset));
            keeps_its_promises(&mut binding, &mut vcpu);
        }
    }
}

#[test]
fn a_thread_without_a_vcpu_survives_the_signal() {
    each_bound(SPIN, |config, mut binding, mut vcpu| {
        let signal = config.signal.number();
        let other = std::thread::spawn(move || foreign::send(gettid(), signal));
        other.join().unwrap();
        run_to_the_end(&mut binding, &mut vcpu, Deadline::after(ms(1)));
    });
}

#[test]
fn a_thread_that_has_ended_with_its_binding_forgotten_is_gone() {
    each_mechanism(SPIN, |config, vcpu| {
        let (kickers, kicker) = mpsc::channel();
        let config = config.signal(Signal::realtime(7).unwrap());
        let thread = std::thread::spawn(move || {
            let binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
            kickers.send(binding.kicker()).unwrap();
            std::mem::forget(binding);
        });
        thread.join().unwrap();
        let error = kicker.recv().unwrap().kick().unwrap_err();
        assert!(matches!(error, KickError::Gone), "{error}");
    });
}

#[test]
fn a_run_of_another_vcpu_is_refused() {
    common::each_pair(SPIN, |config, first, mut second| {
        let mut binding = VcpuBinding::of_with_config(&first, config).unwrap();
        let error = binding.run_until(&mut second, far_deadline()).unwrap_err();
        assert!(matches!(error, Error::OtherVcpu { .. }), "{error}");
        let error = binding.complete_io(&mut second).unwrap_err();
        assert!(matches!(error, Error::OtherVcpu { .. }), "{error}");
    });
}

#[test]
fn a_descriptor_without_a_run_page_is_refused() {
    let (pipe, _writer) = std::io::pipe().unwrap();
    let pipe = std::os::fd::AsFd::as_fd(&pipe);
    for config in both_configs() {
        let error = VcpuBinding::with_config(pipe, config).unwrap_err();
        assert!(error.to_string().contains("run page"), "{error}");
    }
}

#[test]
fn reasons_of_kicks_come_together_and_once() {
    const STOP: KickReasons = KickReasons::number(0);
    const PAUSE: KickReasons = KickReasons::number(30);
    each_bound(SPIN, |_, mut binding, mut vcpu| {
        for _ in 0..20 {
            let kicker = binding.kicker();
            kicker.kick_for(STOP).unwrap();
            kicker.kick_for(PAUSE).unwrap();
            kicker.kick().unwrap();
            assert_eq!(kick_reasons(&mut binding, &mut vcpu), STOP | PAUSE);
            kicker.kick().unwrap();
            assert_eq!(kick_reasons(&mut binding, &mut vcpu), KickReasons::NONE);
        }
    });
}

#[test]
fn a_flood_of_kicks_hides_no_expiry() {
    each_bound(SPIN, |_, mut binding, mut vcpu| {
        let kicker = binding.kicker();
        let flood = std::thread::spawn(move || while kicker.kick().is_ok() {});
        for _ in 0..50 {
            let deadline = Deadline::after(ms(1));
            let mut runs_after_deadline = 0;
            loop {
                match interruption(&mut binding, &mut vcpu, deadline) {
                    Interruption::Expired(expiry) => {
                        assert_eq!(expiry.deadline, deadline);
                        break;
                    }
                    _ => {
                        let Deadline::Wall(at) = deadline else {
                            unreachable!()
                        };
                        let passed = kvm_preemption_timer::MonotonicTime::now() > at;
                        runs_after_deadline += u32::from(passed);
                    }
                }
            }
            assert!(runs_after_deadline <= 2, "{runs_after_deadline}");
        }
        drop(binding);
        flood.join().unwrap();
    });
}

#[test]
fn kicks_and_deadlines_that_have_always_passed_take_turns() {
    each_bound(SPIN, |_, mut binding, mut vcpu| {
        let kicker = binding.kicker();
        let mut kicks = 0;
        for _ in 0..100 {
            kicker.kick().unwrap();
            let end = interruption(&mut binding, &mut vcpu, Deadline::after(Duration::ZERO));
            kicks += u32::from(matches!(end, Interruption::Kicked(_)));
        }
        assert!((49..=51).contains(&kicks), "{kicks} kicks in 100 runs");
    });
}

/// A VMM may handle exits on the vCPU's thread with system calls that signals interrupt.
#[test]
fn a_masked_signal_interrupts_no_system_call_of_the_vmm() {
    let Some((_vm, vcpu)) = one_vcpu(SPIN) else {
        return;
    };
    let config = Config::new().mechanism(Mechanism::MaskedSignal);
    let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
    binding.arm(Deadline::after(ms(1))).unwrap();
    let interrupted = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(10u8));
    assert_eq!(interrupted, Ok(0));
}
