//! `splitlock watch` in the machine, beside threads that are punished: it has to say of each what the kernel did to it,
//! and to call a livelock what is one, and nothing else; and kernel and CPU have to have seen the same traps.

use std::path::Path;

use anyhow::{Context, Result};
use split_lock_lab::cpu::script::Command;
use split_lock_lab::watch::{
    END_PROBES, Expected, TRAP_PROBES, ThreadStats, WatchMode, is_whole, judge, thread_stats,
};

use crate::host::args::Kernels;
use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::runner::{self, Findings, Scene};
use crate::host::output;

const LIMITS: Limits = Limits::in_seconds(300, 1800);

const SECONDS_WATCHED: u64 = 5;

/// For the machine's shell, behind a watch that prints to `/tmp/watch` and is `$watch`: what happens from here on is seen.
pub(crate) const UNTIL_WATCH_LISTENS: &str =
    "until [ -s /tmp/watch ] || ! kill -0 $watch; do usleep 20000; done";

/// How long locks are split meanwhile, for the machine's shell.
const WHILE_WATCHED: &str = "timeout -s KILL 3";

/// Longer than the shortest sleep of a kernel here, and shorter than the longest: some signals come too soon.
const SOMETIMES_TOO_SOON_US: u32 = 13_300;

/// What the watch may take of a CPU, beside a thread that traps each millisecond. The CPU here does 200 million
/// instructions a second, which is slower than any that detects split locks; those that it does are judged as if it did a
/// thousand million.
const MOST_OF_A_CPU: f64 = 0.01;
const SLOWER_THAN_HARDWARE: f64 = 5.0;

#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    /// What splits locks, for the machine's shell.
    program: String,
    mitigate: bool,
    expected: Expected,
    mode: WatchMode,
    judges_cost: bool,
}

impl Case {
    /// The watch beside its program, and then the kernel's trace, on the clock that the watch has.
    fn commands(&self, index: usize) -> [Command; 2] {
        let Self {
            program, mitigate, ..
        } = self;
        let no_probes = match self.mode {
            WatchMode::Probes => "",
            WatchMode::Tracepoints => " --no-probes",
        };
        let mitigate = u8::from(*mitigate);
        let watched = format!(
            "cd /sys/kernel/tracing
             echo mono > trace_clock && echo 16384 > buffer_size_kb && echo > trace || exit 9
             echo {mitigate} > /proc/sys/kernel/split_lock_mitigate
             rm -f /tmp/watch
             splitlock watch --json --duration {SECONDS_WATCHED}s{no_probes} > /tmp/watch & watch=$!
             {UNTIL_WATCH_LISTENS}
             {{ {program}; }} >/dev/null 2>&1
             wait $watch; code=$?
             cat /tmp/watch
             exit $code"
        );
        let missed = "! grep -v ' 0$' /sys/kernel/tracing/kprobe_profile";
        let trace = format!("cat /sys/kernel/tracing/trace; {missed}");
        [
            Command::shell(&watch_name(index), &watched),
            Command::shell(&trace_name(index), &trace),
        ]
    }

    fn judge(&self, index: usize, outcome: &Outcome, findings: &mut Findings) -> Result<()> {
        let trace = outcome.printed(&trace_name(index))?;
        let threads = thread_stats(&trace);
        let said = outcome.printed(&watch_name(index))?;
        let report = judge(&said, &threads, self.expected, self.mode);
        let mut wrong = report.wrong;
        if !is_whole(&trace) {
            wrong.push("the kernel's trace has lost lines".to_owned());
        }
        let raised = outcome.traps_during(&watch_name(index))?;
        let mut raised: Vec<u64> = raised.iter().map(|trap| trap.rip).collect();
        let mut handled: Vec<u64> = threads
            .values()
            .flat_map(|it| it.addresses.clone())
            .collect();
        raised.sort_unstable();
        handled.sort_unstable();
        if raised != handled {
            wrong.push(format!(
                "the CPU raised {} #AC; the kernel handled {}",
                raised.len(),
                handled.len()
            ));
        }
        let share =
            report.cpu_ns as f64 / (SECONDS_WATCHED * 1_000_000_000) as f64 / SLOWER_THAN_HARDWARE;
        if self.judges_cost && share > MOST_OF_A_CPU {
            wrong.push(format!("{:.2} % of a CPU", share * 100.0));
        }
        let sum = |of: fn(&ThreadStats) -> u64| threads.values().map(of).sum::<u64>();
        let livelock = match report.said_after_ns {
            Some(ns) => format!("livelock after {} ms", ns / 1_000_000),
            None => "no livelock".to_owned(),
        };
        let what = format!(
            "{}: {} traps, {} got past, {} interrupted asleep, {} before it, {} in the queue; {livelock}; \
             {:.2} % of a CPU",
            self.name,
            sum(ThreadStats::traps),
            sum(|it| it.windows),
            sum(|it| it.interrupted_asleep),
            sum(|it| it.not_slept),
            sum(|it| it.interrupted_queued),
            share * 100.0
        );
        findings.check(&what, wrong.is_empty());
        for wrong in wrong.iter().take(5) {
            findings.say(&format!("         {wrong}"));
        }
        Ok(())
    }
}

fn watch_name(index: usize) -> String {
    format!("watch-{index}")
}

fn trace_name(index: usize) -> String {
    format!("trace-{index}")
}

/// A guest that is called back after each so many microseconds, by KVM's signal.
fn guest(timeout_us: u32) -> String {
    let runs = 3_000_000 / timeout_us;
    format!(
        "splitlock sweep --guest split --timeouts {timeout_us}us --repeat {runs} --warm-up 0 --settle 0ms --csv /dev/null"
    )
}

/// A program that gets a signal after each so many microseconds.
fn user(signal_us: Option<u32>) -> String {
    let signals = signal_us.map_or(String::new(), |us| format!(" --signal-every-us {us}"));
    format!("{WHILE_WATCHED} lab-split --count 1000000000{signals}")
}

fn cases() -> Vec<Case> {
    let case = |name, program, expected| Case {
        name,
        program,
        mitigate: true,
        expected,
        mode: WatchMode::Probes,
        judges_cost: false,
    };
    let together = |[one, other]: [String; 2]| format!("{one} & one=$!; {other}; wait $one");
    let livelocked_guest = case("guest, 1 ms", guest(1_000), Expected::Livelock);
    let livelocked_user = case("program, 1 ms", user(Some(1_000)), Expected::Livelock);
    let sometimes = case(
        "program, 13.3 ms",
        user(Some(SOMETIMES_TOO_SOON_US)),
        Expected::Progress,
    );
    vec![
        Case {
            judges_cost: true,
            ..livelocked_guest.clone()
        },
        livelocked_user.clone(),
        case("guest, 100 ms", guest(100_000), Expected::Progress),
        case(
            "guest, 13.3 ms",
            guest(SOMETIMES_TOO_SOON_US),
            Expected::Progress,
        ),
        sometimes.clone(),
        case(
            "two programs, no signals",
            together([user(None), user(None)]),
            Expected::Progress,
        ),
        case(
            "two programs, one with 13.3 ms",
            together([user(None), user(Some(SOMETIMES_TOO_SOON_US))]),
            Expected::Either,
        ),
        Case {
            mitigate: false,
            ..case("guest, 1 ms, mitigate=0", guest(1_000), Expected::Progress)
        },
        Case {
            name: "guest, 1 ms, no probes",
            mode: WatchMode::Tracepoints,
            ..livelocked_guest
        },
        Case {
            name: "program, 13.3 ms, no probes",
            mode: WatchMode::Tracepoints,
            ..sometimes
        },
    ]
}

pub(crate) fn run(args: &Kernels) -> Result<bool> {
    let lab = Lab::open([1])?;
    let kernels = lab.kernels(&args.kernel)?;
    let scene = |kernel| {
        let cases = cases();
        let commands = cases.iter().enumerate();
        let commands: Vec<_> = commands
            .flat_map(|(index, case)| case.commands(index))
            .collect();
        let judge =
            move |outcome: &Outcome, folder: &Path| judge_all(kernel, &cases, outcome, folder);
        let mut scene = Scene::new("watch", kernel, LIMITS, commands, judge).with_kvm();
        let probes = TRAP_PROBES.into_iter().chain(END_PROBES);
        scene.script.probes = probes.map(str::to_owned).collect();
        scene
    };
    runner::run(&lab, kernels.iter().map(scene).collect())
}

fn judge_all(
    kernel: &BootKernel,
    cases: &[Case],
    outcome: &Outcome,
    folder: &Path,
) -> Result<Findings> {
    let title = format!(
        "\n{}, as `splitlock watch` has seen it; each trap is an #AC in the CPU's journal",
        kernel.release
    );
    let mut findings = Findings::new(&title);
    for (index, case) in cases.iter().enumerate() {
        let judged = case.judge(index, outcome, &mut findings);
        judged.with_context(|| case.name.to_owned())?;
        for name in [watch_name(index), trace_name(index)] {
            let text = outcome.printed(&name)?;
            output::write(&folder.join(name), text.as_bytes())?;
        }
    }
    findings.say(&format!("  all of it: {}", folder.display()));
    Ok(findings)
}
