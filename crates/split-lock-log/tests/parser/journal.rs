//! The journal's own forms, in which an entry is more than a line.

use std::time::Duration;

use proptest::prelude::*;
use split_lock_log::{Damage, LogStart, Message, Record, Records, WallFormat};

use crate::written::{Event, event, kernel_text};
use crate::{anything, in_chunks, in_words, messages, records};

/// What `journalctl` prints of one journal, in each form.
const FORMS: [&[u8]; 5] = [
    include_bytes!("../journal/entries.json"),
    include_bytes!("../journal/entries.json-seq"),
    include_bytes!("../journal/entries.json-sse"),
    include_bytes!("../journal/entries.json-pretty"),
    include_bytes!("../journal/entries.export"),
];

fn told(record: &Record) -> String {
    let time = String::from_utf8_lossy(&record.stamp.text);
    let uptime = record.stamp.uptime.unwrap();
    format!("{time} {uptime:?} {}", in_words(&record.message))
}

#[test]
fn every_form_says_the_same() {
    let expected = [
        "1763823189123456 900µs started: 6.6.1",
        "1763823189124456 1.8ms boot: SplitLocks(Warn)",
        "1763823189125456 2.7ms split lock at 0x10 by 5677 CPU 0/KVM",
        r"1763823189126456 3.6ms split lock at 0x20 by 7 a\x1b[31m\xff\n\n__CURSOR=x",
        "1763823189127456 4.5ms suppressed: 7 split locks",
        "1763823189129456 6.3ms refused: 0x0 by 0xffffffff812a061f",
    ];
    for form in FORMS {
        let mut found = Records::new(form);
        let records: Vec<Record> = found.by_ref().map(Result::unwrap).collect();
        let told: Vec<String> = records.iter().map(told).collect();
        assert_eq!(told, expected);
        // A program has written what looks like an entry of the kernel's.
        assert_eq!(found.counts().foreign_lines, 1);
        assert_eq!(found.log_start(), LogStart::Boot);
        for record in &records {
            assert_eq!(record.host.as_deref(), Some(&b"host"[..]));
            assert_eq!(record.stamp.wall, Some(WallFormat::UnixMicros));
        }
        for size in [1, 2, 7, 1000] {
            assert_eq!(in_chunks(form, &[size]), records);
        }
    }
}

#[test]
fn the_place_is_where_the_entry_begins() {
    for (form, begins) in [(FORMS[3], &b"{\n"[..]), (FORMS[4], b"__CURSOR=")] {
        for record in records(form) {
            let offset = usize::try_from(record.offset).unwrap();
            assert!(form[offset..].starts_with(begins), "{record:?}");
            let before = form[..offset].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(record.line, before as u64 + 1);
        }
    }
}

#[test]
fn an_entry_that_is_cut_short_is_damaged() {
    let trap = "x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10";
    for at in ["x86/split lock".len(), 38, 60] {
        let cut = &trap[..at];
        let length = String::from_utf8(1_000u64.to_le_bytes().to_vec()).unwrap_err();
        let binary = [b"__CURSOR=1\nMESSAGE\n", length.as_bytes(), cut.as_bytes()].concat();
        for log in [
            format!("__CURSOR=1\n_TRANSPORT=kernel\nMESSAGE={cut}").into_bytes(),
            format!("__CURSOR=1\nMESSAGE={cut}\n\n__CURSOR=2\nMESSAGE=x\n\n").into_bytes(),
            binary,
        ] {
            let damage = Damage::CutShort;
            let text = cut.as_bytes().to_vec();
            assert_eq!(messages(&log), [Message::Damaged { damage, text }]);
        }
        let log = format!("{{\n\t\"MESSAGE\" : \"{cut}");
        assert!(
            matches!(messages(log.as_bytes())[..], [Message::Damaged { .. }]),
            "{log}"
        );
    }
}

#[test]
fn what_is_too_long_is_not_kept_and_not_hidden() {
    let trap = b"x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10";
    let long = vec![b'x'; 100_000];
    let export = [b"__CURSOR=1\nMESSAGE=", &trap[..], &long, b"\n\n"].concat();
    let pretty = [b"{\n\"MESSAGE\" : \"", &trap[..], &long, b"\"\n}\n"].concat();
    for log in [export, pretty] {
        let found = messages(&log);
        assert!(
            matches!(&found[..], [Message::Damaged { damage: Damage::LineTooLong | Damage::Garbled, text }] if text.len() == 256),
            "{found:?}"
        );
    }
    // A length that nothing can have.
    let log = [b"__CURSOR=1\nA\n", &[0xff; 8][..], trap, b"\n\n"].concat();
    assert_eq!(messages(&log), []);
}

fn export(event: &Event) -> Vec<u8> {
    let message = kernel_text(&event.message);
    let is_text = std::str::from_utf8(&message).is_ok() && !message.contains(&b'\n');
    let message = if is_text {
        [b"MESSAGE=", &message[..]].concat()
    } else {
        let length = (message.len() as u64).to_le_bytes();
        [b"MESSAGE\n", &length[..], &message].concat()
    };
    let head = format!(
        "__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1763823189123456\n_TRANSPORT=kernel\n_HOSTNAME=host\n\
         _SOURCE_MONOTONIC_TIMESTAMP={}\n",
        event.uptime_us
    );
    [head.as_bytes(), &message, b"\nPRIORITY=4\n\n"].concat()
}

fn pretty(event: &Event) -> Vec<u8> {
    let message = kernel_text(&event.message);
    let message = match std::str::from_utf8(&message) {
        Ok(text) => serde_json::json!(text).to_string(),
        Err(_) => {
            let bytes: Vec<String> = message.iter().map(u8::to_string).collect();
            format!("[\n\t\t{}\n\t]", bytes.join(",\n\t\t"))
        }
    };
    format!(
        "{{\n\t\"__REALTIME_TIMESTAMP\" : \"1763823189123456\",\n\t\"MESSAGE\" : {message},\n\t\"_HOSTNAME\" : \
         \"host\",\n\t\"_SOURCE_MONOTONIC_TIMESTAMP\" : \"{}\",\n\t\"_TRANSPORT\" : \"kernel\"\n}}\n",
        event.uptime_us
    )
    .into_bytes()
}

proptest! {
    #[test]
    fn what_is_written_is_read(events in proptest::collection::vec(event(), 1..6), sizes in proptest::collection::vec(1usize..300, 1..20)) {
        for write in [export, pretty] {
            let log: Vec<u8> = events.iter().flat_map(write).collect();
            let records = records(&log);
            let messages: Vec<_> = records.iter().map(|record| &record.message).collect();
            let expected: Vec<_> = events.iter().map(|event| &event.message).collect();
            prop_assert_eq!(messages, expected, "{}", log.escape_ascii());
            for (record, event) in records.iter().zip(&events) {
                prop_assert_eq!(record.stamp.uptime, Some(Duration::from_micros(event.uptime_us)));
            }
            prop_assert_eq!(in_chunks(&log, &sizes), records);
        }
    }

    #[test]
    fn what_is_broken_does_no_harm(events in proptest::collection::vec(event(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        for write in [export, pretty] {
            let mut log: Vec<u8> = events.iter().flat_map(write).collect();
            let at = at.index(log.len());
            log[at] = byte;
            if cut {
                log.truncate(at + 1);
            }
            anything::check(&log);
        }
    }
}
