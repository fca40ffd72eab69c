//! Programs that nobody may change, on a CPU that detects split locks: without and with `splitlock run`.

use anyhow::Result;
use split_lock_lab::cpu::script::PlacedFile;

use crate::host::args::Kernels;
use crate::host::machine::lab::Lab;
use crate::host::machine::qemu::Qemu;
use crate::host::machine::runner;
use crate::host::programs;
use crate::host::step::step;

mod qemu;
mod vmm;

/// Boots kernels, and looks at the guests of QEMU and at those of a VMM in C.
pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open([1, vmm::CPUS])?;
    let qemu = step("QEMU", || Qemu::get(&lab.cache))?;
    let library = step("the library of `splitlock run`", || preload_library(&lab))?;
    let vmm = step("the VMM in C", || vmm::build(&lab.cache))?;
    let kernels = lab.kernels(&args.kernel)?;
    let mut scenes = Vec::new();
    for kernel in &kernels {
        scenes.extend(qemu::scenes(kernel, &lab, &qemu, &library)?);
        scenes.extend(vmm::scenes(kernel, &qemu, &library, &vmm)?);
    }
    runner::run(&lab, scenes)
}

const LIBRARY: &str = "libsplit_lock_preload.so";

fn preload_library(lab: &Lab) -> Result<PlacedFile> {
    Ok(PlacedFile {
        at: format!("bin/{LIBRARY}"),
        from: programs::release_library(&lab.cache, "split-lock-preload", LIBRARY)?,
    })
}
