//! The run loop of a VMM that gives its guest 1 ms at a time, and can be told to stop.
//!
//! `cargo run -p kvm-preemption-timer --example run_loop`

use std::error::Error;
use std::time::Duration;

use kvm_ioctls::VcpuExit;
use kvm_preemption_timer::{
    Deadline, Kicker, MonotonicTime, Outcome, PeriodicDeadlines, PreemptibleVcpu, open_kvm,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Writes to port 0x10 once in a while, for ever: `mov cx, 50000; loop .; out 0x10, al; jmp`.
const GUEST: &[u8] = &[0xb9, 0x50, 0xc3, 0xe2, 0xfe, 0xe6, 0x10, 0xeb, 0xf7];
const START: u64 = 0x1000;

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

    let (hand_over, kicker) = std::sync::mpsc::channel();
    let vcpu_thread = std::thread::spawn(move || run(vcpu, &hand_over));
    let kicker: Kicker = kicker.recv()?;
    std::thread::sleep(Duration::from_millis(200));
    kicker.kick()?;
    let summary = vcpu_thread.join().expect("the vCPU thread has panicked")?;
    println!("{summary}");
    Ok(())
}

/// What a VMM copies: everything here happens on the vCPU's own thread.
fn run(
    vcpu: kvm_ioctls::VcpuFd,
    hand_over: &std::sync::mpsc::Sender<Kicker>,
) -> Result<String, kvm_preemption_timer::Error> {
    let mut vcpu = PreemptibleVcpu::new(vcpu)?;
    // The receiver may have gone: then nobody will kick.
    let _ = hand_over.send(vcpu.kicker());

    let period = Duration::from_millis(1);
    let first = Deadline::Wall(MonotonicTime::now() + period);
    let mut deadlines = PeriodicDeadlines::new(first, period).expect("the period is not zero");
    let (mut writes, mut expired, mut worst) = (0u64, 0u64, Duration::ZERO);
    loop {
        match vcpu.run_until(deadlines.deadline())? {
            Outcome::Exit(VcpuExit::IoOut(_port, _data)) => writes += 1,
            Outcome::Exit(exit) => return Ok(format!("the guest has stopped: {exit:?}")),
            Outcome::Expired(expiry) => {
                // Here other work is done that has to be done once in a quantum.
                expired += 1;
                worst = worst.max(expiry.overshoot);
                deadlines.advance(&expiry);
            }
            Outcome::Kicked => break,
        }
    }
    let rip = vcpu.vcpu().get_regs().map_or(0, |regs| regs.rip);
    Ok(format!(
        "stopped at {rip:#x} after {writes} port writes and {expired} deadlines; the worst ended \
         {worst:?} late, {} were missed",
        deadlines.missed()
    ))
}

#[expect(unsafe_code, reason = "KVM takes guest memory by address")]
fn give_memory(vm: &kvm_ioctls::VmFd, memory: &GuestMemoryMmap<()>) -> Result<(), Box<dyn Error>> {
    let host_address = memory.get_host_address(GuestAddress(0))?;
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: 0x10000,
        userspace_addr: host_address as u64,
        flags: 0,
    };
    // SAFETY: the memory is dropped at the end of main, after the vCPU's thread has been joined.
    unsafe { vm.set_user_memory_region(region) }?;
    Ok(())
}
