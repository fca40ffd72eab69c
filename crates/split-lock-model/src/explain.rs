//! A verdict in words that the author of a VMM understands.

use std::fmt::Write;

use crate::analysis::{PassPrediction, Thresholds, WindowUse};
use crate::kernel::{Era, Mode, Profile};
use crate::sim::{Budget, Report, Scenario, TaskKind, TaskReport, TaskSpec, TimerClock, Verdict};
use crate::time::Nanos;

/// Explains what happened to each thread of a simulation and why, a paragraph per thread.
///
/// ```
/// use split_lock_model::explain::explain;
/// use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec, simulate};
/// use split_lock_model::time::Nanos;
///
/// let kernel = "6.6,hz=1000".parse()?;
/// let guest = Program::split_loop(Nanos(500))?;
/// let budget = Budget::Relative(Nanos::from_millis(1));
/// let scenario = Scenario::single(TaskSpec::vcpu(guest, budget));
/// let report = simulate(&kernel, &scenario)?;
/// let words = explain(&kernel, &scenario, &report);
/// assert!(words.contains("livelocked") && words.contains("more than 11ms and at most 12ms"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn explain(kernel: &Profile, scenario: &Scenario, report: &Report) -> String {
    let mut text = kernel_in_words(kernel);
    text.push('\n');
    for (task, spec) in report.tasks.iter().zip(&scenario.tasks) {
        let interrupts = interrupts_in_words(spec.kind);
        let _ = writeln!(
            text,
            "\n{} ({interrupts}): {}",
            task.name,
            outcome(kernel, task, report)
        );
        if task.traps.unused.total() > 0 {
            let _ = writeln!(text, "{}", why_unused(kernel, spec, task));
        } else if let Some(advice) = advice(kernel, spec.kind, task, report.tasks.len() as u32 - 1)
        {
            let _ = writeln!(text, "{advice}");
        }
    }
    text
}

/// What a kernel does to a thread that splits a lock, in one sentence.
#[must_use]
pub fn kernel_in_words(kernel: &Profile) -> String {
    if let Some(limits) = Thresholds::of(kernel) {
        let ((sleep_over, sleep_up_to), (window_over, window_up_to)) =
            (limits.sleep(), limits.window());
        return format!(
            "Kernel {kernel}: a thread whose split lock traps sleeps for more than {sleep_over} and \
             at most {sleep_up_to}, takes a semaphore that the whole machine shares, and then has \
             its core's detection off for more than {window_over} and at most {window_up_to}. A \
             signal during the sleep or the wait sends it back to the same instruction with \
             detection still on."
        );
    }
    let does = match (kernel.features().era, kernel.mode()) {
        (_, Mode::Off) => "it detects no split locks".to_owned(),
        (_, Mode::Fatal) => "a split lock ends in SIGBUS".to_owned(),
        (_, Mode::Ratelimit(n)) => format!(
            "split locks are not trapped; where the CPU reports bus locks, programs (not guests) \
             get {n} a second together"
        ),
        (Era::Thread, Mode::Warn) => {
            "a thread traps once, and its detection stays off from then on".to_owned()
        }
        (_, Mode::Warn) => "a trap switches detection off on its core for two to three ticks at \
             once, with no sleep"
            .to_owned(),
    };
    format!("Kernel {kernel}: {does}.")
}

fn interrupts_in_words(kind: TaskKind) -> String {
    match kind {
        TaskKind::Vcpu(Budget::Unbounded) => "a vCPU that no timer interrupts".to_owned(),
        TaskKind::Vcpu(Budget::Relative(p)) => {
            format!("a vCPU whose every run is ended by a timer after {p}")
        }
        TaskKind::Vcpu(Budget::Absolute(p)) => {
            format!("a vCPU interrupted on a fixed grid of {p}")
        }
        TaskKind::Vcpu(Budget::ThreadCpu(p)) => {
            format!("a vCPU whose every run is ended after {p} of its thread's CPU time")
        }
        TaskKind::User { interval: None, .. } => "a thread without a timer".to_owned(),
        TaskKind::User {
            interval: Some(p),
            clock: TimerClock::Wall,
        } => format!("a thread with a timer signal every {p}"),
        TaskKind::User {
            interval: Some(p),
            clock: TimerClock::Cpu,
        } => format!(
            "a thread with a timer signal every {p} of its CPU time, which stands still while it sleeps"
        ),
    }
}

fn outcome(kernel: &Profile, task: &TaskReport, report: &Report) -> String {
    match task.verdict {
        Verdict::Progresses => format!("progresses, {} turns in {}.", task.turns, report.elapsed),
        Verdict::Slowed { .. } => {
            let traps = &task.traps;
            format!(
                "progresses {:.1} times slower than without detection: {} turns in {}. Of its time \
                 it slept {} and queued {}; {} traps led to a window, and {} came to nothing \
                 because a signal came first.",
                task.verdict.factor(),
                task.turns,
                report.elapsed,
                task.time.asleep,
                task.time.queued,
                traps.window,
                traps.interrupted(),
            )
        }
        Verdict::WindowsUnused {
            granted, unused, ..
        } => {
            let proof = match task.cycle {
                Some(share) if share.turns == 0 => {
                    " Everything repeats like this, so it never completes another turn."
                }
                _ => "",
            };
            format!(
                "leaves its windows unused: {granted} traps led to a window, and {unused} of these \
                 closed before it had come back to its split lock, which then trapped again. {} turns \
                 in {}.{proof}",
                task.turns, report.elapsed,
            )
        }
        Verdict::Livelocked(cycle) => {
            let traps = task.cycle.unwrap_or_default().traps;
            format!(
                "livelocked. It will never complete another turn: the machine's whole state at {} \
                 comes back {} later, and everything between repeats forever. {}",
                cycle.start,
                cycle.period,
                why_stuck(kernel, &traps),
            )
        }
        Verdict::NoProgressSeen => format!(
            "completed no turn in {}. No state repeated within that time, so this alone does not \
             prove that it never will. {}",
            report.elapsed,
            why_stuck(kernel, &task.traps),
        ),
        Verdict::Dead if task.traps.sigbus > 0 => {
            "ended by SIGBUS at its first split lock.".to_owned()
        }
        Verdict::Dead => "killed.".to_owned(),
    }
}

fn why_stuck(kernel: &Profile, traps: &crate::sim::TrapCounts) -> String {
    let Some(limits) = Thresholds::of(kernel) else {
        return "It spends all its time outside the program it is to run.".to_owned();
    };
    let sleep = limits.always_from();
    match (traps.cut_asleep + traps.signal_pending, traps.cut_queued) {
        (0, 0) => "No trap is involved: it never gets to its program at all.".to_owned(),
        (asleep, 0) => format!(
            "In that time the same instruction trapped {asleep} times. Each time a signal ended \
             the sleep before {} ticks ({sleep}) had passed, and the kernel returned with detection \
             still on.",
            limits.sleep_ticks().0,
        ),
        (asleep, queued) => format!(
            "In that time the same instruction trapped {} times. {queued} times it slept to the end \
             but a signal ended its wait for the semaphore, which threads on other cores kept \
             taken; {asleep} times a signal ended the sleep itself. Each time the kernel returned \
             with detection still on, and the next trap started over.",
            asleep + queued,
        ),
    }
}

/// What a thread did in windows that it did not use, and what is to be expected from how long that takes.
fn why_unused(kernel: &Profile, spec: &TaskSpec, task: &TaskReport) -> String {
    let unused = &task.traps.unused;
    let causes = [
        (unused.interrupts, "its guest served interrupts"),
        (unused.without_cpu, "others had its CPU"),
        (unused.outside, "it was outside its program"),
        (unused.moved, "it had been moved to another core"),
    ];
    let causes = causes.iter().filter(|(windows, _)| *windows > 0);
    let causes: Vec<_> = causes
        .map(|(windows, cause)| format!("{cause} ({windows})"))
        .collect();
    let mut text = format!("Why windows were unused: {}.", causes.join(", "));
    let delay = spec.work_after_wait.plus(spec.preempted_after_wait);
    if let Some(limits) = Thresholds::of(kernel).filter(|_| delay > Nanos::ZERO) {
        let (over, up_to) = limits.window();
        let expected = match limits.window_use(delay) {
            WindowUse::Used => "less than any window lasts, if nothing else holds it up",
            WindowUse::DependsOnPhase => "which only a window of the longer ones outlasts",
            WindowUse::Unused => "which no window outlasts",
        };
        let _ = write!(
            text,
            " After each wait in the kernel {delay} pass before it is back at its instruction, \
             {expected}: they last more than {over} and at most {up_to}."
        );
    }
    text
}

fn advice(kernel: &Profile, kind: TaskKind, task: &TaskReport, others: u32) -> Option<String> {
    let limits = Thresholds::of(kernel)?;
    let period = kind.period()?;
    if !task.is_stuck() {
        return None;
    }
    let alone = match limits.predict(period) {
        PassPrediction::Never => {
            format!("{period} is never enough on this kernel, at any phase of its ticks")
        }
        PassPrediction::DependsOnPhase(chance) => format!(
            "{period} is enough for {:.0} % of the phases that a trap can have within a tick",
            100.0 * chance.as_f64()
        ),
        PassPrediction::Always => {
            format!("{period} is always enough while no other core splits locks")
        }
    };
    let mut text = format!("{alone}; from {} on it always is", limits.always_from());
    if others > 0 {
        let safe: Nanos = limits.contended(others).safe_from;
        let splitting = match others {
            1 => "another core splits".to_owned(),
            _ => format!("{others} other cores split"),
        };
        let _ = write!(
            text,
            ", and from {safe} on even if {splitting} without pause"
        );
    }
    if kernel.features().sysctl {
        text.push_str(". kernel.split_lock_mitigate=0 removes the sleep");
    }
    text.push('.');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{CpuId, Topology};
    use crate::sim::{Program, TaskSpec, simulate};

    fn guest() -> Program {
        Program::split_loop(Nanos(500)).expect("a program")
    }

    fn words(kernel: &str, ms: u64) -> String {
        let kernel = kernel.parse().expect("a kernel");
        let budget = Budget::Relative(Nanos::from_millis(ms));
        let mut scenario = Scenario::single(TaskSpec::vcpu(guest(), budget));
        scenario.horizon = Nanos::from_secs(5);
        let report = simulate(&kernel, &scenario).expect("runs");
        explain(&kernel, &scenario, &report)
    }

    #[test]
    fn the_words_fit_the_verdict() {
        let stuck = words("6.6,hz=1000", 1);
        for part in [
            "livelocked",
            "1ms",
            "more than 11ms",
            "never enough",
            "mitigate=0",
        ] {
            assert!(stuck.contains(part), "{part}: {stuck}");
        }
        let slow = words("6.6,hz=1000", 15);
        assert!(
            slow.contains("times slower") && !slow.contains("livelock"),
            "{slow}"
        );
        let free = words("6.6,hz=1000,mitigate=0", 1);
        assert!(
            free.contains("progresses, ") && !free.contains("livelock"),
            "{free}"
        );
        assert!(words("6.6,mode=fatal", 1).contains("SIGBUS"));
        assert!(words("5.15", 1).contains("traps once"));
        assert!(
            !words("5.19", 1).contains("mitigate=0"),
            "there is no such sysctl yet"
        );
    }

    #[test]
    fn unused_windows_are_told_from_a_livelock_with_their_cause() {
        let kernel = "6.12,hz=250".parse().expect("a kernel");
        let mut vcpu = TaskSpec::vcpu(guest(), Budget::Unbounded);
        vcpu.work_after_wait = Nanos::from_millis(13);
        let scenario = Scenario::single(vcpu);
        let report = simulate(&kernel, &scenario).expect("runs");
        let words = explain(&kernel, &scenario, &report);
        for part in [
            "leaves its windows unused",
            "never completes another turn",
            "its guest served interrupts",
            "which no window outlasts",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!words.contains("livelock"), "{words}");
    }

    #[test]
    fn the_second_livelock_is_told_from_the_first() {
        let kernel = "6.12,hz=250".parse().expect("a kernel");
        let budget = Budget::Relative(Nanos::from_millis(20));
        let mut tasks: Vec<_> = (1..=4)
            .map(|cpu| TaskSpec::user(guest(), None).on(CpuId(cpu)))
            .collect();
        tasks.push(TaskSpec::vcpu(guest(), budget).starting_at(Nanos::from_millis(500)));
        let scenario = Scenario::new(Topology::new(5, 1).expect("a machine"), tasks);
        let report = simulate(&kernel, &scenario).expect("runs");
        let words = explain(&kernel, &scenario, &report);
        assert!(words.contains("wait for the semaphore"), "{words}");
        assert!(
            words.contains("from 48ms on even if 4 other cores"),
            "{words}"
        );
    }
}
