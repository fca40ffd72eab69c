//! What must hold for every machine, kernel and sequence of events.

use std::collections::HashMap;

use proptest::prelude::*;
use split_lock_model::analysis::{Thresholds, WindowUse};
use split_lock_model::handler::{Action, Handler, Retry, Signal, TaskId, Trap, TrapOrigin};
use split_lock_model::kernel::{Era, Features, Mode, Profile};
use split_lock_model::machine::{CpuId, Hardware, Topology};
use split_lock_model::policy::Alternative;
use split_lock_model::sim::{
    Budget, Costs, Program, Report, Scenario, TaskKind, TaskSpec, TimerClock, Track, Until,
    Verdict, WorkerWakeup, simulate, simulate_observed,
};
use split_lock_model::time::{Hz, Jiffies, Nanos};

use crate::{machine, profile};

/// What must hold after each thing that happens to a handler.
struct Invariants {
    machine: Topology,
    /// Whether the kernel is one that forgets cores.
    forgets: bool,
    mitigates: bool,
    window_open: bool,
    /// Who held the semaphore, and who was first in line, after the event before.
    holder: Option<TaskId>,
    first: Option<TaskId>,
}

impl Invariants {
    fn of(kernel: &Profile, machine: Topology) -> Self {
        Self {
            machine,
            forgets: !kernel.mitigate() && !kernel.features().per_cpu_reenable,
            mitigates: kernel.mitigate() && kernel.features().era == Era::Misery,
            window_open: false,
            holder: None,
            first: None,
        }
    }

    fn check(&mut self, handler: &Handler, answer: Option<(TaskId, Action)>) {
        for cpu in (0..self.machine.cpus()).map(CpuId) {
            let mut siblings = self.machine.cpus_of(self.machine.core_of(cpu));
            let pending = siblings.any(|sibling| handler.work_due(sibling).is_some());
            let on = !handler.is_off(cpu);
            assert!(on || pending || self.forgets, "{cpu:?} is off for good");
        }
        let nobody_waits = handler.waiters().len() == 0;
        assert!(
            nobody_waits || handler.holder().is_some(),
            "they wait for nothing"
        );
        let holder = handler.holder();
        if self.holder.is_some() && holder != self.holder {
            assert_eq!(holder, self.first, "a hand-over past the first in line");
        }
        (self.holder, self.first) = (holder, handler.waiters().next());
        if !self.mitigates {
            return;
        }
        if let Some((task, Action::Retry(Retry::WindowOpen { .. }))) = answer {
            assert!(!self.window_open, "two windows at once");
            assert_eq!(handler.holder(), Some(task));
        }
        self.window_open = match handler.pending_work().count() {
            0 => false,
            1 => true,
            many => panic!("{many} windows at once"),
        };
    }
}

fn any_hz() -> impl Strategy<Value = Hz> {
    prop::sample::select(&Hz::ALL[..])
}

fn any_profile() -> impl Strategy<Value = Profile> {
    let era = prop::sample::select(vec![Era::None, Era::Thread, Era::Misery]);
    let mode = prop_oneof![
        4 => Just(Mode::Warn),
        1 => Just(Mode::Off),
        1 => Just(Mode::Fatal),
        1 => (1..=1000u16).prop_map(Mode::Ratelimit)
    ];
    let flags = prop::array::uniform7(any::<bool>());
    (era, any_hz(), mode, flags).prop_filter_map("impossible", |(era, hz, mode, flags)| {
        let features = Features {
            era,
            extra_jiffy: flags[0],
            sysctl: flags[1],
            per_cpu_reenable: flags[2],
            ratelimit: flags[3],
            intel_bus_lock: flags[4],
            amd_bus_lock: flags[5],
        };
        let profile = Profile::custom(features).ok()?.with_hz(hz);
        profile.with_mode(mode).ok()?.with_mitigate(flags[6]).ok()
    })
}

fn any_time(most_us: u64) -> impl Strategy<Value = Nanos> {
    (1..most_us * 1_000).prop_map(Nanos)
}

fn any_program() -> impl Strategy<Value = Program> {
    (0..3_000_000u64, 0..4u32, 1..200_000u64).prop_map(|(compute, splits, cost)| {
        Program::new(Nanos(compute + 1), splits, Nanos(cost)).expect("costs something")
    })
}

fn any_timer() -> impl Strategy<Value = (Option<Nanos>, TimerClock)> {
    let clock = prop_oneof![Just(TimerClock::Wall), Just(TimerClock::Cpu)];
    (prop::option::of(any_time(30_000)), clock)
}

fn any_task(cpus: u32) -> impl Strategy<Value = TaskSpec> {
    let budget = prop_oneof![
        Just(Budget::Unbounded),
        any_time(30_000).prop_map(Budget::Relative),
        any_time(30_000).prop_map(Budget::Absolute),
        any_time(30_000).prop_map(Budget::ThreadCpu),
    ];
    let kind = prop_oneof![
        budget.prop_map(TaskKind::Vcpu),
        any_timer().prop_map(|(interval, clock)| TaskKind::User { interval, clock }),
    ];
    let rare = || prop::option::weighted(0.2, any_time(50_000));
    let events = (any_time(20_000), rare(), rare(), rare());
    let delays = (rare(), rare());
    let parts = (kind, any_program(), 0..cpus, events, delays);
    parts.prop_map(|(kind, program, cpu, events, (work, preempted))| {
        let mut task = TaskSpec::vcpu(program, Budget::Unbounded).on(CpuId(cpu));
        task.kind = kind;
        (task.start, task.noise, task.migrate_every, task.kill_at) = events;
        task.work_after_wait = work.unwrap_or_default();
        task.preempted_after_wait = preempted.unwrap_or_default();
        task
    })
}

fn any_costs() -> impl Strategy<Value = Costs> {
    let cost = || prop_oneof![Just(Nanos::ZERO), any_time(100)];
    let costs = [cost(), cost(), cost(), cost(), cost()];
    costs.prop_map(|[trap, wakeup, kworker, vmm_loop, signal_handler]| Costs {
        trap,
        wakeup,
        kworker,
        vmm_loop,
        signal_handler,
    })
}

fn any_scenario() -> impl Strategy<Value = Scenario> {
    let machines = prop::sample::select(vec![(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)]);
    machines.prop_flat_map(|(cpus, siblings)| {
        let tasks = prop::collection::vec(any_task(cpus), 1..6);
        let hardware = prop::sample::select(vec![
            Hardware::ICE_LAKE,
            Hardware::SAPPHIRE_RAPIDS,
            Hardware::ZEN_5,
        ]);
        let wakeup = prop::sample::select(vec![
            WorkerWakeup::First,
            WorkerWakeup::AtTick,
            WorkerWakeup::AtRequestEnd,
        ]);
        let machines = (hardware, wakeup);
        (tasks, any_costs(), machines, any_time(10_000), any::<u64>()).prop_map(
            move |(tasks, costs, (hardware, wakeup), tick_phase, seed)| {
                let mut scenario = Scenario::new(machine(cpus, siblings), tasks);
                (scenario.costs, scenario.hardware) = (costs, hardware);
                scenario.worker_wakeup = wakeup;
                (scenario.tick_phase, scenario.seed) = (tick_phase, seed);
                scenario.horizon = Nanos::from_millis(400);
                scenario
            },
        )
    })
}

fn any_rules() -> impl Strategy<Value = Alternative> {
    prop::sample::select(&Alternative::ALL[..])
}

/// What must hold for any simulation.
fn check_simulation(kernel: &Profile, rules: Alternative, mut scenario: Scenario) {
    scenario.trace_spans = 20_000;
    let mut invariants = Invariants::of(kernel, scenario.topology);
    let report = simulate_observed(kernel, rules.rules(), &scenario, &mut |handler, answer| {
        invariants.check(handler, answer);
    });
    let report = report.expect("valid");
    check_timeline(&report);
    for (task, spec) in report.tasks.iter().zip(&scenario.tasks) {
        let end = task.died_at.unwrap_or(report.elapsed);
        let there = end.since(spec.start.min(end));
        assert_eq!(task.time.total(), there, "time adds up");
        assert!(task.traps.unused.total() <= task.traps.window);
    }
    assert!(report.windows.used <= report.windows.open);
}

/// Spans of one track follow each other, within the simulated time.
fn check_timeline(report: &Report) {
    let timeline = report.timeline.as_ref().expect("asked for");
    let mut ends: HashMap<Track, Nanos> = HashMap::new();
    for span in &timeline.spans {
        assert!(
            span.start < span.end && span.end <= report.elapsed,
            "{span:?}"
        );
        let last = ends.insert(span.track, span.end).unwrap_or_default();
        assert!(last <= span.start, "{span:?} begins before {last}");
    }
}

#[test]
fn a_thread_that_starts_with_a_tick_keeps_the_laws() {
    let program = Program::new(Nanos(1), 1, Nanos(1)).expect("costs something");
    let vcpu = TaskSpec::vcpu(program, Budget::Unbounded).starting_at(Nanos(1));
    let mut scenario = Scenario::single(vcpu);
    (scenario.costs, scenario.tick_phase) = (Costs::ZERO, Nanos(1));
    scenario.hardware = Hardware::ICE_LAKE;
    scenario.horizon = Nanos::from_millis(400);
    let kernel = profile("custom,hz=100,era=misery,sysctl=1");
    check_simulation(&kernel, Alternative::Upstream, scenario);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_simulation_keeps_the_laws(
        kernel in any_profile(),
        scenario in any_scenario(),
        rules in any_rules(),
    ) {
        check_simulation(&kernel, rules, scenario);
    }

    #[test]
    fn the_same_seed_gives_the_same_timeline_and_a_trace_changes_nothing(
        kernel in any_profile(),
        scenario in any_scenario(),
    ) {
        let traced = Scenario { trace_spans: 20_000, ..scenario.clone() };
        let mut report = simulate(&kernel, &traced).expect("valid");
        prop_assert_eq!(&report, &simulate(&kernel, &traced).expect("valid"));
        let whole = report.timeline.take().expect("asked for");
        prop_assert_eq!(&report, &simulate(&kernel, &scenario).expect("valid"));
        let short = Scenario { trace_spans: 50, ..scenario };
        let mut cut = simulate(&kernel, &short).expect("valid");
        let timeline = cut.timeline.take().expect("asked for");
        prop_assert_eq!(report, cut);
        prop_assert!(timeline.spans.len() <= 50);
        prop_assert!(timeline.truncated || whole.spans.len() <= 50);
    }

    #[test]
    fn with_detection_off_progress_is_time_over_cost(
        program in any_program(),
        hz in any_hz(),
        horizon in any_time(1_000_000),
    ) {
        let mut scenario = Scenario::single(TaskSpec::vcpu(program, Budget::Unbounded));
        scenario.horizon = horizon;
        let report = simulate(&profile("6.6,mode=off").with_hz(hz), &scenario).expect("valid");
        prop_assert_eq!(report.tasks[0].turns, horizon.0 / program.turn().0);
        prop_assert_eq!(report.tasks[0].verdict, Verdict::Progresses);
    }

    #[test]
    fn a_proved_livelock_lasts(kernel in any_profile(), scenario in any_scenario()) {
        let mut scenario = scenario;
        scenario.horizon = Nanos::from_secs(3);
        let proof = simulate(&kernel, &scenario).expect("valid");
        if let Some(cycle) = proof.cycle {
            let turns = |horizon| {
                let mut longer = scenario.clone();
                (longer.until, longer.horizon) = (Until::Horizon, horizon);
                let report = simulate(&kernel, &longer).expect("valid");
                report.tasks.iter().map(|task| task.turns).collect::<Vec<_>>()
            };
            let start = cycle.start.plus(cycle.period);
            let end = start.plus(cycle.period);
            for ((task, before), after) in proof.tasks.iter().zip(turns(start)).zip(turns(end)) {
                let share = task.cycle.expect("there is a cycle");
                prop_assert_eq!(after - before, share.turns, "the next cycle is the same");
                prop_assert!(!task.verdict.is_livelock() || after == before);
            }
        }
    }

    #[test]
    fn a_window_is_unused_if_the_way_back_takes_longer_and_used_if_it_is_shorter(
        hz in any_hz(),
        phase in any_time(10_000),
        ticks in 0..5u32,
        fine in 0..1_000_000u64,
        preempted_share in 0..=4u64,
    ) {
        let kernel = profile("6.12").with_hz(hz);
        let limits = Thresholds::of(&kernel).expect("it sleeps");
        let tick = limits.window().1.0 / 3;
        let delay = Nanos(u64::from(ticks) * tick + fine * tick / 1_000_000);
        let program = Program::split_loop(Nanos(1_000)).expect("costs something");
        let mut vcpu = TaskSpec::vcpu(program, Budget::Unbounded);
        vcpu.preempted_after_wait = Nanos(delay.0 * preempted_share / 4);
        vcpu.work_after_wait = delay.since(vcpu.preempted_after_wait);
        let mut scenario = Scenario::single(vcpu);
        (scenario.tick_phase, scenario.horizon) = (phase, Nanos::from_secs(2));
        scenario.costs = Costs::ZERO;
        let task = simulate(&kernel, &scenario).expect("valid").tasks.remove(0);
        let unused = task.traps.unused;
        match limits.window_use(delay) {
            WindowUse::Used => prop_assert_eq!(unused.total(), 0),
            WindowUse::Unused => {
                // The last may still be open.
                prop_assert!(unused.total() > 0 && unused.total() + 1 >= task.traps.window);
                prop_assert_eq!(task.turns, 0);
                let is_unused = matches!(task.verdict, Verdict::WindowsUnused { .. });
                prop_assert!(is_unused && task.is_stuck(), "{:?}", task.verdict);
                let expected = if preempted_share > 2 { unused.without_cpu } else { unused.interrupts };
                prop_assert!(preempted_share == 2 || expected == unused.total(), "{unused:?}");
            }
            WindowUse::DependsOnPhase => {}
        }
    }

    #[test]
    fn a_profile_reads_back_as_itself(kernel in any_profile()) {
        let line = kernel.to_string();
        prop_assert_eq!(line.parse::<Profile>(), Ok(kernel), "{}", line);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,80}") {
        if let Ok(kernel) = text.parse::<Profile>() {
            prop_assert_eq!(kernel.to_string().parse::<Profile>(), Ok(kernel));
        }
    }

    #[test]
    fn nearly_a_profile_does_not_make_it_panic_either(
        base in "(custom|debian-12|[0-9]{1,6}(\\.[0-9]{1,6}){0,3}(-[a-z0-9.]{0,8})?)",
        fields in prop::collection::vec(
            "(hz|mode|mitigate|era|sysctl|ratelimit)=(0|1|250|1000|warn|fatal|ratelimit:[0-9]{0,9}|misery|thread|)",
            0..4,
        ),
    ) {
        let text = [vec![base], fields].concat().join(",");
        match text.parse::<Profile>() {
            Ok(kernel) => prop_assert_eq!(kernel.to_string().parse::<Profile>(), Ok(kernel)),
            Err(error) => prop_assert!(error.to_string().contains(": "), "{error}"),
        }
    }

    #[test]
    fn no_sequence_of_events_breaks_the_handler(
        kernel in any_profile(),
        rules in any_rules(),
        events in prop::collection::vec((0..7u8, 0..4u32, 0..4u32, 0..3u64, any::<bool>()), 0..300),
    ) {
        let machine = machine(4, 2);
        let mut handler = Handler::new(&kernel, machine, Hardware::default(), rules.rules());
        let mut invariants = Invariants::of(&kernel, machine);
        let tasks = [0; 4].map(|_| handler.spawn());
        let (mut now, mut alive) = (0, [true; 4]);
        for (event, task, cpu, passed, flag) in events {
            now += passed;
            let (task, cpu, at) = (tasks[task as usize], CpuId(cpu), Jiffies(now));
            if !alive[task.0 as usize] {
                continue;
            }
            let answer = match event {
                // A thread traps only where detection is on, and not while it waits in the handler.
                0 if handler.detects(task, cpu) && handler.is_running(task) => {
                    let trap = Trap { signal_pending: flag, ..Trap::new(task, cpu, TrapOrigin::Guest) };
                    Some(handler.trap(at, trap).action)
                }
                1 => handler.signal(at, task, cpu, Signal::Ordinary),
                2 => handler.sleep_over(at, task, cpu, flag),
                3 => handler.granted(at, task, cpu),
                4 => {
                    if let Some(done) = handler.reenable(at, cpu).filter(|_| invariants.mitigates) {
                        prop_assert_eq!(handler.holder(), done.handed_to);
                    }
                    None
                }
                5 => handler.signal(at, task, cpu, Signal::Fatal),
                6 if passed == 0 && flag => {
                    handler.exit(task);
                    alive[task.0 as usize] = false;
                    None
                }
                _ => None,
            };
            invariants.check(&handler, answer.map(|action| (task, action)));
        }
    }
}
