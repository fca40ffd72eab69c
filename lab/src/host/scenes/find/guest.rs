//! `splitlock find --system`: the same programs in a guest, where each is to be told apart from the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Counts, Program, address_and_count};
use crate::host::kernel::BootKernel;
use crate::host::machine::initramfs::{archive, file, folder, read};
use crate::host::machine::lab::Lab;
use crate::host::machine::qemu::Qemu;
use crate::host::machine::runner::Findings;
use crate::host::output;
use crate::host::programs;

/// A second name for the first program: the same instructions at the same addresses.
const COPY: &str = "copy";

/// Printed by the guest if a program has not ended as it has to.
const FAILED: &str = "a program has failed";

const LIMIT_SECONDS: &str = "400";

/// A program of the guest's root.
struct Placed<'a> {
    name: &'static str,
    path: &'a Path,
    /// What a shell does with it.
    line: String,
    counts: &'a Counts,
}

/// Boots Linux in an emulator that shows address spaces, and compares what was found with what was in the programs alone.
pub(super) fn findings(
    lab: &Lab,
    kernel: &BootKernel,
    splitlock: &Path,
    found: &[(&Program, PathBuf, Counts)],
) -> Result<Findings> {
    let named = found.iter().map(|it| (it.0.name, it));
    let first = found.first().context("there is no program")?;
    let copied = first.0.name;
    let placed: Vec<_> = named
        .chain([(COPY, first)])
        .map(|(name, (program, path, counts))| Placed {
            name,
            path,
            line: program.line(name),
            counts,
        })
        .collect();
    let place = lab.results(kernel, "find in a guest");
    output::empty_folder(&place)?;
    let initramfs = place.join("initramfs");
    output::write(&initramfs, &archived(lab, &placed)?)?;
    let console = place.join("console");
    let by_program = boot(lab, kernel, splitlock, &initramfs, &console)
        .with_context(|| format!("cannot find anything in a guest: see {}", place.display()))?;

    let expected: BTreeMap<String, &Counts> = placed
        .iter()
        .map(|it| (format!("/{}", it.name), it.counts))
        .collect();
    let mut findings = Findings::new(&format!("\n{} in QEMU, find --system", kernel.release));
    for (program, counts) in &expected {
        findings.check(
            &format!(
                "{program}: {} instructions of it split {} locks, as without a guest",
                counts.len(),
                counts.values().sum::<u64>()
            ),
            by_program.get(program) == Some(*counts),
        );
    }
    findings.check(
        &format!("/{copied} and /{COPY} have the same addresses, and nothing but these programs splits locks"),
        by_program.keys().eq(expected.keys()),
    );
    let said = fs::read(&console).context("the guest has printed nothing")?;
    findings.check(
        "each program has ended as it has to",
        !String::from_utf8_lossy(&said).contains(FAILED),
    );
    Ok(findings)
}

/// What the guest boots into.
fn archived(lab: &Lab, placed: &[Placed<'_>]) -> Result<Vec<u8>> {
    let lines = placed
        .iter()
        .map(|it| format!("{} || echo {FAILED}\n", it.line));
    let lines: String = lines.collect();
    let init = format!("#!/bin/busybox sh\n{lines}/bin/busybox poweroff -f\n");
    let busybox = read(&lab.programs().busybox)?;
    let mut entries = vec![folder("bin"), folder("dev"), file("bin/busybox", busybox)];
    entries.push(file("init", init.into_bytes()));
    for it in placed {
        entries.push(file(it.name, read(it.path)?));
    }
    archive(entries)
}

/// What `splitlock find` says of the guest's programs.
fn boot(
    lab: &Lab,
    kernel: &BootKernel,
    splitlock: &Path,
    initramfs: &Path,
    console: &Path,
) -> Result<BTreeMap<String, Counts>> {
    let qemu = Qemu::newer(&lab.cache)?;
    let result = initramfs.with_file_name("found.json");
    let mut command = process::Command::new("timeout");
    command
        .arg(LIMIT_SECONDS)
        .arg(splitlock)
        .args(["find", "--system", "--json", "--qemu"])
        .arg(qemu.launcher(initramfs.with_file_name("emulator"))?)
        .arg("--out")
        .arg(&result)
        .args(["--", Qemu::NAME])
        .args("-m 256 -nodefaults -display none -no-reboot -serial".split(' '))
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1"]);
    programs::run(&mut command)?;
    let found = fs::read(&result).context("`splitlock find` has written no result")?;
    let found: Value = serde_json::from_slice(&found).context("what it has written is no JSON")?;
    by_program(&found).context("`splitlock find` wrote something else than it promises")
}

/// The instructions of each program, by the path that the guest executed; empty for what is of none.
fn by_program(found: &Value) -> Option<BTreeMap<String, Counts>> {
    let mut all = BTreeMap::<String, Counts>::new();
    for site in found["sites"].as_array()? {
        let programs = site["programs"].as_array()?;
        let names: Option<Vec<_>> = programs.iter().map(Value::as_str).collect();
        let (address, count) = address_and_count(site)?;
        *all.entry(names?.join(" "))
            .or_default()
            .entry(address)
            .or_default() += count;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sites_belong_to_programs() {
        let site = |program: &str, address: &str| json!({"programs": [program], "count": 2, "instruction": {"address": address}});
        let found = json!({"sites": [
            site("/a", "0x10"), site("/b", "0x10"), site("/b", "0x10"), site("/b", "0x20"),
            {"programs": [], "count": 7, "instruction": {"address": "0x30"}},
        ]});
        let all = by_program(&found).unwrap();
        let counts = |all: &[(u64, u64)]| all.iter().copied().collect::<Counts>();
        let expected = [
            ("", counts(&[(0x30, 7)])),
            ("/a", counts(&[(0x10, 2)])),
            ("/b", counts(&[(0x10, 4), (0x20, 2)])),
        ];
        assert_eq!(
            all,
            expected
                .map(|(name, counts)| (name.to_owned(), counts))
                .into()
        );
        assert_eq!(by_program(&json!({"sites": [{}]})), None);
    }
}
