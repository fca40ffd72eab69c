//! Split locks that are emulated before they are executed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kvm_bindings::{kvm_guest_debug, kvm_regs};
use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, MonotonicTime, Outcome, PreemptibleVcpu, ThreadCpuTime};
use split_lock_assist::guard::{
    BreakpointOutcome, Config, Ended, Reaction, Response, Run, VcpuGuard, VcpuProgress,
};
use split_lock_assist::kvm::{BreakpointSupport, DebugRegisters, vcpu_parts};
use split_lock_assist::pause::SingleVcpu;

use crate::vm::{CODE, HANDLER_PORT, SPLIT, SPLIT_PAGE, TestVm, kvm};
use crate::{DONE_PORT, INCREMENT, emulating, response, stall, stalled_run, supported_levels};

/// A guest whose split lock is watched from the beginning.
struct WatchedGuest {
    // Before the memory that it uses.
    vcpu: VcpuFd,
    vm: TestVm,
    guard: VcpuGuard,
    debug_registers: DebugRegisters,
}

/// What has happened until the guest was done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    runs: u64,
    emulated: u64,
    not_split: u64,
    left_to_cpu: u64,
    nothing: u64,
}

impl WatchedGuest {
    /// `change` is done to the registers before anything else.
    fn new(
        support: BreakpointSupport,
        vm: TestVm,
        cpl: u8,
        turns: u64,
        change: impl Fn(&mut kvm_regs),
    ) -> Self {
        let vcpu = vm.vcpu(0, cpl, turns);
        let mut registers = vcpu.get_regs().unwrap();
        change(&mut registers);
        vcpu.set_regs(&registers).unwrap();
        WatchedGuest {
            vcpu,
            vm,
            guard: emulating(),
            debug_registers: DebugRegisters::new(support),
        }
    }

    /// The first of its split locks is emulated for this.
    fn watch(&mut self) {
        let response = response(&self.stall());
        assert_eq!(response, Response::Emulated { watched: true });
    }

    fn stall(&mut self) -> VcpuProgress {
        stall(
            &mut self.guard,
            &mut self.vcpu,
            &self.vm,
            &SingleVcpu,
            &mut self.debug_registers,
        )
    }

    fn play(&mut self) -> Story {
        let mut story = Story::default();
        loop {
            story.runs += 1;
            let debug = match self.vcpu.run().unwrap() {
                VcpuExit::Debug(debug) => debug,
                VcpuExit::IoOut(DONE_PORT, _) => return story,
                exit => panic!("{exit:?}"),
            };
            let mut parts = vcpu_parts(
                &mut self.vcpu,
                &self.vm.memory,
                &SingleVcpu,
                &mut self.debug_registers,
            );
            match self.guard.handle_breakpoint(debug, &mut parts).unwrap() {
                BreakpointOutcome::Emulated(_) => story.emulated += 1,
                BreakpointOutcome::NoSplitLock => story.not_split += 1,
                BreakpointOutcome::LeftToCpu(_) => story.left_to_cpu += 1,
                BreakpointOutcome::Nothing => story.nothing += 1,
                BreakpointOutcome::ForGuest => panic!("the guest has not asked for anything"),
            }
        }
    }

    fn turns(&self) -> u64 {
        self.vcpu.get_regs().unwrap().rcx
    }
}

#[test]
fn every_operation_is_emulated_for_exactly_one_exit() {
    const TURNS: u64 = 2_000;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        for operand in [SPLIT, SPLIT_PAGE] {
            let vm = TestVm::new(&kvm, INCREMENT);
            let mut guest =
                WatchedGuest::new(support, vm, cpl, TURNS, |registers| registers.rsi = operand);
            guest.watch();
            let story = guest.play();
            // The first was emulated after a stall, and the port write is an exit as well.
            let expected = Story {
                runs: TURNS,
                emulated: TURNS - 1,
                ..Story::default()
            };
            assert_eq!(story, expected);
            assert_eq!((guest.vm.word(operand), guest.turns()), (TURNS, TURNS));
        }
    }
}

/// Where breakpoints do not work, a stall is all that there is.
#[test]
fn without_breakpoints_nothing_is_watched() {
    let Some(kvm) = kvm() else { return };
    for cpl in [0, 3] {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(BreakpointSupport::NONE, vm, cpl, 100, |_| {});
        let mut verdict = guest.stall();
        for turn in 1..100 {
            assert_eq!(response(&verdict), Response::Emulated { watched: false });
            assert_eq!(guest.vm.word(SPLIT), turn);
            // It comes back to where it was.
            let mut registers = guest.vcpu.get_regs().unwrap();
            registers.rip = CODE;
            guest.vcpu.set_regs(&registers).unwrap();
            verdict = stalled_run(
                &mut guest.guard,
                &mut guest.vcpu,
                &guest.vm,
                &SingleVcpu,
                &mut guest.debug_registers,
            );
        }
        // From there on natively.
        assert_eq!(guest.play().runs, 1);
        assert_eq!(guest.vm.word(SPLIT), 199);
    }
}

/// ```text
/// 0:  lock inc qword ptr [rsi]   ; nop; nop; nop; nop
/// 4:  inc rcx
///     cmp rcx,rbx
///     jne 1f
///     mov dword ptr [rdi],90909090h
/// 1:  dec rdx
///     jnz 0
///     out 0x10,al
/// ```
const CHANGES_ITSELF: &[u8] = &[
    0xf0, 0x48, 0xff, 0x06, 0x48, 0xff, 0xc1, 0x48, 0x39, 0xd9, 0x75, 0x06, 0xc7, 0x07, 0x90, 0x90,
    0x90, 0x90, 0x48, 0xff, 0xca, 0x75, 0xe9, 0xe6, 0x10,
];

#[test]
fn code_that_changes_under_a_breakpoint_is_executed_as_it_is() {
    const TURNS: u64 = 300;
    const UNTIL_CHANGE: u64 = 100;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, CHANGES_ITSELF);
        let mut guest = WatchedGuest::new(support, vm, cpl, TURNS, |registers| {
            (registers.rbx, registers.rdi) = (UNTIL_CHANGE, CODE);
        });
        guest.watch();
        let story = guest.play();
        assert_eq!(story.emulated, UNTIL_CHANGE - 1);
        // It is given up soon.
        assert_eq!(story.not_split, 4);
        assert_eq!(guest.guard.watched_addresses(), &[None; 4]);
        assert_eq!(guest.vm.word(SPLIT), UNTIL_CHANGE);
        assert_eq!(guest.turns(), TURNS);
    }
}

/// ```text
/// 0:  lock inc qword ptr [rsi]
///     inc rcx
///     xchg rsi,rdi
///     dec rdx
///     jnz 0
///     out 0x10,al
/// ```
const ALTERNATES: &[u8] = &[
    0xf0, 0x48, 0xff, 0x06, 0x48, 0xff, 0xc1, 0x48, 0x87, 0xf7, 0x48, 0xff, 0xca, 0x75, 0xf1, 0xe6,
    0x10,
];

#[test]
fn an_instruction_that_does_not_split_every_time_is_emulated_when_it_does() {
    const TURNS: u64 = 200;
    const ALIGNED: u64 = 0x2_1000;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, ALTERNATES);
        let mut guest =
            WatchedGuest::new(support, vm, cpl, TURNS, |registers| registers.rdi = ALIGNED);
        guest.watch();
        let story = guest.play();
        assert_eq!(
            (story.emulated, story.not_split),
            (TURNS / 2 - 1, TURNS / 2)
        );
        let counters = (guest.vm.word(SPLIT), guest.vm.word(ALIGNED), guest.turns());
        assert_eq!(counters, (TURNS / 2, TURNS / 2, TURNS));
    }
}

#[test]
fn an_operand_that_never_splits_again_is_left_to_the_cpu() {
    const TURNS: u64 = 200;
    const ALIGNED: u64 = 0x2_1000;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(support, vm, cpl, TURNS, |_| {});
        guest.watch();
        let mut registers = guest.vcpu.get_regs().unwrap();
        registers.rsi = ALIGNED;
        guest.vcpu.set_regs(&registers).unwrap();
        let story = guest.play();
        assert_eq!((story.emulated, story.not_split), (0, 4));
        let counters = (guest.vm.word(SPLIT), guest.vm.word(ALIGNED), guest.turns());
        assert_eq!(counters, (1, TURNS - 1, TURNS));
    }
}

/// A page that is taken away: the CPU raises the page fault, at the right instruction.
#[test]
fn a_page_fault_is_the_guests() {
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(support, vm, cpl, 100, |registers| {
            registers.rsi = SPLIT_PAGE
        });
        guest.watch();
        let second_page = 0x4000 + 8 * 0x21;
        guest.vm.set_words(second_page, &[0]);
        let before = guest.vm.word(SPLIT_PAGE);
        let mut left_to_cpu = 0;
        let port = loop {
            let debug = match guest.vcpu.run().unwrap() {
                VcpuExit::Debug(debug) => debug,
                VcpuExit::IoOut(port, _) => break port,
                exit => panic!("{exit:?}"),
            };
            let mut parts = vcpu_parts(
                &mut guest.vcpu,
                &guest.vm.memory,
                &SingleVcpu,
                &mut guest.debug_registers,
            );
            let hit = guest.guard.handle_breakpoint(debug, &mut parts).unwrap();
            left_to_cpu += u32::from(matches!(hit, BreakpointOutcome::LeftToCpu(_)));
        };
        assert_eq!((port, left_to_cpu), (HANDLER_PORT, 1));
        let special = guest.vcpu.get_sregs().unwrap();
        assert_eq!(special.cr2, SPLIT_PAGE + 4);
        assert_eq!(guest.vm.word(SPLIT_PAGE), before);
    }
}

#[test]
fn kicks_lose_nothing_and_do_nothing_twice() {
    const TURNS: u64 = 5_000;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(support, vm, cpl, TURNS, |_| {});
        guest.watch();
        let WatchedGuest {
            vcpu,
            vm,
            guard,
            debug_registers,
        } = &mut guest;
        let mut vcpu = PreemptibleVcpu::new(vcpu).unwrap();
        let (kicker, done) = (vcpu.kicker(), AtomicBool::new(false));
        let mut kicked = 0u64;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut pause_us = 1;
                while !done.load(Ordering::Relaxed) {
                    kicker.kick().unwrap();
                    pause_us = pause_us * 7 % 113;
                    thread::sleep(Duration::from_micros(pause_us));
                }
            });
            loop {
                match vcpu.run_until(Deadline::Never).unwrap() {
                    Outcome::Kicked => kicked += 1,
                    Outcome::Exit(VcpuExit::Debug(debug)) => {
                        let vcpu = vcpu.vcpu_mut();
                        let mut parts = vcpu_parts(vcpu, &vm.memory, &SingleVcpu, debug_registers);
                        guard.handle_breakpoint(debug, &mut parts).unwrap();
                    }
                    Outcome::Exit(VcpuExit::IoOut(DONE_PORT, _)) => break,
                    outcome => panic!("{outcome:?}"),
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        drop(vcpu);
        assert!(kicked > 0);
        assert_eq!((guest.vm.word(SPLIT), guest.turns()), (TURNS, TURNS));
        assert_eq!(guest.guard.statistics().emulated_at_breakpoints, TURNS - 1);
    }
}

/// Emulating, letting through, stepping over, and back.
#[test]
fn choosing_loses_nothing_and_does_nothing_twice() {
    const QUANTUM: Duration = Duration::from_millis(5);
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(support, vm, cpl, u64::MAX, |_| {});
        guest.guard = VcpuGuard::new(Config {
            reaction: Reaction::Auto,
            ..Config::default()
        });
        guest.watch();
        let WatchedGuest {
            vcpu,
            vm,
            guard,
            debug_registers,
        } = &mut guest;
        let mut vcpu = PreemptibleVcpu::new(vcpu).unwrap();
        let (mut emulated, mut stepped) = (0, 0);
        // Long enough for a choice, and a while longer.
        for _ in 0..200 {
            let (began, cpu) = (MonotonicTime::now(), ThreadCpuTime::now());
            let deadline = Deadline::Wall(began + guard.budget(QUANTUM));
            while let Outcome::Exit(exit) = vcpu.run_until(deadline).unwrap() {
                let VcpuExit::Debug(debug) = exit else {
                    panic!("{exit:?}")
                };
                let mut parts =
                    vcpu_parts(vcpu.vcpu_mut(), &vm.memory, &SingleVcpu, debug_registers);
                match guard.handle_breakpoint(debug, &mut parts).unwrap() {
                    BreakpointOutcome::Emulated(_) => emulated += 1,
                    BreakpointOutcome::Nothing => stepped += 1,
                    hit => panic!("{hit:?}"),
                }
            }
            let run = Run {
                wall: MonotonicTime::now().saturating_since(began),
                cpu: Duration::from_nanos(ThreadCpuTime::now().as_nanos() - cpu.as_nanos()),
                ended: Ended::Expired,
            };
            let mut parts = vcpu_parts(vcpu.vcpu_mut(), &vm.memory, &SingleVcpu, debug_registers);
            guard.after_run(&run, &mut parts).unwrap();
        }
        drop(vcpu);
        // It may be between the increment in memory and that of the register.
        let at_most_one = guest.vm.word(SPLIT) - guest.turns();
        assert!(at_most_one <= 1, "{at_most_one} more in memory");
        assert!(emulated > 0 && stepped > 0, "{emulated} and {stepped}");
        assert!(guest.turns() > emulated, "nothing was let through");
    }
}

/// An exception that KVM has taken because somebody watches, and that was meant for the guest.
#[test]
fn the_guests_own_debug_exceptions_reach_it() {
    const SINGLE_STEP: u64 = 1 << 14;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(support, vm, cpl, 100, |_| {});
        guest.watch();
        let debug = kvm_bindings::kvm_debug_exit_arch {
            exception: 1,
            pc: CODE + 4,
            dr6: 0xffff_0ff0 | SINGLE_STEP,
            ..Default::default()
        };
        let mut parts = vcpu_parts(
            &mut guest.vcpu,
            &guest.vm.memory,
            &SingleVcpu,
            &mut guest.debug_registers,
        );
        let hit = guest.guard.handle_breakpoint(debug, &mut parts).unwrap();
        assert_eq!(hit, BreakpointOutcome::ForGuest);
        let exit = guest.vcpu.run().unwrap();
        assert!(matches!(exit, VcpuExit::IoOut(HANDLER_PORT, _)), "{exit:?}");
        let debug_registers = guest.vcpu.get_debug_regs().unwrap();
        assert_ne!(debug_registers.dr6 & SINGLE_STEP, 0);
    }
}

#[test]
fn a_guest_that_arms_its_own_breakpoints_gets_them_back() {
    const TURNS: u64 = 1_000;
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(support, vm, cpl, TURNS, |_| {});
        guest.watch();
        let mut own = guest.vcpu.get_debug_regs().unwrap();
        // Writes to somewhere where it does not write.
        (own.db[0], own.dr7) = (0x4_0000, 0x1_0402);
        guest.vcpu.set_debug_regs(&own).unwrap();
        let story = guest.play();
        assert_eq!(guest.guard.watched_addresses(), &[None; 4]);
        assert!(story.emulated < 256, "{story:?}");
        assert_eq!((guest.vm.word(SPLIT), guest.turns()), (TURNS, TURNS));
    }
}

#[test]
fn what_is_probed_is_what_happens() {
    let Some(kvm) = kvm() else { return };
    let support = BreakpointSupport::probe(&kvm).unwrap();
    assert_eq!(support.at(1).or(support.at(2)), None);
    for cpl in [0, 3] {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut vcpu = vm.vcpu(0, cpl, 1);
        let mut debug = kvm_guest_debug {
            control: kvm_bindings::KVM_GUESTDBG_ENABLE | kvm_bindings::KVM_GUESTDBG_USE_HW_BP,
            ..Default::default()
        };
        (debug.arch.debugreg[0], debug.arch.debugreg[7]) = (CODE, 0x402);
        vcpu.set_guest_debug(&debug).unwrap();
        let stopped = matches!(vcpu.run().unwrap(), VcpuExit::Debug(exit) if exit.pc == CODE);
        assert_eq!(stopped, support.at(cpl).is_some(), "at CPL {cpl}");
    }
}
