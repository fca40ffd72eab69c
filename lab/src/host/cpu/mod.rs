//! The machine with the CPU in software that detects split locks: getting it, building it, booting kernels on it.

mod accounts;
mod build;
mod built_kernel;
mod cost;
mod demo;
mod faults;
mod fetch;
mod image;
mod kernel;
mod kernel_config;
mod kernel_source;
mod lab;
mod machine;
mod outputs;
mod rootfs;
mod runner;
mod scene;
mod shell;
mod source;
mod tools;
mod watch;
mod windows;

pub(super) use built_kernel::tick_rate;
pub(super) use cost::run as cost;
pub(super) use demo::run as demo;
pub(super) use faults::run as faults;
pub(super) use fetch::{build_kernel, fetch};
pub(super) use kernel::{KernelName, KernelSeries};
pub(super) use scene::run as check;
pub(super) use shell::run as shell;
pub(super) use tools::run as tools;
pub(super) use watch::run as watch;
pub(super) use windows::run as windows;
