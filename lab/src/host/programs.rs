//! Running other programs: what they say is kept for when they fail.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end. If it fails, the error has the last lines of what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, last_words(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// apt and compilers say in one line what is wrong; others in their last ones.
fn last_words(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let is_it = |line: &&&str| line.starts_with("E: ") || line.contains(" error: ");
    match lines.iter().find(is_it) {
        Some(line) => (*line).to_owned(),
        None => lines[lines.len().saturating_sub(8)..].join("\n"),
    }
}
