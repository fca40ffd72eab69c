//! System calls that nobody has wrapped yet, and memory that a guest writes to.
#![expect(
    unsafe_code,
    reason = "ioctls, a signal handler, guest memory and the kernel's log"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use anyhow::Result;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use split_lock_lab::journal::State;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// What interrupts a thread. Nothing else in this program uses it.
pub(crate) const KICK: Signal = Signal::SIGUSR1;

/// `_IO('L', 1)` and so on: `lab/module/lab.h`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LabCommand {
    Split = 0x4c01,
    Note = 0x4c02,
    Clear = 0x4c03,
    Detect = 0x4c05,
}

const LAB_STATE: libc::Ioctl = 0x8030_4c04;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

pub(crate) fn lab_command(device: &File, command: LabCommand, argument: u32) -> io::Result<()> {
    let (fd, argument) = (device.as_raw_fd(), libc::c_ulong::from(argument));
    // SAFETY: the module takes the argument of these commands as a number, if at all.
    checked(unsafe { libc::ioctl(fd, command as libc::Ioctl, argument) }).map(drop)
}

pub(crate) fn lab_state(device: &File) -> io::Result<State> {
    let mut state = State::default();
    // SAFETY: the module writes one `struct lab_state`, which `State` mirrors.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LAB_STATE, &raw mut state) })?;
    Ok(state)
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// Makes the kick interrupt system calls, and nothing more.
pub(crate) fn install_kick() -> nix::Result<()> {
    // Without SA_RESTART.
    let handler = SigHandler::Handler(do_nothing);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it may run at any point of the program.
    unsafe { sigaction(KICK, &action) }.map(drop)
}

const GUEST_MEMORY: usize = 0x1_0000;

/// Memory at guest address 0, which has to outlive the VM's vCPUs.
pub(crate) fn guest_memory(vm: &VmFd) -> Result<GuestMemoryMmap> {
    let start = GuestAddress(0);
    let memory = GuestMemoryMmap::from_ranges(&[(start, GUEST_MEMORY)])?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: GUEST_MEMORY as u64,
        userspace_addr: memory.get_host_address(start)? as u64,
    };
    // SAFETY: the mapping is as large as the region, and whoever holds the vCPU keeps it until
    // after the vCPU is gone.
    unsafe { vm.set_user_memory_region(region) }?;
    Ok(memory)
}

/// Everything that the kernel has logged so far, as `dmesg` shows it.
pub(crate) fn kernel_log() -> io::Result<Vec<u8>> {
    const READ_ALL: libc::c_int = 3;
    let mut log = vec![0u8; 1 << 20];
    let size = libc::c_int::try_from(log.len()).expect("a mebibyte");
    // SAFETY: the kernel writes at most `size` bytes.
    let read = checked(unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), size) })?;
    log.truncate(read.unsigned_abs() as usize);
    Ok(log)
}
