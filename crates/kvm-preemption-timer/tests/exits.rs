//! Guest exits: they do not touch the budget, and I/O can be completed before state is read.

mod common;

use std::time::Duration;

use common::{
    CODE, HALT, IN_ONCE, REP_OUT, SPIN, each_bounded, exited, expired, far_deadline, kicked,
};
use kvm_ioctls::VcpuExit;
use kvm_preemption_timer::{Deadline, MonotonicTime};

#[test]
fn pending_input_is_completed_before_state_is_read() {
    each_bounded(IN_ONCE, |mut vcpu| {
        match exited(vcpu.run_until(far_deadline())) {
            VcpuExit::IoIn(0x10, data) => data[0] = 0x5a,
            other => panic!("{other:?}"),
        }
        assert!(vcpu.complete_io().unwrap().is_none());
        let regs = vcpu.vcpu().get_regs().unwrap();
        assert_eq!(regs.rax & 0xff, 0x5a, "the input has not arrived");
        assert_eq!(regs.rip, CODE + 2, "exactly one instruction is complete");
        assert_eq!(regs.rbx & 0xff, 0, "and none after it");
    });
}

#[test]
fn an_instruction_with_several_exits_is_completed_exit_by_exit() {
    each_bounded(REP_OUT, |mut vcpu| {
        let mut written = match exited(vcpu.run_until(far_deadline())) {
            VcpuExit::IoOut(0x10, data) => data.len(),
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
    });
}

#[test]
fn completing_io_loses_neither_deadline_nor_kick() {
    each_bounded(SPIN, |mut vcpu| {
        for _ in 0..200 {
            let deadline = MonotonicTime::now() + Duration::from_micros(200);
            expired(vcpu.run_until(Deadline::after(Duration::ZERO)));
            vcpu.kicker().kick().unwrap();
            assert!(vcpu.complete_io().unwrap().is_none());
            kicked(vcpu.run_until(deadline));
            while MonotonicTime::now() < deadline {
                assert!(vcpu.complete_io().unwrap().is_none());
            }
            expired(vcpu.run_until(deadline));
        }
    });
}

#[test]
fn halting_reaches_the_caller_as_it_is() {
    each_bounded(HALT, |mut vcpu| {
        let exit = exited(vcpu.run_until(far_deadline()));
        assert!(matches!(exit, VcpuExit::Hlt), "{exit:?}");
    });
}
