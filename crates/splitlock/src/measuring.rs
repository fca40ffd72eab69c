//! Carries out a plan with a progress bar, and keeps what comes of it together with its origin.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::{ControlFlow, Deref};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvm_ioctls::Kvm;
use split_lock_assist::guard::Stall;
use split_lock_host::{Detection, Fact, Facts};
use split_lock_repro::guest::Level;
use split_lock_repro::program;
use split_lock_repro::results::{HostFacts, Provenance, Sample, Sweep};
use split_lock_repro::sweep::{self, Event, Plan, Stop};
use split_lock_repro::two_tasks::{Moment, TwoTasks};
use split_lock_repro::vm::{open_kvm, work_rate};

use crate::error::print_note;
use crate::interrupt::stop_on_ctrl_c;

/// Anything shorter is over before a bar has been read.
const WORTH_A_BAR: Duration = Duration::from_secs(1);

/// Everything that several sweeps of one command have in common.
pub(crate) struct Session {
    stop: Stop,
    pub(crate) facts: Facts,
}

/// The same where there is KVM.
pub(crate) struct KvmSession {
    kvm: Kvm,
    session: Session,
}

impl Deref for KvmSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl KvmSession {
    /// Opens KVM, and from now on Ctrl-C ends measuring, and not the program.
    pub(crate) fn begin(kvm_device: &Path) -> Result<Self> {
        allow_many_files();
        Ok(KvmSession {
            kvm: open_kvm(kvm_device)?,
            session: Session::begin()?,
        })
    }

    /// Measures what is planned, or, if it is stopped, what was measured until then; `None` if that
    /// is nothing. Where a guard finds a vCPU held up, `on_stall` is told, with the guest's name.
    pub(crate) fn measure(
        &self,
        what: &'static str,
        plan: &Plan,
        on_stall: &mut dyn FnMut(&str, &Stall),
    ) -> Result<Option<Sweep>> {
        let mut provenance = provenance(&self.facts, plan.seed, plan.samples());
        let bar = progress_bar(what, plan.guest_time());
        let mut samples = vec![];
        sweep::run(&self.kvm, plan, &self.stop, &mut |event| match event {
            Event::Samples(new) => {
                let timeouts = new.iter().map(|sample| sample.timeout_ns);
                bar.inc(timeouts.max().unwrap_or(0));
                samples.extend(new);
            }
            // A bar on the terminal must not be written into.
            Event::Stalled { guest, stall, .. } => bar.suspend(|| on_stall(&guest, &stall)),
            _ => {}
        })
        .inspect_err(|_| bar.finish_and_clear())?;
        bar.finish_and_clear();
        provenance.work_turns_per_second = work_turns_per_second();
        Ok(unless_empty(provenance, samples))
    }

    pub(crate) fn play(
        &self,
        scene: &TwoTasks,
        on_moment: &mut dyn FnMut(&Moment) -> ControlFlow<()>,
    ) -> Result<()> {
        scene.run(&self.kvm, on_moment)?;
        Ok(())
    }
}

impl Session {
    /// From now on Ctrl-C ends measuring, and not the program.
    pub(crate) fn begin() -> Result<Self> {
        Ok(Session {
            stop: stop_on_ctrl_c()?,
            facts: Facts::live()?,
        })
    }

    /// The same as [`KvmSession::measure`] for programs with timers, which need no KVM.
    pub(crate) fn measure_programs(
        &self,
        what: &'static str,
        plan: &program::Plan,
    ) -> Result<Option<Sweep>> {
        let samples = plan.samples();
        let provenance = provenance(&self.facts, plan.seed, samples);
        let runs = u32::try_from(samples).unwrap_or(u32::MAX);
        let bar = progress_bar(what, plan.length.saturating_mul(runs));
        let mut samples = vec![];
        let measured = program::run(plan, &self.stop, &mut |sample| {
            bar.inc(sample.elapsed_ns);
            samples.push(sample);
        });
        bar.finish_and_clear();
        measured?;
        Ok(unless_empty(provenance, samples))
    }

    /// vCPUs that take turns on a CPU do not run at once, whatever the series says.
    pub(crate) fn warn_if_crowded(&self, vcpus: u32) {
        if vcpus as usize > usable_cpus() {
            let cpus = usable_cpus();
            print_note(&format!(
                "{vcpus} vCPUs share {cpus} CPU(s) here, so they do not all run at once"
            ));
        }
    }

    /// An emulated host does not keep the real one out of it.
    pub(crate) fn warn_if_punished_twice(&self) {
        if let Detection::On { .. } = self.facts.detection() {
            print_note(
                "this host detects split locks itself, so its own punishment comes on top of \
                 the emulated kernel's",
            );
        }
    }

    /// How long to wait before each run, so that none profits from what the one before it left.
    pub(crate) fn settle(&self) -> Duration {
        match self.facts.detection() {
            Detection::On { .. } => sweep::LONGEST_WINDOW,
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn was_stopped(&self) -> bool {
        self.stop.is_requested()
    }
}

/// What the model says, with where that comes from.
pub(crate) fn modelled(facts: &Facts, seed: u64, samples: Vec<Sample>) -> Sweep {
    Sweep {
        provenance: Some(provenance(facts, seed, samples.len() as u64)),
        samples,
    }
}

fn unless_empty(provenance: Provenance, samples: Vec<Sample>) -> Option<Sweep> {
    (!samples.is_empty()).then_some(Sweep {
        provenance: Some(provenance),
        samples,
    })
}

/// Where samples come from that this command is about to make.
fn provenance(facts: &Facts, seed: u64, planned_samples: u64) -> Provenance {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    Provenance {
        program: concat!("splitlock ", env!("CARGO_PKG_VERSION")).into(),
        command: arguments.collect(),
        seed,
        started_utc: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        planned_samples,
        host: host_facts(facts),
        work_turns_per_second: BTreeMap::new(),
    }
}

fn host_facts(facts: &Facts) -> HostFacts {
    HostFacts {
        cpu: or_unknown(&facts.cpu_model),
        kernel: or_unknown(&facts.kernel_release),
        online_cpus: facts.online_cpus.known().map_or(0, |&cpus| cpus as u32),
        detection: facts.detection().to_string(),
        virtual_machine: facts.has_cpu_flag("hypervisor") == Some(true),
    }
}

fn or_unknown(text: &Fact<String>) -> String {
    text.known().cloned().unwrap_or_else(|| "unknown".into())
}

/// What has been taken for a second of work by guests that work.
fn work_turns_per_second() -> BTreeMap<String, u64> {
    let rate = |level: Level| Some((level.to_string(), work_rate(level)?.turns_per_second()));
    [Level::Cpl3, Level::Cpl0]
        .into_iter()
        .filter_map(rate)
        .collect()
}

pub(crate) fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Many systems allow few open files by default and many on request. Every guest has a VM of its own, and descriptors
/// with it.
pub(crate) fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it is not to be had, what needs it will say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The seed that was asked for, or one that nobody can foresee.
pub(crate) fn seed(asked: Option<u64>) -> u64 {
    asked.unwrap_or_else(|| RandomState::new().hash_one(()))
}

/// Moves with guest time, which is known in advance. Shows on a terminal only.
fn progress_bar(what: &'static str, guest_time: Duration) -> ProgressBar {
    let template = "{msg:24} {wide_bar} {percent:>3}%  {eta} left";
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    let target = match guest_time < WORTH_A_BAR {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let length = u64::try_from(guest_time.as_nanos()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(length), target)
        .with_style(style)
        .with_message(what);
    // So that it shows before the first run is over.
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
