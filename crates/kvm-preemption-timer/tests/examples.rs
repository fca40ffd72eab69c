//! The examples do what they say.

mod common;

use std::process::Command;

fn output_of(example: &str) -> Option<String> {
    common::kvm_or_skip()?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["run", "--quiet", "--locked", "--example", example])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let output = cargo.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_run_loop_is_paused_and_stopped() {
    let Some(summary) = output_of("run_loop") else {
        return;
    };
    assert!(summary.contains(" 1 pauses"), "{summary}");
}

#[test]
fn a_descriptor_is_enough() {
    let Some(summary) = output_of("descriptor") else {
        return;
    };
    assert!(summary.starts_with("100 quanta of 1 ms"), "{summary}");
}
