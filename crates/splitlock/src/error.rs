//! Errors and notes: one line on stderr.

use std::io::{self, Write};

use split_lock_report::text;

/// Prints one sentence. If even that is impossible, the exit code has to do.
pub(crate) fn print_to_stderr(sentence: &str) {
    let _ = writeln!(io::stderr(), "splitlock: {}", text::plain(sentence));
}

/// The same of what is worth knowing, and is no error.
pub(crate) fn print_note(note: &str) {
    print_to_stderr(&format!("note: {note}"));
}

/// An error and its causes in one sentence. Many errors end in their cause already; it is not
/// repeated.
pub(crate) fn error_chain(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.contains(&cause) {
            continue;
        }
        if !sentence.is_empty() {
            sentence.push_str(": ");
        }
        sentence.push_str(&cause);
    }
    sentence
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context;
    use split_lock_repro::guest::{FileOptions, Guest};
    use split_lock_repro::results::Sweep;
    use split_lock_repro::vm::open_kvm;

    use super::*;
    use crate::output::Output;

    fn errors() -> Vec<anyhow::Error> {
        let options = FileOptions::default();
        let folder = || io::BufReader::new(std::fs::File::open("/").unwrap());
        vec![
            Guest::find("./missing", options).unwrap_err().into(),
            Guest::find("/", options).unwrap_err().into(),
            open_kvm(Path::new("/missing")).unwrap_err().into(),
            open_kvm(Path::new("/dev/null")).unwrap_err().into(),
            Output::prepare(Path::new("/missing/a.csv")).unwrap_err(),
            Sweep::read_csv(folder())
                .context("cannot read /")
                .unwrap_err(),
            Sweep::read_json(folder())
                .context("cannot read /")
                .unwrap_err(),
            Sweep::read_json(&b"{"[..])
                .context("cannot read a")
                .unwrap_err(),
        ]
    }

    #[test]
    fn no_sentence_repeats_itself_or_leaves_the_reason_out() {
        for error in errors() {
            let sentence = error_chain(&error);
            let mut parts: Vec<_> = sentence.split([':', ';']).map(str::trim).collect();
            let count = parts.len();
            parts.sort_unstable();
            parts.dedup();
            assert_eq!(parts.len(), count, "{sentence}");
            let reason = error.root_cause().to_string();
            assert!(sentence.contains(&reason), "{sentence}");
        }
    }
}
