//! What all commands share: one machine, the programs in it, and kernels to boot with them.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use split_lock_lab::bundle::Bundles;
use split_lock_lab::plan::Plan;

use super::cache::Cache;
use super::initramfs::{self, Programs};
use super::kernel::Kernel;
use super::machine::{Qemu, Shape};
use super::module;
use super::step::step;

/// What every machine needs, whatever kernel it boots.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) cache: Cache,
    pub(crate) programs: Programs,
    qemu: Qemu,
    /// Nobody else works in the cache meanwhile.
    _lock: File,
}

/// A kernel of which all is there.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) kernel: &'a Kernel,
    /// Our module for it.
    module: PathBuf,
    /// Where what comes out is kept.
    pub(crate) results: PathBuf,
}

impl Lab {
    pub(crate) fn open() -> Result<Self> {
        let cache = Cache::new();
        Ok(Self {
            _lock: cache.lock()?,
            qemu: step("QEMU", || Qemu::get(&cache))?,
            programs: step("building the programs for the machine", || {
                initramfs::build_programs(&cache)
            })?,
            cache,
        })
    }

    /// Does something with each of Debian's kernels; whether all of it was fine.
    pub(crate) fn with_each(
        &self,
        series: &[String],
        results: &str,
        act: impl Fn(&Prepared<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let mut is_fine = true;
        for series in series {
            let kernel = step(&format!("Debian's kernel {series}"), || {
                Kernel::debian(series, &self.cache)
            })?;
            is_fine &= act(&self.prepare(&kernel, results)?)?;
        }
        Ok(is_fine)
    }

    /// `results` names a folder below the kernel's own.
    pub(crate) fn prepare<'a>(&'a self, kernel: &'a Kernel, results: &str) -> Result<Prepared<'a>> {
        let build = || module::build(kernel, &self.cache);
        let all_results = self.cache.folder("results");
        Ok(Prepared {
            lab: self,
            kernel,
            module: step("building the module", build)?,
            results: all_results.join(&kernel.release).join(results),
        })
    }
}

impl Prepared<'_> {
    /// Carries out a plan in a machine; `more` is unpacked behind the initramfs.
    pub(crate) fn boot(
        &self,
        what: &str,
        shape: Shape,
        plan: &Plan,
        more: &[u8],
    ) -> Result<Bundles> {
        let mut archive = initramfs::pack(self.kernel, &self.lab.programs, &self.module, plan)?;
        archive.extend(more);
        let qemu = &self.lab.qemu;
        step(what, || {
            qemu.boot(self.kernel, &archive, shape, &self.results)
        })
    }
}

/// One of the bundles that a machine has sent.
pub(crate) fn bytes<'a>(bundles: &'a Bundles, name: &str) -> Result<&'a [u8]> {
    let bytes = bundles.get(name).map(Vec::as_slice);
    bytes.with_context(|| format!("the machine did not send {name}"))
}

/// What a program in the machine printed, what it complained about, and its exit code.
pub(crate) fn output_of(bundles: &Bundles, name: &str) -> Result<[String; 3]> {
    let text = |part| {
        let bytes = bytes(bundles, &format!("{name}.{part}"))?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(bytes).into_owned())
    };
    Ok([text("out")?, text("err")?, text("code")?])
}
