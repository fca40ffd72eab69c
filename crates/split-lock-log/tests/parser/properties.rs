//! What holds for every log.

use proptest::prelude::*;

use crate::written::{STYLES, Style, event};
use crate::{anything, encoded, in_chunks, records};

fn style() -> impl Strategy<Value = Style> {
    proptest::sample::select(&STYLES[..])
}

/// Lines that have nothing to do with split locks, or seem to.
fn other_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"[    0.000000] Command line: split_lock_detect=warn".to_vec()),
        Just(b"Nov 22 14:53:09 host sudo[1]: grep bus_lock".to_vec()),
        Just(b"".to_vec()),
        Just(vec![b'x'; 70_000]),
        proptest::collection::vec(any::<u8>(), 0..80),
    ]
}

fn log() -> impl Strategy<Value = Vec<u8>> {
    let whole = (style(), event()).prop_map(|(style, event)| style.line(&event));
    let broken = (
        style(),
        event(),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(style, event, at, newline)| {
            let line = style.line(&event);
            let (start, end) = line.split_at(at.index(line.len()));
            [start, if newline { &b"\n"[..] } else { b"" }, end].concat()
        });
    let line = prop_oneof![whole, broken, other_line()];
    let lines = proptest::collection::vec(line, 0..12);
    lines.prop_map(|lines| lines.join(&b'\n'))
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_every_style(event in event()) {
        for style in STYLES {
            let line = style.line(&event);
            let records = records(&line);
            let shown = line.escape_ascii().to_string();
            prop_assert_eq!(records, [style.record(&event)], "{:?}: {}", style, shown);
        }
    }

    #[test]
    fn chunks_make_no_difference(log in log(), sizes in proptest::collection::vec(1usize..300, 1..20)) {
        prop_assert_eq!(in_chunks(&log, &sizes), records(&log));
    }

    #[test]
    fn packing_makes_no_difference(log in log(), how in any::<u8>()) {
        encoded::check(&[&log[..], &[b'\n', how]].concat());
    }

    #[test]
    fn places_are_where_the_lines_are(log in log()) {
        for record in records(&log) {
            let offset = usize::try_from(record.offset).unwrap();
            prop_assert!(offset == 0 || log[offset - 1] == b'\n');
            let before = log[..offset].iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(record.line, before as u64 + 1);
        }
    }

    /// A part of an event is never taken for another event: it is damaged, or it is not there.
    #[test]
    fn an_event_without_its_end_is_no_other_event(event in event(), style in style(), at in any::<prop::sample::Index>()) {
        let line = style.line(&event);
        let part = &line[..at.index(line.len())];
        let whole = style.record(&event);
        for record in records(part) {
            use split_lock_log::Message::{Boot, Damaged, RefusedWrite, Started, Trap};
            match (record.message, &whole.message) {
                (Damaged { .. }, _) => {}
                // Only the end of a colour is missing.
                (part, whole) if part == *whole => {}
                // A number whose last digits are missing is a number.
                (Trap(part), Trap(whole)) => prop_assert_eq!(
                    (part.kind, part.comm, part.tid),
                    (whole.kind, whole.comm.clone(), whole.tid)
                ),
                (Started { release: part }, Started { release: whole }) => {
                    prop_assert_eq!(&part, whole);
                }
                // What is missing may be no more than the end of a colour.
                (RefusedWrite(part), RefusedWrite(whole)) => prop_assert_eq!(part, *whole),
                // One of these is the beginning of another.
                (Boot(_), Boot(_)) => {}
                (part, whole) => prop_assert!(false, "{:?} of {:?}", part, whole),
            }
        }
    }

    #[test]
    fn any_bytes_do_no_harm(log in proptest::collection::vec(any::<u8>(), 0..2000)) {
        anything::check(&log);
    }

    #[test]
    fn any_log_does_no_harm(log in log()) {
        anything::check(&log);
    }
}
