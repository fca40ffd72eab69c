//! One thread: what has become of its traps, and whether it gets past them.

use std::time::Duration;

use serde::Serialize;

use super::happening::{Way, What};
use super::patience::{Attempts, Judgement, Patience};

/// How a thread fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has met no detection for some time.
    #[default]
    Quiet,
    /// It gets past its split locks, each after its punishment.
    Slowed,
    /// Signals have sent it back to the same instruction several times in a row, or it has been in the handler for
    /// long, because others are before it.
    HeldUp,
    /// They do so for so long, or so soon, that it will not get past while the signals go on.
    Livelocked,
}

/// What has become of the traps of a thread, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Traps of which it is known what became of them: the sum of the next four.
    pub traps: u64,
    /// The thread got past, in a window without detection.
    pub windows: u64,
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

/// What is known of one thread.
#[derive(Debug, Clone)]
pub struct Account {
    totals: Totals,
    way: Option<Way>,
    rip: Option<u64>,
    state: State,
    stage: Stage,
    /// Since it last got past.
    attempts: Option<Attempts>,
    /// How long it has been in the handler, if that is long.
    waiting: Duration,
    last_ns: u64,
}

/// Where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Outside,
    /// In the handler: its return will be seen.
    Handled {
        since_ns: u64,
        sleep: Sleep,
    },
    /// In the handler, or back from it for some time: its return will not be seen.
    AsleepOrBack {
        since_ns: u64,
        at_most_ns: u64,
    },
}

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    NotSeen,
    Over,
    CutShort,
}

/// Without a trap for so long, a thread is quiet; in the handler for so long, it is held up.
const LONG: Duration = Duration::from_secs(2);

impl Account {
    pub(super) fn new(at_ns: u64) -> Self {
        Self {
            totals: Totals::default(),
            way: None,
            rip: None,
            state: State::Quiet,
            stage: Stage::Outside,
            attempts: None,
            waiting: Duration::ZERO,
            last_ns: at_ns,
        }
    }

    /// What has become of its traps.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whose split locks they are.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        self.way
    }

    /// The instruction of its last trap, where that was seen.
    #[must_use]
    pub fn rip(&self) -> Option<u64> {
        self.rip
    }

    /// How it fares.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// For how long it has not got past an instruction.
    #[must_use]
    pub fn stuck_for(&self) -> Duration {
        let lasting = self.attempts.map(|attempts| attempts.all().lasting());
        lasting.unwrap_or_default() + self.waiting
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

    /// Takes note of a step.
    pub(super) fn see(&mut self, at_ns: u64, what: What, patience: Patience) {
        if !self.concerns(what) {
            return;
        }
        self.last_ns = at_ns;
        self.waiting = Duration::ZERO;
        match what {
            What::Trap { way, rip } => {
                self.begin(at_ns, way, rip, patience);
                self.stage = Stage::Handled {
                    since_ns: at_ns,
                    sleep: Sleep::NotSeen,
                };
            }
            What::Asleep {
                way,
                rip,
                at_most_ns,
            } => {
                self.begin(at_ns, way, rip, patience);
                self.stage = Stage::AsleepOrBack {
                    since_ns: at_ns,
                    at_most_ns,
                };
            }
            What::Slept { left_ms } => self.wake(left_ms),
            What::Back { retry } => self.come_back(at_ns, retry, patience),
            What::Detection { of, .. } => self.get_past(at_ns, of),
        }
        self.judge();
    }

    /// A thread sleeps, and switches, for other reasons too.
    fn concerns(&self, what: What) -> bool {
        match what {
            What::Trap { .. } | What::Asleep { .. } => true,
            What::Slept { .. } | What::Back { .. } => self.stage != Stage::Outside,
            What::Detection { on: true, .. } => false,
            What::Detection { on: false, of } => of.is_some() || self.stage != Stage::Outside,
        }
    }

    /// Takes note that nothing has happened.
    pub(super) fn wait(&mut self, now_ns: u64) {
        let idle = Duration::from_nanos(now_ns.saturating_sub(self.last_ns));
        if idle < LONG {
            return;
        }
        if let Stage::Handled { since_ns, .. } = self.stage {
            self.waiting = Duration::from_nanos(now_ns.saturating_sub(since_ns));
            self.state = self.state.max(State::HeldUp);
        } else {
            self.attempts = None;
            self.stage = Stage::Outside;
            self.state = State::Quiet;
        }
    }

    /// A trap. If it was not seen that the last one's handler returned, it has done so by now, though nobody knows when.
    fn begin(&mut self, at_ns: u64, way: Way, rip: Option<u64>, patience: Patience) {
        match self.stage {
            Stage::Outside => {}
            Stage::Handled { since_ns, sleep } => self.fail(since_ns, at_ns, sleep, patience),
            Stage::AsleepOrBack {
                since_ns,
                at_most_ns,
            } => {
                let latest_ns = since_ns.saturating_add(at_most_ns);
                self.fail(since_ns, at_ns.min(latest_ns), Sleep::NotSeen, patience);
            }
        }
        self.way = Some(way);
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

    fn come_back(&mut self, at_ns: u64, retry: bool, patience: Patience) {
        let Stage::Handled { since_ns, sleep } = self.stage else {
            return;
        };
        if retry {
            self.fail(since_ns, at_ns, sleep, patience);
        } else {
            self.totals.refused += 1;
            self.stage = Stage::Outside;
        }
    }

    fn fail(&mut self, since_ns: u64, at_ns: u64, sleep: Sleep, patience: Patience) {
        let took = Duration::from_nanos(at_ns.saturating_sub(since_ns));
        let totals = &mut self.totals;
        match sleep {
            Sleep::CutShort => totals.interrupted_asleep += 1,
            Sleep::Over => totals.interrupted_queued += 1,
            Sleep::NotSeen => totals.interrupted_somewhere += 1,
        }
        totals.traps += 1;
        totals.lost += took;
        let is_hopeless = sleep != Sleep::Over && took <= patience.hopeless_up_to();
        self.attempts = Some(Attempts::add(self.attempts, since_ns, at_ns, is_hopeless));
        self.stage = Stage::Outside;
    }

    fn get_past(&mut self, at_ns: u64, of: Option<(Way, Option<u64>)>) {
        if let Stage::Handled { since_ns, .. } | Stage::AsleepOrBack { since_ns, .. } = self.stage {
            self.totals.lost += Duration::from_nanos(at_ns.saturating_sub(since_ns));
        }
        if let Some((way, rip)) = of {
            self.way = Some(way);
            self.rip = rip;
        }
        self.totals.traps += 1;
        self.totals.windows += 1;
        self.attempts = None;
        self.stage = Stage::Outside;
    }

    fn judge(&mut self) {
        let has_trapped = self.totals.traps > 0;
        self.state = match self.attempts.as_ref().map(Attempts::judge) {
            Some(Judgement::Livelock) => State::Livelocked,
            Some(Judgement::HeldUp) => State::HeldUp,
            Some(Judgement::Nothing) | None if has_trapped => State::Slowed,
            _ => self.state,
        };
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
        self.interrupted_asleep += more.interrupted_asleep;
        self.interrupted_queued += more.interrupted_queued;
        self.interrupted_somewhere += more.interrupted_somewhere;
        self.refused += more.refused;
        self.lost += more.lost;
    }
}

fn nanos<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;
    const TRAP: What = What::Trap {
        way: Way::User,
        rip: Some(0x1000),
    };
    const ASLEEP: What = What::Asleep {
        way: Way::User,
        rip: Some(0x2000),
        at_most_ns: 16 * MS,
    };
    const BACK: What = What::Back { retry: true };
    const PAST: What = What::Detection {
        on: false,
        of: None,
    };

    fn see(account: &mut Account, steps: &[(u64, What)]) {
        for &(at_ms, what) in steps {
            account.see(at_ms * MS, what, Patience::new(Duration::from_millis(8)));
        }
    }

    fn account(steps: &[(u64, What)]) -> Account {
        let mut account = Account::new(0);
        see(&mut account, steps);
        account
    }

    fn slept(left_ms: u64) -> What {
        What::Slept { left_ms }
    }

    #[test]
    fn each_way_back_is_told_from_the_others() {
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
        let account = account(&steps);
        let expected = Totals {
            traps: 5,
            windows: 1,
            interrupted_asleep: 2,
            interrupted_queued: 1,
            interrupted_somewhere: 1,
            lost: Duration::from_millis(3 + 20 + 1 + 16),
            ..Totals::default()
        };
        assert_eq!(*account.totals(), expected);
        assert_eq!(account.totals().interrupted(), 4);
        assert_eq!(
            (account.state(), account.rip()),
            (State::Slowed, Some(0x1000))
        );
    }

    #[test]
    fn an_alignment_check_that_is_no_split_lock_is_no_trap() {
        let account = account(&[(0, TRAP), (0, What::Back { retry: false })]);
        assert_eq!((account.totals().traps, account.totals().refused), (0, 1));
        assert_eq!(account.state(), State::Quiet);
    }

    #[test]
    fn without_probes_the_next_sleep_tells_that_the_last_one_failed() {
        let account = account(&[(0, ASLEEP), (5, ASLEEP), (1000, ASLEEP), (1016, PAST)]);
        let totals = account.totals();
        assert_eq!((totals.traps, totals.interrupted_somewhere), (3, 2));
        // Nobody knows how long the second one lasted, but no sleep is longer than that.
        assert_eq!(totals.lost, Duration::from_millis(5 + 16 + 16));
    }

    #[test]
    fn without_probes_and_sleeps_a_window_tells_of_a_trap() {
        let tells = What::Detection {
            on: false,
            of: Some((Way::Guest, None)),
        };
        let told = account(&[(0, tells), (30, tells)]);
        assert_eq!((told.totals().traps, told.totals().windows), (2, 2));
        assert_eq!(told.way(), Some(Way::Guest));
        // Where traps are seen, it is somebody else's: before 5.19, of each switch of tasks.
        assert_eq!(*account(&[(0, PAST)]).totals(), Totals::default());
    }

    #[test]
    fn other_sleeps_and_switches_are_nobodys_traps_and_keep_nobody_busy() {
        let mut account = account(&kicked(1, 200));
        for second in 1..60 {
            let on = What::Detection { on: true, of: None };
            see(
                &mut account,
                &[(second * 1000, slept(3)), (second * 1000, BACK)],
            );
            see(&mut account, &[(second * 1000, on), (second * 1000, PAST)]);
            account.wait(second * 1000 * MS);
        }
        assert_eq!(
            (account.state(), account.totals().traps),
            (State::Quiet, 200)
        );
    }

    fn kicked(every_ms: u64, times: u64) -> Vec<(u64, What)> {
        let attempt = |n: u64| {
            let at = n * every_ms;
            let end = at + every_ms;
            [(at, TRAP), (end, slept(1)), (end, BACK)]
        };
        (0..times).flat_map(attempt).collect()
    }

    #[test]
    fn hopeless_attempts_are_a_livelock_until_one_gets_past() {
        assert_eq!(account(&kicked(1, 2)).state(), State::Slowed);
        assert_eq!(account(&kicked(1, 99)).state(), State::HeldUp);
        let mut steps = kicked(1, 100);
        let stuck = account(&steps);
        assert_eq!(stuck.state(), State::Livelocked);
        assert_eq!(stuck.stuck_for(), Duration::from_millis(100));
        assert_eq!(stuck.interrupted_every(), Some(Duration::from_millis(1)));
        steps.extend([(100, TRAP), (115, slept(0)), (115, PAST)]);
        let freed = account(&steps);
        assert_eq!((freed.state(), freed.failed_in_a_row()), (State::Slowed, 0));
    }

    #[test]
    fn attempts_that_may_go_well_have_a_second() {
        assert_eq!(account(&kicked(9, 100)).state(), State::HeldUp);
        assert_eq!(account(&kicked(9, 112)).state(), State::Livelocked);
    }

    #[test]
    fn who_does_not_come_back_is_quiet() {
        let mut account = account(&kicked(1, 200));
        account.wait(2199 * MS);
        assert_eq!(account.state(), State::Livelocked);
        account.wait(2200 * MS);
        assert_eq!(
            (account.state(), account.failed_in_a_row()),
            (State::Quiet, 0)
        );
    }

    #[test]
    fn who_waits_for_others_is_not_quiet_and_counts_in_the_end() {
        let mut account = account(&[(0, TRAP), (15, slept(0))]);
        account.wait(5000 * MS);
        assert_eq!(account.state(), State::HeldUp);
        assert_eq!(account.stuck_for(), Duration::from_secs(5));
        see(&mut account, &[(6000, PAST), (6000, BACK)]);
        let totals = account.totals();
        assert_eq!((totals.traps, totals.windows), (1, 1));
        assert_eq!(totals.lost, Duration::from_secs(6));
        assert_eq!(
            (account.state(), account.stuck_for()),
            (State::Slowed, Duration::ZERO)
        );
    }

    fn any_step() -> impl Strategy<Value = What> {
        let detection = (any::<bool>(), any::<Option<Option<u64>>>());
        prop_oneof![
            Just(TRAP),
            Just(BACK),
            Just(What::Back { retry: false }),
            detection.prop_map(|(on, of)| What::Detection {
                on,
                of: of.map(|rip| (Way::Guest, rip))
            }),
            any::<u64>().prop_map(|at_most_ns| What::Asleep {
                way: Way::Guest,
                rip: None,
                at_most_ns,
            }),
            (0u64..20).prop_map(slept),
        ]
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_its_parts(
            steps in proptest::collection::vec((any::<u64>(), any_step()), 0..200),
        ) {
            let mut account = Account::new(0);
            let mut traps = 0;
            for &(at_ns, what) in &steps {
                account.see(at_ns, what, Patience::default());
                account.wait(at_ns / 2);
                let totals = account.totals();
                prop_assert_eq!(totals.traps, totals.windows + totals.interrupted());
                prop_assert!(totals.traps >= traps);
                traps = totals.traps;
            }
        }
    }
}
