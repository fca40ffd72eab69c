//! Builds Bochs with the files of `lab/cpu`, once for each change of either.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::cache::{Cache, workspace};
use crate::host::cpu::source::{self, Source};
use crate::host::machine::initramfs::read;
use crate::host::{output, programs};

/// What both builds have. No part of it is for speed alone but `--enable-repeat-speedups`.
const FLAGS: [&str; 18] = [
    "--enable-cpu-level=6",
    "--enable-x86-64",
    "--enable-vmx=2",
    "--enable-svm",
    "--enable-avx",
    "--enable-evex",
    "--enable-cet",
    "--enable-protection-keys",
    "--enable-monitor-mwait",
    "--enable-perfmon",
    "--enable-repeat-speedups",
    "--enable-pci",
    "--disable-docbook",
    "--without-x",
    "--with-nogui",
    "--enable-instrumentation=instrument/splitlock",
    "CFLAGS=-O2 -fomit-frame-pointer -w",
    "CXXFLAGS=-O2 -fomit-frame-pointer -w",
];

/// One CPU is twice as fast without what several need.
const ONE_CPU: [&str; 3] = [
    "--enable-fast-function-calls",
    "--enable-handlers-chaining",
    "--enable-trace-linking",
];
const SEVERAL_CPUS: [&str; 1] = ["--enable-smp"];

type Files = BTreeMap<String, Vec<u8>>;

/// The program that is the CPU, from the cache or else built from its source.
pub(crate) fn program(source: &Source, several_cpus: bool, cache: &Cache) -> Result<PathBuf> {
    let files = our_files()?;
    let (kind, more): (_, &[_]) = match several_cpus {
        false => ("one-cpu", &ONE_CPU),
        true => ("several-cpus", &SEVERAL_CPUS),
    };
    let flags: Vec<&str> = FLAGS.iter().chain(more).copied().collect();
    let key = key(&source.sha256, &files, &flags);
    let folder = cache.folder("build/cpu").join(kind).join(key);
    output::only_folder(&folder, |draft| build(source, &files, &flags, draft))
        .context("cannot build the CPU")?;
    Ok(folder.join("bochs"))
}

/// Another key for anything that could make another program.
fn key(source: &str, files: &Files, flags: &[&str]) -> String {
    let files = files
        .iter()
        .flat_map(|(name, bytes)| [name.as_bytes(), bytes]);
    let flags = flags.iter().map(|flag| flag.as_bytes());
    source::key([source.as_bytes()].into_iter().chain(files).chain(flags))
}

fn our_files() -> Result<Files> {
    let folder = workspace().join("lab/cpu");
    let place = || format!("no {}", folder.display());
    let mut files = Files::new();
    for entry in fs::read_dir(&folder).with_context(place)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".cc") || name.ends_with(".h") || name == "Makefile.in" {
            files.insert(name.into_owned(), read(&path)?);
        }
    }
    Ok(files)
}

/// All in the draft; only the program stays.
fn build(source: &Source, files: &Files, flags: &[&str], draft: &Path) -> Result<()> {
    let tree = unpack(source, &draft.join("tree"))?;
    for (name, bytes) in files {
        output::write(&tree.join("instrument/splitlock").join(name), bytes)?;
    }
    let mut configure = Command::new("./configure");
    programs::run(configure.args(flags).current_dir(&tree))?;
    let mut make = Command::new("make");
    make.args([&programs::jobs(), "bochs"]).current_dir(&tree);
    programs::run(&mut make).context("this needs make and g++")?;
    fs::rename(tree.join("bochs"), draft.join("bochs"))?;
    Ok(fs::remove_dir_all(draft.join("tree"))?)
}

/// The answer is the only folder in the archive.
fn unpack(source: &Source, into: &Path) -> Result<PathBuf> {
    let bytes = source.archive()?;
    let plain = lzma_rust2::XzReader::new(&bytes[..], true);
    tar::Archive::new(plain)
        .unpack(into)
        .context("cannot unpack the source of Bochs")?;
    let mut folders = fs::read_dir(into)?;
    let only = folders.next().context("the source of Bochs is empty")??;
    Ok(only.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_makes_another_key() {
        let files = |name: &str, text: &str| Files::from([(name.to_owned(), text.into())]);
        let keys = [
            key("a", &files("x.cc", "1"), &["-f", "g"]),
            key("b", &files("x.cc", "1"), &["-f", "g"]),
            key("a", &files("y.cc", "1"), &["-f", "g"]),
            key("a", &files("x.cc", "2"), &["-f", "g"]),
            key("a", &files("x.cc", "1"), &["-f"]),
            key("a", &files("x.cc", "1"), &["-fg"]),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(keys[0], key("a", &files("x.cc", "1"), &["-f", "g"]));
    }

    #[test]
    fn our_files_are_those_that_are_compiled() {
        let files = our_files().expect("they are in the repository");
        let makefile = String::from_utf8(files["Makefile.in"].clone()).expect("text");
        for name in files.keys().filter_map(|name| name.strip_suffix(".cc")) {
            assert!(makefile.contains(&format!("{name}.o")), "{name}");
        }
    }
}
