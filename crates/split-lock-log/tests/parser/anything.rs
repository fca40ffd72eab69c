//! Any bytes: what always has to hold. The fuzz target runs the same.

use split_lock_log::{Message, Record, Scanner};

/// Reads the log whole and in two parts, and panics if something does not hold.
pub(crate) fn check(log: &[u8]) {
    let whole = read(&[log]);
    let (first, second) = log.split_at(log.len() / 3);
    assert_eq!(read(&[first, second]), whole);
    for record in whole {
        let offset = usize::try_from(record.offset).unwrap();
        assert!(
            record.lines > 0 && offset < log.len(),
            "out of place: {record:?}"
        );
        check_message(&record);
    }
}

fn read(parts: &[&[u8]]) -> Vec<Record> {
    let mut scanner = Scanner::new();
    for part in parts {
        scanner.feed(part);
    }
    scanner.finish();
    let records: Vec<_> = std::iter::from_fn(|| scanner.take()).collect();
    let counts = scanner.counts();
    let messages = records
        .iter()
        .filter(|record| !matches!(record.message, Message::Suppressed(_)));
    let counted = counts.traps
        + counts.boot_messages
        + counts.refused_writes
        + counts.starts
        + counts.kernel_split_locks
        + counts.alignment_signals
        + counts.damaged;
    assert_eq!(counted, messages.count() as u64);
    records
}

fn check_message(record: &Record) {
    match &record.message {
        Message::Trap(trap) => assert!(trap.comm.len() <= 64),
        Message::Damaged { text, .. } => assert!(!text.is_empty() && text.len() <= 256),
        Message::AlignmentSignal(signal) => assert!(signal.comm.len() <= 64),
        Message::KernelSplitLock(oops) => assert!(oops.registers.len() <= 17),
        Message::Boot(_)
        | Message::Suppressed(_)
        | Message::RefusedWrite(_)
        | Message::Started { .. } => {}
    }
}
