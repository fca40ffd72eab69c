//! A guard with a vCPU that does as it is told.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use super::*;
use crate::breakpoint_slots::SLOTS;
use crate::cpu::{Context, Gpr, Registers};
use crate::decode::{Decoded, ImplicitLock, decode};
use crate::emulate::{Emulated, Reason};
use crate::memory::AccessError;

const SPLIT_AT: u64 = 0x1000;

/// What it was asked to do is written down.
#[derive(Debug)]
struct Vcpu {
    registers: Registers,
    halted: bool,
    event: bool,
    /// How often its thread has slept.
    sleeps: Option<u64>,
    instruction: Option<SplitInstruction>,
    /// Why it cannot be emulated.
    refuses: Option<Reason>,
    breakpoints_work: bool,
    guest_debugs: bool,
    set: [Option<u64>; SLOTS],
    steps: u32,
    emulated: u32,
    questions: Cell<u32>,
}

fn split() -> SplitInstruction {
    let mut registers = Registers {
        rip: SPLIT_AT,
        ..Registers::default()
    };
    registers.set(Gpr::Rsi, 0x303e);
    let bytes = [0xf0, 0xff, 0x06];
    let Decoded::Locked(access) = decode(&bytes, &registers, &Context::long_mode(3)) else {
        unreachable!("lock inc dword ptr [rsi]")
    };
    SplitInstruction::Access(access)
}

fn load_segment() -> SplitInstruction {
    let registers = Registers {
        rip: SPLIT_AT,
        ..Registers::default()
    };
    // mov ds,ax
    let bytes = [0x8e, 0xd8];
    let Decoded::ImplicitLock { instruction, lock } =
        decode(&bytes, &registers, &Context::long_mode(0))
    else {
        unreachable!("it sets an accessed bit")
    };
    assert!(matches!(lock, ImplicitLock::SegmentLoad(_)));
    SplitInstruction::Implicit { instruction, lock }
}

impl Vcpu {
    fn at(instruction: Option<SplitInstruction>) -> Self {
        Self {
            registers: Registers {
                rip: SPLIT_AT,
                ..Registers::default()
            },
            halted: false,
            event: false,
            sleeps: None,
            instruction,
            refuses: None,
            breakpoints_work: true,
            guest_debugs: false,
            set: [None; SLOTS],
            steps: 0,
            emulated: 0,
            questions: Cell::new(0),
        }
    }

    fn asked(&self) {
        self.questions.set(self.questions.get() + 1);
    }
}

impl VcpuAccess for Vcpu {
    type Error = Infallible;
    type Exit = DebugExit;

    fn is_halted(&self) -> Result<bool, Infallible> {
        self.asked();
        Ok(self.halted)
    }

    fn has_event(&self) -> Result<bool, Infallible> {
        self.asked();
        Ok(self.event)
    }

    fn voluntary_context_switches(&self) -> Option<u64> {
        self.sleeps
    }

    fn registers(&self) -> Result<Registers, Infallible> {
        self.asked();
        Ok(self.registers)
    }

    fn code_position(&self) -> Result<CodePosition, Infallible> {
        self.asked();
        Ok(CodePosition {
            address: self.registers.rip,
            cpl: 3,
        })
    }

    fn split_instruction(&mut self) -> Result<Option<SplitInstruction>, Infallible> {
        self.asked();
        Ok(self.instruction)
    }

    fn emulate(&mut self) -> Result<Emulated, Infallible> {
        assert!(!self.event, "something comes first");
        if let Some(reason) = self.refuses {
            return Ok(Emulated::LeftToCpu(reason));
        }
        let Some(SplitInstruction::Access(access)) = self.instruction else {
            panic!("there is nothing to emulate")
        };
        self.emulated += 1;
        Ok(Emulated::Done(access))
    }

    fn breakpoints_work_at(&self, _cpl: u8) -> bool {
        self.breakpoints_work
    }

    fn guest_uses_debug_registers(&mut self) -> Result<bool, Infallible> {
        Ok(self.guest_debugs)
    }

    fn set_breakpoints(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), Infallible> {
        self.asked();
        self.set = *addresses;
        Ok(())
    }

    fn step_over(&mut self) -> Result<(), Infallible> {
        self.steps += 1;
        Ok(())
    }

    fn classify_exit(&mut self, exit: DebugExit) -> Result<DebugExit, Infallible> {
        Ok(exit)
    }
}

fn new_guard(reaction: Reaction, grace: Option<Duration>) -> VcpuGuard {
    VcpuGuard::new(Config {
        reaction,
        grace,
        ..Config::default()
    })
}

const OWN: Duration = Duration::from_millis(1);
const GRACE: Duration = Duration::from_millis(28);

fn run(wall: Duration, cpu: Duration) -> Run {
    Run {
        wall,
        cpu,
        ended: Ended::Expired,
    }
}

/// One run that takes its whole budget, of which the thread had this share.
fn play(guard: &mut VcpuGuard, vcpu: &mut Vcpu, cpu_percent: u32) -> VcpuProgress {
    let wall = guard.budget(OWN);
    let Ok(verdict) = guard.after_run(&run(wall, wall * cpu_percent / 100), vcpu);
    verdict
}

fn hit(guard: &mut VcpuGuard, vcpu: &mut Vcpu) -> BreakpointOutcome {
    let Ok(hit) = guard.handle_breakpoint(DebugExit::Breakpoint, vcpu);
    hit
}

fn response(verdict: &VcpuProgress) -> Response {
    verdict.stall().unwrap().response
}

/// A guard whose vCPU has been stalled at a split lock and emulated.
fn emulating(vcpu: &mut Vcpu) -> VcpuGuard {
    let mut guard = new_guard(Reaction::Emulate, None);
    play(&mut guard, vcpu, 2);
    assert!(matches!(
        play(&mut guard, vcpu, 2),
        VcpuProgress::Stalled(_)
    ));
    assert_eq!(vcpu.emulated, 1);
    guard
}

#[test]
fn a_vcpu_that_uses_its_time_is_not_asked_anything() {
    for reaction in Reaction::ALL {
        let mut guard = new_guard(reaction, Some(GRACE));
        let mut vcpu = Vcpu::at(Some(split()));
        for _ in 0..1000 {
            assert_eq!(play(&mut guard, &mut vcpu, 90), VcpuProgress::Progressing);
        }
        assert_eq!(vcpu.questions.get(), 0);
    }
}

#[test]
fn a_run_that_is_not_over_is_not_judged() {
    let mut guard = new_guard(Reaction::Emulate, None);
    let mut vcpu = Vcpu::at(Some(split()));
    for _ in 0..100 {
        for ended in [Ended::Exited, Ended::Kicked] {
            let piece = Run {
                ended,
                ..run(OWN / 10, Duration::ZERO)
            };
            let Ok(verdict) = guard.after_run(&piece, &mut vcpu);
            assert_eq!(verdict, VcpuProgress::Progressing);
        }
    }
    assert_eq!(vcpu.questions.get(), 0);
    // All its pieces count when it is.
    let last = run(OWN / 10, Duration::ZERO);
    let Ok(verdict) = guard.after_run(&last, &mut vcpu);
    assert_eq!(verdict, VcpuProgress::Starved);
}

#[test]
fn nobody_is_asked_if_the_guard_is_off() {
    let mut guard = new_guard(Reaction::Off, Some(GRACE));
    let mut vcpu = Vcpu::at(Some(split()));
    for _ in 0..10 {
        assert_eq!(play(&mut guard, &mut vcpu, 1), VcpuProgress::Progressing);
        assert_eq!(guard.budget(OWN), OWN);
    }
    assert_eq!(vcpu.questions.get(), 0);
}

#[test]
fn halting_and_starving_are_no_stalls() {
    for reaction in [
        Reaction::Report,
        Reaction::Grace,
        Reaction::Emulate,
        Reaction::Auto,
    ] {
        let mut guard = new_guard(reaction, Some(GRACE));
        let mut halted = Vcpu::at(Some(split()));
        halted.halted = true;
        let mut starved = Vcpu::at(None);
        for _ in 0..100 {
            assert_eq!(play(&mut guard, &mut halted, 0), VcpuProgress::Idle);
        }
        let mut guard = new_guard(reaction, Some(GRACE));
        for turn in 0..100 {
            // A tight loop, or one that changes something.
            starved.registers.gpr[1] = turn / 2;
            assert_eq!(play(&mut guard, &mut starved, 5), VcpuProgress::Starved);
            assert_eq!(guard.budget(OWN), OWN);
        }
    }
}

#[test]
fn a_thread_that_has_not_slept_has_not_been_punished() {
    for reaction in [Reaction::Report, Reaction::Emulate, Reaction::Auto] {
        let mut guard = new_guard(reaction, Some(GRACE));
        let mut vcpu = Vcpu::at(Some(split()));
        vcpu.sleeps = Some(7);
        play(&mut guard, &mut vcpu, 5);
        for _ in 0..100 {
            assert_eq!(play(&mut guard, &mut vcpu, 5), VcpuProgress::Starved);
        }
        vcpu.sleeps = Some(8);
        assert!(matches!(
            play(&mut guard, &mut vcpu, 5),
            VcpuProgress::Stalled(_)
        ));
    }
}

#[test]
fn an_event_comes_before_the_instruction() {
    let mut guard = emulating(&mut Vcpu::at(Some(split())));
    let mut vcpu = Vcpu::at(Some(split()));
    vcpu.event = true;
    for _ in 0..10 {
        assert_eq!(play(&mut guard, &mut vcpu, 2), VcpuProgress::Starved);
        assert_eq!(hit(&mut guard, &mut vcpu), BreakpointOutcome::Nothing);
    }
    vcpu.event = false;
    assert!(matches!(
        hit(&mut guard, &mut vcpu),
        BreakpointOutcome::Emulated(_)
    ));
}

/// The other tasks of a guest run in between, and use all the time they get.
#[test]
fn a_stall_is_found_among_other_tasks() {
    let mut guard = new_guard(Reaction::Report, None);
    let mut vcpu = Vcpu::at(Some(split()));
    assert_eq!(play(&mut guard, &mut vcpu, 3), VcpuProgress::Starved);
    for turn in 0..10 {
        vcpu.registers.rip = 0x5000 + turn;
        assert_eq!(play(&mut guard, &mut vcpu, 99), VcpuProgress::Progressing);
    }
    vcpu.registers.rip = SPLIT_AT;
    let verdict = play(&mut guard, &mut vcpu, 3);
    assert!(
        matches!(verdict, VcpuProgress::Stalled(stall) if stall.is_new),
        "{verdict:?}"
    );
    assert_eq!(response(&verdict), Response::Reported);
}

#[test]
fn a_report_says_where_and_what() {
    let mut guard = new_guard(Reaction::Report, None);
    let mut vcpu = Vcpu::at(Some(split()));
    play(&mut guard, &mut vcpu, 3);
    let verdict = play(&mut guard, &mut vcpu, 3);
    let said = verdict.stall().unwrap().instruction.to_string();
    assert!(said.starts_with("0x1000: "), "{said}");
    assert!(said.contains("f0 ff 06"), "{said}");
    assert!(
        said.ends_with("from 0x303e to 0x3041 crosses a cache line"),
        "{said}"
    );
    let implicit = load_segment().to_string();
    assert!(implicit.contains("sets the accessed bit"), "{implicit}");
}

#[test]
fn grace_is_one_long_run_and_then_a_short_one_that_shows_whether_it_helped() {
    let mut guard = new_guard(Reaction::Grace, Some(GRACE));
    let mut vcpu = Vcpu::at(Some(split()));
    play(&mut guard, &mut vcpu, 3);
    let verdict = play(&mut guard, &mut vcpu, 3);
    assert_eq!(response(&verdict), Response::Grace(GRACE));
    assert_eq!(guard.budget(OWN), GRACE);
    // It was let through, and does something else.
    vcpu.registers.rip = 0x2000;
    vcpu.instruction = None;
    play(&mut guard, &mut vcpu, 40);
    assert_eq!(guard.budget(OWN), Duration::from_micros(100));
    play(&mut guard, &mut vcpu, 100);
    assert_eq!(guard.budget(OWN), OWN);

    // At the end of the next one it is there again: no run is wasted on finding that out.
    vcpu = Vcpu::at(Some(split()));
    play(&mut guard, &mut vcpu, 3);
    vcpu.registers.gpr[1] = 7;
    let verdict = play(&mut guard, &mut vcpu, 40);
    assert!(matches!(verdict, VcpuProgress::Slow(_)));
    assert_eq!(guard.budget(OWN), GRACE);
    assert_eq!(guard.statistics().graces, 3);
    assert_eq!(vcpu.emulated, 0);
}

#[test]
fn grace_is_not_needed_where_budgets_are_long_enough() {
    let mut guard = new_guard(Reaction::Grace, Some(GRACE));
    let mut vcpu = Vcpu::at(Some(split()));
    let own = 2 * GRACE;
    for turn in 0..10 {
        assert_eq!(guard.budget(own), own);
        vcpu.registers.gpr[1] = turn;
        let Ok(verdict) = guard.after_run(&run(own, own / 2), &mut vcpu);
        if let Some(stall) = verdict.stall() {
            assert_eq!(stall.response, Response::LetThrough);
        }
    }
}

#[test]
fn an_emulated_instruction_is_watched_and_emulated_at_each_hit() {
    let mut vcpu = Vcpu::at(Some(split()));
    let mut guard = emulating(&mut vcpu);
    assert_eq!(vcpu.set, [Some(SPLIT_AT), None, None, None]);
    assert_eq!(guard.watched_addresses(), &vcpu.set);
    assert_eq!(guard.budget(OWN), OWN);
    for hits in 1..1000 {
        assert!(matches!(
            hit(&mut guard, &mut vcpu),
            BreakpointOutcome::Emulated(_)
        ));
        assert_eq!(guard.statistics().emulated_at_breakpoints, hits);
    }
    assert_eq!(vcpu.steps, 0);
    let Ok(()) = guard.clear_breakpoints(&mut vcpu);
    assert_eq!(vcpu.set, [None; SLOTS]);
}

#[test]
fn without_breakpoints_the_next_stall_is_found_sooner() {
    let mut vcpu = Vcpu::at(Some(split()));
    vcpu.breakpoints_work = false;
    let mut guard = emulating(&mut vcpu);
    assert_eq!(vcpu.set, [None; SLOTS]);
    assert_eq!(guard.budget(OWN), Duration::from_micros(100));
    // Elsewhere in the code, and at once.
    vcpu.registers.rip = 0x7000;
    let verdict = play(&mut guard, &mut vcpu, 10);
    assert_eq!(response(&verdict), Response::Emulated { watched: false });
}

#[test]
fn a_guest_that_debugs_itself_keeps_its_registers() {
    let mut vcpu = Vcpu::at(Some(split()));
    vcpu.guest_debugs = true;
    let mut guard = emulating(&mut vcpu);
    assert_eq!(vcpu.set, [None; SLOTS]);

    // It begins with it later.
    vcpu.guest_debugs = false;
    play(&mut guard, &mut vcpu, 2);
    assert_eq!(vcpu.set[0], Some(SPLIT_AT));
    vcpu.guest_debugs = true;
    let hits = (0..1000).take_while(|_| hit(&mut guard, &mut vcpu) != BreakpointOutcome::Nothing);
    assert_eq!(hits.count(), 255);
    assert_eq!(vcpu.set, [None; SLOTS]);
}

#[test]
fn a_breakpoint_on_something_else_is_stepped_over_and_soon_given_up() {
    let mut vcpu = Vcpu::at(Some(split()));
    let mut guard = emulating(&mut vcpu);
    vcpu.instruction = None;
    for steps in 1..4 {
        assert_eq!(hit(&mut guard, &mut vcpu), BreakpointOutcome::NoSplitLock);
        assert_eq!((vcpu.steps, vcpu.set[0]), (steps, Some(SPLIT_AT)));
    }
    // One that does split in between starts the count anew.
    vcpu.instruction = Some(split());
    hit(&mut guard, &mut vcpu);
    vcpu.instruction = Some(load_segment());
    for _ in 0..4 {
        assert_eq!(hit(&mut guard, &mut vcpu), BreakpointOutcome::NoSplitLock);
    }
    assert_eq!((vcpu.steps, vcpu.set[0]), (6, None));
    assert_eq!(vcpu.emulated, 2);
}

#[test]
fn five_instructions_share_four_breakpoints() {
    let mut vcpu = Vcpu::at(Some(split()));
    let mut guard = new_guard(Reaction::Emulate, None);
    for rip in 1..=5 {
        vcpu.registers.rip = rip << 12;
        play(&mut guard, &mut vcpu, 2);
        play(&mut guard, &mut vcpu, 2);
    }
    assert_eq!(
        vcpu.set,
        [Some(0x5000), Some(0x2000), Some(0x3000), Some(0x4000)]
    );
}

#[test]
fn what_cannot_be_emulated_is_left_to_the_cpu_with_grace_if_there_is_any() {
    let not_ram = Reason::Access(AccessError::NotRam { address: 0x303e });
    for (grace, expected) in [
        (None, Response::LeftToCpu(not_ram)),
        (Some(GRACE), Response::Grace(GRACE)),
    ] {
        let mut vcpu = Vcpu::at(Some(split()));
        vcpu.refuses = Some(not_ram);
        let mut guard = new_guard(Reaction::Emulate, grace);
        play(&mut guard, &mut vcpu, 2);
        let verdict = play(&mut guard, &mut vcpu, 2);
        assert_eq!(response(&verdict), expected);
        assert_eq!(guard.budget(OWN), grace.unwrap_or(OWN));
        assert_eq!((vcpu.emulated, vcpu.set), (0, [None; SLOTS]));
    }
    // The same at a breakpoint.
    let mut vcpu = Vcpu::at(Some(split()));
    let mut guard = emulating(&mut vcpu);
    vcpu.refuses = Some(not_ram);
    assert_eq!(
        hit(&mut guard, &mut vcpu),
        BreakpointOutcome::LeftToCpu(not_ram)
    );
    assert_eq!(vcpu.steps, 1);
}

#[test]
fn an_implicit_lock_is_suspected_only_if_nothing_moves() {
    let mut guard = new_guard(Reaction::Emulate, Some(GRACE));
    let mut vcpu = Vcpu::at(Some(load_segment()));
    for turn in 0..10 {
        vcpu.registers.gpr[1] = turn;
        assert_eq!(play(&mut guard, &mut vcpu, 2), VcpuProgress::Starved);
    }
    let verdict = play(&mut guard, &mut vcpu, 2);
    assert!(matches!(verdict, VcpuProgress::Stalled(_)));
    assert_eq!(response(&verdict), Response::Grace(GRACE));
    assert_eq!(vcpu.emulated, 0);
}

#[test]
fn exits_that_are_not_ours_are_passed_on() {
    let mut vcpu = Vcpu::at(Some(split()));
    let mut guard = emulating(&mut vcpu);
    let Ok(hit) = guard.handle_breakpoint(DebugExit::ForGuest, &mut vcpu);
    assert_eq!(hit, BreakpointOutcome::ForGuest);
    let Ok(hit) = guard.handle_breakpoint(DebugExit::SteppedOver, &mut vcpu);
    assert_eq!(hit, BreakpointOutcome::Nothing);
    assert_eq!(vcpu.emulated, 1);
}
