//! The threads that run a scenario's vCPUs, and wait for work in between.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{Builder, Scope};
use std::time::Duration;

use kvm_ioctls::Kvm;
use kvm_preemption_timer::Kicker;
use split_lock_assist::guard;
use split_lock_assist::kvm::Reach;
use split_lock_assist::pause::Gate;
use split_lock_model::time::Nanos;

use super::measure::{Measurement, measure};
use super::{Host, Scenario, Stop, SweepError};
use crate::guest::Guest;
use crate::guest::Level;
use crate::host::{GuardedVcpu, HostedVcpu, Kernel};
use crate::vm::{Vcpu, Vm};

/// All vCPUs of one scenario. They end when this is dropped.
pub(super) struct VcpuThreads {
    workers: Vec<Worker>,
    kernel: Option<Arc<Kernel>>,
}

struct Worker {
    timeouts: Sender<Duration>,
    results: Receiver<Result<Measurement, SweepError>>,
}

/// What a thread needs to run one vCPU.
struct VcpuJob {
    vcpu: Vcpu,
    guest: Guest,
    level: Level,
    /// The one that detects split locks, if it is not this host's own.
    kernel: Option<Arc<Kernel>>,
    /// So that all vCPUs of the scenario start together.
    together: Arc<Barrier>,
    /// Of which the first ends the sweep, and the second the runs of all vCPUs of the scenario, when
    /// one of them is worth nothing.
    stops: [Stop; 2],
    guard: Option<guard::Config>,
    gate: Gate,
    reach: Reach,
    timeouts: Receiver<Duration>,
    results: Sender<Result<Measurement, SweepError>>,
}

impl VcpuThreads {
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        kvm: &Kvm,
        scenario: &Scenario,
        stop: &Stop,
        reach: Reach,
    ) -> Result<Self, SweepError> {
        let mut vm = Vm::new(kvm)?;
        let kernel = match &scenario.host {
            Host::Native => None,
            Host::Emulated(profile) => {
                let vcpus = scenario.guests.len() as u32;
                Some(Arc::new(Kernel::new(profile.clone(), vcpus)))
            }
        };
        let together = Arc::new(Barrier::new(scenario.guests.len()));
        let all = Stop::new();
        let gate = Gate::new();
        let mut workers = vec![];
        for (number, guest) in scenario.guests.iter().enumerate() {
            let (timeouts, worker_timeouts) = channel();
            let (worker_results, results) = channel();
            let job = VcpuJob {
                vcpu: match (&kernel, scenario.level) {
                    (Some(_), Level::Cpl3) => vm.add_vcpu_that_checks_alignment(guest)?,
                    _ => vm.add_vcpu(guest, scenario.level)?,
                },
                guest: guest.clone(),
                level: scenario.level,
                kernel: kernel.clone(),
                together: Arc::clone(&together),
                stops: [stop.clone(), all.clone()],
                guard: scenario.guard.clone(),
                gate: gate.clone(),
                reach,
                timeouts: worker_timeouts,
                results: worker_results,
            };
            let kicker = job.spawn(scope, number)?;
            stop.add(kicker.clone());
            all.add(kicker);
            workers.push(Worker { timeouts, results });
        }
        Ok(VcpuThreads { workers, kernel })
    }

    /// Runs all vCPUs at once, and waits for them. An emulated host is freshly booted, with a tick
    /// this much after its boot.
    pub(super) fn run(
        &self,
        timeout: Duration,
        tick_phase: Nanos,
    ) -> Result<Vec<Measurement>, SweepError> {
        if let Some(kernel) = &self.kernel {
            kernel.reboot(tick_phase);
        }
        for worker in &self.workers {
            worker.timeouts.send(timeout).expect(WORKERS_WAIT);
        }
        let results = self.workers.iter().map(|worker| worker.results.recv());
        // All of them, before the first error is looked at: nobody is left running.
        let results: Vec<_> = results.map(|result| result.expect(WORKERS_WAIT)).collect();
        results.into_iter().collect()
    }
}

const WORKERS_WAIT: &str = "a worker ends only when its VcpuThreads are dropped";

impl VcpuJob {
    /// Starts the thread, and waits until its vCPU is bound to it.
    fn spawn<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        number: usize,
    ) -> Result<Kicker, SweepError> {
        let (bound, is_bound) = channel();
        Builder::new()
            .name(format!("vCPU {number}"))
            .spawn_scoped(scope, move || self.work(&bound))
            .map_err(|source| SweepError::Thread {
                vcpu: number,
                source,
            })?;
        is_bound.recv().expect("the thread answers first of all")
    }

    fn work(self, bound: &Sender<Result<Kicker, SweepError>>) {
        let Vcpu { mut fd, slot } = self.vcpu;
        let hosted = match self.kernel {
            None => HostedVcpu::native(&mut fd, &slot),
            Some(kernel) => HostedVcpu::emulated(&mut fd, &slot, &self.guest, self.level, kernel),
        };
        let mut vcpu = match hosted {
            Ok(vcpu) => GuardedVcpu::new(vcpu, self.guard, &self.gate, self.reach),
            Err(error) => {
                let _ = bound.send(Err(error.into()));
                return;
            }
        };
        let _ = bound.send(Ok(vcpu.vcpu().kicker()));
        let guest = self.guest.to_string();
        for timeout in self.timeouts {
            let is_reset = vcpu.vcpu_mut().reset();
            self.together.wait();
            let result = is_reset
                .map_err(SweepError::from)
                .and_then(|()| measure(&mut vcpu, &guest, timeout, &self.stops))
                .inspect_err(|_| self.stops[1].request());
            if self.results.send(result).is_err() {
                return;
            }
        }
    }
}
