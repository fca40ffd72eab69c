//! Lines of real logs, as people have published them, and of the kernel's source.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use split_lock_log::{Caller, Record};

use crate::{in_words, records};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn told(record: &Record) -> String {
    let last = record.line + u64::from(record.lines) - 1;
    let line = match record.lines {
        1 => record.line.to_string(),
        _ => format!("{}-{last}", record.line),
    };
    let time = String::from_utf8_lossy(&record.stamp.text);
    format!("{line} | {time} | {}", in_words(&record.message))
}

#[test]
fn every_line_of_the_corpus_is_read_as_it_should_be() {
    let mut names: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut found = "# What the files of corpus/ say: line, time, message.\n".to_owned();
    for name in names {
        write!(found, "\n{name}\n").unwrap();
        for record in records(&fs::read(folder().join(name)).unwrap()) {
            writeln!(found, "{}", told(&record)).unwrap();
        }
    }
    let differs = |(number, (found, expected)): (usize, (&str, &str))| {
        (found != expected).then(|| format!("{number}: {found}\ninstead of {expected}"))
    };
    let expected = include_str!("../corpus.txt");
    let pairs = found.lines().zip(expected.lines()).enumerate();
    assert_eq!(pairs.map(differs).find(Option::is_some).flatten(), None);
    assert_eq!(found, expected);
}

/// The corpus proves what the parser reads without its own tables, from which the other tests take the kernel's
/// words. What no published log has is in `zz-kernel-formats.log`, by the kernel's source: keep a line for each.
#[test]
fn every_message_of_the_kernel_is_in_the_corpus() {
    for words in [
        "split lock at",
        "fatal split lock at",
        "bogus split lock at",
        "bus lock at",
        "boot: Disabled",
        "boot: SplitLocks(Warn)",
        "boot: SplitLocks(Sigbus)",
        "boot: SplitLocksBefore513(Warn)",
        "boot: SplitLocksBefore513(Sigbus)",
        "boot: BusLocks { reaction: Warn, only_not_write_back: false }",
        "boot: BusLocks { reaction: Sigbus, only_not_write_back: false }",
        "boot: BusLocks { reaction: Sigbus, only_not_write_back: true }",
        "boot: BusLockRate { per_second: 1000 }",
        "boot: MsrAccessFailed",
        "boot: NoOfflineHandler",
        "suppressed: 7 split locks",
        "suppressed: 20 bus locks",
        "refused: ",
        "started: ",
    ] {
        let has_words = include_str!("../corpus.txt").contains(&format!("| {words}"));
        assert!(has_words, "{words}");
    }
}

#[test]
fn who_was_running_and_on_which_machine_is_kept() {
    let log = fs::read(folder().join("jfcarter-nuc11.log")).unwrap();
    let record = &records(&log)[0];
    assert_eq!(record.host.as_deref(), Some(&b"diamond"[..]));
    assert_eq!(record.caller, Some(Caller::Thread(175_479)));
}
