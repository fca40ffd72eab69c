//! Carries out one experiment.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;
use split_lock_lab::bundle;
use split_lock_lab::journal::State;
use split_lock_lab::plan::{Experiment, Kick, Thread, Workload};
use split_lock_model::handler::TrapOrigin;

use crate::clock::KickTimer;
use crate::lab_device::LabDevice;
use crate::splitter::Splitter;
use crate::sys;
use crate::tick::{settle, sleep_until_phase};

/// Split locks of a guest between two looks at the clock.
const GUEST_TURNS: u16 = 1000;

/// What the module says of an experiment.
#[derive(Debug)]
pub(crate) struct Outcome {
    state: State,
    journal: Vec<u8>,
}

impl Outcome {
    pub(crate) fn send(&self, line: &mut impl std::io::Write, name: &str) -> Result<()> {
        bundle::send(
            line,
            &format!("{name}.state"),
            &serde_json::to_vec(&self.state)?,
        )?;
        bundle::send(line, &format!("{name}.journal"), &self.journal)?;
        Ok(())
    }
}

pub(crate) fn run(experiment: &Experiment, device: &mut LabDevice) -> Result<Outcome> {
    sys::install_kick()?;
    crate::set_mitigate(experiment.mitigate)?;
    settle(device)?;
    // Some kernels have left a CPU without detection.
    device.detect(true)?;
    device.clear()?;
    match &experiment.workload {
        Workload::Single {
            timeouts_us,
            phases,
        } => single(experiment.origin, timeouts_us, *phases, device)?,
        Workload::Loop {
            ms,
            threads,
            phases,
        } => {
            let rounds = Rounds {
                origin: experiment.origin,
                length: Duration::from_millis(*ms),
                phases: *phases,
                start: Barrier::new(threads.len()),
                device,
            };
            rounds.run(threads)?;
        }
    }
    settle(device)?;
    Ok(Outcome {
        state: device.state()?,
        journal: device.take_journal()?,
    })
}

fn stay_on(cpu: u16) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(usize::from(cpu))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// Traps one by one. The mark before each is its number.
fn single(origin: TrapOrigin, timeouts_us: &[u64], phases: u32, device: &LabDevice) -> Result<()> {
    stay_on(0)?;
    let mut splitter = Splitter::new(origin, device, 1)?;
    let mut timer = KickTimer::new(ClockId::CLOCK_MONOTONIC)?;
    // A vCPU's first entry is slow.
    splitter.try_once()?;
    settle(device)?;
    let mut number = 0;
    for &timeout in timeouts_us {
        for phase in 0..phases {
            sleep_until_phase(device, phase, phases)?;
            device.mark(number)?;
            number += 1;
            timer.set(timeout, 0)?;
            splitter.try_once()?;
            timer.set(0, 0)?;
            if device.state()?.cpus_off > 0 {
                // Back in time for the window, as a VMM would be.
                splitter.try_once()?;
                settle(device)?;
            }
        }
    }
    Ok(())
}

/// Loops of all threads, which begin together, one round at each phase of the ticks.
struct Rounds<'a> {
    origin: TrapOrigin,
    length: Duration,
    phases: u32,
    start: Barrier,
    device: &'a LabDevice,
}

impl Rounds<'_> {
    fn run(&self, threads: &[Thread]) -> Result<()> {
        thread::scope(|scope| {
            let threads = threads.iter();
            let running: Vec<_> = threads
                .map(|thread| scope.spawn(|| self.run_thread(*thread)))
                .collect();
            let mut running = running.into_iter();
            running.try_for_each(|thread| thread.join().expect("no thread panics"))
        })
    }

    fn run_thread(&self, thread: Thread) -> Result<()> {
        let mut prepared = self.prepare(thread);
        for phase in 0..self.phases {
            // Even if this thread cannot take part: the others wait for it.
            self.start.wait();
            if let Ok((splitter, timer)) = &mut prepared
                && let Err(error) = self.run_once(phase, thread, splitter, timer)
            {
                prepared = Err(error);
            }
        }
        prepared.map(drop)
    }

    fn run_once(
        &self,
        phase: u32,
        thread: Thread,
        splitter: &mut Splitter<'_>,
        timer: &mut KickTimer,
    ) -> Result<()> {
        let (first_us, every_us) = match thread.kick {
            Kick::Never => (self.length.as_micros() as u64, 0),
            Kick::Every(us) | Kick::EveryCpu(us) => (us, us),
        };
        sleep_until_phase(self.device, phase, self.phases)?;
        timer.set(first_us, every_us)?;
        let end = Instant::now() + self.length;
        while Instant::now() < end {
            splitter.try_once()?;
        }
        timer
            .set(0, 0)
            .context("cannot stop the timer that kicks the thread")
    }

    fn prepare(&self, thread: Thread) -> Result<(Splitter<'_>, KickTimer)> {
        stay_on(thread.cpu)?;
        let clock = match thread.kick {
            Kick::Never | Kick::Every(_) => ClockId::CLOCK_MONOTONIC,
            Kick::EveryCpu(_) => ClockId::CLOCK_THREAD_CPUTIME_ID,
        };
        let splitter = Splitter::new(self.origin, self.device, GUEST_TURNS)?;
        Ok((splitter, KickTimer::new(clock)?))
    }
}
