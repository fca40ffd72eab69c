//! What all commands on this machine share.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::cpu::options::CpuOptions;
use split_lock_lab::cpu::script::Script;

use super::build::Build;
use super::image::ImageTools;
use super::kernel::{BootKernel, COMMAND_LINE};
use super::machine::{Console, Limits, Machine, Outcome};
use super::rootfs::{GuestPrograms, Rootfs};
use super::source::Source;
use crate::host::cache::Cache;
use crate::host::output;
use crate::host::step::step;

/// Everything but a kernel.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) cache: Cache,
    build: Build,
    source: Source,
    tools: ImageTools,
    programs: GuestPrograms,
    /// Nobody else works in the cache meanwhile.
    _lock: File,
}

impl Lab {
    pub(super) fn open(cpus: u8) -> Result<Self> {
        let cache = Cache::new();
        let lock = cache.lock()?;
        let source = step("the source of Bochs and its BIOS", || Source::get(&cache))?;
        let tools = step("the tools for boot images", || ImageTools::get(&cache))?;
        let build = step("the CPU", || Build::get(&source, cpus > 1, &cache))?;
        let programs = step("building the programs for the machine", || {
            GuestPrograms::build(&cache)
        })?;
        Ok(Self {
            cache,
            build,
            source,
            tools,
            programs,
            _lock: lock,
        })
    }

    /// Where what comes out of a kernel's machine is kept.
    pub(super) fn results(&self, kernel: &BootKernel, name: &str) -> PathBuf {
        let results = self.cache.folder("results").join(&kernel.release);
        results.join("cpu").join(name)
    }

    /// A folder with everything that a machine needs, and nothing of an earlier one.
    pub(super) fn machine(
        &self,
        folder: &Path,
        kernel: &BootKernel,
        script: &Script,
        with: &[PathBuf],
        options: &CpuOptions,
    ) -> Result<Machine> {
        output::empty_folder(folder)?;
        let rootfs = Rootfs::new(kernel, &self.programs, script, with)?;
        self.tools
            .write(folder, &kernel.image, &rootfs.archive()?, COMMAND_LINE)?;
        Machine::new(&self.build, &self.source, folder, options)
    }

    /// Boots a kernel, lets it carry out a script, and reads what came.
    pub(super) fn boot(
        &self,
        folder: &Path,
        kernel: &BootKernel,
        script: &Script,
        options: &CpuOptions,
        limits: Limits,
    ) -> Result<Outcome> {
        let machine = self.machine(folder, kernel, script, &[], options)?;
        machine.run(Console::Log, limits)?;
        let outcome = machine.outcome();
        outcome.with_context(|| format!("see {}", machine.serial_log().display()))
    }
}
