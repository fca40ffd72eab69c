//! What it costs to get a guest past a split lock, in ticks of the CPU's time stamp counter.
//!
//! `cargo run --release -p split-lock-assist --example cost`
//!
//! On the CPU of the lab a tick is an instruction, so that the numbers are the same each time: `cargo lab cost`. Each
//! line is a number and a name, and a number is a median.

#[path = "../tests/kvm/vm.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod vm;

use std::arch::x86_64::_rdtsc;
use std::error::Error;
use std::time::Duration;

use kvm_bindings::kvm_debug_exit_arch;
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu, open_kvm};
use split_lock_assist::guard::{
    BreakpointOutcome, Config, Ended, Reaction, Response, Run, VcpuGuard,
};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::{GuestPass, PauseGate, SingleVcpu};

use vm::{CODE, TestVm};

/// `0: out 0x10,al; jmp 0`
const OUT_LOOP: &[u8] = &[0xe6, 0x10, 0xeb, 0xfc];
/// `0: lock inc qword ptr [rsi]; jmp 0`
const SPLIT_LOOP: &[u8] = &[0xf0, 0x48, 0xff, 0x06, 0xeb, 0xfa];

const CALLS: u32 = 1001;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let kvm = open_kvm()?;
    let support = BreakpointSupport::probe(&kvm)?;
    // Programs run at 3; without hardware virtualization breakpoints may not work there.
    let cpl = if support.at(3).is_some() { 3 } else { 0 };
    let vm = TestVm::new(&kvm, OUT_LOOP);
    print(
        "system call",
        typical(|| assert_ne!(std::os::unix::process::parent_id(), 0)),
    );
    bare(&mut vm.vcpu(0, cpl, 0));
    calls(&vm.vcpu(1, cpl, 0));

    let vm = TestVm::new(&kvm, SPLIT_LOOP);
    stalls(&vm, cpl)?;
    if support.at(cpl).is_some() {
        breakpoints(&vm, support, cpl)?;
    }
    Ok(())
}

fn print(name: &str, ticks: u64) {
    println!("{ticks:>9} {name}");
}

/// Of one call.
fn ticks(act: impl FnOnce()) -> u64 {
    let before = now();
    act();
    now() - before
}

#[expect(unsafe_code, reason = "the counter has no safe interface")]
fn now() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC.
    unsafe { _rdtsc() }
}

/// The median of many calls: interrupts come in between.
fn typical(mut act: impl FnMut()) -> u64 {
    median((0..CALLS).map(|_| ticks(&mut act)).collect())
}

fn median(mut ticks: Vec<u64>) -> u64 {
    ticks.sort_unstable();
    ticks[ticks.len() / 2]
}

fn bare(vcpu: &mut VcpuFd) {
    let run = |vcpu: &mut VcpuFd| assert!(matches!(vcpu.run(), Ok(VcpuExit::IoOut(..))));
    print("bare exit", typical(|| run(vcpu)));
    let sets: [(&str, &[SyncReg]); 4] = [
        ("regs", &[SyncReg::Register]),
        ("sregs", &[SyncReg::SystemRegister]),
        ("events", &[SyncReg::VcpuEvents]),
        (
            "all",
            &[
                SyncReg::Register,
                SyncReg::SystemRegister,
                SyncReg::VcpuEvents,
            ],
        ),
    ];
    for (name, set) in sets {
        set.iter().for_each(|it| vcpu.set_sync_valid_reg(*it));
        print(
            &format!("exit with {name} in the run page"),
            typical(|| run(vcpu)),
        );
        set.iter().for_each(|it| vcpu.clear_sync_valid_reg(*it));
    }
    vcpu.set_sync_valid_reg(SyncReg::Register);
    let set = typical(|| {
        vcpu.set_sync_dirty_reg(SyncReg::Register);
        vcpu.sync_regs_mut().regs.rip = CODE;
        run(vcpu);
    });
    print("exit with regs in the run page, and back", set);
    vcpu.clear_sync_valid_reg(SyncReg::Register);
    let mut vcpu = PreemptibleVcpu::new(vcpu).unwrap();
    let deadline = Deadline::after(Duration::from_secs(3600));
    let bounded = typical(|| {
        let outcome = vcpu.run_until(deadline);
        assert!(matches!(outcome, Ok(Outcome::Exit(VcpuExit::IoOut(..)))));
    });
    print("exit through run_until", bounded);
}

fn calls(vcpu: &VcpuFd) {
    let regs = vcpu.get_regs().unwrap();
    let events = vcpu.get_vcpu_events().unwrap();
    print(
        "KVM_GET_REGS",
        typical(|| {
            let _ = vcpu.get_regs();
        }),
    );
    print(
        "KVM_SET_REGS",
        typical(|| {
            let _ = vcpu.set_regs(&regs);
        }),
    );
    print(
        "KVM_GET_SREGS",
        typical(|| {
            let _ = vcpu.get_sregs();
        }),
    );
    print(
        "KVM_GET_VCPU_EVENTS",
        typical(|| {
            let _ = vcpu.get_vcpu_events();
        }),
    );
    print(
        "KVM_SET_VCPU_EVENTS",
        typical(|| {
            let _ = vcpu.set_vcpu_events(&events);
        }),
    );
    print(
        "KVM_GET_DEBUGREGS",
        typical(|| {
            let _ = vcpu.get_debug_regs();
        }),
    );
    print(
        "KVM_GET_MP_STATE",
        typical(|| {
            let _ = vcpu.get_mp_state();
        }),
    );
    print(
        "KVM_TRANSLATE",
        typical(|| {
            let _ = vcpu.translate_gva(CODE);
        }),
    );
}

fn guard() -> VcpuGuard {
    VcpuGuard::new(Config::new(Reaction::Emulate))
}

/// Has a run end in which the thread hardly had the CPU.
fn stalled(guard: &mut VcpuGuard) -> Run {
    Run {
        wall: guard.budget(Duration::from_millis(1)),
        cpu: Duration::from_micros(5),
        ended: Ended::Expired,
    }
}

/// A run that has got the vCPU nowhere, once the guard sees that.
fn stall(guard: &mut VcpuGuard, vm: &TestVm, vcpu: &mut KvmVcpu) -> (u64, Option<Response>) {
    let mut response = None;
    let run = stalled(guard);
    let ticks = ticks(|| {
        let mut parts = vcpu.stopped(GuestRam::new(&vm.memory), &SingleVcpu);
        let progress = guard.after_run(&run, &mut parts).unwrap();
        response = progress.stall().map(|stall| stall.response);
    });
    (ticks, response)
}

/// Without breakpoints.
fn stalls(vm: &TestVm, cpl: u8) -> Result<(), Failure> {
    let fd = vm.vcpu(0, cpl, 0);
    let at_split = fd.get_regs()?;
    let mut vcpu = KvmVcpu::new(&fd, BreakpointSupport::NONE)?;
    let mut guard = guard();
    let mut costs = vec![];
    while costs.len() < 50 {
        let (ticks, response) = stall(&mut guard, vm, &mut vcpu);
        match response {
            Some(Response::Emulated { .. }) => costs.push(ticks),
            Some(other) => return Err(format!("{other:?}").into()),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
        fd.set_regs(&at_split)?;
    }
    print("first stall, found and emulated", costs[0]);
    print("later stall, found and emulated", median(costs));
    Ok(())
}

fn breakpoints(vm: &TestVm, support: BreakpointSupport, cpl: u8) -> Result<(), Failure> {
    let fd = vm.vcpu(1, cpl, 0);
    let vcpu = KvmVcpu::new(&fd, support)?.returning_registers_with_next_run();
    emulated("split lock emulated at a breakpoint", vm, fd, vcpu)?;
    let fd = vm.vcpu(2, cpl, 0);
    let vcpu = KvmVcpu::new(&fd, support)?;
    emulated("the same, registers returned at once", vm, fd, vcpu)
}

fn emulated(name: &str, vm: &TestVm, fd: VcpuFd, mut vcpu: KvmVcpu) -> Result<(), Failure> {
    let gate = PauseGate::new();
    let mut bounded = PreemptibleVcpu::new(fd)?;
    let kicker = bounded.kicker();
    let mut pass = gate.pass(move || kicker.kick());
    let mut guard = guard();
    while stall(&mut guard, vm, &mut vcpu).1.is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let deadline = Deadline::after(Duration::from_secs(3600));
    let (mut runs, mut handled) = (vec![], vec![]);
    let all = typical(|| {
        let entered = now();
        let exit = {
            let _inside = pass.enter();
            match bounded.run_until(deadline) {
                Ok(Outcome::Exit(VcpuExit::Debug(exit))) => exit,
                other => panic!("not at the breakpoint: {other:?}"),
            }
        };
        let left = now();
        handle(&mut guard, exit, vm, &mut vcpu, &pass);
        runs.push(left - entered);
        handled.push(now() - left);
    });
    print(name, all);
    print("  of which the run", median(runs));
    print("  of which the guard", median(handled));
    Ok(())
}

#[inline(never)]
fn handle(
    guard: &mut VcpuGuard,
    exit: kvm_debug_exit_arch,
    vm: &TestVm,
    vcpu: &mut KvmVcpu,
    pass: &GuestPass,
) {
    let mut parts = vcpu.stopped(GuestRam::new(&vm.memory), pass);
    let outcome = guard.handle_breakpoint(exit, &mut parts);
    assert!(matches!(outcome, Ok(BreakpointOutcome::Emulated(_))));
}
