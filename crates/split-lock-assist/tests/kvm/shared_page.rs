//! VMMs that use the run page, or the debug registers, themselves.

use kvm_bindings::{
    KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, kvm_guest_debug,
};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use split_lock_assist::guard::{Ended, Response, Run, VcpuGuard, VcpuProgress};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::SingleVcpu;

use crate::vm::{CODE, SPLIT, TestVm, kvm};
use crate::{DONE_PORT, INCREMENT, emulating, response, stall, stalled_run, supported_levels};

/// Where its vCPU is, as a VMM sees it that never asks KVM.
fn rip_in_page(vcpu: &VcpuFd) -> u64 {
    vcpu.sync_regs().regs.rip
}

fn handle(guard: &mut VcpuGuard, kvm: &mut KvmVcpu, vm: &TestVm, vcpu: &mut VcpuFd) {
    let VcpuExit::Debug(exit) = vcpu.run().unwrap() else {
        panic!("not at the breakpoint");
    };
    let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &SingleVcpu);
    guard.handle_breakpoint(exit, &mut parts).unwrap();
}

/// Registers go back at once, and with the next run.
fn both_ways(vcpu: &VcpuFd, support: BreakpointSupport) -> [KvmVcpu; 2] {
    let at_once = KvmVcpu::new(vcpu, support).unwrap();
    let with_next_run = KvmVcpu::new(vcpu, support).unwrap();
    [at_once, with_next_run.returning_registers_with_next_run()]
}

#[test]
fn a_vmm_keeps_its_sync_registers() {
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        for way in 0..2 {
            let vm = TestVm::new(&kvm, INCREMENT);
            let mut vcpu = vm.vcpu(0, cpl, 100);
            vcpu.set_sync_valid_reg(SyncReg::Register);
            let before = vcpu.get_kvm_run().kvm_valid_regs;
            let [at_once, with_next_run] = both_ways(&vcpu, support);
            let mut kvm = if way == 0 { at_once } else { with_next_run };
            let mut guard = emulating();
            stall(&mut guard, &mut kvm, &vm, &SingleVcpu);
            // What was emulated has been emulated in the page, too.
            assert_eq!(rip_in_page(&vcpu), CODE + 4);
            for hit in 1..10 {
                handle(&mut guard, &mut kvm, &vm, &mut vcpu);
                assert_eq!(rip_in_page(&vcpu), CODE + 4);
                assert_eq!(vcpu.sync_regs().regs.rcx, hit);
                kvm.settle().unwrap();
                assert_eq!(vcpu.get_regs().unwrap().rip, CODE + 4);
            }
            let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &SingleVcpu);
            guard.clear_breakpoints(&mut parts).unwrap();
            assert_eq!(vcpu.get_kvm_run().kvm_valid_regs, before);
            // And it goes on with a page that is true.
            let exit = vcpu.run().unwrap();
            assert!(matches!(exit, VcpuExit::IoOut(DONE_PORT, _)), "{exit:?}");
            assert_eq!(vcpu.sync_regs().regs.rcx, 100);
            assert_eq!(vm.word(SPLIT), 100);
        }
    }
}

/// Registers that the VMM has put into the page count with the next KVM_RUN: until then nobody knows where the vCPU is.
#[test]
fn nothing_is_emulated_while_the_vmms_own_registers_wait_in_the_page() {
    let Some(kvm) = kvm() else { return };
    let vm = TestVm::new(&kvm, INCREMENT);
    let mut vcpu = vm.vcpu(0, 0, 1);
    let mut kvm = KvmVcpu::new(&vcpu, BreakpointSupport::NONE).unwrap();
    let mut guard = emulating();
    let registers = vcpu.get_regs().unwrap();
    vcpu.set_sync_valid_reg(SyncReg::Register);
    vcpu.sync_regs_mut().regs = registers;
    vcpu.set_sync_dirty_reg(SyncReg::Register);
    for _ in 0..4 {
        let progress = stalled_run(&mut guard, &mut kvm, &vm, &SingleVcpu);
        assert_eq!(progress, VcpuProgress::Starved);
        crate::punish();
    }
    assert_eq!(vm.word(SPLIT), 0);
    vcpu.run().unwrap();
    assert_eq!(vm.word(SPLIT), 1);
}

/// Whoever takes the vCPU's state after an exit, without running it again, gets what was emulated.
#[test]
fn registers_that_wait_for_the_next_run_can_be_settled() {
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut vcpu = vm.vcpu(0, cpl, 10);
        let kvm = KvmVcpu::new(&vcpu, support).unwrap();
        let mut kvm = kvm.returning_registers_with_next_run();
        let mut guard = emulating();
        stall(&mut guard, &mut kvm, &vm, &SingleVcpu);
        handle(&mut guard, &mut kvm, &vm, &mut vcpu);
        assert_eq!(vm.word(SPLIT), 2);
        kvm.settle().unwrap();
        let saved = vcpu.get_regs().unwrap();
        assert_eq!((saved.rip, saved.rcx), (CODE + 4, 1));
        // Dropping it does the same.
        handle(&mut guard, &mut kvm, &vm, &mut vcpu);
        drop(kvm);
        assert_eq!(vcpu.get_regs().unwrap().rcx, 2);
        let exit = vcpu.run().unwrap();
        assert!(matches!(exit, VcpuExit::IoOut(DONE_PORT, _)), "{exit:?}");
        assert_eq!(vm.word(SPLIT), 10);
    }
}

/// It attaches a debugger in between: breakpoints of its own, and single steps, with the guard off.
#[test]
fn a_vmm_that_debugs_its_guest_gets_its_own_exits() {
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut vcpu = vm.vcpu(0, cpl, 100);
        let mut kvm = KvmVcpu::new(&vcpu, support).unwrap();
        let mut guard = emulating();
        let progress = stall(&mut guard, &mut kvm, &vm, &SingleVcpu);
        assert_eq!(response(&progress), Response::Emulated { watched: true });
        handle(&mut guard, &mut kvm, &vm, &mut vcpu);

        let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &SingleVcpu);
        guard.clear_breakpoints(&mut parts).unwrap();
        let mut debug = kvm_guest_debug {
            control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
            ..Default::default()
        };
        (debug.arch.debugreg[0], debug.arch.debugreg[7]) = (CODE + 7, 0x402);
        vcpu.set_guest_debug(&debug).unwrap();
        let exit = vcpu.run().unwrap();
        assert!(matches!(exit, VcpuExit::Debug(exit) if exit.pc == CODE + 7));
        debug = kvm_guest_debug {
            control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
            ..Default::default()
        };
        vcpu.set_guest_debug(&debug).unwrap();
        let exit = vcpu.run().unwrap();
        assert!(matches!(exit, VcpuExit::Debug(exit) if exit.pc == CODE + 10));
        vcpu.set_guest_debug(&kvm_guest_debug::default()).unwrap();

        // The debugger is gone: the guard finds the next stall, and watches again.
        guard.feign_stall();
        let mut registers = vcpu.get_regs().unwrap();
        (registers.rip, registers.rdx) = (CODE, registers.rdx - 1);
        vcpu.set_regs(&registers).unwrap();
        let progress = stalled_run(&mut guard, &mut kvm, &vm, &SingleVcpu);
        assert_eq!(response(&progress), Response::Emulated { watched: true });
        let before = vm.word(SPLIT);
        handle(&mut guard, &mut kvm, &vm, &mut vcpu);
        assert_eq!(vm.word(SPLIT), before + 1);
    }
}

/// An integrator's test of the wiring: the stall is feigned, everything else is real.
#[test]
fn a_feigned_stall_is_emulated_and_watched_on_any_host() {
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut vcpu = vm.vcpu(0, cpl, 50);
        let mut kvm = KvmVcpu::new(&vcpu, support).unwrap();
        let mut guard = emulating();
        guard.feign_stall();
        let run = Run {
            wall: std::time::Duration::from_millis(1),
            cpu: std::time::Duration::from_millis(1),
            ended: Ended::Expired,
        };
        let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &SingleVcpu);
        let progress = guard.after_run(&run, &mut parts).unwrap();
        assert!(matches!(progress, VcpuProgress::Stalled(_)), "{progress:?}");
        for _ in 1..50 {
            handle(&mut guard, &mut kvm, &vm, &mut vcpu);
        }
        assert_eq!(guard.statistics().emulated_at_breakpoints, 49);
        assert_eq!(vm.word(SPLIT), 50);
    }
}
