//! Everything that there is to say about a machine.

use serde::Serialize;
use split_lock_model::analysis::Thresholds;

use crate::attribution::{
    Group, MOST_LOOKUPS, Machines, Owners, Summary, Suppressed, Suspicion, TimerSuspects, Traps,
};
use crate::{Capture, Cost, Facts, History, LogCopy, Observed, Reports, Root, Verdict};
use split_lock_log::Record;

/// Everything that there is to say about a machine: what it is like, what its log tells, what follows from that, and
/// who is concerned.
///
/// ```
/// use split_lock_host::{Diagnosis, Root};
///
/// let machine = Root::live()?;
/// let diagnosis = Diagnosis::of_machine(&machine);
/// println!("{}", diagnosis.verdict.title());
/// for traps in &diagnosis.attribution.groups {
///     println!("{} traps of {}", traps.group.traps, String::from_utf8_lossy(&traps.group.program.name));
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// What the machine says about itself.
    pub facts: Facts,
    /// What its kernel's log tells.
    pub history: History,
    /// What follows from both.
    pub verdict: Verdict,
    /// Who is concerned.
    #[serde(rename = "who")]
    pub attribution: Attribution,
    #[serde(skip)]
    log: LogCopy,
    /// Whether it is of a machine of which only reports were sent.
    #[serde(skip)]
    pub is_of_reports: bool,
}

/// Who splits locks on a machine, and who could be held up for it.
#[derive(Debug, Serialize)]
pub struct Attribution {
    /// Who has split locks, by program and instruction; those with the most traps first.
    pub groups: Vec<AttributedTraps>,
    /// Traps of groups that there was no room for.
    pub in_other_groups: u64,
    /// Messages about traps that the kernel did not print.
    pub suppressed: Suppressed,
    /// The virtual machines that are there now.
    pub machines: Machines,
    /// Those whose timers are, or may be, short enough for a livelock; where there can be one.
    pub timers: Option<TimerSuspects>,
}

/// Traps of one instruction of one program, and what is known of it.
#[derive(Debug, Serialize)]
pub struct AttributedTraps {
    /// The traps.
    #[serde(flatten)]
    pub group: Group,
    /// Code that others have met before, and that this looks like.
    pub suspicion: Option<Suspicion>,
    /// What has become of its threads; `None` if the log is another machine's.
    pub owners: Option<Owners>,
}

/// What a log tells, gathered while it is read.
#[derive(Debug, Default)]
pub struct LogCollector {
    traps: Traps,
    log: LogCopy,
}

impl LogCollector {
    /// Adds a record.
    pub fn add(&mut self, record: &Record) {
        self.traps.see(record);
        self.log.add(record);
    }
}

impl Diagnosis {
    /// Of a machine and the log that it keeps.
    #[must_use]
    pub fn of_machine(root: &Root) -> Self {
        let mut collector = LogCollector::default();
        let history = History::of_machine(root, |record| collector.add(record));
        Self::of_facts(root, Facts::read(root), history, collector, false)
    }

    /// Of a machine, and of a log that was given: where they contradict each other, of the log's machine.
    #[must_use]
    pub fn of(root: &Root, history: History, collector: LogCollector) -> Self {
        Self::of_facts(root, Facts::read(root), history, collector, true)
    }

    /// Of a machine of which only reports were sent, and what stands for its files.
    #[must_use]
    pub fn of_reports(mut reports: Reports) -> (Root, Self) {
        let (history, collector, other_log) = reports.take_log();
        let root = reports.root();
        let mut facts = Facts::read(&root);
        for (from, reported) in &reports.facts {
            facts.learn(reported, from);
        }
        if let Some(events) = history.known() {
            facts.learn_from_log(events, &history.from);
        }
        if facts.has_cpu_flag("hypervisor") == Some(false) {
            let from = facts.cpu_flags.from.clone();
            facts.hypervisor = Observed::Absent.from(from);
        }
        let mut diagnosis = Self::of_facts(&root, facts, history, collector, false);
        let doubts = &mut diagnosis.verdict.doubts;
        doubts.extend(other_log);
        doubts.extend(reports.left_out());
        (root, diagnosis)
    }

    fn of_facts(
        root: &Root,
        facts: Facts,
        history: History,
        collector: LogCollector,
        is_log_given: bool,
    ) -> Self {
        let stranger = history.known().and_then(|events| events.is_not_of(&facts));
        let is_own_log = stranger.is_none() && !root.is_of_reports();
        let told = history
            .known()
            .filter(|events| is_log_given && events.speaks_for_itself());
        // A log of another machine or kernel is what was asked about: this machine's settings say nothing of it.
        let of_log = stranger.zip(told);
        let facts = match &of_log {
            Some((_, events)) => Facts::of_log(&facts, events, &history.from),
            None => facts,
        };
        let mut verdict = Verdict::of(root, &facts, &history);
        if let Some((why, _)) = of_log {
            verdict.doubts.insert(
                0,
                format!("{why}: so this is about the machine that the log is from, and its settings are not known"),
            );
        }
        let machines = Machines::read(root);
        let timers = thresholds(verdict.cost.as_ref())
            .map(|thresholds| TimerSuspects::read(root, &machines.machines, &thresholds));
        let Summary {
            groups,
            in_other_groups,
            suppressed,
        } = collector.traps.summary();
        let mut lookups = MOST_LOOKUPS;
        let groups = groups.into_iter().map(|group| AttributedTraps {
            suspicion: group.suspicion(),
            owners: is_own_log.then(|| Owners::of(root, &group.threads, &mut lookups)),
            group,
        });
        let attribution = Attribution {
            groups: groups.collect(),
            in_other_groups,
            suppressed,
            machines,
            timers,
        };
        Diagnosis {
            facts,
            history,
            verdict,
            attribution,
            log: collector.log,
            is_of_reports: root.is_of_reports(),
        }
    }

    /// Puts everything that was looked at into a capture, and of all processes those that are concerned.
    #[must_use]
    pub fn capture(&self, root: Root) -> Capture {
        let Attribution {
            machines, groups, ..
        } = &self.attribution;
        let mut processes = vec![];
        for machine in &machines.machines {
            processes.push(machine.process.pid);
            processes.extend(machine.vcpus.iter().map(|vcpu| vcpu.tid));
        }
        let owners = groups.iter().filter_map(|traps| traps.owners.as_ref());
        for owner in owners.flat_map(|owners| &owners.processes) {
            processes.push(owner.process.pid);
            processes.extend(&owner.threads);
        }
        Capture::of(root, &self.history, &self.log, &processes)
    }
}

/// Of all kernels that this one may be those with which most is suspect.
fn thresholds(cost: Option<&Cost>) -> Option<Thresholds> {
    let Some(Cost::Trap { kernels, .. }) = cost else {
        return None;
    };
    let limits = kernels.iter().filter_map(Thresholds::of);
    limits.max_by_key(Thresholds::always_from)
}
