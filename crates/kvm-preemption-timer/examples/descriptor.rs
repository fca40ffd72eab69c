//! A VMM with KVM bindings of its own: a vCPU is a file descriptor, and KVM_RUN is the VMM's.
//!
//! `cargo run -p kvm-preemption-timer --example descriptor`
//!
//! `kvm_ioctls` only makes the VM here; the loop would do without.

use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use kvm_ioctls::VmFd;
use kvm_preemption_timer::{Deadline, Interruption, VcpuBinding, open_kvm};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// `jmp .`
const GUEST: &[u8] = &[0xeb, 0xfe];
const START: u64 = 0x1000;
const QUANTA: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let vm = open_kvm()?.create_vm()?;
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x10000)])?;
    memory.write_slice(GUEST, GuestAddress(START))?;
    give_memory(&vm, &memory)?;
    let vcpu = vm.create_vcpu(0)?;
    let mut sregs = vcpu.get_sregs()?;
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs)?;
    let mut regs = vcpu.get_regs()?;
    (regs.rip, regs.rflags) = (START, 2);
    vcpu.set_regs(&regs)?;

    let worst = run(descriptor(&vcpu))?;
    println!("{QUANTA} quanta of 1 ms; the worst ended {worst:?} late");
    Ok(())
}

/// What a VMM copies: everything here happens on the vCPU's own thread.
fn run(vcpu: BorrowedFd<'_>) -> Result<Duration, Box<dyn Error>> {
    let mut binding = VcpuBinding::new(vcpu)?;
    let (mut quanta, mut worst) = (0, Duration::ZERO);
    let mut deadline = Deadline::after(Duration::from_millis(1));
    while quanta < QUANTA {
        binding.arm(deadline)?;
        match kvm_run(vcpu) {
            Ok(()) => return Err("the guest has left its loop".into()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            Err(error) => return Err(error.into()),
        }
        if let Interruption::Expired(expiry) = binding.interrupted() {
            quanta += 1;
            worst = worst.max(expiry.overshoot);
            deadline = Deadline::after(Duration::from_millis(1));
        }
    }
    Ok(worst)
}

#[expect(unsafe_code, reason = "ioctl has no safe interface in std")]
fn kvm_run(vcpu: BorrowedFd<'_>) -> io::Result<()> {
    const KVM_RUN: libc::Ioctl = 0xae80;
    // SAFETY: KVM_RUN takes no argument; nobody has a reference into the run page.
    match unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_RUN, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "a VcpuFd does not lend its descriptor")]
fn descriptor(vcpu: &kvm_ioctls::VcpuFd) -> BorrowedFd<'_> {
    // SAFETY: a VcpuFd holds its descriptor open for as long as it lives.
    unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) }
}

#[expect(unsafe_code, reason = "KVM takes guest memory by address")]
fn give_memory(vm: &VmFd, memory: &GuestMemoryMmap<()>) -> Result<(), Box<dyn Error>> {
    let host_address = memory.get_host_address(GuestAddress(0))?;
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: 0x10000,
        userspace_addr: host_address as u64,
        flags: 0,
    };
    // SAFETY: the memory is dropped at the end of main, after the last run.
    unsafe { vm.set_user_memory_region(region) }?;
    Ok(())
}
