//! Scenes that people meet, each with its known outcome.

use split_lock_model::machine::{CpuId, Hardware};
use split_lock_model::sim::{
    Budget, End, Program, Report, Scenario, SpanKind, TaskKind, TaskSpec, TimerClock, Until,
    Verdict, simulate,
};
use split_lock_model::time::Nanos;

use crate::{guest, machine, profile};

fn run(kernel: &str, task: TaskSpec) -> Report {
    simulate(&profile(kernel), &Scenario::single(task)).expect("runs")
}

#[test]
fn a_user_thread_with_an_interval_timer_livelocks_like_a_vcpu() {
    let timer = |ms| TaskSpec::user(guest(), Some(Nanos::from_millis(ms)));
    assert!(run("6.6,hz=1000", timer(5)).verdict().is_livelock());
    assert!(!run("6.6,hz=1000", timer(20)).verdict().is_livelock());
    assert!(
        !run("5.15,hz=1000", timer(5)).verdict().is_livelock(),
        "one trap, then exempt"
    );
}

#[test]
fn a_cpu_time_budget_does_not_run_while_the_thread_sleeps() {
    let vcpu = TaskSpec::vcpu(guest(), Budget::ThreadCpu(Nanos::from_millis(1)));
    let report = run("6.6,hz=1000", vcpu);
    assert!(matches!(report.verdict(), Verdict::Slowed { .. }));
    assert_eq!(report.tasks[0].traps.cut_asleep, 0);
}

#[test]
fn a_program_s_cpu_time_timer_is_no_livelock_and_signals_only_while_it_runs() {
    for (kernel, ms) in [("6.6,hz=1000", 1), ("6.12,hz=250", 1), ("6.12,hz=250", 5)] {
        let period = Nanos::from_millis(ms);
        let thread = TaskSpec::program(guest(), Some(period), TimerClock::Cpu);
        let mut scenario = Scenario::single(thread);
        scenario.until = Until::Horizon;
        scenario.horizon = Nanos::from_secs(1);
        let report = simulate(&profile(kernel), &scenario).expect("runs");
        assert!(matches!(report.verdict(), Verdict::Slowed { .. }));
        let task = &report.tasks[0];
        assert_eq!(task.traps.interrupted(), 0);
        let most = task.time.total().since(task.time.asleep).0 / period.0;
        assert!(
            (most / 5..=most).contains(&task.signals),
            "{}",
            task.signals
        );
    }
}

#[test]
fn a_cpu_time_timer_signals_at_the_tick_that_finds_it_expired() {
    let program = Program::plain_loop(Nanos(1_000)).expect("a program");
    let signals = |period| {
        let thread = TaskSpec::program(program, Some(period), TimerClock::Cpu);
        let mut scenario = Scenario::single(thread);
        scenario.until = Until::Horizon;
        scenario.horizon = Nanos::from_secs(1);
        let report = simulate(&profile("6.12,hz=250"), &scenario).expect("runs");
        report.tasks[0].signals
    };
    // Once a tick is the most; what expired in between is one signal.
    assert!((249..=250).contains(&signals(Nanos::from_millis(1))));
    assert!((99..=100).contains(&signals(Nanos::from_millis(10))));
}

#[test]
fn a_worker_that_never_runs_leaves_the_semaphore_taken_for_good() {
    let thread = TaskSpec::user(guest(), None);
    let vcpu = TaskSpec::vcpu(guest(), Budget::Relative(Nanos::from_millis(30)));
    let late = vcpu.on(CpuId(1)).starting_at(Nanos::from_millis(100));
    let mut scenario = Scenario::new(machine(2, 1), vec![thread, late]);
    scenario.starved_workers = vec![CpuId(0)];
    scenario.until = Until::Cycle;
    let report = simulate(&profile("6.6,hz=250"), &scenario).expect("runs");
    assert!(
        report.tasks[1].verdict.is_livelock(),
        "{:?}",
        report.tasks[1].verdict
    );
    assert!(report.tasks[1].traps.cut_queued > 0);
    assert!(
        !report.tasks[0].verdict.is_livelock(),
        "its core stays without detection"
    );
}

#[test]
fn an_old_kernel_without_mitigation_frees_a_second_core_for_good() {
    let user = |cpu| TaskSpec::user(guest(), None).on(CpuId(cpu));
    let mut scenario = Scenario::new(machine(2, 1), vec![user(0), user(1)]);
    scenario.horizon = Nanos::from_secs(1);
    let traps = |text| {
        let report = simulate(&profile(text), &scenario).expect("runs");
        [0, 1].map(|task| report.tasks[task as usize].traps.window)
    };
    let [first, second] = traps("6.12,hz=250,mitigate=0");
    assert!(first > 50 && second == 1, "{first} {second}");
    assert!(
        traps("6.15,hz=250,mitigate=0")
            .iter()
            .all(|&windows| windows > 50)
    );
}

#[test]
fn a_window_serves_the_sibling_too() {
    let late = |siblings| {
        let first = TaskSpec::user(guest(), None);
        let late = first
            .clone()
            .on(CpuId(1))
            .starting_at(Nanos::from_millis(25));
        // The first sleeps up to the tick at 20 ms; its window lasts until that at 32 ms.
        let mut scenario = Scenario::new(machine(2, siblings), vec![first, late]);
        scenario.horizon = Nanos::from_millis(31);
        simulate(&profile("6.6,hz=250"), &scenario)
            .expect("runs")
            .tasks
            .remove(1)
    };
    let (own_core, shared_core) = (late(1), late(2));
    assert_eq!((own_core.turns, own_core.time.guest), (0, Nanos::ZERO));
    assert_eq!(
        (shared_core.turns, shared_core.time.asleep),
        (12_000, Nanos::ZERO)
    );
}

/// A vCPU that nothing interrupts, with so much to do before it is back at its instruction.
fn delayed(work_ms: u64, preempted_ms: u64) -> TaskSpec {
    let mut vcpu = TaskSpec::vcpu(guest(), Budget::Unbounded);
    vcpu.work_after_wait = Nanos::from_millis(work_ms);
    vcpu.preempted_after_wait = Nanos::from_millis(preempted_ms);
    vcpu
}

#[test]
fn interrupts_to_serve_or_a_lost_cpu_leave_windows_unused() {
    for (kernel, work, preempted, is_unused) in [
        ("6.12,hz=250", 8, 0, false),
        ("6.12,hz=250", 13, 0, true),
        ("6.12,hz=250", 0, 13, true),
        ("6.12,hz=250", 4, 9, true),
        ("6.12,hz=1000", 2, 0, false),
        ("6.12,hz=1000", 4, 0, true),
        // No sleep, no wait, nothing to do first.
        ("6.12,hz=1000,mitigate=0", 4, 4, false),
    ] {
        let report = run(kernel, delayed(work, preempted));
        let task = &report.tasks[0];
        let scene = (kernel, work, preempted, task.verdict);
        assert_eq!(
            matches!(task.verdict, Verdict::WindowsUnused { .. }),
            is_unused,
            "{scene:?}"
        );
        assert_eq!(task.is_stuck(), is_unused, "{scene:?}");
        assert!(!task.verdict.is_livelock(), "{scene:?}");
        let unused = task.traps.unused;
        assert_eq!(
            unused.interrupts > 0,
            is_unused && work > preempted,
            "{scene:?}"
        );
        assert_eq!(
            unused.without_cpu > 0,
            is_unused && work < preempted,
            "{scene:?}"
        );
    }
}

#[test]
fn signals_that_end_every_sleep_are_a_livelock_whatever_there_is_to_do_first() {
    let mut vcpu = delayed(13, 13);
    vcpu.kind = TaskKind::Vcpu(Budget::Relative(Nanos::from_millis(1)));
    assert!(run("6.12,hz=250", vcpu).verdict().is_livelock());
}

#[test]
fn a_thread_that_keeps_its_cpu_in_slices_may_come_too_late() {
    // Five milliseconds of interrupts are in time, unless two others have the CPU meanwhile.
    let with = |others: usize| {
        let plain = Program::plain_loop(Nanos::from_micros(1)).expect("a program");
        let mut tasks = vec![delayed(5, 0)];
        tasks.extend((0..others).map(|_| TaskSpec::user(plain, None)));
        let mut scenario = Scenario::new(machine(1, 1), tasks);
        scenario.horizon = Nanos::from_secs(2);
        let report = simulate(&profile("6.12,hz=250"), &scenario).expect("runs");
        report.tasks[0].traps
    };
    let (alone, crowded) = (with(0), with(4));
    assert!(alone.window > 50 && alone.unused.total() == 0, "{alone:?}");
    assert!(crowded.unused.without_cpu > 10, "{crowded:?}");
}

#[test]
fn an_unused_window_is_on_the_timeline() {
    let mut scenario = Scenario::single(delayed(13, 0));
    (scenario.trace_spans, scenario.horizon) = (1000, Nanos::from_millis(100));
    let report = simulate(&profile("6.12,hz=250"), &scenario).expect("runs");
    let spans = report.timeline.expect("asked for").spans;
    let of = |kind| spans.iter().filter(|span| span.kind == kind).count() as u64;
    assert_eq!(
        of(SpanKind::WindowUnused),
        report.tasks[0].traps.unused.total()
    );
    assert!(of(SpanKind::WindowUnused) > 1 && of(SpanKind::Interrupts) > 1);
}

#[test]
fn fatal_ends_the_thread_at_its_first_split_lock() {
    let report = run("6.6,mode=fatal", TaskSpec::user(guest(), None));
    assert_eq!((report.verdict(), report.end), (Verdict::Dead, End::Quiet));
    assert_eq!(
        (report.tasks[0].turns, report.tasks[0].traps.sigbus),
        (0, 1)
    );
}

#[test]
fn consecutive_runs_leave_their_window_to_the_next() {
    let longest = |runs| {
        let program = Program::split_loop(Nanos(1_000)).expect("a program");
        let budget = Budget::Relative(Nanos::from_millis(12));
        let mut scenario = Scenario::single(TaskSpec::vcpu(program, budget));
        (scenario.tick_phase, scenario.until) = (Nanos(1), Until::Runs(runs));
        let report = simulate(&profile("6.6,hz=1000"), &scenario).expect("runs");
        assert_eq!(report.runs.len(), runs as usize);
        let turns = report.runs.iter().map(|run| run.turns);
        turns.max().expect("runs")
    };
    // The sleep takes more than 11 of the 12 ms, and a window lasts up to 3.
    assert!(longest(1) < 1_000);
    assert!(longest(40) > 1_000);
}

#[test]
fn a_ration_of_bus_locks_is_kept_for_programs_and_ignored_for_guests() {
    let with = |task| {
        let mut scenario = Scenario::single(task);
        scenario.hardware = Hardware::SAPPHIRE_RAPIDS;
        scenario.horizon = Nanos::from_secs(20);
        let kernel = profile("6.6,hz=250,mode=ratelimit:100");
        simulate(&kernel, &scenario).expect("runs").tasks[0].splits
    };
    let program = with(TaskSpec::user(guest(), None));
    assert!((1_800..=2_001).contains(&program), "{program}");
    let vcpu = with(TaskSpec::vcpu(
        guest(),
        Budget::Relative(Nanos::from_millis(1)),
    ));
    assert!(vcpu > 30_000_000, "{vcpu}");
}

#[test]
fn noise_on_a_safe_timer_brings_the_livelock_back_without_a_proof() {
    let mut vcpu = TaskSpec::vcpu(guest(), Budget::Relative(Nanos::from_millis(30)));
    assert!(run("6.6,hz=250", vcpu.clone()).tasks[0].turns > 0);
    vcpu.noise = Some(Nanos::from_millis(1));
    assert_eq!(run("6.6,hz=250", vcpu).verdict(), Verdict::NoProgressSeen);
}
