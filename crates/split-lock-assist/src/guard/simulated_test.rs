//! A guard, a guest that splits locks, and a kernel that punishes it, on a virtual clock.

use std::time::Duration;

use super::vcpu_guard_test::{Guarded, SPLIT_AT, split};
use super::{BreakpointOutcome, Ended, Reaction, Response, VcpuProgress};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// At 250 Hz: a sleep takes more than three ticks and at most four, the time without detection three.
const TICK_NS: u64 = 4 * MS;
const SLEEP_TICKS: u64 = 4;
const WINDOW_TICKS: u64 = 3;
const GRACE: Option<Duration> = Some(Duration::from_millis(28));

const SPLIT_NS: u64 = US;
const EXIT_NS: u64 = 10 * US;
const RUN_NS: u64 = 15 * US;

struct Simulation {
    guarded: Guarded,
    /// Between two split locks.
    work_ns: u64,
    /// Until the next one.
    work_left_ns: u64,
    now_ns: u64,
    cpu_ns: u64,
    detects_from_ns: u64,
    operations: u64,
}

impl Simulation {
    fn new(work_ns: u64, reaction: Reaction, grace: Option<Duration>, breakpoints: bool) -> Self {
        let mut guarded = Guarded::new(reaction, grace);
        guarded.vcpu.breakpoints_work = breakpoints;
        guarded.vcpu.sleeps = Some(0);
        Self {
            guarded,
            work_ns,
            work_left_ns: work_ns,
            now_ns: 0,
            cpu_ns: 0,
            detects_from_ns: 0,
            operations: 0,
        }
    }

    /// Runs of the VMM's `own` budget for so long. Returns how many split locks were done.
    fn play(&mut self, own: Duration, for_ns: u64, mut each: impl FnMut(VcpuProgress)) -> u64 {
        let (end_ns, before) = (self.now_ns + for_ns, self.operations);
        while self.now_ns < end_ns {
            let (began_ns, cpu_ns) = (self.now_ns, self.cpu_ns);
            let budget = self.guarded.guard.budget(own);
            self.run(began_ns + budget.as_nanos() as u64);
            self.spend(RUN_NS);
            self.show_position();
            let emulated = self.guarded.vcpu.emulated;
            each(self.guarded.after_run(
                Duration::from_nanos(self.now_ns - began_ns),
                Duration::from_nanos(self.cpu_ns - cpu_ns),
                Ended::Expired,
            ));
            if self.guarded.vcpu.emulated > emulated {
                self.complete();
            }
        }
        self.operations - before
    }

    fn run(&mut self, deadline_ns: u64) {
        loop {
            let work_ns = self
                .work_left_ns
                .min(deadline_ns.saturating_sub(self.now_ns));
            self.work_left_ns -= work_ns;
            self.spend(work_ns);
            if self.now_ns >= deadline_ns {
                return;
            }
            if self.guarded.vcpu.set.contains(&Some(SPLIT_AT)) {
                self.spend(EXIT_NS);
                self.show_position();
                let outcome = self.guarded.hit();
                assert!(matches!(outcome, BreakpointOutcome::Emulated(_)));
            } else if self.now_ns >= self.detects_from_ns && !self.punish(deadline_ns) {
                return;
            } else {
                self.spend(SPLIT_NS);
            }
            self.complete();
        }
    }

    /// Whether the thread gets through. If not, detection stays on.
    fn punish(&mut self, deadline_ns: u64) -> bool {
        let sleeps = self.guarded.vcpu.sleeps.unwrap();
        self.guarded.vcpu.sleeps = Some(sleeps + 1);
        let wakes_ns = tick_after(self.now_ns, SLEEP_TICKS);
        self.now_ns = wakes_ns.min(deadline_ns);
        let through = wakes_ns <= deadline_ns;
        if through {
            self.detects_from_ns = tick_after(self.now_ns, WINDOW_TICKS);
        }
        through
    }

    fn spend(&mut self, ns: u64) {
        self.now_ns += ns;
        self.cpu_ns += ns;
    }

    fn complete(&mut self) {
        self.operations += 1;
        self.work_left_ns = self.work_ns;
    }

    fn show_position(&mut self) {
        let at_split = self.work_left_ns == 0;
        let vcpu = &mut self.guarded.vcpu;
        vcpu.instruction = at_split.then(split);
        vcpu.registers.rip = if at_split { SPLIT_AT } else { 2 * SPLIT_AT };
        vcpu.registers.gpr[1] = self.operations;
        vcpu.registers.gpr[2] = self.work_left_ns;
    }
}

fn tick_after(now_ns: u64, ticks: u64) -> u64 {
    (now_ns / TICK_NS + ticks) * TICK_NS
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn below_the_threshold_there_is_progress_where_there_was_none() {
    for (breakpoints, work_ns) in [true, false]
        .into_iter()
        .flat_map(|breakpoints| [0, MS, 30 * MS].map(|work_ns| (breakpoints, work_ns)))
    {
        for own in [ms(1) / 5, ms(1), ms(8)] {
            let operations = |reaction, grace| {
                let mut simulation = Simulation::new(work_ns, reaction, grace, breakpoints);
                simulation.play(own, 1_000 * MS, |_| {})
            };
            assert_eq!(operations(Reaction::Off, GRACE), 0);
            assert_eq!(operations(Reaction::Report, GRACE), 0);
            // Deadlines hold, and so nothing can be waited for.
            assert_eq!(operations(Reaction::Grace, None), 0);
            for (reaction, grace) in [
                (Reaction::Grace, GRACE),
                (Reaction::Emulate, None),
                (Reaction::Auto, None),
                (Reaction::Auto, GRACE),
            ] {
                let done = operations(reaction, grace);
                assert!(done >= 15, "{done} with {reaction}, {own:?}, {work_ns} ns");
            }
        }
    }
}

#[test]
fn a_sparse_split_lock_costs_a_sleep_or_next_to_nothing() {
    for work_ns in [20 * MS, 100 * MS] {
        let lost_ns = |reaction, breakpoints, own| {
            let mut simulation = Simulation::new(work_ns, reaction, GRACE, breakpoints);
            simulation.play(own, 5_000 * MS, |_| {});
            20e9 / simulation.play(own, 20_000 * MS, |_| {}) as f64 - work_ns as f64
        };
        // Long enough for the kernel.
        let punished = lost_ns(Reaction::Off, true, ms(100));
        assert!(punished > 8e6, "{punished}");
        let lost = lost_ns(Reaction::Emulate, true, ms(100));
        assert!(500.0 * lost < punished, "{lost} and {punished}");
        // A stall is found by the next probe, whose length grows with the root of time.
        let lost = lost_ns(Reaction::Emulate, false, ms(1));
        assert!(lost < 4e6, "{lost}");
    }
}

#[test]
fn a_stall_is_reported_once_for_each_instruction() {
    let (mut new, mut old) = (0, 0);
    let mut simulation = Simulation::new(10 * MS, Reaction::Report, GRACE, true);
    simulation.play(ms(1), 1_000 * MS, |progress| {
        if let Some(stall) = progress.stall() {
            assert!(matches!(progress, VcpuProgress::Stalled(_)));
            assert_eq!(stall.response, Response::Reported);
            new += u32::from(stall.is_new);
            old += u32::from(!stall.is_new);
        }
    });
    assert_eq!(new, 1);
    assert!(old > 900, "{old}");
}

#[test]
fn above_the_threshold_a_sparse_guest_is_slow_and_not_stalled() {
    let (mut slow, mut stalled) = (0, 0);
    let mut simulation = Simulation::new(10 * MS, Reaction::Report, GRACE, true);
    simulation.play(ms(20), 10_000 * MS, |progress| match progress {
        VcpuProgress::Slow(_) => slow += 1,
        VcpuProgress::Stalled(_) => stalled += 1,
        _ => {}
    });
    assert!(slow > 50, "{slow}");
    assert_eq!(stalled, 0);
}
