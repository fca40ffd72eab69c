//! What must hold for every machine, kernel and sequence of events.

use std::collections::HashMap;

use proptest::prelude::*;
use split_lock_model::handler::{
    Action, Handler, Reenabled, Retry, Signal, TaskId, Trap, TrapOrigin, Trapped,
};
use split_lock_model::kernel::{Era, Features, Mode, Profile};
use split_lock_model::machine::{CpuId, Hardware, Topology};
use split_lock_model::policy::{Alternative, Policy};
use split_lock_model::sim::{
    Budget, Costs, Program, Report, Scenario, TaskSpec, Track, Until, Verdict, simulate,
    simulate_policy,
};
use split_lock_model::time::{Hz, Jiffies, Nanos};

/// A policy under watch: every event is checked against what must always hold.
#[derive(Clone, Debug)]
struct Watched {
    handler: Handler,
    cpus: u32,
    siblings: u32,
    /// Whether the kernel is one that forgets cores.
    forgets: bool,
    mitigates: bool,
    last: Jiffies,
    window: Option<TaskId>,
}

impl Watched {
    fn at(&mut self, now: Jiffies) {
        assert!(
            now >= self.last,
            "time runs backwards: {now:?} after {:?}",
            self.last
        );
        self.last = now;
    }

    fn check(&self) {
        for cpu in 0..self.cpus {
            let core = cpu / self.siblings * self.siblings;
            let mut siblings = (core..core + self.siblings).map(CpuId);
            let pending = siblings.any(|sibling| self.handler.work_due(sibling).is_some());
            let off = self.handler.is_off(CpuId(cpu));
            assert!(!off || pending || self.forgets, "CPU {cpu} is off for good");
        }
        let waiting = self.handler.waiters().len();
        assert!(
            waiting == 0 || self.handler.holder().is_some(),
            "they wait for nothing"
        );
    }

    fn saw(&mut self, task: TaskId, action: Option<Action>) -> Option<Action> {
        if let Some(Action::Retry(Retry::WindowOpen { .. })) = action
            && self.mitigates
        {
            assert_eq!(self.window.replace(task), None, "two windows at once");
            assert_eq!(self.handler.holder(), Some(task));
        }
        self.check();
        action
    }
}

impl Policy for Watched {
    fn spawn(&mut self) -> TaskId {
        self.handler.spawn()
    }

    fn detects(&self, task: TaskId, cpu: CpuId) -> bool {
        self.handler.detects(task, cpu)
    }

    fn is_off(&self, cpu: CpuId) -> bool {
        self.handler.is_off(cpu)
    }

    fn work_due(&self, cpu: CpuId) -> Option<Jiffies> {
        self.handler.work_due(cpu)
    }

    fn holder(&self) -> Option<TaskId> {
        self.handler.holder()
    }

    fn trap(&mut self, now: Jiffies, trap: Trap) -> Trapped {
        self.at(now);
        let trapped = self.handler.trap(now, trap);
        self.saw(trap.task, Some(trapped.action));
        trapped
    }

    fn signal(&mut self, now: Jiffies, task: TaskId, cpu: CpuId, s: Signal) -> Option<Action> {
        self.at(now);
        let action = self.handler.signal(now, task, cpu, s);
        self.saw(task, action)
    }

    fn sleep_over(&mut self, now: Jiffies, t: TaskId, cpu: CpuId, p: bool) -> Option<Action> {
        self.at(now);
        let action = self.handler.sleep_over(now, t, cpu, p);
        self.saw(t, action)
    }

    fn granted(&mut self, now: Jiffies, task: TaskId, cpu: CpuId) -> Option<Action> {
        self.at(now);
        let action = self.handler.granted(now, task, cpu);
        self.saw(task, action)
    }

    fn reenable(&mut self, now: Jiffies, cpu: CpuId) -> Option<Reenabled> {
        self.at(now);
        let done = self.handler.reenable(now, cpu);
        if let Some(done) = done {
            self.window = None;
            if self.mitigates {
                assert_eq!(self.handler.holder(), done.handed_to);
            }
        }
        self.check();
        done
    }

    fn exit(&mut self, task: TaskId) -> Option<TaskId> {
        let next = self.handler.exit(task);
        self.check();
        next
    }

    fn bus_lock_traps(&self, origin: TrapOrigin) -> bool {
        self.handler.bus_lock_traps(origin)
    }

    fn bus_lock(&mut self, now: Jiffies, task: TaskId) -> Trapped {
        self.at(now);
        self.handler.bus_lock(now, task)
    }

    fn relative_state(&self, now: Jiffies, out: &mut Vec<u64>) {
        self.handler.relative_state(now, out);
    }
}

fn watched(kernel: &Profile, scenario: &Scenario, rules: Alternative) -> Watched {
    let machine = scenario.topology;
    Watched {
        handler: Handler::new(kernel, machine, scenario.hardware, rules.rules()),
        cpus: machine.cpus(),
        siblings: machine.siblings(),
        forgets: !kernel.mitigate() && !kernel.features().per_cpu_reenable,
        mitigates: kernel.mitigate() && kernel.features().era == Era::Misery,
        last: Jiffies(0),
        window: None,
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
        let [
            extra_jiffy,
            sysctl,
            per_cpu_reenable,
            ratelimit,
            intel_bus_lock,
            amd_bus_lock,
            on,
        ] = flags;
        let features = Features {
            era,
            extra_jiffy,
            sysctl,
            per_cpu_reenable,
            ratelimit,
            intel_bus_lock,
            amd_bus_lock,
        };
        Profile::builder(features)
            .hz(hz)
            .mode(mode)
            .mitigate(on)
            .build()
            .ok()
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

fn any_task(cpus: u32) -> impl Strategy<Value = TaskSpec> {
    let budget = prop_oneof![
        Just(Budget::Unbounded),
        any_time(30_000).prop_map(Budget::Relative),
        any_time(30_000).prop_map(Budget::Absolute),
        any_time(30_000).prop_map(Budget::ThreadCpu),
    ];
    let vcpu =
        (any_program(), budget).prop_map(|(program, budget)| TaskSpec::vcpu(program, budget));
    let user = (any_program(), prop::option::of(any_time(30_000)))
        .prop_map(|(program, timer)| TaskSpec::user(program, timer));
    let rare = || prop::option::weighted(0.2, any_time(50_000));
    (
        prop_oneof![vcpu, user],
        0..cpus,
        any_time(20_000),
        rare(),
        rare(),
        rare(),
    )
        .prop_map(|(mut task, cpu, start, noise, migrate_every, kill_at)| {
            task = task.on(CpuId(cpu)).starting_at(start);
            (task.noise, task.migrate_every, task.kill_at) = (noise, migrate_every, kill_at);
            task
        })
}

fn any_costs() -> impl Strategy<Value = Costs> {
    let cost = || prop_oneof![Just(Nanos::ZERO), any_time(100)];
    (cost(), cost(), cost(), cost(), cost()).prop_map(
        |(trap, wakeup, kworker, vmm_loop, signal_handler)| Costs {
            trap,
            wakeup,
            kworker,
            vmm_loop,
            signal_handler,
        },
    )
}

fn any_scenario() -> impl Strategy<Value = Scenario> {
    let machine = prop::sample::select(vec![(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)]);
    machine.prop_flat_map(|(cpus, siblings)| {
        let tasks = prop::collection::vec(any_task(cpus), 1..6);
        let hardware = prop::sample::select(vec![
            Hardware::ICE_LAKE,
            Hardware::SAPPHIRE_RAPIDS,
            Hardware::ZEN_5,
        ]);
        (tasks, any_costs(), hardware, any_time(10_000), any::<u64>()).prop_map(
            move |(tasks, costs, hardware, tick_phase, seed)| {
                let machine = Topology::new(cpus, siblings).expect("a machine");
                let mut scenario = Scenario::new(machine, tasks);
                (scenario.costs, scenario.hardware) = (costs, hardware);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_simulation_keeps_the_laws(
        kernel in any_profile(),
        scenario in any_scenario(),
        rules in any_rules(),
    ) {
        let mut scenario = scenario;
        scenario.trace_spans = 20_000;
        let policy = watched(&kernel, &scenario, rules);
        let report = simulate_policy(policy, kernel.hz(), &scenario).expect("valid");
        check_timeline(&report);
        for (task, spec) in report.tasks.iter().zip(&scenario.tasks) {
            let end = task.died_at.unwrap_or(report.elapsed);
            prop_assert_eq!(task.time.total(), end.since(spec.start.min(end)), "time adds up");
        }
        prop_assert!(report.windows.used <= report.windows.open);
    }

    #[test]
    fn the_same_seed_gives_the_same_timeline(kernel in any_profile(), scenario in any_scenario()) {
        let mut scenario = scenario;
        scenario.trace_spans = 20_000;
        prop_assert_eq!(simulate(&kernel, &scenario), simulate(&kernel, &scenario));
    }

    #[test]
    fn a_trace_changes_nothing(kernel in any_profile(), scenario in any_scenario()) {
        let mut traced = scenario.clone();
        traced.trace_spans = 50;
        let mut report = simulate(&kernel, &traced).expect("valid");
        report.timeline = None;
        prop_assert_eq!(report, simulate(&kernel, &scenario).expect("valid"));
    }

    #[test]
    fn with_detection_off_progress_is_time_over_cost(
        program in any_program(),
        hz in any_hz(),
        horizon in any_time(1_000_000),
    ) {
        let kernel: Profile = "6.6,mode=off".parse().expect("a profile");
        let mut scenario = Scenario::single(TaskSpec::vcpu(program, Budget::Unbounded));
        scenario.horizon = horizon;
        let report = simulate(&kernel.with_hz(hz), &scenario).expect("valid");
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
            let (start, end) = (cycle.start.plus(cycle.period), cycle.start.plus(cycle.period).plus(cycle.period));
            for ((task, before), after) in proof.tasks.iter().zip(turns(start)).zip(turns(end)) {
                let share = task.cycle.expect("there is a cycle");
                prop_assert_eq!(after - before, share.turns, "the next cycle is the same");
                prop_assert!(!task.verdict.is_livelock() || after == before);
            }
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
        let machine = Topology::new(4, 2).expect("a machine");
        let scenario = Scenario::new(machine, Vec::new());
        let mut policy = watched(&kernel, &scenario, rules);
        let tasks = [0; 4].map(|_| policy.spawn());
        let (mut now, mut alive) = (0, [true; 4]);
        for (event, task, cpu, passed, flag) in events {
            now += passed;
            let (task, cpu, at) = (tasks[task as usize], CpuId(cpu), Jiffies(now));
            if !alive[task.0 as usize] {
                continue;
            }
            match event {
                // A thread traps only where detection is on, and not while it waits in the handler.
                0 if policy.detects(task, cpu) && policy.handler.is_running(task) => {
                    let trap = Trap { signal_pending: flag, ..Trap::new(task, cpu, TrapOrigin::Guest) };
                    policy.trap(at, trap);
                }
                1 => { policy.signal(at, task, cpu, Signal::Ordinary); }
                2 => { policy.sleep_over(at, task, cpu, flag); }
                3 => { policy.granted(at, task, cpu); }
                4 => { policy.reenable(at, cpu); }
                5 => { policy.signal(at, task, cpu, Signal::Fatal); }
                6 if passed == 0 && flag => {
                    policy.exit(task);
                    alive[task.0 as usize] = false;
                }
                _ => {}
            }
        }
    }
}
