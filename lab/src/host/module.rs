//! Builds our kernel module against a kernel's headers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::{Cache, workspace};
use super::kernel::Kernel;
use super::{output, programs};

/// The module's file.
pub(crate) const NAME: &str = "split_lock_lab.ko";

/// Builds it, or what has changed of it.
pub(crate) fn build(kernel: &Kernel, cache: &Cache) -> Result<PathBuf> {
    let place = cache.folder("build/module").join(&kernel.release);
    copy_sources(&place)?;
    let mut make = Command::new(program("make", &cache.folder("qemu"))?);
    make.arg("-C")
        .arg(&kernel.headers)
        .arg(format!("M={}", place.display()))
        .arg(format!("CC={}", compiler()?))
        .arg("modules")
        .env("LD_LIBRARY_PATH", libraries_of_objtool(cache)?);
    programs::run(&mut make)
        .with_context(|| format!("cannot build the module for {}", kernel.release))?;
    Ok(place.join(NAME))
}

/// The build writes beside its sources. What has not changed keeps its time, for make's sake.
fn copy_sources(to: &Path) -> Result<()> {
    let from = workspace().join("lab/module");
    for entry in fs::read_dir(&from).with_context(|| format!("no {}", from.display()))? {
        let entry = entry?;
        let (source, copy) = (fs::read(entry.path())?, to.join(entry.file_name()));
        if fs::read(&copy).is_ok_and(|old| old == source) {
            continue;
        }
        output::write(&copy, &source)?;
    }
    Ok(())
}

/// Debian builds its kernels with this one; another may do.
fn compiler() -> Result<&'static str> {
    let found = ["gcc-12", "gcc"]
        .into_iter()
        .find(|name| is_installed(name));
    found.context("no gcc to build the kernel module with: install gcc")
}

/// The machine's own, or else the one in the cache.
fn program(name: &str, unpacked: &Path) -> Result<PathBuf> {
    if is_installed(name) {
        return Ok(name.into());
    }
    let own = unpacked.join("usr/bin").join(name);
    if !own.exists() {
        bail!("no {name} to build the kernel module with: install {name}");
    }
    Ok(own)
}

fn is_installed(name: &str) -> bool {
    Command::new(name).arg("--version").output().is_ok()
}

/// A tool of the kernel's build needs a library that a machine may lack. It must not find all the
/// other libraries that are unpacked beside it.
fn libraries_of_objtool(cache: &Cache) -> Result<PathBuf> {
    let place = cache.folder("build/objtool");
    output::folder(&place, |draft| {
        for name in ["libelf.so.1", "libz.so.1"] {
            let unpacked = cache.folder("qemu");
            let library = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
                .map(|folder| unpacked.join(folder).join(name))
                .into_iter()
                .find(|path| path.exists())
                .with_context(|| format!("no {name} in {}", unpacked.display()))?;
            std::os::unix::fs::symlink(library, draft.join(name))?;
        }
        Ok(())
    })?;
    Ok(place)
}
