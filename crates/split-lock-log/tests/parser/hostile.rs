//! Logs that are made to do harm.

use std::io::{self, Read};

use split_lock_log::{Damage, MAX_LINE_BYTES, Message, Records};

use crate::{messages, records};

const TRAP: &[u8] = b"x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10";

#[test]
fn a_line_without_an_end_is_read_in_bounded_memory() {
    let bytes = 1 << 30;
    let log = TRAP
        .chain(io::repeat(b'x').take(bytes))
        .chain(&b"\n"[..])
        .chain(TRAP)
        .chain(&b"\n"[..]);
    let records: Vec<_> = Records::new(log).map(Result::unwrap).collect();
    assert!(
        matches!(&records[0].message, Message::Damaged { damage: Damage::LineTooLong, text } if text.len() == 256)
    );
    assert!(matches!(records[1].message, Message::Trap(_)));
    assert_eq!((records[1].line, records.len()), (2, 2));
    assert_eq!(records[1].offset, TRAP.len() as u64 + bytes + 1);
}

#[test]
fn the_longest_line_is_still_read() {
    let spaces = MAX_LINE_BYTES - TRAP.len();
    for (more, is_read) in [(0, true), (1, false)] {
        let log = [&vec![b' '; spaces + more][..], TRAP, b"\n"].concat();
        let messages = messages(&log);
        assert_eq!(matches!(messages[0], Message::Trap(_)), is_read, "{more}");
    }
}

#[test]
fn nul_bytes_and_no_newlines_are_no_message() {
    assert_eq!(records(&vec![0; 3 << 20]), []);
}

#[test]
fn an_object_without_an_end_is_no_entry() {
    let deep = [b"{\"MESSAGE\":".repeat(5_000), b"split".to_vec()].concat();
    assert_eq!(records(&deep), []);
    let cut = br#"{"_TRANSPORT":"kernel","MESSAGE":"x86/split lock detection: #AC: a/1 took"#;
    let is_damaged = |message: &Message| matches!(message, Message::Damaged { .. });
    assert!(messages(cut).iter().all(is_damaged));
}

#[test]
fn what_fails_to_be_read_is_an_error_after_what_has_been() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let mut records = Records::new(TRAP.chain(&b"\n"[..]).chain(Failing));
    assert!(matches!(records.next(), Some(Ok(_))));
    assert_eq!(records.next().unwrap().unwrap_err().to_string(), "broken");
    assert!(records.next().is_none());
}
