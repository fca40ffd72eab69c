//! The machine with the CPU in software that detects split locks: getting it, building it, booting kernels on it.

mod build;
mod built_kernel;
mod check;
mod fetch;
mod image;
mod kernel;
mod kernel_config;
mod kernel_source;
mod lab;
mod machine;
mod rootfs;
mod runner;
mod shell;
mod source;

pub(super) use built_kernel::tick_rate;
pub(super) use check::run as check;
pub(super) use fetch::{build_kernel, fetch};
pub(super) use kernel::{KernelName, KernelSeries};
pub(super) use shell::run as shell;
