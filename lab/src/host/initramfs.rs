//! What the machine boots into: our programs, the kernel's modules for KVM, ours, and the plan.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::plan::{MODULES, PLAN_FILE, Plan};

use super::cache::Cache;
use super::kernel::Kernel;
use super::{module, programs};

/// In the order in which they depend on each other.
const KVM_MODULES: [&str; 3] = ["irqbypass", "kvm", "kvm-amd"];

/// Where the guest of the sweeps lies in the machine.
pub(crate) const GUEST: &str = "/guests/split";

/// Some work, then a split lock, for ever. The stand-in comes right before the locked instruction;
/// RSI is a cache line of its own. A turn takes 0.2 ms on a CPU of 8 ns an instruction.
const GUEST_CODE: &[u8] = &[
    0xba, 0xd4, 0x30, 0x00, 0x00, // 1: mov edx, 12500
    0xff, 0xca, // 2: dec edx
    0x75, 0xfc, // jnz 2b
    0x0f, 0x01, 0xd9, // vmmcall
    0xf0, 0x48, 0x0f, 0xba, 0x6e, 0x3c, 0x00, // lock bts qword [rsi+60], 0
    0x48, 0xff, 0xc1, // inc rcx
    0xeb, 0xe8, // jmp 1b
];

/// The machine's CPU as Rust calls it. A target that is named keeps build scripts out of what
/// RUSTFLAGS does to programs.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Our programs, linked so that they need nothing in the machine.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    init: PathBuf,
    /// The command line, which runs here as well.
    pub(crate) splitlock: PathBuf,
}

/// Builds them.
pub(crate) fn build_programs(cache: &Cache) -> Result<Programs> {
    let built = build_static(
        cache,
        &[("split-lock-lab", "lab-guest"), ("splitlock", "splitlock")],
    )?;
    Ok(Programs {
        init: built.join("lab-guest"),
        splitlock: built.join("splitlock"),
    })
}

/// Builds programs, by package and name, that need no library. The answer is the folder in which they are.
pub(crate) fn build_static(cache: &Cache, binaries: &[(&str, &str)]) -> Result<PathBuf> {
    let selected = binaries
        .iter()
        .flat_map(|(package, name)| ["--package", package, "--bin", name]);
    build_static_selected(cache, selected)
}

/// Builds an example of a package in the same way. The answer is the program.
pub(crate) fn build_static_example(cache: &Cache, package: &str, name: &str) -> Result<PathBuf> {
    let selected = ["--package", package, "--example", name];
    // As VMMs are built, because it is measured.
    let profile = [
        "--config",
        "profile.release.lto=true",
        "--config",
        "profile.release.codegen-units=1",
    ];
    let built = build_static_selected(cache, selected.into_iter().chain(profile))?;
    Ok(built.join("examples").join(name))
}

fn build_static_selected<'a>(
    cache: &Cache,
    selected: impl IntoIterator<Item = &'a str>,
) -> Result<PathBuf> {
    let folder = cache.folder("build/programs");
    let mut command = programs::cargo();
    command
        .args(["build", "--locked", "--release", "--target", TARGET])
        .args(selected)
        .args(["--config", "profile.release.strip=true"])
        .args(["--config", "profile.release.debug=false"])
        // For those who change them and look at once.
        .args(["--config", "profile.release.incremental=true"])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    programs::run(&mut command).context("cannot build the programs for the machine")?;
    Ok(folder.join(TARGET).join("release"))
}

/// Puts it all together.
pub(crate) fn pack(
    kernel: &Kernel,
    programs: &Programs,
    our_module: &Path,
    plan: &Plan,
) -> Result<Vec<u8>> {
    let folders = ["dev", "proc", "sys", "tmp", "bin", "modules", "guests"];
    let mut entries: Vec<_> = folders.into_iter().map(folder).collect();
    entries.extend([
        file("init", read(&programs.init)?),
        file("bin/splitlock", read(&programs.splitlock)?),
        file(GUEST, GUEST_CODE.to_vec()),
        file(&in_modules(module::NAME), read(our_module)?),
    ]);
    let mut modules = Vec::new();
    for name in KVM_MODULES {
        let (file_name, bytes) = (format!("{name}.ko"), kernel_module(&kernel.modules, name)?);
        entries.push(file(&in_modules(&file_name), bytes));
        modules.push(file_name);
    }
    modules.push(module::NAME.to_owned());
    let plan = Plan {
        modules,
        ..plan.clone()
    };
    entries.push(file(PLAN_FILE, serde_json::to_vec(&plan)?));
    archive(entries)
}

fn in_modules(name: &str) -> String {
    format!("{MODULES}/{name}")
}

/// Of an archive. Folders have to come before what is in them.
type Entry = (cpio::NewcBuilder, Cursor<Vec<u8>>);

pub(crate) fn folder(path: &str) -> Entry {
    entry(path, 0o040_755, Vec::new())
}

/// A file that everybody may read and run.
pub(crate) fn file(path: &str, contents: Vec<u8>) -> Entry {
    entry(path, 0o100_755, contents)
}

fn entry(path: &str, mode: u32, contents: Vec<u8>) -> Entry {
    let header = cpio::NewcBuilder::new(path.trim_start_matches('/')).mode(mode);
    (header, Cursor::new(contents))
}

pub(crate) fn archive(entries: Vec<Entry>) -> Result<Vec<u8>> {
    Ok(cpio::write_cpio(entries.into_iter(), Vec::new())?)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// One of the kernel's own, uncompressed.
pub(crate) fn kernel_module(modules: &Path, name: &str) -> Result<Vec<u8>> {
    let names = [format!("{name}.ko"), format!("{name}.ko.xz")];
    let path = find(modules, &names)?
        .with_context(|| format!("no {} below {}", names.join(" or "), modules.display()))?;
    let bytes = read(&path)?;
    if path.extension().is_some_and(|ending| ending == "ko") {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    lzma_rust2::XzReader::new(&bytes[..], true)
        .read_to_end(&mut plain)
        .with_context(|| format!("cannot uncompress {}", path.display()))?;
    Ok(plain)
}

fn find(folder: &Path, names: &[String]) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let is_wanted = names.iter().any(|name| entry.file_name() == name.as_str());
        if is_wanted {
            return Ok(Some(entry.path()));
        }
        if entry.file_type()?.is_dir()
            && let Some(found) = find(&entry.path(), names)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
