//! What C gets: the example is compiled and run as its first comment says, the header is C and C++ of
//! the strict kind, and bad arguments are errors.

use std::path::{Path, PathBuf};
use std::process::Command;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Builds the static library as the example says.
fn static_library() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--locked", "--lib", "--manifest-path"])
        .arg(here("Cargo.toml"));
    run(&mut cargo);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("debug/libkvm_preemption_timer_c.a")
}

/// Runs a program, which has to succeed, and returns what it has printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Compiles one file of C with the library.
fn compile(source: &Path) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(source.file_stem().unwrap());
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(here("include"))
        .arg(source)
        .arg(static_library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program);
    run(&mut cc);
    program
}

#[test]
fn bad_arguments_are_errors_that_say_which() {
    let program = compile(&here("tests/arguments.c"));
    assert_eq!(run(&mut Command::new(program)), "as it should be\n");
}

#[test]
fn the_example_bounds_its_guest() {
    let program = compile(&here("examples/run_loop.c"));
    let is_kvm = std::fs::metadata("/dev/kvm").is_ok();
    if !is_kvm && std::env::var_os("SPLITLOCK_REQUIRE_KVM").is_none() {
        eprintln!("skipped: there is no /dev/kvm");
        return;
    }
    let summary = run(&mut Command::new(program));
    let words: Vec<&str> = summary.split(' ').collect();
    let number_before = |word| -> u64 {
        let position = words.iter().position(|&w| w == word).expect(word);
        words[position - 1].parse().unwrap()
    };
    assert!(number_before("port") > 0, "{summary}");
    assert!(number_before("quanta") > 0, "{summary}");
}

#[test]
fn the_handler_of_a_library_that_was_loaded_later_allocates_nothing() {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libkvm_preemption_timer_c.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-Wl,--whole-archive"])
        .arg(static_library())
        .args(["-Wl,--no-whole-archive", "-lpthread", "-ldl", "-lm", "-o"])
        .arg(&library);
    run(&mut cc);
    let program = compile(&here("tests/dlopen.c"));
    assert_eq!(run(Command::new(program).arg(library)), "0 allocations\n");
}

#[test]
fn the_header_is_c99_and_cxx() {
    for (language, standard) in [("c", "-std=c99"), ("c++", "-std=c++11")] {
        let mut cc = Command::new("cc");
        cc.args([
            "-x",
            language,
            standard,
            "-pedantic",
            "-Wall",
            "-Wextra",
            "-Werror",
        ])
        .arg("-fsyntax-only")
        .arg(here("include/kvm_preemption_timer.h"));
        if language == "c++" && Command::new("c++").arg("--version").output().is_err() {
            eprintln!("skipped: there is no C++ compiler");
            continue;
        }
        run(&mut cc);
    }
}
