//! What all commands on this machine share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::cpu::options::CpuOptions;
use split_lock_lab::cpu::script::Script;

use crate::host::cache::Cache;
use crate::host::cpu::build;
use crate::host::cpu::source::Source;
use crate::host::kernel::{BootKernel, COMMAND_LINE, KernelName};
use crate::host::machine::bochs::{Console, Machine, Outcome};
use crate::host::machine::image::ImageTools;
use crate::host::machine::rootfs::{self, GuestPrograms};
use crate::host::machine::runner::Scene;
use crate::host::output;
use crate::host::step::step;

/// Everything but a kernel.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) cache: Cache,
    /// The CPU, by whether it is for several.
    cpus: BTreeMap<bool, PathBuf>,
    source: Source,
    tools: ImageTools,
    programs: GuestPrograms,
    /// Nobody else works in the cache meanwhile.
    _lock: File,
}

impl Lab {
    /// `cpus`: of each machine that is to be booted.
    pub(crate) fn open(cpus: impl IntoIterator<Item = u8>) -> Result<Self> {
        let cache = Cache::new();
        let lock = cache.lock()?;
        let source = step("the source of Bochs and its BIOS", || Source::get(&cache))?;
        let tools = step("the tools for boot images", || ImageTools::get(&cache))?;
        let kinds: BTreeSet<bool> = cpus.into_iter().map(|cpus| cpus > 1).collect();
        let cpus = step("the CPU", || {
            let build = |kind| Ok((kind, build::program(&source, kind, &cache)?));
            kinds.into_iter().map(build).collect()
        })?;
        let programs = step("building the programs for the machine", || {
            GuestPrograms::build(&cache)
        })?;
        Ok(Self {
            cache,
            cpus,
            source,
            tools,
            programs,
            _lock: lock,
        })
    }

    pub(crate) fn kernels(&self, names: &[KernelName]) -> Result<Vec<BootKernel>> {
        names.iter().map(|name| self.kernel(name)).collect()
    }

    pub(crate) fn kernel(&self, name: &KernelName) -> Result<BootKernel> {
        step(&format!("kernel {name}"), || {
            BootKernel::get(name, &self.cache)
        })
    }

    /// The command line, which runs here as well.
    pub(crate) fn splitlock(&self) -> &Path {
        &self.programs.splitlock
    }

    pub(crate) fn programs(&self) -> &GuestPrograms {
        &self.programs
    }

    /// Where what comes out of a kernel's machine is kept.
    pub(crate) fn results(&self, kernel: &BootKernel, name: &str) -> PathBuf {
        let results = self.cache.folder("results").join(&kernel.release);
        results.join(name.replace(' ', "-"))
    }

    /// A folder with everything that a machine needs, and nothing of an earlier one.
    pub(crate) fn machine(
        &self,
        folder: &Path,
        kernel: &BootKernel,
        boot_words: &str,
        script: &Script,
        options: &CpuOptions,
    ) -> Result<Machine> {
        let cpu = self.cpus.get(&(options.cpus > 1));
        let cpu = cpu.context("the CPU was built for another number of CPUs")?;
        let command_line = format!("{COMMAND_LINE} {boot_words}");
        output::empty_folder(folder)?;
        let initramfs = rootfs::archive(kernel, &self.programs, script)?;
        let command_line = command_line.trim_end();
        self.tools
            .write(folder, &kernel.image, &initramfs, command_line)?;
        Machine::new(cpu, &self.source, folder, options)
    }

    /// Boots a scene's kernel, lets it carry out the script, and reads what came.
    pub(crate) fn boot(&self, folder: &Path, scene: &Scene<'_>) -> Result<Outcome> {
        let Scene {
            kernel,
            options,
            boot_words,
            script,
            limits,
            ..
        } = scene;
        let machine = self.machine(folder, kernel, boot_words, script, options)?;
        machine.run(Console::Log, *limits)?;
        let outcome = machine.outcome();
        outcome.with_context(|| format!("see {}", machine.serial_log().display()))
    }
}
