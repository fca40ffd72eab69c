//! Edits of a kernel's source: our own lines, and where they go. A place is a whole line of the source, without its
//! indentation, that the file has exactly once.
//!
//! ```text
//! @@ in arch/x86/kernel/cpu/bus_lock.c | arch/x86/kernel/cpu/intel.c
//! @@ replace if (msleep_interruptible(10) > 0)
//!         if (schedule_timeout_killable(msecs_to_jiffies(10)))
//! @@ append
//! /* The end. */
//! ```
//!
//! `in` names one or several files, of which the first that is there is edited; `replace`, `before` and `after` name a line,
//! `append` the end of the file. `replace A ... B` takes away the lines from A to the first B after it. `create FILE` is a
//! file that must not be there.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What a text of edits asks for, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edits(Vec<FileEdit>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileEdit {
    /// The first that is there.
    candidates: Vec<String>,
    place: Place,
    lines: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Replace { first: String, last: String },
    Before(String),
    After(String),
    End,
    NewFile,
}

/// The new text of each file that is edited or created, by its path in the source.
pub(crate) type Edited = BTreeMap<String, String>;

const MARK: &str = "@@ ";

/// Between the first and the last line that are replaced.
const TO: &str = " ... ";

impl Edits {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut edits: Vec<FileEdit> = Vec::new();
        let mut files: Vec<String> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let place = match line.strip_prefix(MARK) {
                Some(words) => words.split_once(' ').unwrap_or((words, "")),
                None => {
                    let edit = edits.last_mut();
                    let edit =
                        edit.with_context(|| format!("line {}: before any place", index + 1))?;
                    edit.lines += line;
                    edit.lines += "\n";
                    continue;
                }
            };
            let place = match place {
                ("in", names) => {
                    files = names.split(" | ").map(str::to_owned).collect();
                    continue;
                }
                ("create", name) => {
                    files = vec![name.to_owned()];
                    Place::NewFile
                }
                ("append", "") => Place::End,
                ("before", line) => Place::Before(line.to_owned()),
                ("after", line) => Place::After(line.to_owned()),
                ("replace", lines) => {
                    let (first, last) = lines.split_once(TO).unwrap_or((lines, lines));
                    let (first, last) = (first.to_owned(), last.to_owned());
                    Place::Replace { first, last }
                }
                (other, _) => bail!("line {}: there is no edit {other:?}", index + 1),
            };
            ensure!(
                !files.is_empty(),
                "line {}: no file is named before it",
                index + 1
            );
            edits.push(FileEdit {
                candidates: files.clone(),
                place,
                lines: String::new(),
            });
        }
        Ok(Self(edits))
    }

    /// What they make of a source; nothing is written. `edited` is what earlier edits have made.
    ///
    /// # Errors
    /// The first edit that does not fit, with the file and the line that it looked for.
    pub(crate) fn apply(&self, tree: &Path, edited: &mut Edited) -> Result<()> {
        for edit in &self.0 {
            let (path, text) = edit.find(tree, edited)?;
            let changed = edit.place.put(&text, &edit.lines);
            let changed = changed.with_context(|| {
                format!(
                    "the edit does not fit {path} of {}: nothing is changed",
                    tree.display()
                )
            })?;
            edited.insert(path, changed);
        }
        Ok(())
    }
}

impl FileEdit {
    fn find(&self, tree: &Path, edited: &Edited) -> Result<(String, String)> {
        for candidate in &self.candidates {
            let text = match edited.get(candidate) {
                Some(text) => Some(text.clone()),
                None => read_if_there(&tree.join(candidate))?,
            };
            match (&self.place, text) {
                (Place::NewFile, Some(_)) => {
                    bail!("{candidate} is in the source already: nothing is changed")
                }
                (Place::NewFile, None) => return Ok((candidate.clone(), String::new())),
                (_, Some(text)) => return Ok((candidate.clone(), text)),
                (_, None) => {}
            }
        }
        bail!(
            "the source in {} has no {}: nothing is changed",
            tree.display(),
            self.candidates.join(" or ")
        )
    }
}

impl Place {
    fn put(&self, text: &str, lines: &str) -> Result<String> {
        let old: Vec<&str> = text.split_inclusive('\n').collect();
        let (begin, end) = match self {
            Self::NewFile => (0, 0),
            Self::End => (old.len(), old.len()),
            Self::Before(line) => {
                let at = only(&old, line)?;
                (at, at)
            }
            Self::After(line) => {
                let at = only(&old, line)? + 1;
                (at, at)
            }
            Self::Replace { first, last } => {
                let begin = only(&old, first)?;
                let mut rest = old[begin..].iter();
                let length = rest.position(|old| old.trim() == last.trim());
                let length = length.with_context(|| {
                    format!("no line {last:?} after line {}, {first:?}", begin + 1)
                })?;
                (begin, begin + length + 1)
            }
        };
        Ok([&old[..begin].concat(), lines, &old[end..].concat()].concat())
    }
}

/// Where the only line is that reads like this one.
fn only(text: &[&str], line: &str) -> Result<usize> {
    let all = text.iter().enumerate();
    let mut found = all.filter(|(_, old)| old.trim() == line.trim());
    let (at, _) = found
        .next()
        .with_context(|| format!("it has no line {line:?}"))?;
    if let Some((again, _)) = found.next() {
        bail!(
            "it has the line {line:?} more than once, in {} and {}",
            at + 1,
            again + 1
        );
    }
    Ok(at)
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::output;

    fn applied(edits: &str, files: &[(&str, &str)]) -> Result<Edited> {
        let tree = tempfile::tempdir()?;
        for (path, text) in files {
            output::write(&tree.path().join(path), text.as_bytes())?;
        }
        let mut edited = Edited::new();
        Edits::parse(edits)?.apply(tree.path(), &mut edited)?;
        Ok(edited)
    }

    #[test]
    fn lines_go_where_the_edit_says() {
        let edits = "@@ in b.c | a.c\n@@ replace two\n\t2\n@@ before four\n3.5\n@@ after four\n4.5\n\
            @@ append\nend\n@@ create new.c\nall\n";
        let edited = applied(edits, &[("a.c", "one\n\ttwo\nthree\nfour\n")]).expect("it fits");
        assert_eq!(edited["a.c"], "one\n\t2\nthree\n3.5\nfour\n4.5\nend\n");
        assert_eq!(edited["new.c"], "all\n");
    }

    #[test]
    fn range_ends_at_the_first_line_that_reads_like_its_end() {
        let edits = "@@ in a\n@@ replace b ... d\nx\n";
        let edited = applied(edits, &[("a", "d\nb\nc\nd\nd\n")]).expect("it fits");
        assert_eq!(edited["a"], "d\nx\nd\n");
    }

    #[test]
    fn edit_that_does_not_fit_names_the_file_and_the_line() {
        let refused = |edits, text| {
            let error = applied(edits, &[("a.c", text)]).expect_err("it does not fit");
            format!("{error:#}")
        };
        let said = refused("@@ in a.c\n@@ replace two\n2\n", "one\n");
        assert!(
            said.contains("a.c") && said.contains("no line \"two\""),
            "{said}"
        );
        let said = refused("@@ in a.c\n@@ after two\n2\n", "two\none\ntwo\n");
        assert!(said.contains("more than once, in 1 and 3"), "{said}");
        let said = refused("@@ in b.c | c.c\n@@ append\n2\n", "");
        assert!(said.contains("has no b.c or c.c"), "{said}");
        let said = refused("@@ create a.c\n2\n", "");
        assert!(said.contains("a.c is in the source already"), "{said}");
    }

    #[test]
    fn text_that_is_no_edit_is_refused() {
        for text in ["a\n", "@@ append\n", "@@ in a\n@@ remove b\n"] {
            assert!(Edits::parse(text).is_err(), "{text}");
        }
    }
}
