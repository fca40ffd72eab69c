//! Split locks that are known, in files as Valgrind has them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::symbols::Code;

/// All of them, in order.
#[derive(Debug, Default)]
pub(super) struct Suppressions(Vec<Suppression>);

#[derive(Debug, PartialEq, Eq)]
struct Suppression {
    name: String,
    conditions: Vec<Condition>,
}

/// A pattern in which `*` stands for anything and `?` for one character.
#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Function(String),
    Module(String),
    Source(String),
}

impl Suppressions {
    /// # Errors
    /// If a file cannot be read, or something in it is no suppression.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut all = vec![];
        for path in paths {
            let text = fs::read_to_string(path);
            let text =
                text.with_context(|| format!("cannot read suppressions from {}", path.display()))?;
            all.extend(parse(&text, path)?);
        }
        Ok(Self(all))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first that covers an instruction: its number and its name.
    pub(super) fn matching(&self, code: &Code) -> Option<(usize, &str)> {
        let n = self.0.iter().position(|it| it.covers(code))?;
        Some((n, &self.0[n].name))
    }

    pub(super) fn names_of_unused(&self, used: &[bool]) -> Vec<String> {
        let unused = self.0.iter().zip(used).filter(|&(_, used)| !used);
        unused.map(|(it, _)| it.name.clone()).collect()
    }
}

impl Suppression {
    fn covers(&self, code: &Code) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::Function(pattern) => code.function.as_ref().is_some_and(|(name, _)| {
                matches(pattern, &name.demangled) || matches(pattern, &name.mangled)
            }),
            Condition::Module(pattern) => code
                .module
                .as_ref()
                .is_some_and(|module| matches(pattern, module)),
            Condition::Source(pattern) => code
                .lines()
                .any(|line| matches(pattern, &line.file) || matches(pattern, &line.to_string())),
        })
    }
}

fn parse(text: &str, path: &Path) -> Result<Vec<Suppression>> {
    let mut all = vec![];
    let mut open: Option<Suppression> = None;
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        let place = || format!("{}, line {}", path.display(), n + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match (line, open.as_mut()) {
            ("{", None) => {
                open = Some(Suppression {
                    name: String::new(),
                    conditions: vec![],
                });
            }
            ("}", Some(suppression)) => {
                if suppression.conditions.is_empty() {
                    bail!(
                        "{}: the suppression says nothing; add a line with fun:, obj: or src:",
                        place()
                    );
                }
                all.extend(open.take());
            }
            ("{" | "}", _) => bail!("{}: this brace has no other one", place()),
            (_, None) => bail!(
                "{}: a suppression begins with a brace on a line of its own",
                place()
            ),
            (line, Some(suppression)) => match line.split_once(':') {
                Some(("fun", pattern)) => suppression
                    .conditions
                    .push(Condition::Function(pattern.into())),
                Some(("obj", pattern)) => suppression
                    .conditions
                    .push(Condition::Module(pattern.into())),
                Some(("src", pattern)) => suppression
                    .conditions
                    .push(Condition::Source(pattern.into())),
                // For other tools that read the same file.
                Some(("splitlock", "split")) => {}
                _ if suppression.name.is_empty() => line.clone_into(&mut suppression.name),
                _ => bail!(
                    "{}: `{line}` is none of fun:, obj:, src: and splitlock:split",
                    place()
                ),
            },
        }
    }
    if open.is_some() {
        bail!("{}: the last suppression has no end", path.display());
    }
    Ok(all)
}

/// In time that is the product of both lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, until)) => {
                    star = Some((at, until + 1));
                    (p, t) = (at + 1, until + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use split_lock_symbols::{FunctionName, SourceLine};

    use super::*;

    fn code() -> Code {
        let name = FunctionName {
            mangled: "_ZN4game4tickEv".into(),
            demangled: "game::tick()".into(),
        };
        Code {
            pc: 0,
            bytes: vec![],
            bits: 64,
            other_bits: vec![],
            text: String::new(),
            module: Some("/usr/lib/libgame.so.1".into()),
            offset: None,
            function: Some((name, 4)),
            source: vec![SourceLine {
                file: "/src/game.cpp".into(),
                line: 14,
            }],
            callers: vec![],
        }
    }

    fn read(text: &str) -> Suppressions {
        Suppressions(parse(text, Path::new("f")).unwrap())
    }

    #[test]
    fn all_lines_of_a_suppression_have_to_match() {
        for (lines, is_covered) in [
            ("fun:game::*", true),
            ("fun:_ZN4game*", true),
            ("obj:*/libgame.so*", true),
            ("src:*/game.cpp:14", true),
            ("src:*/game.cpp", true),
            ("fun:game::tick()\nobj:*/libgame.so.?", true),
            ("fun:game::tick()\nobj:*/libother.so", false),
            ("fun:tick", false),
        ] {
            let all = read(&format!(
                "# known\n{{\n  name\n  splitlock:split\n  {lines}\n}}\n"
            ));
            assert_eq!(all.matching(&code()).is_some(), is_covered, "{lines}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        for (text, part) in [
            ("{\n name\n}\n", "line 3: the suppression says nothing"),
            ("{\n a\n fun:b\n", "has no end"),
            ("}\n", "line 1: this brace"),
            ("{\n{\n", "line 2: this brace"),
            ("fun:x\n", "line 1: a suppression begins"),
            ("{\n a\n fun:b\n insn:c\n}\n", "line 4: `insn:c`"),
        ] {
            let message = parse(text, Path::new("f")).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(parse("", Path::new("f")).unwrap().is_empty());
    }

    #[test]
    fn what_matched_nothing_is_told() {
        let all = read("{\n one\n fun:x\n}\n{\n two\n fun:*\n}\n");
        assert_eq!(all.names_of_unused(&[false, true]), ["one"]);
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "a", false),
            ("a?c", "abc", true),
            ("*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
