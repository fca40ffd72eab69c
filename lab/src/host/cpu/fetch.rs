//! Getting what the machine needs, without starting it.

use anyhow::Result;

use super::built_kernel::BuiltKernel;
use super::image::ImageTools;
use super::kernel::BootKernel;
use super::rootfs::busybox;
use super::source::Source;
use crate::host::args::{FetchArgs, KernelArgs};
use crate::host::cache::Cache;
use crate::host::programs;
use crate::host::step::step;

/// Everything that comes from the network.
pub(in crate::host) fn fetch(args: &FetchArgs, cache: &Cache) -> Result<()> {
    step("the source of Bochs and its BIOS", || Source::get(cache))?;
    step("the tools for boot images", || ImageTools::get(cache))?;
    step("busybox", || busybox(cache))?;
    step("the libraries of the programs for the machine", || {
        programs::run(programs::cargo().args(["fetch", "--locked"]))
    })?;
    for name in &args.kernel {
        step(&format!("kernel {name}"), || BootKernel::fetch(name, cache))?;
    }
    Ok(())
}

/// Builds a kernel, and prints where it is.
pub(in crate::host) fn build_kernel(args: &KernelArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    let kernel = BuiltKernel {
        series: args.source.clone(),
        hz: args.hz,
    };
    println!("{}", kernel.image(&cache)?.display());
    Ok(true)
}
