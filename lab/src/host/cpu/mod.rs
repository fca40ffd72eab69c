//! The machine with the CPU in software that detects split locks: getting it, building it, booting kernels on it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::bundle::Bundles;
use split_lock_lab::cpu::journal::Journal;
use split_lock_lab::cpu::options::CpuOptions;
use split_lock_lab::cpu::script::Script;

use super::cache::Cache;
use super::output;
use super::step::step;

mod build;
mod image;
mod kernel;
mod machine;
mod rootfs;
mod scene;
mod shell;
mod source;

pub(crate) use scene::run as check;
pub(crate) use shell::run as shell;

use build::Build;
use image::ImageTools;
use kernel::BootKernel;
use machine::{Console, Limits, Machine};
use rootfs::{GuestPrograms, Rootfs};
use source::Source;

/// Everything but a kernel.
#[derive(Debug)]
struct Lab {
    cache: Cache,
    build: Build,
    source: Source,
    tools: ImageTools,
    programs: GuestPrograms,
    /// Nobody else works in the cache meanwhile.
    _lock: File,
}

/// What a machine has done and said.
#[derive(Debug)]
struct Outcome {
    bundles: Bundles,
    journal: Journal,
    /// As it is written.
    journal_text: String,
}

impl Lab {
    fn open(cpus: u8) -> Result<Self> {
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
    fn results(&self, kernel: &BootKernel, name: &str) -> PathBuf {
        let results = self.cache.folder("results").join(&kernel.release);
        results.join("cpu").join(name)
    }

    /// A folder with everything that a machine needs, and nothing of an earlier one.
    fn machine(
        &self,
        folder: &Path,
        kernel: &BootKernel,
        script: &Script,
        with: &[PathBuf],
        options: &CpuOptions,
    ) -> Result<Machine> {
        output::empty_folder(folder)?;
        let rootfs = Rootfs::new(kernel, &self.programs, script, with)?;
        self.tools.write(
            folder,
            &kernel.image,
            &rootfs.archive()?,
            &kernel.command_line(),
        )?;
        Machine::new(&self.build, &self.source, folder, options)
    }

    /// Boots a kernel, lets it carry out a script, and reads what came.
    fn boot(
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
