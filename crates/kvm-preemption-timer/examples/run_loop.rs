//! The run loop of a VMM on `kvm_ioctls` whose vCPU stays in a struct that all threads share. It gives
//! its guest 1 ms at a time, and can be told to pause and to stop.
//!
//! `cargo run -p kvm-preemption-timer --example run_loop`

use std::error::Error;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use kvm_preemption_timer::{
    Deadline, Interruption, KickReasons, Kicker, MonotonicTime, PeriodicDeadlines, RunEnd,
    VcpuBinding, open_kvm,
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
    let vcpu = Vcpu {
        fd: Mutex::new(add_vcpu(&vm)?),
    };

    let (hand_over, kicker) = channel();
    std::thread::scope(|scope| {
        let vcpu_thread = scope.spawn(|| run(&vcpu, &hand_over));
        let kicker: Kicker = kicker.recv()?;
        std::thread::sleep(Duration::from_millis(100));
        kicker.kick_for(PAUSE)?;
        std::thread::sleep(Duration::from_millis(100));
        kicker.kick_for(STOP)?;
        let summary = vcpu_thread.join().expect("the vCPU thread has panicked")?;
        let rip = vcpu.fd.lock().unwrap().get_regs()?.rip;
        println!("stopped at {rip:#x} after {summary}");
        Ok(())
    })
}

const STOP: KickReasons = KickReasons::number(0);
const PAUSE: KickReasons = KickReasons::number(1);

struct Vcpu {
    fd: Mutex<VcpuFd>,
}

/// What a VMM copies: everything here happens on the vCPU's own thread.
fn run(vcpu: &Vcpu, hand_over: &Sender<Kicker>) -> Result<String, kvm_preemption_timer::Error> {
    let mut binding = VcpuBinding::of(&vcpu.fd.lock().unwrap())?;
    // The receiver may have gone: then nobody will kick.
    let _ = hand_over.send(binding.kicker());

    let period = Duration::from_millis(1);
    let first = Deadline::Wall(MonotonicTime::now() + period);
    let mut deadlines = PeriodicDeadlines::new(first, period).expect("the period is not zero");
    let (mut writes, mut expired, mut pauses, mut worst) = (0u64, 0u64, 0u64, Duration::ZERO);
    loop {
        let mut fd = vcpu.fd.lock().unwrap();
        match binding.run_until(&mut fd, deadlines.deadline())? {
            RunEnd::Exit(VcpuExit::IoOut(_port, _data)) => writes += 1,
            RunEnd::Exit(exit) => return Ok(format!("the exit {exit:?}")),
            RunEnd::Interrupted(Interruption::Expired(expiry)) => {
                // Here other work is done that has to be done once in a quantum.
                expired += 1;
                worst = worst.max(expiry.overshoot);
                deadlines.advance(&expiry);
            }
            // One kick can have several reasons.
            RunEnd::Interrupted(Interruption::Kicked(why)) => {
                pauses += u64::from(why.contains(PAUSE));
                if why.contains(STOP) {
                    break;
                }
            }
            // Somebody else's: a VMM with signals of its own looks at its flags.
            RunEnd::Interrupted(_) => {}
        }
    }
    Ok(format!(
        "{writes} port writes, {expired} deadlines and {pauses} pauses; the worst deadline was \
         noticed {worst:?} late, {} were missed",
        deadlines.missed()
    ))
}

fn add_vcpu(vm: &VmFd) -> Result<VcpuFd, kvm_ioctls::Error> {
    let vcpu = vm.create_vcpu(0)?;
    let mut sregs = vcpu.get_sregs()?;
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs)?;
    let mut regs = vcpu.get_regs()?;
    (regs.rip, regs.rflags) = (START, 2);
    vcpu.set_regs(&regs)?;
    Ok(vcpu)
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
    // SAFETY: the memory is dropped at the end of main, after the vCPU's thread has been joined.
    unsafe { vm.set_user_memory_region(region) }?;
    Ok(())
}
