//! A guard with a vCPU that does as it is told.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::breakpoint_slots::SLOTS;
use crate::cpu::{Context, Gpr, Registers};
use crate::decode::{Decoded, RecentInstructions, decode};
use crate::emulate::{Emulated, Reason};
use crate::memory::AccessError;

pub(super) const SPLIT_AT: u64 = 0x1000;

/// What it was asked to do is written down.
#[derive(Debug)]
pub(super) struct Vcpu {
    pub(super) registers: Registers,
    halted: bool,
    pub(super) inaccessible: Option<Inaccessible>,
    event: bool,
    /// How often its thread has slept.
    pub(super) sleeps: Option<u64>,
    pub(super) instruction: Option<SplitInstruction>,
    /// Why it cannot be emulated.
    refuses: Option<Reason>,
    pub(super) breakpoints_work: bool,
    guest_debugs: bool,
    pub(super) set: [Option<u64>; SLOTS],
    steps: u32,
    pub(super) emulated: u32,
    questions: Cell<u32>,
}

fn decoded(bytes: &[u8]) -> Decoded {
    let mut registers = Registers {
        rip: SPLIT_AT,
        ..Registers::default()
    };
    registers.set(Gpr::Rsi, 0x303e);
    decode(bytes, &registers, &Context::long_mode(0))
}

pub(super) fn split() -> SplitInstruction {
    let Decoded::Locked(access) = decoded(&[0xf0, 0xff, 0x06]) else {
        unreachable!("lock inc dword ptr [rsi]")
    };
    SplitInstruction::Access(access)
}

fn load_segment() -> SplitInstruction {
    let Decoded::ImplicitLock { instruction, lock } = decoded(&[0x8e, 0xd8]) else {
        unreachable!("mov ds,ax sets an accessed bit")
    };
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
            inaccessible: None,
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

    fn inaccessible(&self) -> Result<Option<Inaccessible>, Infallible> {
        self.asked();
        Ok(self.inaccessible)
    }

    fn has_event(&self) -> Result<bool, Infallible> {
        assert_eq!(self.inaccessible, None, "nothing may be asked of it");
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

    fn emulate_split(
        &mut self,
        _recent: &mut RecentInstructions,
    ) -> Result<Option<Emulated>, Infallible> {
        assert!(!self.event, "something comes first");
        assert_eq!(self.inaccessible, None, "it is not to be touched");
        let Some(SplitInstruction::Access(access)) = self.instruction else {
            return Ok(None);
        };
        if let Some(reason) = self.refuses {
            return Ok(Some(Emulated::LeftToCpu(reason)));
        }
        self.emulated += 1;
        Ok(Some(Emulated::Done(access)))
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

const OWN: Duration = Duration::from_millis(1);
const GRACE: Duration = Duration::from_millis(28);
const WITH_GRACE: Option<Duration> = Some(GRACE);
const NOT_RAM: Reason = Reason::Access(AccessError::NotRam { address: 0x303e });

/// A guard and its vCPU.
pub(super) struct Guarded {
    pub(super) guard: VcpuGuard,
    pub(super) vcpu: Vcpu,
}

impl Guarded {
    /// The vCPU stands at a split lock.
    pub(super) fn new(reaction: Reaction, grace: Option<Duration>) -> Self {
        Self {
            guard: VcpuGuard::new(Config::new(reaction).with_grace(grace)),
            vcpu: Vcpu::at(Some(split())),
        }
    }

    /// It has been stalled there and was emulated.
    fn emulating(change: impl FnOnce(&mut Vcpu)) -> Self {
        let mut guarded = Self::new(Reaction::Emulate, None);
        change(&mut guarded.vcpu);
        guarded.play(2);
        assert!(matches!(guarded.play(2), VcpuProgress::Stalled(_)));
        assert_eq!(guarded.vcpu.emulated, 1);
        guarded
    }

    pub(super) fn after_run(
        &mut self,
        wall: Duration,
        cpu: Duration,
        ended: Ended,
    ) -> VcpuProgress {
        let run = Run { wall, cpu, ended };
        let Ok(progress) = self.guard.after_run(&run, &mut self.vcpu);
        progress
    }

    /// One run that takes its whole budget, of which the thread had this share.
    fn play(&mut self, cpu_percent: u32) -> VcpuProgress {
        let wall = self.guard.budget(OWN);
        self.after_run(wall, wall * cpu_percent / 100, Ended::Expired)
    }

    /// The same, which ends in a stall.
    #[track_caller]
    fn response(&mut self, cpu_percent: u32) -> Response {
        self.play(cpu_percent).stall().unwrap().response
    }

    fn exit(&mut self, exit: DebugExit) -> BreakpointOutcome {
        let Ok(outcome) = self.guard.handle_breakpoint(exit, &mut self.vcpu);
        outcome
    }

    pub(super) fn hit(&mut self) -> BreakpointOutcome {
        let address = self.vcpu.registers.rip;
        self.exit(DebugExit::Breakpoint { address })
    }
}

#[test]
fn a_vcpu_that_uses_its_time_is_not_asked_anything() {
    for reaction in Reaction::ALL {
        let mut guarded = Guarded::new(reaction, WITH_GRACE);
        for _ in 0..1000 {
            assert_eq!(guarded.play(90), VcpuProgress::Progressing);
        }
        assert_eq!(guarded.vcpu.questions.get(), 0);
    }
}

#[test]
fn a_run_that_is_not_over_is_not_judged() {
    let mut guarded = Guarded::new(Reaction::Emulate, None);
    for _ in 0..100 {
        for ended in [Ended::Exited, Ended::Kicked] {
            let progress = guarded.after_run(OWN / 10, Duration::ZERO, ended);
            assert_eq!(progress, VcpuProgress::Progressing);
        }
    }
    assert_eq!(guarded.vcpu.questions.get(), 0);
    // All its pieces count when it is.
    let progress = guarded.after_run(OWN / 10, Duration::ZERO, Ended::Expired);
    assert_eq!(progress, VcpuProgress::Starved);
}

#[test]
fn nobody_is_asked_if_the_guard_is_off() {
    let mut guarded = Guarded::new(Reaction::Off, WITH_GRACE);
    for _ in 0..10 {
        assert_eq!(guarded.play(1), VcpuProgress::Progressing);
        assert_eq!(guarded.guard.budget(OWN), OWN);
    }
    assert_eq!(guarded.vcpu.questions.get(), 0);
}

#[test]
fn halting_and_starving_are_no_stalls() {
    for reaction in &Reaction::ALL[1..] {
        let mut halted = Guarded::new(*reaction, WITH_GRACE);
        halted.vcpu.halted = true;
        let mut starved = Guarded::new(*reaction, WITH_GRACE);
        starved.vcpu.instruction = None;
        for turn in 0..100 {
            assert_eq!(halted.play(0), VcpuProgress::Idle);
            // A tight loop, or one that changes something.
            starved.vcpu.registers.gpr[1] = turn / 2;
            assert_eq!(starved.play(5), VcpuProgress::Starved);
            assert_eq!(starved.guard.budget(OWN), OWN);
        }
    }
}

#[test]
fn a_thread_that_has_not_slept_has_not_been_punished() {
    for reaction in [Reaction::Report, Reaction::Emulate, Reaction::Auto] {
        let mut guarded = Guarded::new(reaction, WITH_GRACE);
        guarded.vcpu.sleeps = Some(7);
        guarded.play(5);
        for _ in 0..100 {
            assert_eq!(guarded.play(5), VcpuProgress::Starved);
        }
        guarded.vcpu.sleeps = Some(8);
        assert!(matches!(guarded.play(5), VcpuProgress::Stalled(_)));
    }
}

#[test]
fn an_event_comes_before_the_instruction() {
    let mut guarded = Guarded::emulating(|_| {});
    guarded.vcpu.event = true;
    for _ in 0..10 {
        assert_eq!(guarded.play(2), VcpuProgress::Starved);
        assert_eq!(guarded.hit(), BreakpointOutcome::Nothing);
    }
    guarded.vcpu.event = false;
    assert!(matches!(guarded.hit(), BreakpointOutcome::Emulated(_)));
}

/// The other tasks of a guest run in between, and use all the time they get.
#[test]
fn a_stall_is_found_among_other_tasks() {
    let mut guarded = Guarded::new(Reaction::Report, None);
    assert_eq!(guarded.play(3), VcpuProgress::Starved);
    for turn in 0..10 {
        guarded.vcpu.registers.rip = 0x5000 + turn;
        assert_eq!(guarded.play(99), VcpuProgress::Progressing);
    }
    guarded.vcpu.registers.rip = SPLIT_AT;
    let progress = guarded.play(3);
    assert!(
        matches!(progress, VcpuProgress::Stalled(stall) if stall.is_new),
        "{progress:?}"
    );
    assert_eq!(progress.stall().unwrap().response, Response::Reported);
}

#[test]
fn a_report_says_where_and_what() {
    let mut guarded = Guarded::new(Reaction::Report, None);
    guarded.play(3);
    let progress = guarded.play(3);
    let said = progress.stall().unwrap().instruction.to_string();
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
    let mut guarded = Guarded::new(Reaction::Grace, WITH_GRACE);
    guarded.play(3);
    assert_eq!(guarded.response(3), Response::Grace(GRACE));
    assert_eq!(guarded.guard.budget(OWN), GRACE);
    // It was let through, and does something else.
    guarded.vcpu.registers.rip = 0x2000;
    guarded.vcpu.instruction = None;
    guarded.play(40);
    assert_eq!(guarded.guard.budget(OWN), Duration::from_micros(100));
    guarded.play(100);
    assert_eq!(guarded.guard.budget(OWN), OWN);

    // At the end of the next one it is there again: no run is wasted on finding that out.
    guarded.vcpu = Vcpu::at(Some(split()));
    guarded.play(3);
    guarded.vcpu.registers.gpr[1] = 7;
    let progress = guarded.play(40);
    assert!(matches!(progress, VcpuProgress::Slow(_)));
    assert_eq!(guarded.guard.budget(OWN), GRACE);
    assert_eq!(guarded.guard.statistics().graces, 3);
    assert_eq!(guarded.vcpu.emulated, 0);
}

#[test]
fn grace_is_not_needed_where_budgets_are_long_enough() {
    let mut guarded = Guarded::new(Reaction::Grace, WITH_GRACE);
    let own = 2 * GRACE;
    for turn in 0..10 {
        assert_eq!(guarded.guard.budget(own), own);
        guarded.vcpu.registers.gpr[1] = turn;
        if let Some(stall) = guarded.after_run(own, own / 2, Ended::Expired).stall() {
            assert_eq!(stall.response, Response::LetThrough);
        }
    }
}

#[test]
fn an_emulated_instruction_is_watched_and_emulated_at_each_hit() {
    let mut guarded = Guarded::emulating(|_| {});
    assert_eq!(guarded.vcpu.set, [Some(SPLIT_AT), None, None, None]);
    assert_eq!(guarded.guard.watched_addresses(), &guarded.vcpu.set);
    assert_eq!(guarded.guard.budget(OWN), OWN);
    for hits in 1..1000 {
        assert!(matches!(guarded.hit(), BreakpointOutcome::Emulated(_)));
        assert_eq!(guarded.guard.statistics().emulated_at_breakpoints, hits);
    }
    assert_eq!(guarded.vcpu.steps, 0);
    let Ok(()) = guarded.guard.clear_breakpoints(&mut guarded.vcpu);
    assert_eq!(guarded.vcpu.set, [None; SLOTS]);
}

#[test]
fn without_breakpoints_the_next_stall_is_found_sooner() {
    let mut guarded = Guarded::emulating(|vcpu| vcpu.breakpoints_work = false);
    assert_eq!(guarded.vcpu.set, [None; SLOTS]);
    assert_eq!(guarded.guard.budget(OWN), Duration::from_micros(100));
    // Elsewhere in the code, and at once.
    guarded.vcpu.registers.rip = 0x7000;
    let response = guarded.response(10);
    assert_eq!(response, Response::Emulated { watched: false });
}

#[test]
fn a_guest_that_debugs_itself_keeps_its_registers() {
    let mut guarded = Guarded::emulating(|vcpu| vcpu.guest_debugs = true);
    assert_eq!(guarded.vcpu.set, [None; SLOTS]);

    // It begins with it later.
    guarded.vcpu.guest_debugs = false;
    guarded.play(2);
    assert_eq!(guarded.vcpu.set[0], Some(SPLIT_AT));
    guarded.vcpu.guest_debugs = true;
    let hits = (0..1000).take_while(|_| guarded.hit() != BreakpointOutcome::Nothing);
    assert_eq!(hits.count(), 255);
    assert_eq!(guarded.vcpu.set, [None; SLOTS]);
}

#[test]
fn a_breakpoint_on_something_else_is_stepped_over_and_soon_given_up() {
    let mut guarded = Guarded::emulating(|_| {});
    guarded.vcpu.instruction = None;
    for steps in 1..4 {
        assert_eq!(guarded.hit(), BreakpointOutcome::NoSplitLock);
        assert_eq!(
            (guarded.vcpu.steps, guarded.vcpu.set[0]),
            (steps, Some(SPLIT_AT))
        );
    }
    // One that does split in between starts the count anew.
    guarded.vcpu.instruction = Some(split());
    guarded.hit();
    guarded.vcpu.instruction = Some(load_segment());
    for _ in 0..4 {
        assert_eq!(guarded.hit(), BreakpointOutcome::NoSplitLock);
    }
    assert_eq!((guarded.vcpu.steps, guarded.vcpu.set[0]), (6, None));
    assert_eq!(guarded.vcpu.emulated, 2);
}

#[test]
fn five_instructions_share_four_breakpoints() {
    let mut guarded = Guarded::new(Reaction::Emulate, None);
    for rip in 1..=5 {
        guarded.vcpu.registers.rip = rip << 12;
        guarded.play(2);
        guarded.play(2);
    }
    assert_eq!(
        guarded.vcpu.set,
        [Some(0x5000), Some(0x2000), Some(0x3000), Some(0x4000)]
    );
}

#[test]
fn what_cannot_be_emulated_at_a_breakpoint_is_stepped_over() {
    let mut guarded = Guarded::emulating(|_| {});
    guarded.vcpu.refuses = Some(NOT_RAM);
    assert_eq!(guarded.hit(), BreakpointOutcome::LeftToCpu(NOT_RAM));
    assert_eq!(guarded.vcpu.steps, 1);
}

/// What the vCPU stands at when a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Emulatable,
    NotRam,
    Implicit,
}

proptest! {
    /// Whatever came before: grace is granted where emulating cannot be done, and nowhere else. With
    /// `Auto` and with `Emulate`.
    #[test]
    fn there_is_grace_exactly_where_emulating_cannot_be_done(
        reaction in prop_oneof![Just(Reaction::Auto), Just(Reaction::Emulate)],
        grace in prop_oneof![Just(None), Just(WITH_GRACE)],
        breakpoints_work in any::<bool>(),
        runs in prop::collection::vec(
            (
                prop_oneof![Just(At::Emulatable), Just(At::NotRam), Just(At::Implicit)],
                prop_oneof![Just(OWN), Just(GRACE / 2), Just(GRACE), Just(2 * GRACE)],
                any::<bool>(),
            ),
            2..50,
        ),
    ) {
        let mut guarded = Guarded::new(reaction, grace);
        guarded.vcpu.breakpoints_work = breakpoints_work;
        for (n, (at, own, moves)) in runs.into_iter().enumerate() {
            guarded.vcpu.instruction = Some(match at {
                At::Implicit => load_segment(),
                At::Emulatable | At::NotRam => split(),
            });
            guarded.vcpu.refuses = (at == At::NotRam).then_some(NOT_RAM);
            guarded.vcpu.registers.gpr[1] += u64::from(moves);
            let emulated = guarded.vcpu.emulated;
            let wall = guarded.guard.budget(own);
            let progress = guarded.after_run(wall, wall / 50, Ended::Expired);
            let next = guarded.guard.budget(own);
            let Some(stall) = progress.stall() else {
                prop_assert_eq!(guarded.vcpu.emulated, emulated);
                prop_assert!(next <= own);
                // The first is no stall yet, and a lock that comes with a move may be no split lock.
                prop_assert!(n == 0 || at == At::Implicit);
                continue;
            };
            let can_wait = grace.filter(|_| at != At::Emulatable);
            let expected = match (at, can_wait) {
                (At::Emulatable, _) => Response::Emulated { watched: breakpoints_work },
                (_, Some(grace)) if own < grace => Response::Grace(grace),
                (_, Some(_)) => Response::LetThrough,
                (At::NotRam, None) => Response::LeftToCpu(NOT_RAM),
                (At::Implicit, None) => Response::Reported,
            };
            prop_assert_eq!(stall.response, expected);
            prop_assert_eq!(guarded.vcpu.emulated - emulated, u32::from(at == At::Emulatable));
            prop_assert_eq!(next > own, matches!(expected, Response::Grace(_)));
        }
    }
}

#[test]
fn an_implicit_lock_is_suspected_only_if_nothing_moves() {
    let mut guarded = Guarded::new(Reaction::Emulate, WITH_GRACE);
    guarded.vcpu.instruction = Some(load_segment());
    for turn in 0..10 {
        guarded.vcpu.registers.gpr[1] = turn;
        assert_eq!(guarded.play(2), VcpuProgress::Starved);
    }
    assert_eq!(guarded.response(2), Response::Grace(GRACE));
    assert_eq!(guarded.vcpu.emulated, 0);
}

#[test]
fn exits_that_are_not_ours_are_passed_on() {
    let mut guarded = Guarded::emulating(|_| {});
    assert_eq!(
        guarded.exit(DebugExit::ForGuest),
        BreakpointOutcome::ForGuest
    );
    assert_eq!(
        guarded.exit(DebugExit::SteppedOver),
        BreakpointOutcome::Nothing
    );
    assert_eq!(guarded.vcpu.emulated, 1);
}

#[test]
fn what_a_vcpu_does_that_is_not_accessible_is_left_alone() {
    let all = [
        Inaccessible::NestedGuest,
        Inaccessible::SystemManagement,
        Inaccessible::Confidential,
    ];
    for why in all {
        let mut guarded = Guarded::emulating(|_| {});
        guarded.vcpu.inaccessible = Some(why);
        for _ in 0..10 {
            assert_eq!(guarded.play(2), VcpuProgress::Inaccessible(why));
        }
        // A breakpoint at the same address is not its own, and given up soon.
        for _ in 0..4 {
            assert_eq!(guarded.hit(), BreakpointOutcome::Inaccessible(why));
        }
        assert_eq!((guarded.vcpu.steps, guarded.vcpu.set[0]), (3, None));
        assert_eq!(guarded.vcpu.emulated, 1);
    }
}

#[test]
fn a_feigned_stall_is_treated_like_one_whatever_cpu_time_the_run_had() {
    let mut guarded = Guarded::new(Reaction::Emulate, None);
    guarded.vcpu.sleeps = Some(0);
    guarded.guard.feign_stall();
    // It is elsewhere at first.
    guarded.vcpu.instruction = None;
    assert_eq!(guarded.play(100), VcpuProgress::Starved);
    guarded.vcpu.instruction = Some(split());
    let progress = guarded.play(100);
    assert!(matches!(progress, VcpuProgress::Stalled(stall) if stall.is_new));
    assert_eq!(guarded.vcpu.set[0], Some(SPLIT_AT));
    // Once.
    assert_eq!(guarded.play(100), VcpuProgress::Progressing);

    let mut off = Guarded::new(Reaction::Off, None);
    off.guard.feign_stall();
    assert_eq!(off.play(100), VcpuProgress::Progressing);
}
