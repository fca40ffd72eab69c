//! One thread: what has become of its traps, and whether it gets past them.

use std::time::Duration;

use serde::Serialize;
use split_lock_model::handler::TrapOrigin;

use crate::event::EventKind;
use crate::livelock::{Attempts, LivelockThreshold, Run, ThreadState};
use crate::serialize::nanos;
use crate::window::{GrantedWindow, UnusedCause};

/// What has become of the traps of a thread, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Traps of which it is known what became of them: the sum of `windows` and the three that were interrupted.
    pub traps: u64,
    /// The thread got past, in a window without detection.
    pub windows: u64,
    /// Of these windows, the ones that were over before the thread came to its instruction, as far as can be told.
    pub windows_unused: u64,
    /// Of those, the ones in which the thread was without a CPU.
    pub windows_without_cpu: u64,
    /// A signal ended the sleep, or was there before it.
    pub interrupted_asleep: u64,
    /// A signal ended the wait for the semaphore.
    pub interrupted_queued: u64,
    /// A signal sent the thread back, and it could not be seen from where.
    pub interrupted_somewhere: u64,
    /// The thread was to be killed, or its trap was none: it had asked for alignment checks. No traps.
    pub refused: u64,
    /// How long the thread was in the kernel's handler.
    #[serde(rename = "lost_ns", serialize_with = "nanos")]
    pub lost: Duration,
}

/// What is known of one thread: its counts, its state, and the trap that it is in.
#[derive(Debug, Clone, Default)]
pub struct ThreadStats {
    totals: Totals,
    origin: Option<TrapOrigin>,
    rip: Option<u64>,
    state: ThreadState,
    stage: Stage,
    /// Since it last got past.
    attempts: Option<Attempts>,
    /// Since when it is seen whether it is on a CPU.
    switches_seen_ns: Option<u64>,
    /// Its last one, until its next trap tells what it made of it.
    window: Option<GrantedWindow>,
    /// Its last windows, as far as none of them was used.
    unused_windows: Option<Run>,
    /// How long it has been in the handler, if that is long.
    in_handler_for: Duration,
    last_ns: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Outside,
    /// In the handler: its return will be seen.
    Handled { since_ns: u64, sleep: Sleep },
    /// In the handler, or back from it for some time: its return will not be seen.
    AsleepOrBack { since_ns: u64, at_most_ns: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    NotSeen,
    Over,
    CutShort,
}

/// Without a trap for so long, a thread is quiet; in the handler for so long, it is held up.
const LONG: Duration = Duration::from_secs(2);

impl ThreadStats {
    pub(super) fn new(at_ns: u64) -> Self {
        Self {
            last_ns: at_ns,
            ..Self::default()
        }
    }

    /// What has become of its traps.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whose split locks they are.
    #[must_use]
    pub fn origin(&self) -> Option<TrapOrigin> {
        self.origin
    }

    /// The instruction of its last trap, where that was seen.
    #[must_use]
    pub fn rip(&self) -> Option<u64> {
        self.rip
    }

    /// How it fares.
    #[must_use]
    pub fn state(&self) -> ThreadState {
        self.state
    }

    /// For how long it has not got past an instruction.
    #[must_use]
    pub fn stuck_for(&self) -> Duration {
        let attempts = self.attempts.map(|attempts| *attempts.all());
        let runs = [attempts, self.unused_windows];
        let lasting = runs.iter().flatten().map(Run::lasting).max();
        lasting.unwrap_or_default() + self.in_handler_for
    }

    /// How many windows in a row it has not used, as far as can be told.
    #[must_use]
    pub fn unused_in_a_row(&self) -> u64 {
        self.unused_windows.map_or(0, |run| run.count)
    }

    /// Whether it has been given a window, and it is not seen what it makes of it.
    pub(super) fn is_to_be_followed(&self) -> bool {
        self.totals.windows > 0 && self.switches_seen_ns.is_none()
    }

    /// How many attempts to get past it have failed in a row.
    #[must_use]
    pub fn failed_in_a_row(&self) -> u64 {
        self.attempts.map_or(0, |attempts| attempts.all().count)
    }

    /// How far apart the interruptions are.
    #[must_use]
    pub fn interrupted_every(&self) -> Option<Duration> {
        let run = *self.attempts?.all();
        run.lasting().checked_div(u32::try_from(run.count).ok()?)
    }

    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    pub(super) fn record(
        &mut self,
        at_ns: u64,
        cpu: u32,
        kind: EventKind,
        threshold: LivelockThreshold,
    ) {
        if !self.concerns(kind) || self.note_switch(at_ns, kind) {
            return;
        }
        if let EventKind::Trap { rip, .. } | EventKind::Asleep { rip, .. } = kind {
            self.judge_window(at_ns, cpu, rip);
        }
        self.last_ns = at_ns;
        self.in_handler_for = Duration::ZERO;
        match kind {
            EventKind::Trap { origin, rip } => {
                self.begin(at_ns, origin, rip, threshold);
                self.stage = Stage::Handled {
                    since_ns: at_ns,
                    sleep: Sleep::NotSeen,
                };
            }
            EventKind::Asleep {
                origin,
                rip,
                at_most_ns,
            } => {
                self.begin(at_ns, origin, rip, threshold);
                self.stage = Stage::AsleepOrBack {
                    since_ns: at_ns,
                    at_most_ns,
                };
            }
            EventKind::Slept { left_ms } => self.wake(left_ms),
            EventKind::Back { retry } => self.come_back(at_ns, retry, threshold),
            EventKind::Detection { of, .. } => self.get_past(at_ns, cpu, of),
            EventKind::SwitchesSeen | EventKind::OffCpu { .. } | EventKind::OnCpu => {}
        }
        self.judge();
    }

    /// Whether it was one.
    fn note_switch(&mut self, at_ns: u64, kind: EventKind) -> bool {
        let window = self.window.as_mut();
        match (kind, window) {
            (EventKind::SwitchesSeen, _) => self.switches_seen_ns = Some(at_ns),
            (EventKind::OffCpu { is_preempted }, Some(window)) => {
                window.leave_cpu(at_ns, is_preempted);
            }
            (EventKind::OnCpu, Some(window)) => window.enter_cpu(at_ns),
            (EventKind::OffCpu { .. } | EventKind::OnCpu, None) => {}
            _ => return false,
        }
        true
    }

    /// Its window is over: its CPU detects again.
    pub(super) fn close_window(&mut self, cpu: u32, at_ns: u64) {
        if let Some(window) = self.window.as_mut().filter(|window| window.cpu == cpu) {
            window.close(at_ns);
        }
    }

    fn judge_window(&mut self, at_ns: u64, cpu: u32, rip: Option<u64>) {
        let Some(window) = self.window.take() else {
            return;
        };
        let is_seen = self
            .switches_seen_ns
            .is_some_and(|seen_ns| seen_ns <= window.opened_ns);
        let cause = window.why_unused(at_ns, cpu, rip).filter(|_| is_seen);
        self.unused_windows = cause.map(|cause| {
            self.totals.windows_unused += 1;
            self.totals.windows_without_cpu += u64::from(cause == UnusedCause::WithoutCpu);
            Run::add(self.unused_windows, window.trapped_ns, at_ns)
        });
    }

    /// A thread sleeps, and switches, for other reasons too.
    fn concerns(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Trap { .. } | EventKind::Asleep { .. } => true,
            EventKind::SwitchesSeen | EventKind::OffCpu { .. } | EventKind::OnCpu => true,
            EventKind::Slept { .. } | EventKind::Back { .. } => self.stage != Stage::Outside,
            EventKind::Detection { on: true, .. } => false,
            EventKind::Detection { on: false, of } => of.is_some() || self.stage != Stage::Outside,
        }
    }

    pub(super) fn advance_to(&mut self, now_ns: u64) {
        let idle = Duration::from_nanos(now_ns.saturating_sub(self.last_ns));
        if idle < LONG {
            return;
        }
        if let Stage::Handled { since_ns, .. } = self.stage {
            self.in_handler_for = Duration::from_nanos(now_ns.saturating_sub(since_ns));
            self.state = self.state.max(ThreadState::HeldUp);
        } else {
            self.attempts = None;
            self.window = None;
            self.unused_windows = None;
            self.stage = Stage::Outside;
            self.state = ThreadState::Quiet;
        }
    }

    /// A trap. If it was not seen that the last one's handler returned, it has done so by now, though nobody knows when.
    fn begin(
        &mut self,
        at_ns: u64,
        origin: TrapOrigin,
        rip: Option<u64>,
        threshold: LivelockThreshold,
    ) {
        match self.stage {
            Stage::Outside => {}
            Stage::Handled { since_ns, sleep } => self.fail(since_ns, at_ns, sleep, threshold),
            Stage::AsleepOrBack {
                since_ns,
                at_most_ns,
            } => {
                let latest_ns = since_ns.saturating_add(at_most_ns);
                self.fail(since_ns, at_ns.min(latest_ns), Sleep::NotSeen, threshold);
            }
        }
        self.origin = Some(origin);
        self.rip = rip;
    }

    fn wake(&mut self, left_ms: u64) {
        if let Stage::Handled { sleep, .. } = &mut self.stage {
            *sleep = match left_ms {
                0 => Sleep::Over,
                _ => Sleep::CutShort,
            };
        }
    }

    fn come_back(&mut self, at_ns: u64, retry: bool, threshold: LivelockThreshold) {
        let Stage::Handled { since_ns, sleep } = self.stage else {
            return;
        };
        if retry {
            self.fail(since_ns, at_ns, sleep, threshold);
        } else {
            self.totals.refused += 1;
            self.stage = Stage::Outside;
        }
    }

    fn fail(&mut self, since_ns: u64, at_ns: u64, sleep: Sleep, threshold: LivelockThreshold) {
        let took = Duration::from_nanos(at_ns.saturating_sub(since_ns));
        let totals = &mut self.totals;
        match sleep {
            Sleep::CutShort => totals.interrupted_asleep += 1,
            Sleep::Over => totals.interrupted_queued += 1,
            Sleep::NotSeen => totals.interrupted_somewhere += 1,
        }
        totals.traps += 1;
        totals.lost += took;
        let is_hopeless = sleep != Sleep::Over && took <= threshold.never_up_to();
        self.attempts = Some(Attempts::add(self.attempts, since_ns, at_ns, is_hopeless));
        self.stage = Stage::Outside;
    }

    fn get_past(&mut self, at_ns: u64, cpu: u32, of: Option<(TrapOrigin, Option<u64>)>) {
        let mut trapped_ns = at_ns;
        if let Stage::Handled { since_ns, .. } | Stage::AsleepOrBack { since_ns, .. } = self.stage {
            self.totals.lost += Duration::from_nanos(at_ns.saturating_sub(since_ns));
            trapped_ns = since_ns;
        }
        if let Some((origin, rip)) = of {
            self.origin = Some(origin);
            self.rip = rip;
        }
        let window = |rip| GrantedWindow::new(trapped_ns, rip, cpu, at_ns);
        self.window = self.rip.map(window);
        self.totals.traps += 1;
        self.totals.windows += 1;
        self.attempts = None;
        self.stage = Stage::Outside;
    }

    fn judge(&mut self) {
        self.state = match &self.attempts {
            Some(attempts) => attempts.state(),
            None if self.totals.traps > 0 => ThreadState::Slowed,
            None => self.state,
        };
        if let Some(unused) = &self.unused_windows {
            self.state = self.state.max(unused.state_of_unused_windows());
        }
    }
}

impl Totals {
    /// Traps that a signal sent back to their instruction.
    #[must_use]
    pub fn interrupted(&self) -> u64 {
        self.interrupted_asleep + self.interrupted_queued + self.interrupted_somewhere
    }

    /// Those of another thread, too.
    pub fn add(&mut self, more: &Totals) {
        self.traps += more.traps;
        self.windows += more.windows;
        self.windows_unused += more.windows_unused;
        self.windows_without_cpu += more.windows_without_cpu;
        self.interrupted_asleep += more.interrupted_asleep;
        self.interrupted_queued += more.interrupted_queued;
        self.interrupted_somewhere += more.interrupted_somewhere;
        self.refused += more.refused;
        self.lost += more.lost;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const TRAP: EventKind = EventKind::Trap {
        origin: TrapOrigin::User,
        rip: Some(0x1000),
    };
    const ASLEEP: EventKind = EventKind::Asleep {
        origin: TrapOrigin::User,
        rip: Some(0x2000),
        at_most_ns: 16 * MS,
    };
    const BACK: EventKind = EventKind::Back { retry: true };
    const PAST: EventKind = EventKind::Detection {
        on: false,
        of: None,
    };

    fn record(stats: &mut ThreadStats, steps: &[(u64, EventKind)]) {
        for &(at_ms, kind) in steps {
            stats.record(
                at_ms * MS,
                0,
                kind,
                LivelockThreshold::new(Duration::from_millis(8)),
            );
        }
    }

    fn stats(steps: &[(u64, EventKind)]) -> ThreadStats {
        let mut stats = ThreadStats::new(0);
        record(&mut stats, steps);
        stats
    }

    fn slept(left_ms: u64) -> EventKind {
        EventKind::Slept { left_ms }
    }

    #[test]
    fn each_way_back_to_the_instruction_is_counted_apart() {
        let steps = [
            // Asleep, and then in the queue.
            (0, TRAP),
            (3, slept(8)),
            (3, BACK),
            (10, TRAP),
            (24, slept(0)),
            (30, BACK),
            // A signal was there before.
            (40, TRAP),
            (40, slept(12)),
            (40, BACK),
            // The sleep was not seen.
            (45, TRAP),
            (46, BACK),
            // Past, and back in the window.
            (50, TRAP),
            (65, slept(0)),
            (66, PAST),
            (66, BACK),
        ];
        let stats = stats(&steps);
        let expected = Totals {
            traps: 5,
            windows: 1,
            interrupted_asleep: 2,
            interrupted_queued: 1,
            interrupted_somewhere: 1,
            lost: Duration::from_millis(3 + 20 + 1 + 16),
            ..Totals::default()
        };
        assert_eq!(*stats.totals(), expected);
        assert_eq!(stats.totals().interrupted(), 4);
        assert_eq!(
            (stats.state(), stats.rip()),
            (ThreadState::Slowed, Some(0x1000))
        );
    }

    #[test]
    fn an_alignment_check_that_is_no_split_lock_is_no_trap() {
        let stats = stats(&[(0, TRAP), (0, EventKind::Back { retry: false })]);
        assert_eq!((stats.totals().traps, stats.totals().refused), (0, 1));
        assert_eq!(stats.state(), ThreadState::Quiet);
    }

    #[test]
    fn without_probes_the_next_sleep_tells_that_the_last_one_failed() {
        let stats = stats(&[(0, ASLEEP), (5, ASLEEP), (1000, ASLEEP), (1016, PAST)]);
        let totals = stats.totals();
        assert_eq!((totals.traps, totals.interrupted_somewhere), (3, 2));
        // Nobody knows how long the second one lasted, but no sleep is longer than that.
        assert_eq!(totals.lost, Duration::from_millis(5 + 16 + 16));
    }

    #[test]
    fn without_probes_and_sleeps_a_window_tells_of_a_trap() {
        let tells = EventKind::Detection {
            on: false,
            of: Some((TrapOrigin::Guest, None)),
        };
        let told = stats(&[(0, tells), (30, tells)]);
        assert_eq!((told.totals().traps, told.totals().windows), (2, 2));
        assert_eq!(told.origin(), Some(TrapOrigin::Guest));
        // Where traps are seen, it is somebody else's: before 5.19, of each switch of tasks.
        assert_eq!(*stats(&[(0, PAST)]).totals(), Totals::default());
    }

    #[test]
    fn other_sleeps_and_switches_are_nobodys_traps_and_keep_nobody_busy() {
        let mut stats = stats(&kicked(1, 200));
        for second in 1..60 {
            let on = EventKind::Detection { on: true, of: None };
            record(
                &mut stats,
                &[(second * 1000, slept(3)), (second * 1000, BACK)],
            );
            record(&mut stats, &[(second * 1000, on), (second * 1000, PAST)]);
            stats.advance_to(second * 1000 * MS);
        }
        assert_eq!(
            (stats.state(), stats.totals().traps),
            (ThreadState::Quiet, 200)
        );
    }

    fn kicked(every_ms: u64, times: u64) -> Vec<(u64, EventKind)> {
        let attempt = |n: u64| {
            let at = n * every_ms;
            let end = at + every_ms;
            [(at, TRAP), (end, slept(1)), (end, BACK)]
        };
        (0..times).flat_map(attempt).collect()
    }

    #[test]
    fn hopeless_attempts_are_a_livelock_until_one_gets_past() {
        assert_eq!(stats(&kicked(1, 2)).state(), ThreadState::Slowed);
        assert_eq!(stats(&kicked(1, 99)).state(), ThreadState::HeldUp);
        let mut steps = kicked(1, 100);
        let stuck = stats(&steps);
        assert_eq!(stuck.state(), ThreadState::Livelocked);
        assert_eq!(stuck.stuck_for(), Duration::from_millis(100));
        assert_eq!(stuck.interrupted_every(), Some(Duration::from_millis(1)));
        steps.extend([(100, TRAP), (115, slept(0)), (115, PAST)]);
        let freed = stats(&steps);
        assert_eq!(
            (freed.state(), freed.failed_in_a_row()),
            (ThreadState::Slowed, 0)
        );
    }

    #[test]
    fn attempts_that_might_succeed_are_a_livelock_after_a_second() {
        assert_eq!(stats(&kicked(9, 100)).state(), ThreadState::HeldUp);
        assert_eq!(stats(&kicked(9, 112)).state(), ThreadState::Livelocked);
    }

    #[test]
    fn a_thread_without_traps_for_two_seconds_is_quiet() {
        let mut stats = stats(&kicked(1, 200));
        stats.advance_to(2199 * MS);
        assert_eq!(stats.state(), ThreadState::Livelocked);
        stats.advance_to(2200 * MS);
        assert_eq!(
            (stats.state(), stats.failed_in_a_row()),
            (ThreadState::Quiet, 0)
        );
    }

    #[test]
    fn a_wait_in_the_handler_is_held_up_and_counts_when_it_ends() {
        let mut stats = stats(&[(0, TRAP), (15, slept(0))]);
        stats.advance_to(5000 * MS);
        assert_eq!(stats.state(), ThreadState::HeldUp);
        assert_eq!(stats.stuck_for(), Duration::from_secs(5));
        record(&mut stats, &[(6000, PAST), (6000, BACK)]);
        let totals = stats.totals();
        assert_eq!((totals.traps, totals.windows), (1, 1));
        assert_eq!(totals.lost, Duration::from_secs(6));
        assert_eq!(
            (stats.state(), stats.stuck_for()),
            (ThreadState::Slowed, Duration::ZERO)
        );
    }

    /// Traps, is granted a window from 16 to 28 ms later, and does not come back for so long.
    fn busy(times: u64, every_ms: u64) -> ThreadStats {
        let mut stats = ThreadStats::new(0);
        record(&mut stats, &[(0, EventKind::SwitchesSeen)]);
        for at in (0..times).map(|n| n * every_ms) {
            let ways = [
                (at, TRAP),
                (at + 16, slept(0)),
                (at + 16, PAST),
                (at + 16, BACK),
            ];
            record(&mut stats, &ways);
            stats.close_window(0, (at + 28) * MS);
        }
        stats
    }

    #[test]
    fn windows_that_pass_by_are_told_from_a_livelock_and_from_a_loop() {
        let stats = busy(4, 35);
        assert_eq!(
            (stats.totals().windows, stats.totals().windows_unused),
            (4, 3)
        );
        assert_eq!(stats.state(), ThreadState::WindowsUnused);
        assert_eq!((stats.unused_in_a_row(), stats.failed_in_a_row()), (3, 0));
        assert_eq!(stats.stuck_for(), Duration::from_millis(105));
        assert_eq!(busy(3, 35).state(), ThreadState::Slowed);
        // One that splits in a loop comes back as soon as detection does.
        let looping = busy(100, 28);
        assert_eq!(looping.totals().windows_unused, 0);
        assert_eq!(looping.state(), ThreadState::Slowed);
    }

    #[test]
    fn a_window_that_was_used_ends_the_row() {
        let mut stats = busy(5, 35);
        let elsewhere = EventKind::Trap {
            origin: TrapOrigin::User,
            rip: Some(0x1004),
        };
        record(&mut stats, &[(200, elsewhere)]);
        assert_eq!(
            (stats.unused_in_a_row(), stats.totals().windows_unused),
            (0, 4)
        );
        assert_eq!(stats.state(), ThreadState::Slowed);
    }

    #[test]
    fn a_window_before_switches_are_seen_is_not_judged() {
        let mut stats = busy(2, 35);
        assert!(!stats.is_to_be_followed());
        // After a loss of records they are seen again from now on.
        record(&mut stats, &[(60, EventKind::SwitchesSeen), (70, TRAP)]);
        assert_eq!(stats.totals().windows_unused, 1);
        let unseen = stats_of_one_window();
        assert!(unseen.is_to_be_followed());
        assert_eq!(unseen.totals().windows_unused, 0);
    }

    fn stats_of_one_window() -> ThreadStats {
        let mut stats = stats(&[(0, TRAP), (16, PAST)]);
        stats.close_window(0, 28 * MS);
        record(&mut stats, &[(40, TRAP)]);
        stats
    }

    fn any_step() -> impl Strategy<Value = EventKind> {
        let detection = (any::<bool>(), any::<Option<Option<u64>>>());
        prop_oneof![
            Just(TRAP),
            Just(BACK),
            Just(EventKind::Back { retry: false }),
            detection.prop_map(|(on, of)| EventKind::Detection {
                on,
                of: of.map(|rip| (TrapOrigin::Guest, rip))
            }),
            any::<u64>().prop_map(|at_most_ns| EventKind::Asleep {
                origin: TrapOrigin::Guest,
                rip: None,
                at_most_ns,
            }),
            (0u64..20).prop_map(slept),
            Just(EventKind::SwitchesSeen),
            any::<bool>().prop_map(|is_preempted| EventKind::OffCpu { is_preempted }),
            Just(EventKind::OnCpu),
        ]
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_its_parts(
            steps in proptest::collection::vec((any::<u64>(), any_step()), 0..200),
        ) {
            let mut stats = ThreadStats::new(0);
            let mut traps = 0;
            for &(at_ns, kind) in &steps {
                stats.record(at_ns, 0, kind, LivelockThreshold::default());
                if at_ns % 3 == 0 {
                    stats.close_window(0, at_ns);
                }
                stats.advance_to(at_ns / 2);
                let totals = stats.totals();
                prop_assert_eq!(totals.traps, totals.windows + totals.interrupted());
                prop_assert!(totals.traps >= traps);
                prop_assert!(totals.windows_without_cpu <= totals.windows_unused);
                prop_assert!(totals.windows_unused <= totals.windows);
                traps = totals.traps;
            }
        }
    }
}
