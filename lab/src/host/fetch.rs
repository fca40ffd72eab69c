//! Getting what the machine needs, without starting it.

use anyhow::Result;

use crate::host::args::{KernelArgs, Kernels};
use crate::host::cache::Cache;
use crate::host::cpu::source::Source;
use crate::host::kernel::BootKernel;
use crate::host::kernel::built::BuiltKernel;
use crate::host::machine::image::ImageTools;
use crate::host::machine::qemu::Qemu;
use crate::host::machine::rootfs::busybox;
use crate::host::programs;
use crate::host::step::step;

/// Everything that comes from the network.
pub(crate) fn fetch(args: &Kernels) -> Result<bool> {
    let cache = &Cache::new();
    let _alone = cache.lock()?;
    step("the source of Bochs and its BIOS", || Source::get(cache))?;
    step("the tools for boot images", || ImageTools::get(cache))?;
    step("busybox", || busybox(cache))?;
    step("QEMU", || Qemu::get(cache))?;
    step("a newer QEMU", || Qemu::newer(cache))?;
    step("the libraries of the programs for the machine", || {
        programs::run(programs::cargo().args(["fetch", "--locked"]))
    })?;
    for name in &args.kernel {
        step(&format!("kernel {name}"), || BootKernel::fetch(name, cache))?;
    }
    Ok(true)
}

/// Builds a kernel, and prints where it is.
pub(crate) fn build_kernel(args: &KernelArgs) -> Result<bool> {
    let cache = Cache::new();
    let _alone = cache.lock()?;
    let kernel = BuiltKernel {
        series: args.source.clone(),
        hz: args.hz,
        variant: args.edit,
    };
    println!("{}", kernel.image(&cache)?.display());
    Ok(true)
}
