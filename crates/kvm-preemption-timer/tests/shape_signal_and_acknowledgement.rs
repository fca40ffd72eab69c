//! A VMM that keeps its vCPUs in a struct which all threads share, and pauses them by a real-time
//! signal of its own, whose acknowledgement it waits for.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::foreign;
use common::{OUT_LOOP, SPIN, both_configs, vm};
use kvm_ioctls::{VcpuExit, VcpuFd};
use kvm_preemption_timer::{Config, Deadline, Interruption, RunEnd, Signal, VcpuBinding};
use nix::unistd::{Pid, gettid};

/// How long a pause may take before the VMM gives up.
const PAUSE_TIMEOUT: Duration = Duration::from_millis(1100);

struct Vcpu {
    fd: VcpuFd,
    port_writes: u64,
}

/// What a vCPU's thread and the others agree by.
#[derive(Default)]
struct VcpuState {
    /// While a thread runs its vCPU, so that it can be signalled.
    thread: Mutex<Option<Pid>>,
    is_paused: AtomicBool,
    is_stopped: AtomicBool,
    has_seen_it: AtomicBool,
}

struct VcpuHandle {
    vcpu: Arc<Mutex<Vcpu>>,
    state: Arc<VcpuState>,
    thread: JoinHandle<()>,
}

struct VcpuManager {
    handles: Vec<VcpuHandle>,
    signal: i32,
}

impl VcpuManager {
    fn start(vcpus: Vec<VcpuFd>, signal: i32, config: Config) -> Self {
        foreign::handle(signal);
        let start = |fd| {
            let state = Arc::new(VcpuState::default());
            let vcpu = Arc::new(Mutex::new(Vcpu { fd, port_writes: 0 }));
            let (its_vcpu, its_state) = (Arc::clone(&vcpu), Arc::clone(&state));
            VcpuHandle {
                vcpu,
                state,
                thread: std::thread::spawn(move || run_vcpu(&its_vcpu, &its_state, config)),
            }
        };
        let handles = vcpus.into_iter().map(start).collect();
        VcpuManager { handles, signal }
    }

    /// Makes every vCPU see a flag, and waits until it has.
    fn signal_all(&self, flag: impl Fn(&VcpuState) -> &AtomicBool) -> Result<(), &'static str> {
        for handle in &self.handles {
            handle.state.has_seen_it.store(false, Ordering::SeqCst);
            flag(&handle.state).store(true, Ordering::SeqCst);
        }
        let start = Instant::now();
        for handle in &self.handles {
            while !handle.state.has_seen_it.load(Ordering::SeqCst) {
                if let Some(thread) = *handle.state.thread.lock().unwrap() {
                    foreign::send(thread, self.signal);
                }
                if start.elapsed() > PAUSE_TIMEOUT {
                    return Err("a vCPU does not acknowledge");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn resume(&self) {
        for handle in &self.handles {
            handle.state.is_paused.store(false, Ordering::SeqCst);
            handle.thread.thread().unpark();
        }
    }
}

/// What happens on a vCPU's thread: the vCPU stays in its struct, locked for one run at a time.
fn run_vcpu(vcpu: &Mutex<Vcpu>, state: &VcpuState, config: Config) {
    let mut binding = VcpuBinding::of_with_config(&vcpu.lock().unwrap().fd, config).unwrap();
    *state.thread.lock().unwrap() = Some(gettid());
    let mut quantum = Deadline::after(Duration::from_millis(50));
    loop {
        if state.is_stopped.load(Ordering::SeqCst) {
            state.has_seen_it.store(true, Ordering::SeqCst);
            *state.thread.lock().unwrap() = None;
            return;
        }
        while state.is_paused.load(Ordering::SeqCst) {
            state.has_seen_it.store(true, Ordering::SeqCst);
            std::thread::park();
        }
        let Vcpu { fd, port_writes } = &mut *vcpu.lock().unwrap();
        match binding.run_until(fd, quantum).unwrap() {
            RunEnd::Exit(VcpuExit::IoOut(..)) => *port_writes += 1,
            RunEnd::Exit(exit) => panic!("{exit:?}"),
            RunEnd::Interrupted(Interruption::Expired(_)) => {
                quantum = Deadline::after(Duration::from_millis(50));
            }
            RunEnd::Interrupted(_) => {}
        }
    }
}

#[test]
fn every_pause_is_acknowledged_in_time() {
    for (config, offset) in both_configs().into_iter().zip(1..) {
        for code in [SPIN, OUT_LOOP] {
            let Some((_vm, vcpus)) = vm(code, 2) else {
                return;
            };
            let signal = Signal::realtime(offset).unwrap().number();
            let manager = VcpuManager::start(vcpus, signal, config);
            for _ in 0..15 {
                std::thread::sleep(Duration::from_millis(5));
                manager.signal_all(|state| &state.is_paused).unwrap();
                // Nobody runs the vCPUs: their state can be read, under the lock.
                for handle in &manager.handles {
                    let vcpu = handle.vcpu.try_lock().expect("it is paused");
                    vcpu.fd.get_regs().unwrap();
                }
                manager.resume();
            }
            manager.signal_all(|state| &state.is_stopped).unwrap();
            for handle in manager.handles {
                handle.thread.join().unwrap();
                let port_writes = handle.vcpu.lock().unwrap().port_writes;
                assert_eq!(port_writes > 0, code == OUT_LOOP);
            }
        }
    }
}
