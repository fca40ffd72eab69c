//! The comparison itself: one function per kind of event, those of the three stages of a punishment in
//! files of their own.

mod bus_lock;
mod semaphore;
mod sleep;
mod window;

use std::collections::{HashMap, VecDeque};

use split_lock_model::handler::{
    Action, Handler, Interrupted, Retry, Rules, TaskId, Trap, TrapOrigin,
};
use split_lock_model::kernel::Profile;
use split_lock_model::machine::{CoreId, CpuId, Topology};
use split_lock_model::time::Jiffies;

use super::report::{Mismatch, Report, TrapRow, Verdict};
use super::ticks::{Machine, Ticks};
use crate::journal::{Event, Kind};

/// Leads the model through a journal of a kernel that has just settled: no thread in its handler,
/// no window open, every CPU detecting.
#[must_use]
pub fn replay(profile: &Profile, rules: Rules, machine: &Machine, journal: &[Event]) -> Report {
    let mut follower = Follower {
        handler: Handler::new(profile, machine.topology, machine.hardware, rules),
        rules,
        is_armed: profile.arms_split_lock(machine.hardware),
        topology: machine.topology,
        detects: HashMap::new(),
        switches: HashMap::new(),
        ticks: machine.ticks,
        waits: semaphore::ends_of_waits(journal),
        hz: u64::from(profile.hz().get()),
        threads: HashMap::new(),
        windows: HashMap::new(),
        counted_by: HashMap::new(),
        deferred: Vec::new(),
        unlocked_on: None,
        mark: None,
        report: Report::default(),
    };
    for event in journal {
        follower.event(event);
    }
    follower.finish();
    follower.report
}

/// The early return from the sleep.
const CUT_SHORT: Action = Action::Retry(Retry::DetectionOn(Interrupted::Asleep));

const SIGBUS: i64 = 7;

/// More than lie between any two notes of one step.
const MOST_TICKS: u64 = 100;

struct Follower {
    handler: Handler,
    rules: Rules,
    is_armed: bool,
    topology: Topology,
    /// By core, what was last written to TEST_CTRL.
    detects: HashMap<CoreId, bool>,
    /// By CPU, what the model says that will be written next.
    switches: HashMap<u16, bool>,
    ticks: Ticks,
    /// How each thread's waits in the queue will end, in their order.
    waits: HashMap<i32, VecDeque<bool>>,
    hz: u64,
    threads: HashMap<i32, Thread>,
    /// By CPU.
    windows: HashMap<u16, Window>,
    /// By tick, the CPU that has counted it.
    counted_by: HashMap<u64, u16>,
    /// Threads that have joined the queue of a semaphore that is free, says the model.
    deferred: Vec<Event>,
    /// The CPU on which the work that releases the semaphore was run last.
    unlocked_on: Option<u16>,
    mark: Option<i64>,
    report: Report,
}

struct Thread {
    id: TaskId,
    stage: Stage,
    row: Option<TrapRow>,
    /// The tick of the last signal since the trap.
    signalled: Option<u64>,
    /// The tick of its last trap.
    trapped: u64,
    /// The tick in which its wait for the semaphore began.
    queued_at: u64,
    /// That wait will end with a signal.
    will_leave: bool,
    /// Its window has got the timer that will end it.
    window_ends: bool,
    /// It got SIGBUS, after its bus lock.
    got_sigbus: bool,
}

/// How far a thread has come in the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Outside,
    /// In it, and nothing decided.
    Entered,
    /// About to sleep; noted in this tick.
    AboutToSleep(u64),
    /// Its timer is set.
    Asleep(Sleep),
    /// The sleep, which would have lasted until this tick, ended as if complete.
    Slept {
        wake: u64,
    },
    /// About to take the semaphore, after this.
    Wanting(Before),
    Queued,
    /// Let through, in this tick; the model says when the window closes.
    Through {
        tick: u64,
        closes: Option<u64>,
    },
    /// Sent back.
    Back(Interrupted),
    /// After a bus lock, and about to ask the rate limit, since this tick.
    BusLocked {
        since: u64,
        has_slept: bool,
    },
    /// The rate limit makes it sleep until this tick.
    Throttled {
        wake: u64,
    },
    /// The model disagreed, so it cannot say what comes next.
    Lost,
}

/// A sleep that the model agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sleep {
    since: u64,
    /// The tick that its timer asks for.
    expires: u64,
    /// The tick in which that fires.
    wake: u64,
    /// The tick in which the thread took the timer back.
    cancelled: Option<u64>,
}

/// What led a thread to the semaphore. The model is asked only now, because the order at the semaphore
/// is decided only now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// A sleep that would have lasted until `wake`.
    Sleep { wake: u64 },
    /// No sleep: it has been served, or a signal was there before it.
    Trap,
}

/// A window that waits for its work.
struct Window {
    opened: u64,
    closes: u64,
    /// The row of the trap that opened it, once there is one.
    row: Option<usize>,
    pid: i32,
    /// When its work's timer expired, and in which tick.
    queued: Option<(u64, u64)>,
    /// The work had last been run, for an earlier window, on this other CPU: if its worker had not
    /// come back from it, it was run there again.
    last_on: Option<u16>,
}

impl Follower {
    fn event(&mut self, event: &Event) {
        if self.ticks.is_early(event) {
            self.mismatch(event, "a tick was counted before its moment");
        } else if self.ticks.is_late(event) {
            self.mismatch(event, "a tick was not counted at its moment");
        }
        match event.kind {
            Kind::Trap(_) => self.trap(event),
            Kind::BusLock(_) => self.bus_lock(event),
            Kind::Sleep(_) => self.sleep(event),
            Kind::Timer(expires) => self.timer(event, expires),
            Kind::Cancel(expires) => self.cancel(event, expires),
            Kind::Wake => self.wake(event),
            Kind::Slept(left) => self.slept(event, left),
            Kind::Down => self.down(event),
            Kind::Line => self.line(event),
            Kind::Took { taken } => self.took(event, taken),
            Kind::Msr { on } => self.msr(event, on),
            Kind::Queue { unlocks } => self.queue(event, unlocks),
            Kind::Work { unlocks } => self.work(event, unlocks),
            Kind::Worked => {}
            Kind::Return { retry } => self.back(event, retry),
            Kind::Done => self.done(event),
            Kind::Signal(number) => self.signal(event, number),
            Kind::Mark(number) => self.mark = Some(number),
            Kind::Tick => {
                self.counted_by.insert(event.jiffies, event.cpu);
            }
        }
    }

    fn thread(&mut self, pid: i32) -> &mut Thread {
        let handler = &mut self.handler;
        self.threads.entry(pid).or_insert_with(|| Thread {
            id: handler.spawn(),
            stage: Stage::Outside,
            row: None,
            signalled: None,
            trapped: 0,
            queued_at: 0,
            will_leave: false,
            window_ends: false,
            got_sigbus: false,
        })
    }

    fn stage(&mut self, event: &Event) -> Stage {
        self.thread(event.pid).stage
    }

    fn go_to(&mut self, event: &Event, stage: Stage) {
        self.thread(event.pid).stage = stage;
    }

    fn mismatch(&mut self, event: &Event, what: impl Into<String>) {
        self.report.mismatches.push(Mismatch {
            ns: event.ns,
            pid: event.pid,
            what: what.into(),
        });
    }

    /// A disagreement after which the thread's stage means nothing until its next trap.
    fn lose(&mut self, event: &Event, what: impl Into<String>) {
        if self.stage(event) != Stage::Lost {
            self.mismatch(event, what);
            self.go_to(event, Stage::Lost);
        }
    }

    fn unexpected(&mut self, event: &Event, stage: Stage) {
        self.lose(
            event,
            format!("{:?} while the thread is {stage:?}", event.kind),
        );
    }

    /// Asks the model at the tick of this note and, if ticks came since the note before, which was made in the tick
    /// `earlier`, at each of those; takes the first answer that is `wanted`, and otherwise the first.
    fn ask(
        &mut self,
        event: &Event,
        earlier: u64,
        question: impl Fn(&mut Handler, Jiffies) -> Option<Action>,
        wanted: impl Fn(&Action) -> bool,
    ) -> (Option<Action>, u64) {
        let mut first = None;
        let earlier = earlier.clamp(event.jiffies.saturating_sub(MOST_TICKS), event.jiffies);
        for tick in (earlier..=event.jiffies).rev() {
            let mut handler = self.handler.clone();
            let answer = question(&mut handler, Jiffies(tick));
            if answer.as_ref().is_some_and(&wanted) {
                self.handler = handler;
                self.report.allowed.tick_within_step += u64::from(tick != event.jiffies);
                return (answer, tick);
            }
            first.get_or_insert((handler, answer));
        }
        let (handler, answer) = first.expect("asked at least once");
        self.handler = handler;
        (answer, event.jiffies)
    }

    fn trap(&mut self, event: &Event) {
        if !self.detects(event) {
            self.mismatch(event, "a trap on a CPU whose detection is off");
        }
        let row = TrapRow {
            mark: self.mark,
            ns: event.ns,
            pid: event.pid,
            cpu: event.cpu,
            verdict: Verdict::Passed,
            asleep_after_ns: None,
            awake_after_ns: None,
            slept_ticks: None,
            queued_ticks: None,
            window_ticks: None,
            signal_after_ns: None,
        };
        let thread = self.thread(event.pid);
        thread.stage = Stage::Entered;
        thread.row = Some(row);
        thread.signalled = None;
        thread.trapped = event.jiffies;
        thread.window_ends = false;
    }

    /// The trap that this note is about.
    fn trap_of(&mut self, event: &Event, signal_pending: bool) -> Trap {
        let origin = if event.guest {
            TrapOrigin::Guest
        } else {
            TrapOrigin::User
        };
        let id = self.thread(event.pid).id;
        Trap {
            signal_pending,
            ..Trap::new(id, CpuId(event.cpu.into()), origin)
        }
    }

    /// The model's answer to it.
    fn trapped(&mut self, event: &Event, tick: u64, signal_pending: bool) -> Action {
        let trap = self.trap_of(event, signal_pending);
        self.handler.trap(Jiffies(tick), trap).action
    }

    fn timer(&mut self, event: &Event, expires: u64) {
        let due = expires.saturating_add(1);
        match self.stage(event) {
            Stage::AboutToSleep(noted) => self.fall_asleep(event, noted, expires),
            Stage::Entered => {
                self.open_at_once(event, Some(due));
                self.compare_closing(event, due);
            }
            Stage::Through { .. } => self.compare_closing(event, due),
            Stage::BusLocked { .. } => self.throttle(event, due),
            stage => self.unexpected(event, stage),
        }
    }

    fn back(&mut self, event: &Event, retry: bool) {
        let stage = self.stage(event);
        if let Stage::BusLocked { .. } = stage {
            return self.bus_lock_done(event);
        }
        let verdict = match stage {
            Stage::Entered if !retry => {
                let action = self.trapped(event, event.jiffies, event.signal_pending);
                if action != Action::Sigbus {
                    return self.lose(event, format!("SIGBUS; model: {action:?}"));
                }
                Verdict::Sigbus
            }
            stage if !retry => return self.lose(event, format!("SIGBUS; model: {stage:?}")),
            Stage::Through { closes, .. } => {
                if closes.is_some() && !self.thread(event.pid).window_ends {
                    self.mismatch(event, format!("a window without an end; model: {closes:?}"));
                }
                Verdict::Passed
            }
            Stage::Back(Interrupted::BeforeSleep) => Verdict::NoSleep,
            Stage::Back(Interrupted::Asleep) => Verdict::CutShort,
            Stage::Back(Interrupted::Queued) => Verdict::LeftQueue,
            other => {
                self.lose(event, format!("the handler is done; model: {other:?}"));
                return;
            }
        };
        self.note_row(event, |row| row.verdict = verdict);
        self.go_to(event, Stage::Outside);
        let Some(row) = self.thread(event.pid).row.take() else {
            return;
        };
        let index = self.report.traps.len();
        self.report.traps.push(row);
        let window = self.windows.get_mut(&event.cpu);
        if let Some(window) = window.filter(|window| window.pid == event.pid) {
            window.row.get_or_insert(index);
        }
    }

    fn done(&mut self, event: &Event) {
        if self.detects(event) {
            self.mismatch(
                event,
                "a split lock was let through on a CPU whose detection is on",
            );
        }
        let has_window = self.windows.contains_key(&event.cpu);
        self.report.without_own_window += u64::from(!has_window);
    }

    fn signal(&mut self, event: &Event, number: i64) {
        let thread = self.thread(event.pid);
        thread.got_sigbus |= number == SIGBUS;
        thread.signalled = Some(event.jiffies);
        if let Some(row) = &mut thread.row {
            row.signal_after_ns
                .get_or_insert(event.ns.saturating_sub(row.ns));
        }
    }

    fn note_row(&mut self, event: &Event, note: impl FnOnce(&mut TrapRow)) {
        if let Some(row) = &mut self.thread(event.pid).row {
            note(row);
        }
    }

    /// Nobody may be left in the handler, and nothing undone.
    fn finish(&mut self) {
        let stuck = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.row.is_some());
        let stuck: Vec<i32> = stuck.map(|(&pid, _)| pid).collect();
        for pid in stuck {
            let what = "still in the handler at the end".to_owned();
            self.report.mismatches.push(Mismatch { ns: 0, pid, what });
        }
        for cpu in self.switches.keys() {
            let what = format!("CPU {cpu} was not switched at the end");
            let mismatch = Mismatch {
                ns: 0,
                pid: 0,
                what,
            };
            self.report.mismatches.push(mismatch);
        }
    }
}
