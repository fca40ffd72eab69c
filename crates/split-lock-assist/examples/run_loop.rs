//! The run loop of a VMM whose guest gets past split locks, with 1 ms at a time.
//!
//! `cargo run -p split-lock-assist --features kvm-ioctls,vm-memory --example run_loop`
//!
//! Two vCPUs increment one word that crosses a cache line. On a host that does not detect split locks
//! they do so natively, and the guards have nothing to do, unless `SPLITLOCK_FEIGN=1` has them take the
//! first split lock for a stall; with `split_lock_detect=warn`, without them not one of the increments
//! would happen.

use std::error::Error;
use std::time::Duration;

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use kvm_preemption_timer::{Deadline, MonotonicTime, Outcome, PreemptibleVcpu, ThreadCpuTime};
use split_lock_assist::guard::{Config, Ended, Reaction, Run, VcpuGuard};
use split_lock_assist::guest_ram::GuestRam;
use split_lock_assist::kvm::{BreakpointSupport, KvmVcpu};
use split_lock_assist::pause::PauseGate;

use kvm_preemption_timer::open_kvm;
use split_lock_assist::guard::VcpuProgress;

/// `lock inc word ptr [203fh]; jmp` back
const GUEST: &[u8] = &[0xf0, 0xff, 0x06, 0x3f, 0x20, 0xeb, 0xf9];
const START: u64 = 0x1000;
const COUNTER: u64 = 0x203f;
const MEMORY_BYTES: usize = 0x1_0000;

const OWN_BUDGET: Duration = Duration::from_millis(1);
const QUANTA: u32 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let kvm = open_kvm()?;
    let vm = kvm.create_vm()?;
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)])?;
    memory.write_slice(GUEST, GuestAddress(START))?;
    give_memory(&vm, &memory)?;
    let vcpus = [add_vcpu(&vm, 0)?, add_vcpu(&vm, 1)?];

    // Once per process, and once per VM.
    let support = BreakpointSupport::probe(&kvm)?;
    let gate = PauseGate::new();
    std::thread::scope(|scope| {
        let threads = vcpus.map(|vcpu| scope.spawn(|| run(vcpu, &memory, &gate, support)));
        for thread in threads {
            let summary = thread.join().expect("a vCPU's thread has panicked");
            println!("{}", summary.map_err(|error| error.to_string())?);
        }
        Ok::<_, String>(())
    })?;
    let count: u16 = memory.read_obj(GuestAddress(COUNTER))?;
    println!("the 16 bits have been incremented to {count}, if not all the way round");
    Ok(())
}

/// What happens on each vCPU's own thread.
fn run(
    vcpu: VcpuFd,
    memory: &GuestMemoryMmap,
    gate: &PauseGate,
    support: BreakpointSupport,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut kvm_vcpu = KvmVcpu::new(&vcpu, support)?;
    let mut vcpu = PreemptibleVcpu::new(vcpu)?;
    let kicker = vcpu.kicker();
    let mut pass = gate.pass(move || kicker.kick());
    let mut guard = VcpuGuard::new(Config::new(Reaction::Emulate));

    if std::env::var_os("SPLITLOCK_FEIGN").is_some_and(|value| value == "1") {
        guard.feign_stall();
    }
    for _ in 0..QUANTA {
        let (began, cpu) = (MonotonicTime::now(), ThreadCpuTime::now());
        let deadline = Deadline::Wall(began + guard.budget(OWN_BUDGET));
        loop {
            let outcome = {
                let _inside = pass.enter();
                vcpu.run_until(deadline)?
            };
            match outcome {
                Outcome::Exit(VcpuExit::Debug(exit)) => {
                    let mut parts = kvm_vcpu.stopped(GuestRam::new(memory), &pass);
                    guard.handle_breakpoint(exit, &mut parts)?;
                }
                Outcome::Exit(exit) => return Err(format!("no device for {exit:?}").into()),
                Outcome::Kicked => {}
                Outcome::Expired(_) => break,
            }
        }
        let run = Run {
            wall: MonotonicTime::now().saturating_since(began),
            cpu: Duration::from_nanos(ThreadCpuTime::now().as_nanos() - cpu.as_nanos()),
            ended: Ended::Expired,
        };
        let mut parts = kvm_vcpu.stopped(GuestRam::new(memory), &pass);
        report(&guard.after_run(&run, &mut parts)?);
    }
    Ok(format!("{:?}", guard.statistics()))
}

fn report(progress: &VcpuProgress) {
    if let Some(stall) = progress.stall()
        && stall.is_new
    {
        println!("held up at {}: {:?}", stall.instruction, stall.response);
    }
}

fn add_vcpu(vm: &VmFd, id: u64) -> Result<VcpuFd, kvm_ioctls::Error> {
    let vcpu = vm.create_vcpu(id)?;
    let mut special = vcpu.get_sregs()?;
    (special.cs.base, special.cs.selector) = (0, 0);
    vcpu.set_sregs(&special)?;
    let mut registers = vcpu.get_regs()?;
    (registers.rip, registers.rflags) = (START, 2);
    vcpu.set_regs(&registers)?;
    Ok(vcpu)
}

#[expect(unsafe_code, reason = "KVM takes guest memory by address")]
fn give_memory(vm: &VmFd, memory: &GuestMemoryMmap<()>) -> Result<(), Box<dyn Error>> {
    let start = memory.get_host_address(GuestAddress(0))?;
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: start.addr() as u64,
    };
    // SAFETY: the memory is dropped at the end of main, after the vCPUs' threads have been joined.
    unsafe { vm.set_user_memory_region(region) }?;
    Ok(())
}
