//! What the machine boots into: our programs, the kernel's modules for KVM, ours, and the plan.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use split_lock_lab::plan::Plan;

use super::cache::{Cache, workspace};
use super::cpio::Archive;
use super::kernel::Kernel;
use super::{module, programs, tools};

/// In the order in which they depend on each other.
const KVM_MODULES: [&str; 3] = ["irqbypass", "kvm", "kvm-amd"];

/// The machine's CPU as Rust calls it. A target that is named keeps build scripts out of what
/// RUSTFLAGS does to programs.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Our programs, linked so that they need nothing in the machine.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    init: PathBuf,
    splitlock: PathBuf,
}

impl Programs {
    /// The command line, which runs here as well.
    pub(crate) fn splitlock(&self) -> &Path {
        &self.splitlock
    }
}

/// Builds them.
pub(crate) fn build_programs(cache: &Cache) -> Result<Programs> {
    let folder = cache.build().join("programs");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace())
        .args(["build", "--locked", "--release", "--target", TARGET])
        .args(["--package", "split-lock-lab", "--bin", "lab-guest"])
        .args(["--package", "splitlock", "--bin", "splitlock"])
        .args(["--config", "profile.release.strip=true"])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    programs::run(&mut command).context("cannot build the programs for the machine")?;
    let built = folder.join(TARGET).join("release");
    Ok(Programs {
        init: built.join("lab-guest"),
        splitlock: built.join("splitlock"),
    })
}

/// The names of the modules that [`pack`] puts in, in the order in which to load them.
pub(crate) fn modules() -> Vec<String> {
    let kvm = KVM_MODULES.map(|name| format!("{name}.ko"));
    kvm.into_iter().chain([module::NAME.to_owned()]).collect()
}

/// Puts it all together.
pub(crate) fn pack(
    kernel: &Kernel,
    programs: &Programs,
    our_module: &Path,
    plan: &Plan,
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "tmp", "bin", "modules", "guests"] {
        archive.folder(folder);
    }
    archive.file("init", &read(&programs.init)?);
    archive.file("bin/splitlock", &read(&programs.splitlock)?);
    archive.file(tools::GUEST, tools::GUEST_CODE);
    archive.file("plan.json", &serde_json::to_vec(plan)?);
    for name in KVM_MODULES {
        archive.file(&format!("modules/{name}.ko"), &kernel_module(kernel, name)?);
    }
    archive.file(&format!("modules/{}", module::NAME), &read(our_module)?);
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// One of the kernel's own, uncompressed.
fn kernel_module(kernel: &Kernel, name: &str) -> Result<Vec<u8>> {
    let names = [format!("{name}.ko"), format!("{name}.ko.xz")];
    let path = find(&kernel.modules, &names)?.with_context(|| {
        format!(
            "no {} below {}",
            names.join(" or "),
            kernel.modules.display()
        )
    })?;
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
