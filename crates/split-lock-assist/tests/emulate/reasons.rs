//! What is left to the CPU, and what is not.

use split_lock_assist::cpu::{Context, Gpr, Registers, rflags};
use split_lock_assist::decode::{Decoded, Fault, ImplicitLock};
use split_lock_assist::emulate::{Emulated, Reason, emulate};
use split_lock_assist::memory::AccessError;

use crate::common::world::{Event, Log, Others, Page, Stuck, WorldCpu, WorldMemory};

const CODE: u64 = 0x40_0000;
/// Four bytes from here on lie in two pages.
const OPERAND: u64 = 0x1ffe;
/// `lock add [rsi],eax`
const ADD: [u8; 3] = [0xf0, 0x01, 0x06];

/// An instruction about to be executed, with RSI at [`OPERAND`] and all its memory RAM.
struct Scene<'a> {
    code: &'a [u8],
    registers: Registers,
    context: Context,
    pages: [Page; 2],
    is_stuck: bool,
}

/// What has come of it.
struct End {
    emulated: Result<Emulated, Stuck>,
    events: Vec<Event>,
}

impl<'a> Scene<'a> {
    fn of(code: &'a [u8]) -> Self {
        let mut registers = Registers {
            rip: CODE,
            rflags: 2,
            ..Registers::default()
        };
        registers.set(Gpr::Rsi, OPERAND);
        Self {
            code,
            registers,
            context: Context::long_mode(3),
            pages: [Page::Ram; 2],
            is_stuck: false,
        }
    }

    fn play(&self) -> End {
        let log = Log::default();
        let mut cpu = WorldCpu {
            log: &log,
            registers: self.registers,
            context: self.context,
            is_stuck: self.is_stuck,
        };
        let mut memory = WorldMemory {
            log: &log,
            code_at: CODE,
            code: self.code,
            pages_at: OPERAND & !0xfff,
            pages: self.pages,
            operand: [0; 16],
            written: None,
        };
        let emulated = emulate(&mut cpu, &mut memory, &Others(&log));
        if !matches!(emulated, Ok(Emulated::Done(_))) {
            assert_eq!(cpu.registers, self.registers);
            assert_eq!(memory.written, None);
        }
        End {
            emulated,
            events: log.events(),
        }
    }

    #[track_caller]
    fn reason(&self) -> Reason {
        match self.play().emulated {
            Ok(Emulated::LeftToCpu(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
}

const LOAD: Event = Event::Load {
    address: OPERAND,
    bytes: 4,
};

#[test]
fn the_others_are_paused_from_before_the_load_until_after_the_store() {
    let end = Scene::of(&ADD).play();
    assert!(matches!(end.emulated, Ok(Emulated::Done(access)) if access.crosses_page()));
    let store = Event::Store { bytes: 4 };
    assert_eq!(
        end.events,
        [Event::Pause, LOAD, Event::Retire, store, Event::Resume]
    );
}

#[test]
fn nothing_is_written_if_the_vcpu_cannot_go_on() {
    let mut scene = Scene::of(&ADD);
    scene.is_stuck = true;
    let end = scene.play();
    assert_eq!(end.emulated, Err(Stuck));
    assert_eq!(
        end.events,
        [Event::Pause, LOAD, Event::Retire, Event::Resume]
    );
}

#[test]
fn memory_decides_for_every_byte() {
    let mut scene = Scene::of(&ADD);
    let refusals = [
        (Page::Absent, AccessError::NotMapped { address: 0x2000 }),
        (Page::ReadOnly, AccessError::NotWritable { address: 0x2000 }),
        (Page::Device, AccessError::NotRam { address: 0x2000 }),
    ];
    for (page, refusal) in refusals {
        scene.pages = [Page::Ram, page];
        assert_eq!(scene.reason(), Reason::Access(refusal));
        assert_eq!(scene.play().events, [Event::Pause, LOAD, Event::Resume]);
    }
    scene.pages = [Page::Absent, Page::Ram];
    let first = AccessError::NotMapped { address: OPERAND };
    assert_eq!(scene.reason(), Reason::Access(first));
}

#[test]
fn a_guest_that_debugs_itself_is_left_alone() {
    let mut scene = Scene::of(&ADD);
    scene.registers.rflags |= rflags::TRAP;
    assert_eq!(scene.reason(), Reason::SingleStep);
    let mut scene = Scene::of(&ADD);
    scene.context.breakpoints = true;
    assert_eq!(scene.reason(), Reason::Breakpoints);
    assert_eq!(scene.play().events, []);
}

#[test]
fn alignment_is_checked_where_the_guest_wants_it() {
    let wants = |alignment_mask, cpl, alignment_check, operand| {
        let mut scene = Scene::of(&ADD);
        scene.context.alignment_mask = alignment_mask;
        scene.context.cpl = cpl;
        scene.registers.set(Gpr::Rsi, operand);
        if alignment_check {
            scene.registers.rflags |= rflags::ALIGNMENT_CHECK;
        }
        match scene.play().emulated {
            Ok(Emulated::Done(_)) => false,
            Ok(Emulated::LeftToCpu(Reason::AlignmentCheck)) => true,
            other => panic!("{other:?}"),
        }
    };
    assert!(wants(true, 3, true, OPERAND));
    assert!(!wants(true, 3, true, OPERAND - 2));
    assert!(!wants(true, 3, false, OPERAND));
    assert!(!wants(true, 0, true, OPERAND));
    assert!(!wants(false, 3, true, OPERAND));
}

#[test]
fn what_is_no_locked_access_is_not_done() {
    let reason = |code: &[u8]| match Scene::of(code).reason() {
        Reason::NoLockedAccess(decoded) => decoded,
        other => panic!("{other}"),
    };
    assert!(matches!(reason(&[0x01, 0x06]), Decoded::NotLocked(_)));
    assert!(matches!(
        reason(&[0x8e, 0xd8]),
        Decoded::ImplicitLock {
            lock: ImplicitLock::SegmentLoad(_),
            ..
        }
    ));
    assert!(matches!(
        reason(&[0xf0, 0x03, 0x06]),
        Decoded::CannotBeLocked(_)
    ));
    assert!(matches!(
        reason(&[0xf0, 0x48, 0x0f, 0xc7, 0x0e]),
        Decoded::Faults {
            fault: Fault::Misaligned { address: OPERAND },
            ..
        }
    ));
    assert_eq!(reason(&ADD[..2]), Decoded::Incomplete { available: 2 });
    assert_eq!(reason(&[]), Decoded::Incomplete { available: 0 });
}

#[test]
fn an_operand_that_wraps_around_is_left() {
    let mut scene = Scene::of(&ADD);
    scene.registers.set(Gpr::Rsi, u64::MAX - 1);
    assert_eq!(scene.reason(), Reason::WrapsAround);
    scene.registers.set(Gpr::Rsi, u64::MAX - 3);
    let refusal = AccessError::NotMapped {
        address: u64::MAX - 3,
    };
    assert_eq!(scene.reason(), Reason::Access(refusal));
}
