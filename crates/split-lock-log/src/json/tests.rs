//! JSON of many shapes, with a message in it.

use super::*;

const TRAP: &str = "x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10";

fn read(text: &str) -> Vec<Entry> {
    let value: Value = serde_json::from_str(&text.replace("TRAP", TRAP)).unwrap();
    entries(&value, &Patterns::for_text())
}

#[track_caller]
fn one(text: &str) -> Entry {
    let entries = read(text);
    assert_eq!(entries.len(), 1, "{text}: {entries:?}");
    entries.into_iter().next().unwrap()
}

#[test]
fn the_time_beside_a_message_is_its_time_wherever_that_is() {
    use WallFormat::{Iso, Unix, UnixMicros, UnixMillis, UnixNanos};
    for (text, wall, time) in [
        (
            r#"{"log":"TRAP","time":"2026-11-22T14:53:09Z"}"#,
            Iso,
            "2026-11-22T14:53:09Z",
        ),
        (
            r#"{"jsonPayload":{"message":"TRAP"},"timestamp":"2026-11-22T14:53:09Z"}"#,
            Iso,
            "2026-11-22T14:53:09Z",
        ),
        (
            r#"{"_source":{"message":"TRAP","@timestamp":"2026-11-22 14:53:09"}}"#,
            Iso,
            "2026-11-22 14:53:09",
        ),
        (
            r#"{"events":[{"timestamp":1763823189123,"message":"TRAP"}]}"#,
            UnixMillis,
            "1763823189123",
        ),
        (
            r#"{"stream":{"host":"h"},"values":[["1763823189123456789","TRAP"]]}"#,
            UnixNanos,
            "1763823189123456789",
        ),
        (
            r#"{"MESSAGE":"TRAP","__REALTIME_TIMESTAMP":"1763823189123456"}"#,
            UnixMicros,
            "1763823189123456",
        ),
        (
            r#"{"short_message":"TRAP","timestamp":1763823189.123}"#,
            Unix,
            "1763823189.123",
        ),
    ] {
        let stamp = one(text).stamp;
        assert_eq!(
            (stamp.wall, &stamp.text[..]),
            (Some(wall), time.as_bytes()),
            "{text}"
        );
    }
}

#[test]
fn an_uptime_is_not_a_time_of_day() {
    for text in [
        r#"{"dmesg":[{"time":12345.678901,"msg":"TRAP"}]}"#,
        r#"{"sec":12345,"usec":678901,"msg":"TRAP"}"#,
        r#"{"_SOURCE_MONOTONIC_TIMESTAMP":"12345678901","MESSAGE":"TRAP"}"#,
    ] {
        assert_eq!(
            one(text).stamp.uptime,
            Some(Duration::from_micros(12_345_678_901)),
            "{text}"
        );
    }
}

#[test]
fn a_message_that_is_there_twice_is_one_and_two_are_two() {
    for text in [
        r#"{"stdout":"[1.0] TRAP","stdout_lines":["[1.000000] TRAP"]}"#,
        r#"{"message":"TRAP","event":{"original":"TRAP"}}"#,
    ] {
        one(text);
    }
    assert_eq!(
        read(r#"{"stdout":"TRAP\nTRAP","stdout_lines":["TRAP","TRAP"]}"#).len(),
        2
    );
    assert_eq!(read(r#"[{"message":"TRAP"},{"message":"TRAP"}]"#).len(), 2);
}

#[test]
fn a_question_is_no_answer() {
    assert_eq!(
        read(r#"{"cmd":"dmesg | grep 'TRAP'","stdout":""}"#).len(),
        0
    );
}
