//! The thread that looks who is being punished.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::sampling::{Interval, Look, Sample, ThreadHistory, WaitChannel};
use crate::settings::Guard;
use crate::sys::{self, ThreadId};
use crate::vcpu::Vcpu;

/// Between two times of looking after what is not urgent.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Whether there is such a thread from now on.
pub(crate) fn start(process: &'static Process) -> bool {
    let builder = thread::Builder::new().name("splitlock".into());
    let watch = move || {
        sys::while_busy(|| {
            let watched = catch_unwind(AssertUnwindSafe(|| Watchdog::new(process).watch()));
            if watched.is_err() {
                process
                    .help()
                    .report()
                    .problem("an error in the library; please report it");
            }
        });
    };
    sys::block_all_in_new_threads(|| builder.spawn(watch).is_ok())
}

struct Watchdog {
    process: &'static Process,
    watched: Vec<Watched>,
    generation: u64,
    /// The kernel does not say what threads wait for.
    hidden: bool,
    punished_at: Option<Instant>,
}

/// One vCPU.
struct Watched {
    vcpu: Arc<Vcpu>,
    history: ThreadHistory,
    /// Where the kernel says what its thread waits for.
    wait_channel: Option<(ThreadId, File)>,
}

impl Watchdog {
    fn new(process: &'static Process) -> Self {
        Self {
            process,
            watched: Vec::new(),
            generation: u64::MAX,
            hidden: process.help().settings().hides_wait_channels || !wait_channels_are_told(),
            punished_at: None,
        }
    }

    fn watch(&mut self) {
        if self.hidden {
            self.process.help().report().problem(
                "the kernel does not say what threads wait for (/proc/PID/wchan), so that idle vCPUs are disturbed",
            );
        }
        let mut interval = Interval::FIRST;
        let mut housekeeping = Instant::now();
        let mut last = housekeeping;
        loop {
            thread::sleep(interval.length());
            let now = Instant::now();
            let elapsed = now - last;
            last = now;
            if now >= housekeeping {
                housekeeping = now + HOUSEKEEPING;
                self.process.forget_closed();
                self.process.help().report().write_if_changed();
            }
            self.update();
            interval = self.look_at_all(now, elapsed, interval);
        }
    }

    /// Takes over which vCPUs there are.
    fn update(&mut self) {
        let generation = self.process.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let mut before: HashMap<*const Vcpu, Watched> = self
            .watched
            .drain(..)
            .map(|it| (Arc::as_ptr(&it.vcpu), it))
            .collect();
        for vcpu in self.process.vcpus() {
            // A vCPU may have two numbers.
            if !self.watched.iter().any(|it| Arc::ptr_eq(&it.vcpu, &vcpu)) {
                let known = before.remove(&Arc::as_ptr(&vcpu));
                self.watched.push(known.unwrap_or_else(|| Watched {
                    vcpu,
                    history: ThreadHistory::default(),
                    wait_channel: None,
                }));
            }
        }
    }

    fn look_at_all(&mut self, now: Instant, elapsed: Duration, interval: Interval) -> Interval {
        let (mut any_busy, mut any_inside) = (false, false);
        let (process, hidden) = (self.process, self.hidden);
        for watched in &mut self.watched {
            let sample = watched.sample(elapsed);
            any_inside |= sample.is_some();
            let look = watched.history.observe(sample, elapsed, hidden);
            any_busy |= look != Look::Idle;
            let is_suspect = match look {
                Look::Idle | Look::Busy => false,
                Look::Waiting => watched.history.thread().is_some_and(sleeps),
                Look::ReadWaitChannel => match watched.read_wait_channel() {
                    WaitChannel::Punishment { is_new } => {
                        if is_new {
                            watched.vcpu.record.punished();
                        }
                        self.punished_at = Some(now);
                        true
                    }
                    WaitChannel::Other => false,
                },
            };
            let feigned = process.help().settings().feigns_stalls && sample.is_some();
            if feigned || is_suspect && !watched.vcpu.presence.is_left_alone() {
                watched.get_out(process);
            }
        }
        let lately = |at: Instant| now.duration_since(at) < HOUSEKEEPING;
        interval.next(any_busy, any_inside, self.punished_at.is_some_and(lately))
    }
}

impl Watched {
    fn sample(&self, elapsed: Duration) -> Option<Sample> {
        let inside = self.vcpu.presence.inside()?;
        let cpu = sys::thread_cpu_time(inside.thread)?;
        let sample = Sample {
            inside,
            cpu,
            running: false,
        };
        // The clock of a thread that executes goes on meanwhile. Of one that has executed nobody wants to know.
        let running =
            !self.history.has_run(&sample, elapsed) && sys::thread_cpu_time(inside.thread)? != cpu;
        Some(Sample { running, ..sample })
    }

    fn read_wait_channel(&mut self) -> WaitChannel {
        let text = self
            .history
            .thread()
            .and_then(|thread| self.read_text(thread));
        self.history.read(text.as_deref())
    }

    fn read_text(&mut self, thread: ThreadId) -> Option<String> {
        if self
            .wait_channel
            .as_ref()
            .is_none_or(|(of, _)| *of != thread)
        {
            let file = File::open(wait_channel_of(thread)).ok()?;
            let file = sys::duplicate(file.as_raw_fd())?;
            self.wait_channel = Some((thread, file.into()));
        }
        let (_, file) = self.wait_channel.as_ref()?;
        let mut name = [0; 64];
        let read = file.read_at(&mut name, 0);
        if read.is_err() {
            // The thread has ended, and another may get its number.
            self.wait_channel = None;
        }
        let name = name.get(..read.ok()?)?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// The thread is to come out and have a look. Where nothing is done for it, it looks when it comes out by itself: a
    /// signal would only make its punishment begin anew.
    fn get_out(&self, process: &Process) {
        self.vcpu.presence.suspect();
        if process.help().settings().guard == Guard::Report {
            return;
        }
        let Some(signal) = process.help().kick_signal() else {
            return;
        };
        if self.vcpu.presence.kick(signal) {
            self.vcpu.record.kicked();
        } else if !signal.is_ours() {
            process
                .help()
                .report()
                .problem("the program has taken the signal for itself that was free when it began");
        }
    }
}

/// Whether the kernel says what threads wait for, as tried out with one that does.
fn wait_channels_are_told() -> bool {
    const ATTEMPTS: u32 = 50;
    /// Of a thread that is about to sleep, and still has its CPU, nothing is told either.
    const ASLEEP: u32 = 10;
    const PAUSE: Duration = Duration::from_millis(2);
    let (tell, told) = mpsc::channel();
    let (_end, ended) = mpsc::channel::<()>();
    let wait = move || {
        let _nobody_listens = tell.send(sys::thread_id());
        let _until_dropped = ended.recv();
    };
    let Ok(_waits) = thread::Builder::new().spawn(wait) else {
        return true;
    };
    let Ok(waiting) = told.recv() else {
        return true;
    };
    let mut asleep = 0;
    for _ in 0..ATTEMPTS {
        asleep += u32::from(sleeps(waiting));
        let channel = fs::read_to_string(wait_channel_of(waiting));
        if channel.is_ok_and(|name| !matches!(name.trim(), "0" | "")) {
            return true;
        }
        if asleep == ASLEEP {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// It waits for something, and not for a CPU.
fn sleeps(thread: ThreadId) -> bool {
    let stat = fs::read(format!("/proc/self/task/{}/stat", thread.0)).unwrap_or_default();
    // Behind the name, which may be anything.
    let name_end = stat.iter().rposition(|&byte| byte == b')');
    name_end.is_some_and(|at| stat.get(at + 2) == Some(&b'S'))
}

fn wait_channel_of(thread: ThreadId) -> String {
    format!("/proc/self/task/{}/wchan", thread.0)
}
