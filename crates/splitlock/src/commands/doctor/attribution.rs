//! Who has split locks, and who could be held up.

use split_lock_host::attribution::{
    Address, Confidence, Container, Engine, Evidence, Group, Manager, OwnerProcess, Owners,
    Process, Space, Suspicion, TimerSuspect, Vm,
};
use split_lock_host::{AttributedTraps, Diagnosis};
use split_lock_log::{Exception, TrapKind};
use split_lock_model::analysis::PassPrediction;
use split_lock_model::time::Nanos;
use split_lock_report::text::count;

use super::instruction::{Instruction, Located};
use crate::page::Page;

/// More programs and instructions than these are only counted.
const MOST_GROUPS: usize = 8;

/// More sources than these are in the JSON only.
const MOST_SOURCES: usize = 2;

/// More processes than these are only counted.
const MOST_PROCESSES: usize = 4;

pub(super) fn put_on(page: &mut Page, diagnosis: &Diagnosis, instructions: &[Located]) {
    let attribution = &diagnosis.attribution;
    if !attribution.groups.is_empty() {
        page.heading("Who");
        for (n, traps) in attribution.groups.iter().enumerate().take(MOST_GROUPS) {
            put_group(page, traps, attribution.timers.is_some());
            if let Some(located) = instructions.iter().find(|located| located.group == n) {
                put_instruction(page, located);
            }
        }
        put_rest(page, diagnosis);
    }
    let Some(timers) = &attribution.timers else {
        return;
    };
    if attribution.machines.machines.is_empty() && timers.not_looked_into == 0 {
        return;
    }
    page.heading("Virtual machines with short timers");
    for suspect in &timers.suspects {
        page.item("-", &suspected(suspect));
    }
    if timers.suspects.is_empty() {
        let machines = attribution.machines.machines.len() as u64;
        let machines = count(machines, "virtual machine", "virtual machines");
        let text = format!("No timer that is too short is to be seen among {machines}.");
        page.item("-", &text);
    }
    let not_seen = timers.not_looked_into + attribution.machines.not_looked_into;
    if not_seen > 0 {
        let processes = count(not_seen.into(), "process", "processes");
        let text = format!("{processes} could not be looked into; root can.");
        page.item("?", &text);
    }
}

fn put_rest(page: &mut Page, diagnosis: &Diagnosis) {
    let attribution = &diagnosis.attribution;
    let hidden = attribution.groups.iter().skip(MOST_GROUPS);
    let (groups, traps) = hidden.fold((0, 0), |(groups, traps), more| {
        (groups + 1, traps + more.group.traps)
    });
    let traps: u64 = traps + attribution.in_other_groups;
    if traps > 0 {
        let groups = count(groups, "more instruction", "more instructions");
        let traps = count(traps, "trap", "traps");
        let text = format!("{traps} of at least {groups} (--json has them).");
        page.item("-", &text);
    }
    let suppressed = attribution.suppressed;
    let suppressed = suppressed.split_locks.saturating_add(suppressed.bus_locks);
    if suppressed > 0 {
        let messages = count(suppressed, "more message", "more messages");
        let text = format!("The kernel left out {messages}: it does not say whose.");
        page.item("?", &text);
    }
}

fn put_group(page: &mut Page, traps: &AttributedTraps, may_livelock: bool) {
    page.item("-", &trapped(&traps.group));
    let owners = traps.owners.iter();
    for line in owners.flat_map(|owners| whose(owners, may_livelock)) {
        page.item("", &line);
    }
    if let Some(suspicion) = &traps.suspicion {
        page.item("", &suspected_of(suspicion));
    }
}

fn put_instruction(page: &mut Page, located: &Located) {
    // That of a guest is said of the address already.
    if located.instruction != Instruction::OfAGuest {
        let sentence = located.instruction.sentence();
        page.item("", &format!("The instruction: {sentence}."));
    }
}

fn trapped(group: &Group) -> String {
    let name = String::from_utf8_lossy(&group.program.name);
    let place = match &group.addresses[..] {
        [Address { address, .. }] if group.traps_at_other_addresses == 0 => format!("{address:#x}"),
        _ => format!("{} (one page offset, several addresses)", group.fingerprint),
    };
    let whose = match group.space {
        Space::Guest => ", in the guest's memory",
        Space::Program => "",
        Space::Either => ", in its own memory or a guest's",
    };
    let cpus = match group.program.kind.is_vcpu() {
        true => " (virtual CPUs)",
        false => "",
    };
    let after = match group.is_after() {
        true => "by the instruction before ",
        false => "at ",
    };
    let what = match group.kind {
        TrapKind::SplitLock => "trap",
        TrapKind::FatalSplitLock => "fatal trap",
        TrapKind::BogusSplitLock => "bogus trap",
        TrapKind::BusLock => "bus lock",
    };
    let traps = count(group.traps, what, &format!("{what}s"));
    let threads = match group.threads.len() {
        1 if group.traps_of_other_threads == 0 => String::new(),
        threads if group.traps_of_other_threads > 0 => format!(" of more than {threads} threads"),
        threads => format!(" of {threads} threads"),
    };
    let exception = exception(group.kind);
    format!("{name}{cpus}: {traps}{threads} (#{exception}), {after}{place}{whose}.")
}

fn whose(owners: &Owners, may_livelock: bool) -> Vec<String> {
    let shown = owners.processes.iter().take(MOST_PROCESSES);
    let mut lines: Vec<_> = shown.map(|owner| of_process(owner, may_livelock)).collect();
    let more = owners.processes.len().saturating_sub(MOST_PROCESSES);
    if more > 0 {
        let more = count(more as u64, "more process", "more processes");
        lines.push(format!("And {more}."));
    }
    let some = |number: usize, one, many| (number > 0).then(|| count(number as u64, one, many));
    let rest = [
        some(
            owners.gone,
            "thread has ended since",
            "threads have ended since",
        ),
        some(
            owners.reused,
            "thread's id is another's now",
            "threads' ids are others' now",
        ),
        some(
            owners.earlier_boot,
            "thread is of an earlier boot",
            "threads are of earlier boots",
        ),
        some(
            owners.not_looked_for,
            "was not looked for",
            "were not looked for",
        ),
    ];
    let rest: Vec<_> = rest.into_iter().flatten().collect();
    if !rest.is_empty() {
        lines.push(format!("{}.", rest.join(", ")));
    }
    if let Some(why) = &owners.why_not_seen {
        let threads = count(owners.not_seen as u64, "thread", "threads");
        lines.push(format!("{threads} could not be looked up: {why}."));
    }
    lines
}

fn of_process(owner: &OwnerProcess, may_livelock: bool) -> String {
    let process = &owner.process;
    let what = match &process.vm {
        Some(vm) => machine(vm),
        None => program(process),
    };
    // Those of machines have a section of their own.
    let timers = match owner.timers.in_words() {
        timers if may_livelock && process.vm.is_none() && !timers.is_empty() => format!(
            "{timers} How often it is interrupted cannot be seen here; `splitlock watch` measures it."
        ),
        _ => String::new(),
    };
    let container = process.container.as_ref();
    let container = container.map_or(String::new(), |Container { engine, id, .. }| {
        format!(", in the {} container {id}", engine_name(*engine))
    });
    let text = format!("Process {}: {what}{container}. {timers}", process.pid);
    text.trim_end().to_owned()
}

fn program(process: &Process) -> String {
    let exe = process.exe.known().filter(|exe| !exe.is_empty());
    let unit = process.unit.as_ref().map(|unit| format!(" ({unit})"));
    format!(
        "{}{}",
        exe.unwrap_or(&process.comm),
        unit.unwrap_or_default()
    )
}

fn machine(vm: &Vm) -> String {
    let name = vm
        .best_name()
        .map_or("without a name".into(), |name| format!("\"{name}\""));
    let manager = match vm.manager {
        None => "",
        Some(Manager::Libvirt) => ", libvirt",
        Some(Manager::Proxmox) => ", Proxmox VE",
        Some(Manager::Jailer) => ", jailer",
    };
    format!("the virtual machine {name} ({}{manager})", vm.vmm)
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "Docker",
        Engine::Podman => "Podman",
        Engine::Containerd => "containerd",
        Engine::CriO => "CRI-O",
        Engine::Lxc => "LXC",
        Engine::SystemdNspawn => "systemd-nspawn",
        Engine::Kubernetes => "Kubernetes",
    }
}

fn suspected_of(suspicion: &Suspicion) -> String {
    let splitter = suspicion.splitter;
    let sure = match suspicion.confidence {
        Confidence::Possible => "It may be",
        Confidence::Likely => "It is likely",
        Confidence::Reported => "It has been met before:",
    };
    let remedy = splitter.remedy.map(|remedy| format!(" {remedy}"));
    let remedy = remedy.unwrap_or_default();
    let sources = splitter.sources[..splitter.sources.len().min(MOST_SOURCES)].join(", ");
    format!(
        "{sure} {}. {}{remedy} Source: {sources}",
        splitter.name, splitter.what
    )
}

fn suspected(suspect: &TimerSuspect) -> String {
    let name = suspect
        .machine
        .as_ref()
        .map_or(String::new(), |name| format!(" (\"{name}\")"));
    let outlook = match &suspect.outlook {
        None => "",
        Some(PassPrediction::Never) => " A split lock would never end there.",
        Some(PassPrediction::DependsOnPhase(_)) => " A split lock may never end there.",
        Some(PassPrediction::Always) => " That is long enough.",
    };
    let seen = match &suspect.evidence {
        Evidence::SignalExits {
            vcpus,
            exits,
            over_ns,
            period_ns,
        } => format!(
            "signals have ended runs of its {} {exits} times in {}: one of them every {} or more often, on average",
            count((*vcpus).into(), "vCPU", "vCPUs"),
            Nanos(*over_ns),
            Nanos(*period_ns)
        ),
        Evidence::TimerOfVcpu { tid, signal } => format!(
            "a timer sends signal {signal} to the vCPU's thread {tid}; how often cannot be seen"
        ),
        Evidence::TimerOfProcess { signal } => {
            format!(
                "a timer sends it signal {signal}; how often, and whether that stops a vCPU, cannot be seen"
            )
        }
        Evidence::Timerfd { period_ns } => format!(
            "it has a timerfd with a period of {}; whether that stops a vCPU cannot be seen",
            Nanos(*period_ns)
        ),
    };
    format!("Process {}{name}: {seen}.{outlook}", suspect.pid)
}

pub(super) fn exception(kind: TrapKind) -> &'static str {
    match kind.exception() {
        Exception::AlignmentCheck => "AC",
        Exception::Debug => "DB",
    }
}
