//! A guest that goes on and on in bounded runs, and is looked at for a span at a time.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_ioctls::Kvm;
use kvm_preemption_timer::{MonotonicTime, ThreadCpuTime};
use split_lock_assist::guard;
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_assist::pause::PauseGate;
use split_lock_model::kernel::Profile;
use split_lock_repro::guest::Guest;
use split_lock_repro::host::{Ended, GuardedVcpu, HostedVcpu, Kernel};
use split_lock_repro::vm::layout::OPERAND_LINE;
use split_lock_repro::vm::{Level, Seat, Vcpu, Vm};

use crate::breakpoint::set_breakpoint;
use crate::common::guest;
use crate::load::{self, waited_for_a_cpu};
use crate::random::Random;
use crate::scheme::{NO_DETECTION_ARMED, Scheme};

/// What all subjects have in common.
pub(crate) struct Machine {
    pub(crate) kvm: Kvm,
    pub(crate) kernel: Profile,
    pub(crate) reach: BreakpointSupport,
}

/// What runs, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) guest: String,
    pub(crate) level: Level,
    pub(crate) vcpus: u32,
    pub(crate) scheme: Scheme,
    /// The length of each run.
    pub(crate) kicks_every: Duration,
}

/// A guest on vCPUs that stay, each on a thread of its own. They wait between two spans, and go on
/// where they were.
pub(crate) struct Subject {
    workers: Vec<Worker>,
    gate: PauseGate,
}

struct Worker {
    spans: Sender<Duration>,
    samples: Receiver<Sample>,
    thread: JoinHandle<()>,
}

/// What a span came to, on all vCPUs together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// How much of that the thread was on a CPU.
    pub(crate) cpu: Duration,
    /// How much of that the thread could have run and had no CPU: the doing of whatever else this
    /// machine is busy with.
    pub(crate) waited: Duration,
    /// Turns that were completed.
    pub(crate) turns: u64,
    /// The same with the part of a turn that was not, by the work in it.
    pub(crate) work: f64,
    /// Exits that its split locks have caused: breakpoints, and traps of the host.
    pub(crate) exits: u64,
}

impl Sample {
    /// Turns per second, whoever else wants the CPU: a kernel's windows close meanwhile, too.
    pub(crate) fn rate(&self) -> f64 {
        self.work / self.elapsed.as_secs_f64()
    }

    /// Seconds that each turn took longer than one of `native`, which nobody was in the way of. Time
    /// without a CPU does not count. `None` if there was no turn.
    pub(crate) fn lost_per_turn(&self, native: &Self) -> Option<f64> {
        let had = |sample: &Self| sample.elapsed.saturating_sub(sample.waited).as_secs_f64();
        let lost = had(self) - self.work * had(native) / native.work;
        (self.turns > 0).then(|| lost / self.turns as f64)
    }

    /// Seconds that the thread slept for each turn; `None` if there was no turn.
    pub(crate) fn asleep_per_turn(&self) -> Option<f64> {
        let awake = self.cpu + self.waited;
        let asleep = self.elapsed.saturating_sub(awake).as_secs_f64();
        (self.turns > 0).then(|| asleep / self.turns as f64)
    }

    fn and(self, other: Self) -> Self {
        Self {
            elapsed: self.elapsed.max(other.elapsed),
            cpu: self.cpu.max(other.cpu),
            waited: self.waited.max(other.waited),
            turns: self.turns + other.turns,
            work: self.work + other.work,
            exits: self.exits + other.exits,
        }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            elapsed: self.elapsed,
            cpu: self.cpu - before.cpu,
            waited: self.waited - before.waited,
            turns: self.turns - before.turns,
            work: self.work - before.work,
            exits: self.exits - before.exits,
        }
    }
}

impl Subject {
    pub(crate) fn start(machine: &Machine, setting: &Setting) -> Self {
        let mut vm = Vm::new(&machine.kvm).expect("KVM was there a moment ago");
        let guest = guest(&setting.guest);
        let kernel = Arc::new(Kernel::new(machine.kernel.clone(), setting.vcpus));
        let gate = PauseGate::new();
        let together = Arc::new(Barrier::new(setting.vcpus as usize));
        let workers = (0..setting.vcpus).map(|_| {
            let (spans, worker_spans) = channel();
            let (worker_samples, samples) = channel();
            let post = Post {
                vcpu: add_vcpu(&mut vm, &guest, setting),
                guest: guest.clone(),
                setting: setting.clone(),
                kernel: Arc::clone(&kernel),
                guard: setting.scheme.guard(&machine.kernel, setting.vcpus),
                gate: gate.clone(),
                reach: setting.scheme.reach(machine.reach),
                together: Arc::clone(&together),
            };
            let thread = thread::spawn(move || post.work(&worker_spans, &worker_samples));
            Worker {
                spans,
                samples,
                thread,
            }
        });
        Self {
            workers: workers.collect(),
            gate,
        }
    }

    /// What its vCPUs go through.
    pub(crate) fn gate(&self) -> &PauseGate {
        &self.gate
    }

    /// Lets it go on for at least so long.
    pub(crate) fn sample(&self, span: Duration) -> Sample {
        self.begin(span);
        self.end()
    }

    pub(crate) fn begin(&self, span: Duration) {
        for worker in &self.workers {
            worker.spans.send(span).expect(WORKERS_WAIT);
        }
    }

    /// Waits for what [began](Self::begin).
    pub(crate) fn end(&self) -> Sample {
        let samples = self.workers.iter().map(|worker| worker.samples.recv());
        let samples = samples.map(|sample| sample.expect(WORKERS_WAIT));
        samples.reduce(Sample::and).expect("there is a vCPU")
    }
}

/// Its VM is gone before the next one is measured.
impl Drop for Subject {
    fn drop(&mut self) {
        for worker in self.workers.drain(..) {
            drop(worker.spans);
            // What it has to say about a panic it has said.
            let _ = worker.thread.join();
        }
    }
}

const WORKERS_WAIT: &str = "a worker waits until its subject is dropped";

fn add_vcpu(vm: &mut Vm, guest: &Guest, setting: &Setting) -> Vcpu {
    let added = if setting.scheme.detects && setting.level == Level::Cpl3 {
        vm.add_vcpu_that_checks_alignment(guest)
    } else {
        vm.add_vcpu(guest, setting.level)
    };
    added.expect("the guest can be loaded")
}

/// What a thread needs to run one vCPU.
struct Post {
    vcpu: Vcpu,
    guest: Guest,
    setting: Setting,
    kernel: Arc<Kernel>,
    guard: Option<guard::Config>,
    gate: PauseGate,
    reach: BreakpointSupport,
    together: Arc<Barrier>,
}

impl Post {
    fn work(self, spans: &Receiver<Duration>, samples: &Sender<Sample>) {
        let Vcpu { mut fd, seat } = self.vcpu;
        let hosted = if self.setting.scheme.detects {
            let (level, kernel) = (self.setting.level, Arc::clone(&self.kernel));
            HostedVcpu::emulated(&mut fd, &seat, &self.guest, level, kernel)
        } else {
            if self.setting.scheme == NO_DETECTION_ARMED {
                set_breakpoint(&fd, OPERAND_LINE);
            }
            HostedVcpu::native(&mut fd, &seat)
        };
        let hosted = hosted.expect("the vCPU can be bounded");
        let mut runner = Runner {
            vcpu: GuardedVcpu::new(hosted, self.guard, &self.gate, self.reach),
            seat: &seat,
            kernel: &self.kernel,
            kicks_every: self.setting.kicks_every,
            lead_in: LeadIn {
                cycle: self.setting.scheme.cycle(&self.kernel),
                random: Random::new(0),
            },
        };
        for span in spans {
            self.together.wait();
            if samples.send(runner.sample(span)).is_err() {
                return;
            }
        }
    }
}

struct Runner<'a> {
    vcpu: GuardedVcpu<'a>,
    seat: &'a Seat,
    kernel: &'a Kernel,
    kicks_every: Duration,
    lead_in: LeadIn,
}

/// How long a subject goes on before a span begins. Spans would else begin with a sleep, all of them,
/// and a sleep would have more than its share of a span.
struct LeadIn {
    /// A punishment and a window, if there are any.
    cycle: Option<Duration>,
    random: Random,
}

impl LeadIn {
    /// To anywhere in the second cycle. All vCPUs of a subject agree on it.
    fn next(&mut self) -> Duration {
        let cycle_ns = self.cycle.unwrap_or_default().as_nanos() as u64;
        Duration::from_nanos(cycle_ns + self.random.below(cycle_ns + 1))
    }
}

impl Runner<'_> {
    /// Consecutive runs, as a VMM makes them.
    fn sample(&mut self, span: Duration) -> Sample {
        let lead_in = self.lead_in.next();
        self.run_for(lead_in);
        let before = self.so_far();
        let start = MonotonicTime::now();
        self.run_for(span);
        let elapsed = MonotonicTime::now().saturating_since(start);
        let sample = Sample {
            elapsed,
            ..self.so_far().since(&before)
        };
        load::note(sample.elapsed, sample.waited);
        sample
    }

    fn run_for(&mut self, span: Duration) {
        let mut now = MonotonicTime::now();
        let end = now + span;
        while now < end {
            self.run_until(now + self.kicks_every);
            now = MonotonicTime::now();
        }
    }

    fn run_until(&mut self, deadline: MonotonicTime) {
        loop {
            match self.vcpu.run_until(deadline).expect("the guest can run") {
                // Another vCPU's guard has had it paused.
                Ended::Kicked => {}
                Ended::Expired => return,
                Ended::Exit(exit) => panic!("the guest {exit}"),
            }
        }
    }

    /// Since the guest began; the time is not taken.
    fn so_far(&self) -> Sample {
        let fd = self.vcpu.vcpu().fd();
        let turns = self.seat.turns(fd).expect("KVM tells registers");
        let punished = self.kernel.punishments(self.seat.vcpu() as u32);
        let guard = self.vcpu.statistics().copied().unwrap_or_default();
        Sample {
            elapsed: Duration::ZERO,
            cpu: Duration::from_nanos(ThreadCpuTime::now().as_nanos()),
            waited: waited_for_a_cpu(),
            turns,
            work: turns as f64 + self.part_of_a_turn(),
            exits: guard.emulated_at_breakpoints
                + guard.misses
                + guard.left_to_cpu
                + punished.traps,
        }
    }

    /// A guest that works has all of its work in RBX, and what is left of it in RDX.
    fn part_of_a_turn(&self) -> f64 {
        let fd = self.vcpu.vcpu().fd();
        let registers = self.seat.guest_registers(fd).expect("KVM tells registers");
        match registers.rbx {
            0 => 0.0,
            all => 1.0 - registers.rdx as f64 / all as f64,
        }
    }
}
