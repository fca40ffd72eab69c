//! Lines of JSON. Their fields are an interface: docs/watch.md.

use anyhow::Result;
use serde_json::{Value, json};
use split_lock_watch::{Relief, Snapshot, StateReport, ThreadId, Watch};

use super::host::Host;

const SCHEMA_VERSION: u32 = 1;

/// Everything is switched on.
pub(super) fn start(watch: &Watch, host: &Host) -> Result<String> {
    line(&json!({
        "event": "start",
        "schema": "splitlock-watch",
        "schema_version": SCHEMA_VERSION,
        "at_ns": Watch::now_ns(),
        "sources": watch.sources().collect::<Vec<_>>(),
        "missing": watch.missing(),
        "complete": watch.is_complete(),
        "kernel": host.kernel,
        "hz": host.hz,
        "detection": host.detection,
        "hopeless_up_to_ns": host.threshold.never_up_to().as_nanos() as u64,
    }))
}

/// A thread is in another state than before.
pub(super) fn change(StateReport { change, thread }: &StateReport) -> Result<String> {
    let mut value = serde_json::to_value(thread)?;
    if let Some(fields) = value.as_object_mut() {
        for rate in ["state", "ended", "traps_per_s", "lost_share"] {
            fields.remove(rate);
        }
    }
    let head = json!({
        "event": "state",
        "at_ns": change.at_ns,
        "from": change.from,
        "to": change.to,
    });
    line(&merged(head, value))
}

/// The mitigation was switched off, and is on again.
pub(super) fn relief(relief: &Relief) -> Result<String> {
    let tids = |threads: &[ThreadId]| threads.iter().map(|thread| thread.tid).collect::<Vec<_>>();
    line(&json!({
        "event": "relief",
        "at_ns": relief.at_ns,
        "lasting_ns": relief.lasting.as_nanos() as u64,
        "past": tids(&relief.past),
        "not_past": tids(&relief.not_past),
    }))
}

/// At an interval, or at the end.
pub(super) fn snapshot(event: &str, snapshot: &Snapshot) -> Result<String> {
    line(&merged(
        json!({ "event": event }),
        serde_json::to_value(snapshot)?,
    ))
}

fn merged(mut head: Value, rest: Value) -> Value {
    if let (Value::Object(head), Value::Object(rest)) = (&mut head, rest) {
        head.extend(rest);
    }
    head
}

fn line(value: &Value) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string(value)?))
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::snapshot as example;
    use super::*;

    #[test]
    fn every_field_is_documented() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let doc = std::fs::read_to_string(root.join("docs/watch.md")).unwrap();
        let text = snapshot("sample", &example()).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        let mut objects = vec![&line, &line["threads"][0], &line["processes"][0]];
        objects.extend([
            &line["cost"],
            &line["lost"],
            &line["totals"],
            &line["relief"],
        ]);
        for object in objects {
            for field in object.as_object().unwrap().keys() {
                assert!(doc.contains(&format!("`{field}`")), "{field}");
            }
        }
        assert_eq!(line["threads"][0]["state"], "livelocked");
        assert_eq!(line["threads"][0]["rip"], "0x7f001234");
        assert_eq!(line["threads"][0]["interrupted_every_ns"], 1_000_000);
        assert_eq!(line["threads"][0]["vm"]["name"], "windows-11");
        // Whoever prints these lines, nothing of a name reaches a terminal raw.
        assert!(!text.contains('\u{1b}'));
    }
}
