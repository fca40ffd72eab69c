//! The threads that run a scenario's vCPUs, and wait for work in between.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{Builder, Scope};
use std::time::Duration;

use kvm_ioctls::Kvm;
use kvm_preemption_timer::Kicker;
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_assist::pause::PauseGate;
use split_lock_model::time::Nanos;

use super::measure::{Measurement, measure};
use super::{Host, Scenario, Stop, SweepError};
use crate::guest::{Guest, Level};
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

/// What the threads of all vCPUs of a scenario share.
struct Shared<'a> {
    scenario: &'a Scenario,
    /// The one that detects split locks, if it is not this host's own.
    kernel: Option<Arc<Kernel>>,
    /// So that all vCPUs of the scenario start together.
    together: Barrier,
    /// Of which the first ends the sweep, and the second the runs of all vCPUs of the scenario, when
    /// one of them is worth nothing.
    stops: [Stop; 2],
    gate: PauseGate,
    support: BreakpointSupport,
}

impl VcpuThreads {
    /// Starts the threads, and waits until each vCPU is bound to its own.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        kvm: &Kvm,
        scenario: &'scope Scenario,
        stop: &Stop,
        support: BreakpointSupport,
    ) -> Result<Self, SweepError> {
        let mut vm = Vm::new(kvm)?;
        let vcpus = scenario.guests.len();
        let kernel = match &scenario.host {
            Host::Native => None,
            Host::Emulated(profile) => Some(Arc::new(Kernel::new(profile.clone(), vcpus as u32))),
        };
        let shared = Arc::new(Shared {
            scenario,
            kernel: kernel.clone(),
            together: Barrier::new(vcpus),
            stops: [stop.clone(), Stop::new()],
            gate: PauseGate::new(),
            support,
        });
        let mut workers = vec![];
        for (number, guest) in scenario.guests.iter().enumerate() {
            let vcpu = match (&kernel, scenario.level) {
                (Some(_), Level::Cpl3) => vm.add_vcpu_that_checks_alignment(guest)?,
                _ => vm.add_vcpu(guest, scenario.level)?,
            };
            let (timeouts, job_timeouts) = channel();
            let (job_results, results) = channel();
            let (bound, is_bound) = channel();
            let job = VcpuJob {
                shared: Arc::clone(&shared),
                guest,
                timeouts: job_timeouts,
                results: job_results,
            };
            Builder::new()
                .name(format!("vCPU {number}"))
                .spawn_scoped(scope, move || job.run(vcpu, &bound))
                .map_err(|source| SweepError::Thread {
                    vcpu: number,
                    source,
                })?;
            let kicker: Kicker = is_bound.recv().expect("the thread answers first of all")?;
            shared
                .stops
                .iter()
                .for_each(|stop| stop.add(kicker.clone()));
            workers.push(Worker { timeouts, results });
        }
        Ok(Self { workers, kernel })
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

struct VcpuJob<'a> {
    shared: Arc<Shared<'a>>,
    guest: &'a Guest,
    timeouts: Receiver<Duration>,
    results: Sender<Result<Measurement, SweepError>>,
}

impl VcpuJob<'_> {
    fn run(self, vcpu: Vcpu, bound: &Sender<Result<Kicker, SweepError>>) {
        let Vcpu { mut fd, slot } = vcpu;
        let (shared, scenario) = (&self.shared, self.shared.scenario);
        let hosted = match shared.kernel.clone() {
            None => HostedVcpu::native(&mut fd, &slot),
            Some(kernel) => {
                HostedVcpu::emulated(&mut fd, &slot, self.guest, scenario.level, kernel)
            }
        };
        let guarded = hosted.and_then(|vcpu| {
            GuardedVcpu::new(vcpu, scenario.guard.clone(), &shared.gate, shared.support)
        });
        let mut vcpu = match guarded {
            Ok(vcpu) => vcpu,
            Err(error) => {
                let _ = bound.send(Err(error.into()));
                return;
            }
        };
        let _ = bound.send(Ok(vcpu.vcpu().kicker()));
        let guest = self.guest.to_string();
        for timeout in self.timeouts {
            let is_reset = vcpu.vcpu_mut().reset();
            shared.together.wait();
            let result = is_reset
                .map_err(SweepError::from)
                .and_then(|()| measure(&mut vcpu, &guest, timeout, &shared.stops))
                .inspect_err(|_| shared.stops[1].request());
            if self.results.send(result).is_err() {
                return;
            }
        }
    }
}
