//! System calls that nobody has wrapped yet, and memory that a guest writes to.
#![expect(
    unsafe_code,
    reason = "ioctls, timers that signal a thread, and guest memory"
)]

use std::fs::File;
use std::io::{Error, Result};
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;
use std::slice;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use split_lock_lab::journal::State;

/// What interrupts a thread. Nothing else in this program uses it.
const KICK: libc::c_int = libc::SIGUSR1;

/// `_IO('L', 1)` and so on: `lab/module/lab.h`.
const LAB_SPLIT: libc::Ioctl = 0x4c01;
const LAB_NOTE: libc::Ioctl = 0x4c02;
const LAB_CLEAR: libc::Ioctl = 0x4c03;
const LAB_STATE: libc::Ioctl = 0x8030_4c04;
const LAB_DETECT: libc::Ioctl = 0x4c05;

/// `struct lab_state`.
#[repr(C)]
#[derive(Default)]
struct RawState {
    lost: u64,
    traps: u64,
    completed: u64,
    tick_ns: u64,
    tick_jiffies: u64,
    hz: u32,
    cpus_off: u32,
}

fn checked(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

pub(crate) fn lab_split(device: &File) -> Result<libc::c_int> {
    // SAFETY: the module takes no argument with this command.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LAB_SPLIT) })
}

pub(crate) fn lab_note(device: &File, number: u32) -> Result<()> {
    // SAFETY: the module takes the argument as a number.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LAB_NOTE, libc::c_ulong::from(number)) })
        .map(drop)
}

pub(crate) fn lab_detect(device: &File, on: bool) -> Result<()> {
    // SAFETY: the module takes the argument as a truth value.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LAB_DETECT, libc::c_ulong::from(on)) })
        .map(drop)
}

pub(crate) fn lab_clear(device: &File) -> Result<()> {
    // SAFETY: the module takes no argument with this command.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LAB_CLEAR) }).map(drop)
}

pub(crate) fn lab_state(device: &File) -> Result<State> {
    let mut raw = RawState::default();
    // SAFETY: the module writes one `struct lab_state`, which `RawState` mirrors.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LAB_STATE, &raw mut raw) })?;
    Ok(State {
        lost: raw.lost,
        traps: raw.traps,
        completed: raw.completed,
        tick_ns: raw.tick_ns,
        tick_jiffies: raw.tick_jiffies,
        hz: raw.hz,
        cpus_off: raw.cpus_off,
    })
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// Makes the kick interrupt system calls, and nothing more.
pub(crate) fn install_kick() -> Result<()> {
    // SAFETY: a sigaction of zeroes is valid: no flags (in particular no SA_RESTART), empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = do_nothing as *const () as usize;
    // SAFETY: the handler does nothing, so it may run at any point of the program.
    checked(unsafe { libc::sigaction(KICK, &raw const action, ptr::null_mut()) }).map(drop)
}

/// Which clock a kick goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Wall,
    /// The CPU time of the thread that makes the timer.
    ThreadCpu,
}

/// A timer that kicks the thread that made it.
#[derive(Debug)]
pub(crate) struct KickTimer {
    timer: libc::timer_t,
}

impl KickTimer {
    pub(crate) fn new(clock: Clock) -> Result<Self> {
        let clock = match clock {
            Clock::Wall => libc::CLOCK_MONOTONIC,
            Clock::ThreadCpu => libc::CLOCK_THREAD_CPUTIME_ID,
        };
        // SAFETY: a sigevent of zeroes is valid; what matters is set below.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = KICK;
        // SAFETY: always succeeds, and touches no memory.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are to values that live until the call returns.
        checked(unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) })?;
        Ok(Self { timer })
    }

    /// The first kick after `first_ns`, then one every `every_ns`; 0 is none.
    pub(crate) fn set(&self, first_ns: u64, every_ns: u64) -> Result<()> {
        let span = |ns: u64| libc::timespec {
            tv_sec: (ns / 1_000_000_000).cast_signed(),
            tv_nsec: (ns % 1_000_000_000).cast_signed(),
        };
        let times = libc::itimerspec {
            it_value: span(first_ns),
            it_interval: span(every_ns),
        };
        // SAFETY: the timer exists until this value is dropped, and `times` lives long enough.
        checked(unsafe { libc::timer_settime(self.timer, 0, &raw const times, ptr::null_mut()) })
            .map(drop)
    }
}

impl Drop for KickTimer {
    fn drop(&mut self) {
        // SAFETY: made by `timer_create`, and deleted only here.
        unsafe { libc::timer_delete(self.timer) };
    }
}

pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// CPU time of all threads of a process that has not been waited for.
pub(crate) fn cpu_time_ns(pid: u32) -> Result<u64> {
    let mut clock = 0;
    // SAFETY: the pointer is to a value that lives until the call returns.
    let error = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    if error != 0 {
        return Err(Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: as above.
    checked(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// Memory at guest address 0.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    start: *mut u8,
}

const GUEST_MEMORY: usize = 0x1_0000;

impl GuestMemory {
    pub(crate) fn new(vm: &VmFd) -> Result<Self> {
        // SAFETY: a fresh anonymous mapping, at no particular place.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUEST_MEMORY,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let memory = Self {
            start: start.cast(),
        };
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: GUEST_MEMORY as u64,
            userspace_addr: memory.start as u64,
        };
        // SAFETY: the mapping is as large as the region, and whoever holds the vCPU keeps it until
        // after the vCPU is gone.
        unsafe { vm.set_user_memory_region(region) }?;
        Ok(memory)
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: the mapping is this long, it is ours, and no vCPU runs: one is only made later.
        let memory = unsafe { slice::from_raw_parts_mut(self.start, GUEST_MEMORY) };
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nothing uses any more.
        unsafe { libc::munmap(self.start.cast(), GUEST_MEMORY) };
    }
}

/// Everything that the kernel has logged so far, as `dmesg` shows it.
pub(crate) fn kernel_log() -> Result<Vec<u8>> {
    const READ_ALL: libc::c_int = 3;
    let mut log = vec![0u8; 1 << 20];
    let size = libc::c_int::try_from(log.len()).expect("a mebibyte");
    // SAFETY: the kernel writes at most `size` bytes.
    let read = checked(unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), size) })?;
    log.truncate(read.unsigned_abs() as usize);
    Ok(log)
}
