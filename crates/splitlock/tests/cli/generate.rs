//! `splitlock generate`: man pages and completions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{fail, names_in, put, succeed};

fn generated() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let said = succeed(&["generate", folder.path().to_str().unwrap()]);
    assert!(said.contains(" files in "), "{said}");
    folder
}

/// As `splitlock --help` lists them.
fn commands() -> Vec<String> {
    let help = succeed(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let names = list.lines().filter(is_name);
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

/// What it prints, or `None` if there is no such tool here.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no {name} here");
            None
        }
        output => Some(output.unwrap()),
    }
}

fn assert_says(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said.trim(), expected, "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

fn pages(folder: &TempDir) -> Vec<PathBuf> {
    let man = folder.path().join("man");
    names_in(&man).iter().map(|name| man.join(name)).collect()
}

#[test]
fn every_command_has_a_page() {
    let folder = generated();
    let pages = names_in(&folder.path().join("man"));
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    let of_commands = commands.iter().map(|name| format!("splitlock-{name}.1"));
    let others = ["splitlock.1", "splitlock-demo-linux.1"].map(str::to_owned);
    let mut expected: Vec<String> = of_commands.chain(others).collect();
    expected.sort();
    assert_eq!(pages, expected);
    for name in &commands {
        let page = folder.path().join(format!("man/splitlock-{name}.1"));
        let page = fs::read_to_string(page).unwrap();
        for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "SEE ALSO"] {
            let titles = [format!(".SH {section}"), format!(".SH \"{section}\"")];
            let count = page
                .lines()
                .filter(|line| titles.contains(&(*line).to_owned()))
                .count();
            assert_eq!(count, 1, "{name}: {section}");
        }
        assert!(page.contains(&format!("splitlock {name} ")), "{page}");
    }
    let program = fs::read_to_string(folder.path().join("man/splitlock.1")).unwrap();
    assert!(program.contains("EXIT STATUS\"\n0 fine"), "{program}");
}

#[test]
fn what_is_hidden_stays_hidden() {
    let folder = generated();
    assert!(!commands().contains(&"generate".to_owned()));
    for part in ["man", "completions"] {
        for name in names_in(&folder.path().join(part)) {
            let text = fs::read_to_string(folder.path().join(part).join(&name)).unwrap();
            assert!(!text.contains("generate"), "{name}");
        }
    }
}

#[test]
fn it_is_the_same_each_time_and_replaces_what_is_there() {
    let (one, other) = (generated(), generated());
    let page = one.path().join("man/splitlock.1");
    put(&page, b"an older one");
    succeed(&["generate", one.path().to_str().unwrap()]);
    for part in ["man", "completions"] {
        let names = names_in(&one.path().join(part));
        assert_eq!(names, names_in(&other.path().join(part)));
        for name in names {
            let text = |folder: &Path| fs::read(folder.join(part).join(&name)).unwrap();
            assert_eq!(text(one.path()), text(other.path()), "{name}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    put(&file, b"");
    let sentence = fail(&["generate", file.to_str().unwrap()]);
    assert!(sentence.contains("cannot make the folder"), "{sentence}");
}

#[test]
fn man_has_nothing_to_complain_about() {
    for page in pages(&generated()) {
        let arguments = ["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"];
        let page = page.to_str().unwrap();
        let Some(output) = tool("man", &[&arguments[..], &[page]].concat()) else {
            return;
        };
        // In small images of Ubuntu a script stands in its place.
        if String::from_utf8_lossy(&output.stdout).contains("minimized") {
            return eprintln!("skipped: man shows no pages here");
        }
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

#[test]
fn mandoc_finds_no_error() {
    for page in pages(&generated()) {
        // Its warnings are about taste: a page without a date, and line breaks around spaces.
        let arguments = ["-T", "lint", "-W", "error", page.to_str().unwrap()];
        let Some(output) = tool("mandoc", &arguments) else {
            return;
        };
        assert_says(&output, "");
    }
}

fn completions(name: &str) -> (TempDir, String) {
    let folder = generated();
    let path = folder.path().join("completions").join(name);
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn bash_completes() {
    let (_folder, path) = completions("splitlock.bash");
    let script = "source \"$1\" && complete -p splitlock >/dev/null && \
                  COMP_WORDS=(splitlock thr) COMP_CWORD=1 && \
                  _splitlock splitlock thr splitlock && echo \"${COMPREPLY[@]}\"";
    let arguments = ["--norc", "--noprofile", "-c", script, "bash", &path];
    if let Some(output) = tool("bash", &arguments) {
        assert_says(&output, "thresholds");
    }
}

#[test]
fn zsh_loads_its_completions() {
    let (_folder, path) = completions("_splitlock");
    let script = "autoload -Uz compinit && compinit -D -u && source \"$1\" && \
                  print -r -- \"$_comps[splitlock]\"";
    if let Some(output) = tool("zsh", &["-f", "-c", script, "zsh", &path]) {
        assert_says(&output, "_splitlock");
    }
}

#[test]
fn fish_completes() {
    let (_folder, path) = completions("splitlock.fish");
    let script = "source $argv[1]; complete -C 'splitlock thr' | string split -f1 \\t";
    if let Some(output) = tool("fish", &["--no-config", "-c", script, &path]) {
        assert_says(&output, "thresholds");
    }
}
