//! Lines that are damaged, and lines that are only wrapped.

use split_lock_log::{Damage, Message};

use crate::{anything, messages, records};

#[track_caller]
fn damage(log: &str) -> Vec<Damage> {
    let damage = |message| match message {
        Message::Damaged { damage, .. } => damage,
        other => panic!("not damaged: {other:?}"),
    };
    messages(log.as_bytes()).into_iter().map(damage).collect()
}

#[track_caller]
fn comms(log: &str) -> Vec<String> {
    let comm = |message| match message {
        Message::Trap(trap) => String::from_utf8(trap.comm).unwrap(),
        other => panic!("no trap: {other:?}"),
    };
    messages(log.as_bytes()).into_iter().map(comm).collect()
}

const TRAP: &str =
    "x86/split lock detection: #AC: CPU 0/KVM/5677 took a split_lock trap at address: 0x10";

#[test]
fn damage_is_named() {
    for (log, expected) in [
        (
            "x86/split lock detection: #AC: CPU 0/KVM/56",
            Damage::CutShort,
        ),
        (
            "x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x",
            Damage::CutShort,
        ),
        ("x86/split lock", Damage::CutShort),
        ("handle_bus_lock: 12 callbacks supp", Damage::CutShort),
        (
            "0/KVM/5677 took a split_lock trap at address: 0x10",
            Damage::NoBeginning,
        ),
        (
            "lit lock detection: #AC: a/1 took a split_lock trap at address: 0x10",
            Damage::NoBeginning,
        ),
        (
            "x86/split 1ock detection: #DB: a/1 took a bus_lock trap at address: 0x10",
            Damage::NoBeginning,
        ),
        (
            "x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x7f£9",
            Damage::Garbled,
        ),
        ("x86/split lock detection: enabled", Damage::Garbled),
        (
            "unchecked MSR access error: WRMSR to 0x33 (tried to write 0x0",
            Damage::CutShort,
        ),
        (
            "cess error: WRMSR to 0x33 (tried to write 0x0) at rIP: 0x1 (a+0xf/0x30)",
            Damage::NoBeginning,
        ),
    ] {
        assert_eq!(damage(log), [expected], "{log}");
    }
}

#[test]
fn two_lines_in_one_are_not_taken_apart() {
    assert_eq!(damage(&format!("{}{TRAP}", &TRAP[..40])), [Damage::Garbled]);
    assert_eq!(damage(&format!("{TRAP}{TRAP}")), [Damage::Garbled]);
}

#[test]
fn a_cut_line_does_not_swallow_the_next() {
    let log = format!("[    1.000000] {}\n[    1.000000] {TRAP}\n", &TRAP[..35]);
    let messages = messages(log.as_bytes());
    assert!(matches!(
        messages[0],
        Message::Damaged {
            damage: Damage::CutShort,
            ..
        }
    ));
    assert!(matches!(&messages[1], Message::Trap(trap) if trap.comm == b"CPU 0/KVM"));
    assert_eq!(messages.len(), 2);
}

#[test]
fn a_message_may_be_wrapped_at_every_space() {
    for newline in ["\n", "\r\n", "\n> ", "\n> > ", "\n      ", "=\n"] {
        for (at, _) in TRAP.match_indices(' ') {
            // The mark of quoted-printable leaves the space where it is.
            let kept = if newline == "=\n" { at + 1 } else { at };
            let log = format!(
                "> [    1.500000] {}{newline}{}\n",
                &TRAP[..kept],
                &TRAP[at + 1..]
            );
            let records = records(log.as_bytes());
            assert_eq!(comms(&log), ["CPU 0/KVM"], "{log}");
            assert_eq!((records[0].line, records[0].lines), (1, 2), "{log}");
            assert_eq!(records[0].stamp.text, b"1.500000", "{log}");
        }
    }
    let narrow = TRAP.replace(": ", ":\n> ");
    assert_eq!(
        comms(&format!("[    1.500000]\n{narrow}")),
        ["CPU 0/KVM"],
        "{narrow}"
    );
}

#[test]
fn what_grep_has_coloured_is_read_unless_it_is_a_name() {
    let paint = |word: &str| {
        let painted = format!("\x1b[01;31m\x1b[K{word}\x1b[m\x1b[K");
        format!("[    1.500000] {}\n", TRAP.replace(word, &painted))
    };
    for word in [
        "split",
        "split lock",
        "lock",
        "x86",
        "detection",
        "#AC",
        "took",
        "0x10",
    ] {
        assert_eq!(comms(&paint(word)), ["CPU 0/KVM"], "{word}");
    }
    assert_eq!(
        comms(&paint("KVM")),
        ["CPU 0/\x1b[01;31m\x1b[KKVM\x1b[m\x1b[K"]
    );
}

#[test]
fn a_refused_write_may_be_wrapped_at_every_space() {
    let whole = "unchecked MSR access error: WRMSR to 0x33 (tried to write 0x0000000000000000) at rIP: \
                 0xffffffff812a061f (native_write_msr+0xf/0x30)";
    let first = whole.find(" access").unwrap();
    for (at, _) in whole[first..].match_indices(' ') {
        let (start, end) = whole.split_at(first + at);
        let log = format!(
            "> [    1.500000] {start}\n> {}\n> Call Trace:\n",
            end.trim()
        );
        let found = messages(log.as_bytes());
        assert!(
            matches!(found[..], [Message::RefusedWrite(refused)] if refused.value == 0),
            "{log}: {found:?}"
        );
    }
    let other = whole.replace("0x33", "0x122");
    for log in [&other[..], "unchecked MSR access error:", &other[..41]] {
        assert_eq!(messages(log.as_bytes()), [], "{log}");
    }
}

#[test]
fn quoted_printable_may_break_anywhere() {
    let refused =
        "unchecked MSR access error: WRMSR to 0x33 (tried to write 0x0) at rIP: 0x1 (a+0xf/0x30)";
    for (whole, from) in [
        (TRAP, "x86/split "),
        (refused, "unchecked MSR "),
        (
            "split_lock_warn: 7 callbacks suppressed",
            "split_lock_warn: ",
        ),
    ] {
        let expected = messages(whole.as_bytes());
        // Whoever has only a last word missing has a whole number.
        let last = whole.len() - if whole == TRAP { 2 } else { 0 };
        // A space stays before the mark.
        let breaks = (from.len()..last).filter(|&at| !whole[at..].starts_with(' '));
        for at in breaks {
            let log = format!("> {}=\n{}\n", &whole[..at], &whole[at..]);
            assert_eq!(messages(log.as_bytes()), expected, "{log}");
        }
    }
}

#[test]
fn a_terminals_edge_may_be_anywhere() {
    for at in "x86/split ".len()..TRAP.len() - 1 {
        // Then the first line has an address already.
        if TRAP[..at].contains(": 0x1") {
            continue;
        }
        let log = format!("{}\n{}\n", &TRAP[..at], &TRAP[at..]);
        let found = messages(log.as_bytes());
        assert_eq!(found.len(), 1, "{log}");
        let Message::Trap(trap) = &found[0] else {
            panic!("{log}: {found:?}");
        };
        assert_eq!((trap.tid, trap.address), (5677, 0x10), "{log}");
    }
}

#[test]
fn a_newline_in_a_name_is_part_of_it() {
    let log = "[    1.500000] x86/split lock detection: #AC: a\n\
               [    1.500000] b/7 took a split_lock trap at address: 0x10\n";
    assert_eq!(comms(log), ["a\nb"]);
}

#[test]
fn damaged_lines_have_their_time_and_text() {
    let log = format!("[    1.500000] {}\r\n", &TRAP[..30]);
    let record = &records(log.as_bytes())[0];
    assert_eq!(record.stamp.text, b"1.500000");
    let Message::Damaged { text, .. } = &record.message else {
        panic!("{record:?}");
    };
    assert_eq!(text, log.trim_end().as_bytes());
}

/// Only a mail's header says that lines may be broken anywhere; where chunks end, nothing else is looked at than elsewhere.
#[test]
fn a_broken_line_is_read_alike_in_whole_and_in_chunks() {
    anything::check(
        b"what is before it\n[    0.000000] Lin=\nux version 6.1.0-34 (x@y) (gcc) #1 SMP\n",
    );
}
