//! Lines with everything that may stand around a message.

use super::*;

fn read(line: &str) -> Vec<Line> {
    let mut lines = vec![];
    Line::each(line.as_bytes(), &Patterns::for_json(), |line| {
        lines.push(line);
    });
    lines
}

#[test]
fn kmsg_escapes_are_undone() {
    assert_eq!(unescape(br"a\x1b[31m\x5c\xZZ\x0"), b"a\x1b[31m\\\\xZZ\\x0");
}

#[test]
fn what_only_looks_like_a_message_is_none() {
    for line in [
        "[    0.0] Command line: split_lock_detect=warn",
        "split_lock_warn+0x1a/0x80",
        "split_lock_warn: symbol not found",
        "unchecked MSR access error: WRMSR to 0x122 (tried to write 0x2) at rIP: 0x1 (a+0x4/0x20)",
        "unchecked MSR access error: RDMSR from 0x33 at rIP: 0x1 (a+0x4/0x20)",
        "Nov 11 03:49:25 host me[7]: unchecked MSR access error: WRMSR to 0x122 (tried to write",
        "NEM: WARNING: /proc/sys/kernel/split_lock_mitigate is 1.",
        "sudo: bob : COMMAND=/usr/bin/less arch/x86/split.c",
    ] {
        assert_eq!(read(line), [Line::Other], "{line}");
    }
}

#[test]
fn an_entry_that_is_cut_short_is_damaged() {
    for line in [
        r#"{"MESSAGE":"x86/split lock detection: #AC: a\\/1 took a split_lock trap at address: 0x1"#,
        r#"{"MESSAGE":"x86/split lock detection: disabled"#,
    ] {
        let read = read(line);
        assert!(
            matches!(read[..], [Line::Damaged(_, Damage::CutShort)]),
            "{read:?}"
        );
    }
}

#[test]
fn a_program_that_quotes_the_kernel_is_not_the_kernel() {
    for line in [
        "Nov 11 03:49:25 host me[7]: x86/split lock detection: disabled",
        "[    1.500000] me: x86/split lock detection: disabled",
        "Nov 11 03:49:25 host me[7]: saw x86/split lock detection: #AC: a/1",
        "Nov 11 03:49:25 host me[7]: a/1 took a split_lock trap at address: 0x1",
        "Nov 11 03:49:25 host me[7]: unchecked MSR access error: WRMSR to 0x33 (tried to write",
        r#"{"_TRANSPORT":"stdout","MESSAGE":"x86/split lock detection: disabled"}"#,
    ] {
        assert_eq!(read(line), [Line::Foreign], "{line}");
    }
}
