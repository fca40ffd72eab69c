//! Libraries of ours that other programs are started with.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::error::print_note;

/// A library, and the crate that it is built from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Library {
    pub(crate) package: &'static str,
    pub(crate) file: &'static str,
}

impl Library {
    /// Finds it: built from the sources that this program was built from, beside this program, or where an installation
    /// has libraries.
    pub(crate) fn find(self, has_notes: bool) -> Result<PathBuf> {
        let program = env::current_exe().context("cannot see where splitlock itself is")?;
        let folder = program.parent().context("splitlock itself is nowhere")?;
        let beside = folder.join(self.file);
        if let Some(checkout) = Checkout::around(folder, self.package) {
            if !beside.exists() && has_notes {
                print_note("building a library that programs are started with, once");
            }
            checkout.build(self.package)?;
        }
        let installed = folder.join("../lib/splitlock").join(self.file);
        let places = [beside, installed];
        let found = places.iter().find(|place| place.is_file());
        let found = found.with_context(|| {
            let [beside, installed] = places.each_ref().map(|place| place.display());
            format!(
                "{} is missing: install it as {beside} or as {installed}",
                self.file
            )
        })?;
        let real = found.canonicalize();
        real.with_context(|| format!("cannot follow {}", found.display()))
    }
}

/// The folder of a build, in the sources.
struct Checkout<'a> {
    root: &'a Path,
    target: &'a Path,
    release: bool,
}

impl<'a> Checkout<'a> {
    fn around(folder: &'a Path, package: &str) -> Option<Self> {
        let target = folder.parent()?;
        let release = match folder.file_name()?.to_str()? {
            "release" => true,
            "debug" => false,
            _ => return None,
        };
        let manifest = format!("crates/{package}/Cargo.toml");
        let has_sources = |folder: &&Path| folder.join(&manifest).is_file();
        let root = folder.ancestors().find(has_sources)?;
        Some(Self {
            root,
            target,
            release,
        })
    }

    fn build(&self, package: &str) -> Result<()> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--quiet", "--package", package, "--lib"])
            .arg("--target-dir")
            .arg(self.target)
            .current_dir(self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if self.release {
            command.arg("--release");
        }
        let status = command.status();
        let status = status.context("cannot start cargo, which is to build the library")?;
        if !status.success() {
            bail!("cargo could not build the library: {status}");
        }
        Ok(())
    }
}
