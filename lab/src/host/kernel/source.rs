//! Linux as Debian packages its source, and the tools that take part in building it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::debian;
use crate::host::cache::Cache;
use crate::host::kernel::NEWEST;
use crate::host::{apt, output, programs};

/// The source of one series.
#[derive(Clone, Debug)]
pub(crate) struct KernelSource {
    archive: PathBuf,
    /// What Debian calls it.
    pub(crate) version: String,
}

/// What neither a small kernel for x86 nor a patch of ours is made of: more than half of it. All Kconfig files are read.
const NOT_FOR_US: [&str; 8] = [
    "*/arch/[!x]*/*.[chS]",
    "*/arch/[!x]*/*.dts*",
    "*/Documentation/*.rst",
    "*/Documentation/*.yaml",
    "*/drivers/gpu/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]",
    "*/drivers/net/wireless/*.[ch]",
    "*/sound/*.[ch]",
];

/// A note beside the archive.
const VERSION: &str = "version";

impl KernelSource {
    /// From the cache, or else the network: of the machine's own release of Debian, or of the suite with the newest
    /// kernel.
    pub(crate) fn get(series: &str, cache: &Cache) -> Result<Self> {
        let root = cache.folder("kernel-sources").join(series);
        apt::unpacked_from(&format!("the source of Linux {series}"), &root, |draft| {
            let own = apt::Apt::of_machine(cache)?;
            let package = format!("linux-source-{series}");
            let (apt, package) = match series {
                NEWEST => newest(cache)?,
                _ if own.version(&package).is_ok() => (own, package),
                _ => (debian::newest_apt(cache)?, package),
            };
            let version = apt.version(&package)?;
            apt.unpack(&[package], draft)?;
            output::write(&draft.join(VERSION), version.as_bytes())
        })?;
        let damaged = || format!("{} is damaged: remove it", root.display());
        let version = fs::read_to_string(root.join(VERSION)).with_context(damaged)?;
        let files = fs::read_dir(root.join("usr/src")).with_context(damaged)?;
        let mut files = files.filter_map(|entry| Some(entry.ok()?.path()));
        let archive = files.find(|path| path.to_string_lossy().ends_with(".tar.xz"));
        Ok(Self {
            archive: archive.with_context(damaged)?,
            version,
        })
    }

    /// The answer is the only folder in the archive.
    pub(crate) fn unpack(&self, tools: &BuildTools, into: &Path) -> Result<PathBuf> {
        let mut tar = Command::new("tar");
        tar.args(NOT_FOR_US.map(|pattern| format!("--exclude={pattern}")));
        tar.arg("-xJf").arg(&self.archive).arg("-C").arg(into);
        programs::run(tools.lend_to(&mut tar)?)?;
        let mut folders = fs::read_dir(into)?;
        let only = folders
            .next()
            .with_context(|| format!("{} is empty", self.archive.display()))??;
        Ok(only.path())
    }
}

fn newest(cache: &Cache) -> Result<(apt::Apt, String)> {
    let apt = debian::newest_apt(cache)?;
    let package = apt.resolve("linux-source")?;
    Ok((apt, package))
}

/// Unpacked somewhere. They are of the machine's own release of Debian, so its libraries fit them; those that it may
/// lack are here, too.
#[derive(Clone, Debug)]
pub(crate) struct BuildTools {
    root: PathBuf,
}

const PACKAGES: [&str; 8] = [
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "libreadline8",
    "m4",
    "xz-utils",
    "zlib1g-dev",
];

/// What cannot be unpacked somewhere: too much of it is compiled for one place.
const REQUIRED: [&str; 2] = ["make", "gcc"];

impl BuildTools {
    /// From the cache, or else the network.
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let root = cache.folder("kernel-tools");
        apt::unpacked(cache, "flex, bison, bc and libelf", &root, |apt, draft| {
            apt.unpack(&PACKAGES.map(str::to_owned), draft)
        })?;
        Ok(Self { root })
    }

    /// make for a kernel's tree, with nothing of this process' environment that could change what is built.
    pub(crate) fn make(&self, tree: &Path) -> Result<Command> {
        for program in REQUIRED {
            programs::run(Command::new(program).arg("--version")).with_context(|| {
                format!("building a kernel needs {program} on this machine: install it")
            })?;
        }
        let mut make = Command::new("make");
        make.arg("ARCH=x86_64").current_dir(tree);
        // objtool would ask pkg-config, which knows what is installed.
        let include = self.root.join("usr/include");
        make.arg(format!("LIBELF_FLAGS=-idirafter {}", include.display()));
        let [elf, z] = ["libelf.a", "libz.a"].map(|name| {
            let path = self.root.join("usr/lib/x86_64-linux-gnu").join(name);
            path.display().to_string()
        });
        make.arg(format!("LIBELF_LIBS={elf} {z}"));
        self.lend_to(&mut make)?;
        Ok(make)
    }

    /// Lets a program find them, before those of the machine.
    fn lend_to<'a>(&self, command: &'a mut Command) -> Result<&'a mut Command> {
        let path = env::var_os("PATH").unwrap_or_default();
        let own = [self.root.join("usr/bin")];
        let path = env::join_paths(own.into_iter().chain(env::split_paths(&path)))?;
        let libraries = ["lib", "usr/lib"].map(|lib| self.root.join(lib).join("x86_64-linux-gnu"));
        Ok(command
            .env_clear()
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", env::join_paths(libraries)?)
            .env("M4", self.root.join("usr/bin/m4"))
            .env("BISON_PKGDATADIR", self.root.join("usr/share/bison"))
            .env("LC_ALL", "C"))
    }
}
