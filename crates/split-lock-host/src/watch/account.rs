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
    /// Signals have sent it back to the same instruction several times in a row.
    HeldUp,
    /// They do so for so long, or so soon, that it will not get past while they go on.
    Livelocked,
}

/// What has become of the traps of a thread, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Traps of which it is known what became of them: the sum of the next five.
    pub traps: u64,
    /// The thread got past, in a window without detection.
    pub windows: u64,
    /// A signal ended the sleep.
    pub interrupted_asleep: u64,
    /// A signal ended the wait for the semaphore.
    pub interrupted_queued: u64,
    /// A signal was there before the sleep.
    pub not_slept: u64,
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
    stretch: Option<Stretch>,
    last_ns: u64,
}

/// Where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Outside,
    /// In the handler.
    Handled {
        since_ns: u64,
        sleep: Sleep,
        /// How long the sleep lasts, if nothing ends it.
        at_most_ns: Option<u64>,
    },
}

/// What is known of a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    NotYet,
    Asleep,
    /// A signal kept it from beginning.
    None,
    Over,
    CutShort,
}

/// Attempts in a row that have failed.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    since_ns: u64,
    until_ns: u64,
    failed: u64,
    hopeless: u64,
}

/// Without a trap for so long, a thread is quiet.
const QUIET_AFTER: Duration = Duration::from_secs(2);

impl Account {
    pub(super) fn new(at_ns: u64) -> Self {
        Self {
            totals: Totals::default(),
            way: None,
            rip: None,
            state: State::Quiet,
            stage: Stage::Outside,
            stretch: None,
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
        let nanos = |stretch: Stretch| stretch.until_ns.saturating_sub(stretch.since_ns);
        Duration::from_nanos(self.stretch.map_or(0, nanos))
    }

    /// How many attempts to get past it have failed in a row.
    #[must_use]
    pub fn failed_in_a_row(&self) -> u64 {
        self.stretch.map_or(0, |stretch| stretch.failed)
    }

    /// How far apart the interruptions are.
    #[must_use]
    pub fn interrupted_every(&self) -> Option<Duration> {
        let failed = u32::try_from(self.failed_in_a_row()).ok()?;
        self.stuck_for().checked_div(failed)
    }

    pub(super) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// Takes note of a step.
    pub(super) fn see(&mut self, at_ns: u64, what: What, patience: Patience) {
        self.last_ns = at_ns;
        match what {
            What::Trap { way, rip } => self.begin(at_ns, way, rip, patience),
            What::Asleep { at_most_ns, of } => {
                self.begin_by_sleep(at_ns, of, patience);
                self.fall_asleep(at_most_ns);
            }
            What::Slept { left_ms } => self.wake(left_ms),
            What::Back { retry } => self.come_back(at_ns, retry, patience),
            What::Detection { on: false } => self.get_past(at_ns),
            What::Detection { on: true } => {}
        }
        self.judge();
    }

    /// Takes note that nothing has happened.
    pub(super) fn wait(&mut self, now_ns: u64) {
        let idle = Duration::from_nanos(now_ns.saturating_sub(self.last_ns));
        if idle >= QUIET_AFTER {
            self.stretch = None;
            self.stage = Stage::Outside;
            self.state = State::Quiet;
        }
    }

    fn begin(&mut self, at_ns: u64, way: Way, rip: Option<u64>, patience: Patience) {
        self.fail_unnoticed(at_ns, patience);
        self.way = Some(way);
        self.rip = rip;
        self.stage = Stage::Handled {
            since_ns: at_ns,
            sleep: Sleep::NotYet,
            at_most_ns: None,
        };
    }

    /// Where traps are not seen, the sleep tells of one.
    fn begin_by_sleep(&mut self, at_ns: u64, of: Option<(Way, Option<u64>)>, patience: Patience) {
        let is_seen = matches!(
            self.stage,
            Stage::Handled {
                sleep: Sleep::NotYet,
                ..
            }
        );
        if let Some((way, rip)) = of
            && !is_seen
        {
            self.begin(at_ns, way, rip, patience);
        }
    }

    /// A thread sleeps for other reasons, too, but not in the handler.
    fn fall_asleep(&mut self, longest_ns: u64) {
        if let Stage::Handled {
            sleep: sleep @ Sleep::NotYet,
            at_most_ns,
            ..
        } = &mut self.stage
        {
            *sleep = Sleep::Asleep;
            *at_most_ns = Some(longest_ns);
        }
    }

    fn wake(&mut self, left_ms: u64) {
        if let Stage::Handled { sleep, .. } = &mut self.stage {
            *sleep = match (left_ms, *sleep) {
                (0, _) => Sleep::Over,
                (_, Sleep::Asleep) => Sleep::CutShort,
                _ => Sleep::None,
            };
        }
    }

    fn come_back(&mut self, at_ns: u64, retry: bool, patience: Patience) {
        let Stage::Handled {
            since_ns, sleep, ..
        } = self.stage
        else {
            return;
        };
        if retry {
            self.fail(at_ns, since_ns, sleep, patience);
        } else {
            self.totals.refused += 1;
            self.stage = Stage::Outside;
        }
    }

    /// Where returns are not seen, the next trap tells that there was one, though not when.
    fn fail_unnoticed(&mut self, at_ns: u64, patience: Patience) {
        if let Stage::Handled {
            since_ns,
            sleep,
            at_most_ns,
        } = self.stage
        {
            let latest_ns = since_ns.saturating_add(at_most_ns.unwrap_or(0));
            self.fail(at_ns.min(latest_ns), since_ns, sleep, patience);
        }
    }

    fn fail(&mut self, at_ns: u64, since_ns: u64, sleep: Sleep, patience: Patience) {
        let took = Duration::from_nanos(at_ns.saturating_sub(since_ns));
        let totals = &mut self.totals;
        match sleep {
            Sleep::CutShort => totals.interrupted_asleep += 1,
            Sleep::Over => totals.interrupted_queued += 1,
            Sleep::None => totals.not_slept += 1,
            Sleep::NotYet | Sleep::Asleep => totals.interrupted_somewhere += 1,
        }
        totals.traps += 1;
        totals.lost += took;
        let is_hopeless = sleep != Sleep::Over && took <= patience.hopeless_up_to();
        let stretch = self.stretch.get_or_insert(Stretch {
            since_ns,
            until_ns: at_ns,
            failed: 0,
            hopeless: 0,
        });
        stretch.until_ns = at_ns;
        stretch.failed += 1;
        stretch.hopeless += u64::from(is_hopeless);
        self.stage = Stage::Outside;
    }

    fn get_past(&mut self, at_ns: u64) {
        if let Stage::Handled { since_ns, .. } = self.stage {
            self.totals.lost += Duration::from_nanos(at_ns.saturating_sub(since_ns));
        }
        self.totals.traps += 1;
        self.totals.windows += 1;
        self.stretch = None;
        self.stage = Stage::Outside;
    }

    fn judge(&mut self) {
        let attempts = self.stretch.map(|stretch| Attempts {
            failed: stretch.failed,
            hopeless: stretch.hopeless,
            lasting: self.stuck_for(),
        });
        let has_trapped = self.totals.traps > 0;
        self.state = match attempts.as_ref().map(Patience::judge) {
            Some(Judgement::Livelock) => State::Livelocked,
            Some(Judgement::HeldUp) => State::HeldUp,
            // Between two attempts at another instruction nothing has got better yet.
            _ if has_trapped => State::Slowed,
            _ => self.state,
        };
    }
}

impl Totals {
    /// Traps that a signal sent back to their instruction.
    #[must_use]
    pub fn interrupted(&self) -> u64 {
        self.interrupted_asleep
            + self.interrupted_queued
            + self.not_slept
            + self.interrupted_somewhere
    }

    /// Those of another thread, too.
    pub fn add(&mut self, more: &Totals) {
        self.traps += more.traps;
        self.windows += more.windows;
        self.interrupted_asleep += more.interrupted_asleep;
        self.interrupted_queued += more.interrupted_queued;
        self.not_slept += more.not_slept;
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
        at_most_ns: 16 * MS,
        of: None,
    };
    const BACK: What = What::Back { retry: true };
    const PAST: What = What::Detection { on: false };

    fn account(steps: &[(u64, What)]) -> Account {
        let mut account = Account::new(0);
        for &(at_ms, what) in steps {
            account.see(at_ms * MS, what, Patience::new(Duration::from_millis(8)));
        }
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
            (0, ASLEEP),
            (3, slept(8)),
            (3, BACK),
            (10, TRAP),
            (10, ASLEEP),
            (24, slept(0)),
            (30, BACK),
            // A signal was there before.
            (40, TRAP),
            (40, slept(12)),
            (40, BACK),
            // Past, and back in the window.
            (50, TRAP),
            (50, ASLEEP),
            (65, slept(0)),
            (66, PAST),
            (66, BACK),
        ];
        let account = account(&steps);
        let expected = Totals {
            traps: 4,
            windows: 1,
            interrupted_asleep: 1,
            interrupted_queued: 1,
            not_slept: 1,
            lost: Duration::from_millis(3 + 20 + 16),
            ..Totals::default()
        };
        assert_eq!(*account.totals(), expected);
        assert_eq!(account.totals().interrupted(), 3);
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
        let asleep = What::Asleep {
            at_most_ns: 16 * MS,
            of: Some((Way::User, Some(0x2000))),
        };
        let account = account(&[(0, asleep), (5, asleep), (1000, asleep), (1016, PAST)]);
        let totals = account.totals();
        assert_eq!((totals.traps, totals.interrupted_somewhere), (3, 2));
        // Nobody knows how long the second one lasted, but no sleep is longer than that.
        assert_eq!(totals.lost, Duration::from_millis(5 + 16 + 16));
    }

    #[test]
    fn other_sleeps_and_other_switches_are_nobodys_traps() {
        let account = account(&[
            (0, ASLEEP),
            (1, slept(3)),
            (2, What::Detection { on: true }),
            (3, BACK),
        ]);
        assert_eq!(*account.totals(), Totals::default());
        assert_eq!(account.state(), State::Quiet);
    }

    fn kicked(every_ms: u64, times: u64) -> Vec<(u64, What)> {
        let attempt = |n: u64| {
            let at = n * every_ms;
            let end = at + every_ms;
            [(at, TRAP), (at, ASLEEP), (end, slept(1)), (end, BACK)]
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
        steps.push((101, PAST));
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

    fn any_step() -> impl Strategy<Value = What> {
        prop_oneof![
            Just(TRAP),
            Just(ASLEEP),
            Just(BACK),
            Just(What::Back { retry: false }),
            Just(PAST),
            Just(What::Detection { on: true }),
            Just(What::Asleep {
                at_most_ns: u64::MAX,
                of: Some((Way::Guest, None))
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
