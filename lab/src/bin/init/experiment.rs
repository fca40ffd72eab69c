//! Carries out one experiment.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;
use split_lock_lab::bundle;
use split_lock_lab::cpu::trace::THREAD_NAME;
use split_lock_lab::plan::{Experiment, Kick, Outcome, Thread, Workload};

use crate::setting;
use crate::splitter::{Splitter, Tried};
use crate::sys;
use crate::tick::{self, KickTimer};
use crate::tracer::{Recording, Tracer};

/// The kernel's trace of it goes out as `NAME.trace`, and the rest as `NAME.outcome`.
pub(crate) fn run(
    experiment: &Experiment,
    tracer: &Tracer,
    port: &mut impl std::io::Write,
) -> Result<()> {
    sys::install_handlers()?;
    set_mitigate(experiment.mitigate)?;
    tick::settle()?;
    let counts = Counts::default();
    let sigbus = sys::sigbus_count();
    let recording = carry_out(experiment, tracer, &counts)?;
    let outcome = Outcome {
        completed: counts.completed.into_inner(),
        exceptions: counts.exceptions.into_inner(),
        sigbus: sys::sigbus_count() - sigbus,
        lost_events: recording.lost_events,
        missed_probes: recording.missed_probes,
    };
    let name = &experiment.name;
    let outcome = serde_json::to_vec(&outcome)?;
    bundle::send(port, &format!("{name}.outcome"), &outcome)?;
    bundle::send(port, &format!("{name}.trace"), &recording.trace)?;
    Ok(())
}

/// The real switch of the real kernel.
fn set_mitigate(on: bool) -> Result<()> {
    let path = Path::new("/proc/sys/kernel/split_lock_mitigate");
    if on && !path.exists() {
        return Ok(());
    }
    setting::write(path, if on { "1" } else { "0" })
}

/// What the threads have seen.
#[derive(Debug, Default)]
struct Counts {
    completed: AtomicU64,
    exceptions: AtomicU64,
}

impl Counts {
    fn try_once(&self, splitter: &mut Splitter) -> Result<Tried> {
        let tried = splitter.try_once()?;
        match tried {
            Tried::Completed => self.completed.fetch_add(1, Ordering::Relaxed),
            Tried::Exception => self.exceptions.fetch_add(1, Ordering::Relaxed),
            Tried::Interrupted => 0,
        };
        Ok(tried)
    }
}

/// In threads that are there before the trace begins.
fn carry_out(experiment: &Experiment, tracer: &Tracer, counts: &Counts) -> Result<Recording> {
    let single = [Thread {
        cpu: 0,
        kick: Kick::Never,
        pause_ms: 0,
    }];
    let threads = match &experiment.workload {
        Workload::Single { .. } => &single[..],
        Workload::Loop { threads, .. } => threads,
    };
    let shared = Shared {
        experiment,
        tracer,
        counts,
        gate: Barrier::new(threads.len() + 1),
        round: Barrier::new(threads.len()),
    };
    thread::scope(|scope| {
        let run = |(thread, number)| {
            let shared = &shared;
            scope.spawn(move || shared.run_thread(thread, number))
        };
        let running: Vec<_> = threads.iter().zip(0..).map(run).collect();
        shared.gate.wait();
        let begun = tracer.begin();
        // Even if it did not begin: the threads wait for it.
        shared.gate.wait();
        let mut running = running.into_iter();
        let done = running.try_for_each(|thread| thread.join().expect("no thread panics"));
        begun.and(done)
    })?;
    tick::settle()?;
    tracer.end()
}

/// What the threads of an experiment share.
struct Shared<'a> {
    experiment: &'a Experiment,
    tracer: &'a Tracer,
    counts: &'a Counts,
    /// First all threads are there, then the trace has begun.
    gate: Barrier,
    /// Between rounds.
    round: Barrier,
}

impl Shared<'_> {
    fn run_thread(&self, thread: &Thread, number: u32) -> Result<()> {
        let prepared = self.prepare(thread, number);
        self.gate.wait();
        self.gate.wait();
        match &self.experiment.workload {
            Workload::Single {
                timeouts_us,
                phases,
            } => {
                let (splitter, timer) = prepared?;
                self.single(timeouts_us, *phases, splitter, timer)
            }
            Workload::Loop { ms, phases, .. } => {
                let length = Duration::from_millis(*ms);
                self.rounds(thread, number, length, *phases, prepared)
            }
        }
    }

    fn prepare(&self, thread: &Thread, number: u32) -> Result<(Splitter, KickTimer)> {
        let name = format!("{THREAD_NAME}{number}");
        setting::write("/proc/thread-self/comm", &name)?;
        let mut cpus = CpuSet::new();
        cpus.set(usize::from(thread.cpu))?;
        sched_setaffinity(Pid::from_raw(0), &cpus)
            .with_context(|| format!("cannot stay on CPU {}", thread.cpu))?;
        let clock = match thread.kick {
            Kick::Never | Kick::Every(_) => ClockId::CLOCK_MONOTONIC,
            Kick::EveryCpu(_) => ClockId::CLOCK_THREAD_CPUTIME_ID,
        };
        let splitter = Splitter::new(self.experiment.origin)?;
        Ok((splitter, KickTimer::new(clock)?))
    }

    /// Traps one by one. The mark before each is its number.
    fn single(
        &self,
        timeouts_us: &[u64],
        phases: u32,
        mut splitter: Splitter,
        mut timer: KickTimer,
    ) -> Result<()> {
        // A vCPU's first entry is slow.
        self.counts.try_once(&mut splitter)?;
        tick::settle()?;
        let mut number: u32 = 0;
        for &timeout in timeouts_us {
            for phase in 0..phases {
                tick::sleep_until_phase(phase, phases)?;
                self.tracer.mark(&number.to_string())?;
                number += 1;
                timer.set(Duration::from_micros(timeout), Duration::ZERO)?;
                self.counts.try_once(&mut splitter)?;
                timer.set(Duration::ZERO, Duration::ZERO)?;
                tick::settle()?;
            }
        }
        Ok(())
    }

    /// Without pause, in rounds that all threads begin together, one at each phase of the ticks. The mark before each is
    /// its number.
    fn rounds(
        &self,
        thread: &Thread,
        number: u32,
        length: Duration,
        phases: u32,
        mut prepared: Result<(Splitter, KickTimer)>,
    ) -> Result<()> {
        for phase in 0..phases {
            // Even if this thread cannot take part: the others wait for it.
            self.round.wait();
            if let Ok((splitter, timer)) = &mut prepared {
                let done = tick::sleep_until_phase(phase, phases)
                    .map_err(anyhow::Error::from)
                    .and_then(|()| {
                        // Of two CPUs that open their first windows at once, the trace does not tell which was first.
                        thread::sleep(APART * number);
                        if number == 0 {
                            self.tracer.mark(&phase.to_string())?;
                        }
                        self.round(thread, length, splitter, timer)
                    });
                if let Err(error) = done {
                    prepared = Err(error);
                }
            }
        }
        prepared.map(drop)
    }

    fn round(
        &self,
        thread: &Thread,
        length: Duration,
        splitter: &mut Splitter,
        timer: &mut KickTimer,
    ) -> Result<()> {
        let (first, every) = match thread.kick {
            Kick::Never => (length, Duration::ZERO),
            Kick::Every(us) | Kick::EveryCpu(us) => {
                let every = Duration::from_micros(us);
                (every, every)
            }
        };
        timer.set(first, every)?;
        let end = Instant::now() + length;
        while Instant::now() < end {
            if self.counts.try_once(splitter)? == Tried::Completed {
                work();
            }
            if thread.pause_ms > 0 {
                thread::sleep(Duration::from_millis(thread.pause_ms));
            }
        }
        timer
            .set(Duration::ZERO, Duration::ZERO)
            .context("cannot stop the timer that kicks the thread")
    }
}

/// Between the beginnings of two threads.
const APART: Duration = Duration::from_micros(300);

/// What a thread does between two split locks, so that the CPU's journal does not consist of them: some 0.1 ms.
fn work() {
    for _ in 0..5000 {
        std::hint::spin_loop();
    }
}
