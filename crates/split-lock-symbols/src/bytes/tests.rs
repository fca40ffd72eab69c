//! What people paste, and what is not read.

use proptest::prelude::*;

use super::*;

const BTS: [u8; 5] = [0xf0, 0x48, 0x0f, 0xab, 0x3e];

#[test]
fn an_instruction_is_read_in_many_notations() {
    for text in [
        "f0 48 0f ab 3e",
        "f0480fab3e",
        "0xf0480fab3e",
        "F0 480F AB3E",
        "0xf0,0x48,0x0f,0xab,0x3e",
        "0xf0, 0X48, 0x0f, 0xab, 0x3e\n",
        "f0:48:0f:ab:3e",
        r"\xf0\x48\x0f\xab\x3e",
        "<f0> 48 0f ab 3e",
        "[   12.345678] Code: <f0> 48 0f ab 3e",
    ] {
        let pasted = parse(text).unwrap();
        assert_eq!((&pasted.bytes[..], pasted.start), (&BTS[..], 0), "{text}");
    }
}

#[test]
fn the_byte_that_a_kernel_marks_begins_the_instruction() {
    let pasted = parse("Code: 90 0f 1f 00 <f0> 48 0f ab 3e c3").unwrap();
    assert_eq!(pasted.start, 4);
    assert!(pasted.bytes[pasted.start..].starts_with(&BTS));
    assert_eq!(pasted.bytes.len(), 10);
}

#[test]
fn what_is_not_a_byte_is_named() {
    for (text, part) in [
        ("", "no bytes"),
        (" , ", "no bytes"),
        ("f0 4", "`4`"),
        ("f0480", "`f0480`"),
        ("0x", "`0x`"),
        ("Code: Bad RIP value.", "`Bad`"),
        ("<f0> <48>", "`<48>`"),
        ("<f0 48", "`<f0`"),
        ("<>", "``"),
        ("é0", "`é0`"),
        ("0x401112 f0 0f b1 17", "may be an address"),
        ("12: f0 0f b1 17", "may be an address"),
        (
            "=> 0x401112 <main+12>:\tlock cmpxchg %edx,(%rdi)",
            "--address 0x401112",
        ),
    ] {
        let message = PastedBytes::parse(text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

const CMPXCHG: [u8; 4] = [0xf0, 0x0f, 0xb1, 0x17];

#[test]
fn an_address_in_front_of_code_is_an_address() {
    for line in [
        "  401112: f0 0f b1 17",
        "  401112:\tf0 0f b1 17          \tlock cmpxchg %edx,(%rdi)",
        "  401112:\tf0 0f b1 17          \tlock cmpxchg DWORD PTR [rdi],edx",
        "0x401112: 0xf0 0x0f 0xb1 0x17",
        "0x401112 <main+12>:\t0xf0\t0x0f\t0xb1\t0x17",
        "   0x0000000000401112 <+12>:\tf0 0f b1 17\tlock cmpxchg %edx,(%rdi)",
        "=> 0x0000000000401112 <main+12>:\tf0 0f b1 17\tlock cmpxchg %edx,(%rdi)",
        "    0.50 :   401112:   f0 0f b1 17     lock cmpxchg %edx,(%rdi)",
        "  12.30 │   401112:   f0 0f b1 17     lock cmpxchg %edx,(%rdi)",
        "0000000000401106 <main>:\n  401112: f0 0f b1 17 lock cmpxchg",
        "00401112: f0 0f b1 17",
    ] {
        let pasted = PastedBytes::parse(line).unwrap();
        let found = (&pasted.bytes[pasted.start..], pasted.address);
        assert_eq!(found, (&CMPXCHG[..], Some(0x40_1112)), "{line}");
    }
}

#[test]
fn the_arrow_marks_the_instruction_among_others() {
    let text = "   0x401110 <main+10>:\t31 c0\txor %eax,%eax\n=> 0x401112 <main+12>:\tf0 0f b1 17\tlock cmpxchg\n   \
                0x401116 <main+16>:\tc3\tret\n";
    let pasted = PastedBytes::parse(text).unwrap();
    assert_eq!(
        (pasted.start, pasted.address, pasted.bytes.len()),
        (2, Some(0x40_1112), 7)
    );
}

#[test]
fn a_long_instruction_may_take_two_lines() {
    let text = "  401112:\tf0 48 81 05 00 01 00 \tlock addq $0x12345678,0x100(%rip)\n  401119:\t00 78 56 34 12 \n";
    assert_eq!(PastedBytes::parse(text).unwrap().bytes.len(), 12);
}

#[test]
fn an_oops_has_the_code_and_the_registers() {
    let text = "[ 77.0] Oops: Split lock detected: 0000 [#1] SMP\n[ 77.0] RIP: 0010:skb_clone+0x159/0x1e0\n\
                [ 77.0] Code: 90 <f0> ff 42 20 c3\n[ 77.0] RSP: 0018:ffffc90000123b48 EFLAGS: 00010246\n\
                [ 77.0] RAX: 0000000000000000 RDX: ffff88810000001e R08: 0000000000000007\n\
                [ 77.0] FS:  00007f1234567740(0000) GS:ffff88810e000000(0000)\n[ 77.1] Code: 90 90\n\
                [ 77.1] RDX: 0000000000000000";
    let pasted = PastedBytes::parse(text).unwrap();
    assert_eq!(
        (pasted.start, &pasted.bytes[1..5]),
        (1, &[0xf0, 0xff, 0x42, 0x20][..])
    );
    assert!(pasted.is_kernel);
    let registers: Vec<_> = pasted
        .registers
        .iter()
        .map(|(name, value)| (&name[..], *value))
        .collect();
    assert_eq!(
        registers,
        [
            ("rsp", 0xffff_c900_0012_3b48),
            ("eflags", 0x10246),
            ("rax", 0),
            ("rdx", 0xffff_8881_0000_001e),
            ("r8", 7),
            ("fs_base", 0x7f12_3456_7740),
            ("gs_base", 0xffff_8881_0e00_0000),
        ]
    );
}

proptest! {
    #[test]
    fn any_bytes_come_back_from_any_separator(
        bytes in proptest::collection::vec(any::<u8>(), 1..40),
        gap in "[ ,;\t\n]{1,3}|:",
    ) {
        let words: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(parse(&words.join(&gap)).unwrap().bytes, bytes);
    }

    #[test]
    fn no_text_is_a_panic(text in any::<String>()) {
        let _ = parse(&text);
    }
}
