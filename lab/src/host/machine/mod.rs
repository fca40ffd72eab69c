//! A machine with that CPU: what it boots into, running it, and what comes out of it.

pub(crate) mod bochs;
pub(crate) mod image;
pub(crate) mod initramfs;
pub(crate) mod lab;
pub(crate) mod outputs;
pub(crate) mod qemu;
pub(crate) mod rootfs;
pub(crate) mod runner;
