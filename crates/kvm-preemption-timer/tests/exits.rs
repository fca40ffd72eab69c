//! Guest exits: they do not touch the budget, and I/O can be completed before state is read.

mod common;

use std::time::Duration;

use common::{BOTH_MECHANISMS, CODE, IN_ONCE, REP_OUT, config, one_vcpu};
use kvm_ioctls::VcpuExit;
use kvm_preemption_timer::{Deadline, MonotonicTime, Outcome, PreemptibleVcpu};

fn far() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn pending_input_is_completed_before_state_is_read() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(IN_ONCE) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        match vcpu.run_until(far()).unwrap() {
            Outcome::Exit(VcpuExit::IoIn(0x10, data)) => data[0] = 0x5a,
            other => panic!("{other:?}"),
        }
        assert!(vcpu.complete_io().unwrap().is_none());
        let regs = vcpu.vcpu().get_regs().unwrap();
        assert_eq!(regs.rax & 0xff, 0x5a, "the input has not arrived");
        assert_eq!(regs.rip, CODE + 2, "exactly one instruction is complete");
        assert_eq!(regs.rbx & 0xff, 0, "and none after it");
    }
}

#[test]
fn an_instruction_with_several_exits_is_completed_exit_by_exit() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(REP_OUT) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        let mut written = match vcpu.run_until(far()).unwrap() {
            Outcome::Exit(VcpuExit::IoOut(0x10, data)) => data.len(),
            other => panic!("{other:?}"),
        };
        while let Some(exit) = vcpu.complete_io().unwrap() {
            match exit {
                VcpuExit::IoOut(0x10, data) => written += data.len(),
                other => panic!("{other:?}"),
            }
        }
        let regs = vcpu.vcpu().get_regs().unwrap();
        assert_eq!((regs.rcx & 0xffff) as usize + written, 3, "{regs:?}");
    }
}

#[test]
fn completing_io_loses_neither_deadline_nor_kick() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(common::SPIN) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        for _ in 0..200 {
            let deadline = MonotonicTime::now() + Duration::from_micros(200);
            let _ = vcpu.run_until(Deadline::after(Duration::ZERO)).unwrap();
            vcpu.kicker().kick().unwrap();
            assert!(vcpu.complete_io().unwrap().is_none());
            assert!(matches!(vcpu.run_until(deadline).unwrap(), Outcome::Kicked));
            while MonotonicTime::now() < deadline {
                assert!(vcpu.complete_io().unwrap().is_none());
            }
            let outcome = vcpu.run_until(deadline).unwrap();
            assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
        }
    }
}

#[test]
fn halting_and_crashing_reach_the_caller_as_they_are() {
    for mechanism in BOTH_MECHANISMS {
        let Some((_vm, vcpu)) = one_vcpu(common::HALT) else {
            return;
        };
        let mut vcpu = PreemptibleVcpu::with_config(vcpu, config(mechanism)).unwrap();
        let outcome = vcpu.run_until(far()).unwrap();
        assert!(
            matches!(outcome, Outcome::Exit(VcpuExit::Hlt)),
            "{outcome:?}"
        );
    }
}
