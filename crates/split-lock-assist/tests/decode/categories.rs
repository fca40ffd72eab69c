//! Every kind of answer, in every mode in which there is one.

use split_lock_assist::cpu::{Context, Gpr, Mode, Registers, Segment, SegmentRegister, rflags};
use split_lock_assist::decode::{
    Decoded, Exception, Fault, ImplicitLock, LockedAccess, MAX_INSTRUCTION_BYTES, decode,
};

const FLAT_32: Context = Context {
    mode: Mode::Bits32,
    ..Context::long_mode(3)
};

const REAL: Context = Context {
    mode: Mode::Bits16,
    protected: false,
    segments: [Segment {
        limit: 0xffff,
        big: false,
        ..Segment::FLAT
    }; 6],
    ..Context::long_mode(0)
};

const PROTECTED_16: Context = Context {
    mode: Mode::Bits16,
    ..Context::long_mode(3)
};

const LONG: Context = Context::long_mode(3);

fn at(registers: &[(Gpr, u64)]) -> Registers {
    let mut all = Registers {
        rip: 0x1000,
        rflags: 2,
        ..Registers::default()
    };
    for &(register, value) in registers {
        all.set(register, value);
    }
    all
}

fn with(mut context: Context, register: SegmentRegister, segment: Segment) -> Context {
    context.segments[register as usize] = segment;
    context
}

fn based(base: u64) -> Segment {
    Segment {
        base,
        ..Segment::FLAT
    }
}

#[track_caller]
fn access(bytes: &[u8], registers: &Registers, context: &Context) -> LockedAccess {
    match decode(bytes, registers, context) {
        Decoded::Locked(access) => access,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn fault(bytes: &[u8], registers: &Registers, context: &Context) -> Fault {
    match decode(bytes, registers, context) {
        Decoded::Faults { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn implicit(bytes: &[u8], context: &Context) -> Option<ImplicitLock> {
    match decode(bytes, &at(&[]), context) {
        Decoded::ImplicitLock { lock, .. } => Some(lock),
        Decoded::NotLocked(_) => None,
        other => panic!("{other}"),
    }
}

#[test]
fn the_boundaries_that_an_operand_crosses_are_named() {
    let add = [0xf0, 0x48, 0x01, 0x06];
    let at_offset = |offset: u64| access(&add, &at(&[(Gpr::Rsi, 0x7000 + offset)]), &LONG);
    let inside = at_offset(0xff8);
    assert!(!inside.crosses_line() && !inside.crosses_page());
    let line = at_offset(0x7d);
    assert_eq!(line.line_boundary(), Some(0x7080));
    assert!(line.crosses_line() && !line.crosses_page());
    let page = at_offset(0xff9);
    assert_eq!(page.line_boundary(), Some(0x8000));
    assert_eq!(page.page_boundary(), Some(0x8000));
    assert!(!page.is_aligned() && inside.is_aligned());
}

#[test]
fn an_operand_at_the_very_end_wraps_around() {
    let registers = at(&[(Gpr::Rsi, u64::MAX - 1)]);
    let last = access(&[0xf0, 0x01, 0x06], &registers, &LONG);
    assert!(last.wraps_around());
    assert_eq!(last.line_boundary(), Some(0));
    let context = with(FLAT_32, SegmentRegister::Ds, based(0xffff_f000));
    let last = access(&[0xf0, 0x01, 0x06], &at(&[(Gpr::Rsi, 0xffe)]), &context);
    assert_eq!(last.address(), 0xffff_fffe);
    assert!(last.wraps_around());
    assert_eq!(last.page_boundary(), Some(0));
}

#[test]
fn xchg_locks_by_itself() {
    let implicit = access(&[0x87, 0x06], &at(&[]), &LONG);
    assert!(!implicit.has_lock_prefix());
    let explicit = access(&[0xf0, 0x87, 0x06], &at(&[]), &LONG);
    assert!(explicit.has_lock_prefix());
    for hint in [0xf2, 0xf3] {
        assert_eq!(access(&[hint, 0x87, 0x06], &at(&[]), &LONG).length(), 3);
        assert_eq!(
            access(&[hint, 0xf0, 0x01, 0x06], &at(&[]), &LONG).length(),
            4
        );
    }
}

#[test]
fn between_registers_nothing_is_locked() {
    let exchange = decode(&[0x87, 0xc8], &at(&[]), &LONG);
    assert!(matches!(exchange, Decoded::NotLocked(_)), "{exchange}");
    let add = decode(&[0x01, 0x06], &at(&[]), &LONG);
    assert!(matches!(add, Decoded::NotLocked(instruction) if instruction.length() == 2));
}

#[test]
fn addresses_that_are_not_canonical_fault() {
    let add = [0xf0, 0x01, 0x06];
    let lowest = 1 << 47;
    let expected = Fault::NonCanonical {
        address: lowest,
        segment: SegmentRegister::Ds,
    };
    let registers = at(&[(Gpr::Rsi, lowest)]);
    assert_eq!(fault(&add, &registers, &LONG), expected);
    assert_eq!(expected.exception(), Exception::GeneralProtection);
    let into_it = fault(&add, &at(&[(Gpr::Rsi, lowest - 1)]), &LONG);
    assert!(matches!(into_it, Fault::NonCanonical { .. }));
    let wide = Context {
        five_level_paging: true,
        ..LONG
    };
    assert_eq!(access(&add, &registers, &wide).address(), lowest);

    // lock add [rbp],eax: the stack's, whatever the prefix, unless that is FS or GS.
    let on_stack = [0xf0, 0x01, 0x45, 0x00];
    let registers = at(&[(Gpr::Rbp, lowest)]);
    let exception = |prefix: &[u8]| {
        let bytes = [prefix, &on_stack].concat();
        fault(&bytes, &registers, &LONG).exception()
    };
    assert_eq!(exception(&[]), Exception::StackFault);
    assert_eq!(exception(&[0x3e]), Exception::StackFault);
    assert_eq!(exception(&[0x64]), Exception::GeneralProtection);
}

#[test]
fn operands_outside_of_their_segment_fault() {
    // lock add [si],ax and lock add [bp+0],ax
    let add = [0xf0, 0x01, 0x04];
    let on_stack = [0xf0, 0x01, 0x46, 0x00];
    let registers = at(&[(Gpr::Rsi, 0xffff), (Gpr::Rbp, 0xffff)]);
    let beyond = fault(&add, &registers, &REAL);
    let expected = Fault::BeyondLimit {
        offset: 0xffff,
        segment: SegmentRegister::Ds,
    };
    assert_eq!(beyond, expected);
    assert_eq!(
        fault(&on_stack, &registers, &REAL).exception(),
        Exception::StackFault
    );
    // An offset is not cut where the segment goes on.
    let unreal = with(REAL, SegmentRegister::Ds, Segment::FLAT);
    assert_eq!(access(&add, &registers, &unreal).address(), 0xffff);

    let ds = |segment| with(PROTECTED_16, SegmentRegister::Ds, segment);
    let read_only = ds(Segment {
        writable: false,
        ..Segment::FLAT
    });
    let expected = Fault::ReadOnly {
        segment: SegmentRegister::Ds,
    };
    assert_eq!(fault(&add, &registers, &read_only), expected);
    let null = ds(Segment::default());
    assert!(matches!(
        fault(&add, &registers, &null),
        Fault::Unusable { .. }
    ));
    // In 64-bit mode none of that counts.
    let long = with(LONG, SegmentRegister::Ds, Segment::default());
    assert_eq!(
        access(&[0xf0, 0x01, 0x06], &registers, &long).address(),
        0xffff
    );
}

#[test]
fn a_segment_that_expands_down_ends_below() {
    let add = [0xf0, 0x01, 0x04];
    let context = |big| {
        let segment = Segment {
            limit: 0x0fff,
            expand_down: true,
            big,
            ..Segment::FLAT
        };
        with(PROTECTED_16, SegmentRegister::Ds, segment)
    };
    let allowed = |offset, big| {
        let decoded = decode(&add, &at(&[(Gpr::Rsi, offset)]), &context(big));
        matches!(decoded, Decoded::Locked(_))
    };
    assert!(!allowed(0xfff, false));
    assert!(allowed(0x1000, false));
    assert!(allowed(0xfffe, false));
    assert!(!allowed(0xffff, false));
    assert!(allowed(0xffff, true));
}

#[test]
fn cmpxchg16b_faults_unless_aligned() {
    let bytes = [0xf0, 0x48, 0x0f, 0xc7, 0x0e];
    assert_eq!(access(&bytes, &at(&[(Gpr::Rsi, 0x2010)]), &LONG).size(), 16);
    let misaligned = fault(&bytes, &at(&[(Gpr::Rsi, 0x2018)]), &LONG);
    assert_eq!(misaligned, Fault::Misaligned { address: 0x2018 });
    assert_eq!(misaligned.exception(), Exception::GeneralProtection);
    // Half of it may lie anywhere.
    let half = access(&[0xf0, 0x0f, 0xc7, 0x0e], &at(&[(Gpr::Rsi, 0x203c)]), &LONG);
    assert!(half.crosses_line());
}

#[test]
fn lock_in_front_of_anything_else_is_undefined() {
    let cannot: [&[u8]; 7] = [
        &[0xf0, 0x90],             // nop
        &[0xf0, 0x01, 0xc0],       // add eax,eax
        &[0xf0, 0x87, 0xc8],       // xchg eax,ecx
        &[0xf0, 0x39, 0x07],       // cmp [rdi],eax
        &[0xf0, 0x0f, 0xa3, 0x07], // bt [rdi],eax
        &[0xf0, 0x03, 0x07],       // add eax,[rdi]
        &[0xf0, 0x89, 0x07],       // mov [rdi],eax
    ];
    for bytes in cannot {
        for context in [REAL, PROTECTED_16, FLAT_32, LONG] {
            let decoded = decode(bytes, &at(&[]), &context);
            assert!(
                matches!(decoded, Decoded::CannotBeLocked(instruction) if instruction.bytes() == bytes),
                "{decoded}"
            );
        }
    }
}

#[test]
fn what_is_no_instruction_is_invalid() {
    assert_eq!(
        decode(&[0x0f, 0x04, 0x00], &at(&[]), &LONG),
        Decoded::Invalid
    );
    // push es, until there was a 64-bit mode
    assert_eq!(decode(&[0x06, 0x00], &at(&[]), &LONG), Decoded::Invalid);
    assert!(matches!(
        decode(&[0x06], &at(&[]), &FLAT_32),
        Decoded::NotLocked(_)
    ));
    // An opcode that is an alias, and was given up as well.
    let alias = [0xf0, 0x82, 0x06, 0x01];
    assert_eq!(decode(&alias, &at(&[]), &LONG), Decoded::Invalid);
    assert_eq!(access(&alias, &at(&[]), &FLAT_32).size(), 1);
    let endless = [0x66; MAX_INSTRUCTION_BYTES + 1];
    assert_eq!(decode(&endless, &at(&[]), &LONG), Decoded::Invalid);
}

#[test]
fn bytes_can_run_out() {
    let add = [0x2e, 0xf0, 0x81, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 8];
    for available in 0..add.len() {
        let decoded = decode(&add[..available], &at(&[]), &LONG);
        assert_eq!(decoded, Decoded::Incomplete { available });
    }
    assert_eq!(access(&add, &at(&[]), &LONG).length(), add.len());
}

#[test]
fn loading_a_segment_register_can_lock_its_descriptor() {
    use ImplicitLock::SegmentLoad;
    use SegmentRegister::{Ds, Es, Fs, Gs, Ss};

    let everywhere: [(&[u8], SegmentRegister); 8] = [
        (&[0x8e, 0xd8], Ds),       // mov ds,ax
        (&[0x8e, 0x07], Es),       // mov es,[rdi]
        (&[0x8e, 0xd0], Ss),       // mov ss,ax
        (&[0x0f, 0xa1], Fs),       // pop fs
        (&[0x0f, 0xa9], Gs),       // pop gs
        (&[0x0f, 0xb2, 0x07], Ss), // lss
        (&[0x0f, 0xb4, 0x07], Fs), // lfs
        (&[0x0f, 0xb5, 0x07], Gs), // lgs
    ];
    let not_in_64_bits: [(&[u8], SegmentRegister); 5] = [
        (&[0x1f], Ds),       // pop ds
        (&[0x07], Es),       // pop es
        (&[0x17], Ss),       // pop ss
        (&[0xc5, 0x07], Ds), // lds
        (&[0xc4, 0x07], Es), // les
    ];
    for (bytes, register) in everywhere {
        assert_eq!(implicit(bytes, &LONG), Some(SegmentLoad(register)));
    }
    for (bytes, register) in everywhere.into_iter().chain(not_in_64_bits) {
        assert_eq!(implicit(bytes, &FLAT_32), Some(SegmentLoad(register)));
        assert_eq!(implicit(bytes, &PROTECTED_16), Some(SegmentLoad(register)));
        assert_eq!(implicit(bytes, &REAL), None);
    }
    // The other way round nothing is loaded.
    assert_eq!(implicit(&[0x8c, 0xd8], &LONG), None);
    assert_eq!(implicit(&[0x8b, 0x07], &LONG), None);
}

#[test]
fn going_to_another_code_segment_can_lock_its_descriptor() {
    use ImplicitLock::{FarTransfer, Interrupt, InterruptReturn};

    let everywhere: [(&[u8], ImplicitLock); 8] = [
        (&[0xff, 0x2f], FarTransfer), // jmp far [rdi]
        (&[0xff, 0x1f], FarTransfer), // call far [rdi]
        (&[0xcb], FarTransfer),       // retf
        (&[0xca, 4, 0], FarTransfer), // retf 4
        (&[0xcd, 0x80], Interrupt),   // int 80h
        (&[0xcc], Interrupt),         // int3
        (&[0xf1], Interrupt),         // int1
        (&[0xcf], InterruptReturn),   // iret
    ];
    for (bytes, lock) in everywhere {
        for context in [PROTECTED_16, FLAT_32, LONG] {
            assert_eq!(implicit(bytes, &context), Some(lock));
        }
        assert_eq!(implicit(bytes, &REAL), None);
    }
    assert_eq!(implicit(&[0x48, 0xcf], &LONG), Some(InterruptReturn));
    let far = [0xea, 0, 0, 0, 0, 8, 0];
    assert_eq!(implicit(&far, &FLAT_32), Some(FarTransfer));
    assert_eq!(
        implicit(&[0x9a, 0, 0, 0, 0, 8, 0], &FLAT_32),
        Some(FarTransfer)
    );
    assert_eq!(implicit(&[0xce], &FLAT_32), Some(Interrupt));
    // Near ones stay where they are.
    for bytes in [
        &[0xff_u8, 0x27][..],
        &[0xff, 0x17],
        &[0xc3],
        &[0xe9, 0, 0, 0, 0],
    ] {
        assert_eq!(implicit(bytes, &LONG), None);
    }
}

#[test]
fn virtual_8086_mode_has_no_descriptors_but_gates() {
    let registers = Registers {
        rflags: rflags::VIRTUAL_8086,
        ..Registers::default()
    };
    let in_vm86 = |bytes: &[u8]| decode(bytes, &registers, &PROTECTED_16);
    assert!(matches!(in_vm86(&[0x8e, 0xd8]), Decoded::NotLocked(_)));
    assert!(matches!(in_vm86(&[0xcb]), Decoded::NotLocked(_)));
    assert!(matches!(
        in_vm86(&[0xcd, 0x21]),
        Decoded::ImplicitLock { .. }
    ));
}

#[test]
fn other_locks_are_named() {
    assert_eq!(
        implicit(&[0x0f, 0x00, 0xd8], &LONG),
        Some(ImplicitLock::TaskRegister)
    );
    let atomics: [&[u8]; 4] = [
        &[0x0f, 0x38, 0xfc, 0x06],       // aadd [rsi],eax
        &[0xc4, 0xe2, 0x71, 0xe6, 0x06], // cmpbexadd [rsi],eax,ecx
        &[0xf3, 0x0f, 0x01, 0x2e],       // rstorssp [rsi]
        &[0xf3, 0x0f, 0x01, 0xe8],       // setssbsy
    ];
    for bytes in atomics {
        assert_eq!(
            implicit(bytes, &LONG),
            Some(ImplicitLock::AtomicWithoutLock)
        );
    }
}

#[test]
fn answers_are_sentences() {
    let text = |bytes: &[u8]| decode(bytes, &at(&[(Gpr::Rsi, 0x203d)]), &LONG).to_string();
    let add = text(&[0xf0, 0x01, 0x06]);
    let mov = text(&[0x8e, 0xd8]);
    assert!(add.ends_with("` locks 4 bytes at 0x203d"), "{add}");
    assert!(mov.contains("` loads DS, "), "{mov}");
    if cfg!(feature = "text") {
        assert!(add.starts_with("`lock add dword ptr [rsi],eax`"), "{add}");
    } else {
        assert!(add.starts_with("`f0 01 06`"), "{add}");
    }
    assert_eq!(
        text(&[0xf0]),
        "the instruction does not end within the 1 bytes that can be fetched"
    );
}
