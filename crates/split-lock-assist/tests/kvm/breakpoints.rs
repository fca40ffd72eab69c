//! Split locks that are emulated before they are executed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kvm_bindings::{kvm_debug_exit_arch, kvm_guest_debug, kvm_regs};
use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu};
use split_lock_assist::guard::{BreakpointOutcome, Response, VcpuGuard, VcpuProgress};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::SingleVcpu;

use crate::vm::{CODE, HANDLER_PORT, SPLIT, SPLIT_PAGE, TestVm, kvm};
use crate::{DONE_PORT, INCREMENT, emulating, response, stall, stalled_run, supported_levels};

/// Does not cross a line.
const ALIGNED: u64 = 0x2_1000;

/// A guest whose split lock is watched from the beginning.
struct WatchedGuest {
    // Before the memory that it uses.
    vcpu: VcpuFd,
    vm: TestVm,
    guard: VcpuGuard,
    kvm: KvmVcpu,
}

/// What has happened until the guest wrote to a port.
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
        let mut guest = WatchedGuest {
            kvm: KvmVcpu::new(&vcpu, support).unwrap(),
            vcpu,
            vm,
            guard: emulating(),
        };
        guest.change_registers(change);
        guest
    }

    fn change_registers(&mut self, change: impl Fn(&mut kvm_regs)) {
        let mut registers = self.vcpu.get_regs().unwrap();
        change(&mut registers);
        self.vcpu.set_regs(&registers).unwrap();
    }

    fn stall(&mut self) -> VcpuProgress {
        stall(&mut self.guard, &mut self.kvm, &self.vm, &SingleVcpu)
    }

    fn handle(&mut self, exit: kvm_debug_exit_arch) -> BreakpointOutcome {
        let ram = GuestRam::new(&self.vm.memory);
        let mut parts = self.kvm.stopped(ram, &SingleVcpu);
        self.guard.handle_breakpoint(exit, &mut parts).unwrap()
    }

    /// Runs the guest to its end.
    fn play(&mut self) -> Story {
        self.play_to(DONE_PORT)
    }

    /// Runs the guest until it writes to a port, which has to be this one.
    fn play_to(&mut self, expected: u16) -> Story {
        let mut story = Story::default();
        loop {
            story.runs += 1;
            let debug = match self.vcpu.run().unwrap() {
                VcpuExit::Debug(debug) => debug,
                VcpuExit::IoOut(port, _) => {
                    assert_eq!(port, expected, "{story:?}");
                    return story;
                }
                exit => panic!("{exit:?}"),
            };
            match self.handle(debug) {
                BreakpointOutcome::Emulated(_) => story.emulated += 1,
                BreakpointOutcome::NoSplitLock => story.not_split += 1,
                BreakpointOutcome::LeftToCpu(_) => story.left_to_cpu += 1,
                BreakpointOutcome::Nothing => story.nothing += 1,
                outcome => panic!("the guest has not asked for anything: {outcome:?}"),
            }
        }
    }

    /// What it has counted to at these addresses, and in RCX at last.
    fn counts<const N: usize>(&self, addresses: [u64; N]) -> ([u64; N], u64) {
        let words = addresses.map(|address| self.vm.word(address));
        (words, self.vcpu.get_regs().unwrap().rcx)
    }
}

/// A guest at each level at which breakpoints work, of whose split locks the first has been emulated
/// and is watched since.
fn at_each_level(
    code: &[u8],
    turns: u64,
    change: impl Fn(&mut kvm_regs),
    mut check: impl FnMut(WatchedGuest),
) {
    let Some(kvm) = kvm() else { return };
    let (support, levels) = supported_levels(&kvm);
    for cpl in levels {
        let vm = TestVm::new(&kvm, code);
        let mut guest = WatchedGuest::new(support, vm, cpl, turns, &change);
        let response = response(&guest.stall());
        assert_eq!(response, Response::Emulated { watched: true });
        check(guest);
    }
}

#[test]
fn every_operation_is_emulated_for_exactly_one_exit() {
    const TURNS: u64 = 2_000;
    for operand in [SPLIT, SPLIT_PAGE] {
        let at_operand = |registers: &mut kvm_regs| registers.rsi = operand;
        at_each_level(INCREMENT, TURNS, at_operand, |mut guest| {
            // The first was emulated after a stall, and the port write is an exit as well.
            let expected = Story {
                runs: TURNS,
                emulated: TURNS - 1,
                ..Story::default()
            };
            assert_eq!(guest.play(), expected);
            assert_eq!(guest.counts([operand]), ([TURNS], TURNS));
        });
    }
}

/// Where breakpoints do not work, a stall is all that there is.
#[test]
fn without_breakpoints_nothing_is_watched() {
    let Some(kvm) = kvm() else { return };
    for cpl in [0, 3] {
        let vm = TestVm::new(&kvm, INCREMENT);
        let mut guest = WatchedGuest::new(BreakpointSupport::NONE, vm, cpl, 100, |_| {});
        let mut progress = guest.stall();
        for turn in 1..100 {
            assert_eq!(response(&progress), Response::Emulated { watched: false });
            assert_eq!(guest.vm.word(SPLIT), turn);
            // It comes back to where it was.
            guest.change_registers(|registers| registers.rip = CODE);
            progress = stalled_run(&mut guest.guard, &mut guest.kvm, &guest.vm, &SingleVcpu);
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
    let when_and_where = |registers: &mut kvm_regs| {
        (registers.rbx, registers.rdi) = (UNTIL_CHANGE, CODE);
    };
    at_each_level(CHANGES_ITSELF, TURNS, when_and_where, |mut guest| {
        let story = guest.play();
        assert_eq!(story.emulated, UNTIL_CHANGE - 1);
        // It is given up soon.
        assert_eq!(story.not_split, 4);
        assert_eq!(guest.guard.watched_addresses(), &[None; 4]);
        assert_eq!(guest.counts([SPLIT]), ([UNTIL_CHANGE], TURNS));
    });
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
    let alternate = |registers: &mut kvm_regs| registers.rdi = ALIGNED;
    at_each_level(ALTERNATES, TURNS, alternate, |mut guest| {
        let story = guest.play();
        assert_eq!(
            (story.emulated, story.not_split),
            (TURNS / 2 - 1, TURNS / 2)
        );
        let halves = [TURNS / 2; 2];
        assert_eq!(guest.counts([SPLIT, ALIGNED]), (halves, TURNS));
    });
}

#[test]
fn an_operand_that_never_splits_again_is_left_to_the_cpu() {
    const TURNS: u64 = 200;
    at_each_level(
        INCREMENT,
        TURNS,
        |_| {},
        |mut guest| {
            guest.change_registers(|registers| registers.rsi = ALIGNED);
            let story = guest.play();
            assert_eq!((story.emulated, story.not_split), (0, 4));
            assert_eq!(guest.counts([SPLIT, ALIGNED]), ([1, TURNS - 1], TURNS));
        },
    );
}

/// A page that is taken away: the CPU raises the page fault, at the right instruction.
#[test]
fn a_page_fault_is_the_guests() {
    let over_pages = |registers: &mut kvm_regs| registers.rsi = SPLIT_PAGE;
    at_each_level(INCREMENT, 100, over_pages, |mut guest| {
        let second_page = 0x4000 + 8 * 0x21;
        guest.vm.set_words(second_page, &[0]);
        let before = guest.vm.word(SPLIT_PAGE);
        assert_eq!(guest.play_to(HANDLER_PORT).left_to_cpu, 1);
        let special = guest.vcpu.get_sregs().unwrap();
        assert_eq!(special.cr2, SPLIT_PAGE + 4);
        assert_eq!(guest.vm.word(SPLIT_PAGE), before);
    });
}

#[test]
fn kicks_lose_nothing_and_do_nothing_twice() {
    const TURNS: u64 = 5_000;
    at_each_level(
        INCREMENT,
        TURNS,
        |_| {},
        |mut guest| {
            let WatchedGuest {
                vcpu,
                vm,
                guard,
                kvm,
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
                            let mut parts = kvm.stopped(GuestRam::new(&vm.memory), &SingleVcpu);
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
            assert_eq!(guest.counts([SPLIT]), ([TURNS], TURNS));
            assert_eq!(guest.guard.statistics().emulated_at_breakpoints, TURNS - 1);
        },
    );
}

/// An exception that KVM has taken because somebody watches, and that was meant for the guest.
#[test]
fn the_guests_own_debug_exceptions_reach_it() {
    const SINGLE_STEP: u64 = 1 << 14;
    at_each_level(
        INCREMENT,
        100,
        |_| {},
        |mut guest| {
            let outcome = guest.handle(kvm_debug_exit_arch {
                exception: 1,
                pc: CODE + 4,
                dr6: 0xffff_0ff0 | SINGLE_STEP,
                ..Default::default()
            });
            assert_eq!(outcome, BreakpointOutcome::ForGuest);
            let exit = guest.vcpu.run().unwrap();
            assert!(matches!(exit, VcpuExit::IoOut(HANDLER_PORT, _)), "{exit:?}");
            let debug_registers = guest.vcpu.get_debug_regs().unwrap();
            assert_ne!(debug_registers.dr6 & SINGLE_STEP, 0);
        },
    );
}

#[test]
fn a_guest_that_arms_its_own_breakpoints_gets_them_back() {
    const TURNS: u64 = 1_000;
    at_each_level(
        INCREMENT,
        TURNS,
        |_| {},
        |mut guest| {
            let mut own = guest.vcpu.get_debug_regs().unwrap();
            // Writes to somewhere where it does not write.
            (own.db[0], own.dr7) = (0x4_0000, 0x1_0402);
            guest.vcpu.set_debug_regs(&own).unwrap();
            let story = guest.play();
            assert_eq!(guest.guard.watched_addresses(), &[None; 4]);
            assert!(story.emulated < 256, "{story:?}");
            assert_eq!(guest.counts([SPLIT]), ([TURNS], TURNS));
        },
    );
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
