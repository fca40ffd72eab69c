//! The comparison itself: one function per kind of event.

use std::collections::HashMap;

use split_lock_model::handler::{
    Action, Handler, Interrupted, Path, Retry, Rules, Signal, TaskId, Trap,
};
use split_lock_model::kernel::Profile;
use split_lock_model::machine::{CpuId, Hardware, Topology};
use split_lock_model::time::Jiffies;

use super::report::{Mismatch, Report, TrapRow, Verdict};
use super::ticks::Ticks;
use crate::journal::{Event, Kind};

/// Leads the model through a journal of a kernel that has just settled: no thread in its handler,
/// no window open, every CPU detecting.
#[must_use]
pub fn replay(
    profile: &Profile,
    rules: Rules,
    topology: Topology,
    ticks: &Ticks,
    journal: &[Event],
) -> Report {
    let mut follower = Follower {
        handler: Handler::new(profile, topology, Hardware::ICE_LAKE, rules),
        ticks: *ticks,
        hz: u64::from(profile.hz().get()),
        threads: HashMap::new(),
        windows: HashMap::new(),
        deferred: Vec::new(),
        unlocking_on: None,
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

struct Follower {
    handler: Handler,
    ticks: Ticks,
    hz: u64,
    threads: HashMap<i32, Thread>,
    /// By CPU.
    windows: HashMap<u16, Window>,
    /// Threads that have joined the queue of a semaphore that is free, says the model.
    deferred: Vec<Event>,
    /// The CPU on which the work that releases the semaphore is being run.
    unlocking_on: Option<u16>,
    mark: Option<i64>,
    report: Report,
}

/// What is known of a thread.
struct Thread {
    id: TaskId,
    stage: Stage,
    row: Option<TrapRow>,
    /// The tick of the last signal since the trap.
    signalled: Option<u64>,
    /// The tick in which it was last woken.
    woken: u64,
    /// The tick in which its wait for the semaphore began.
    queued_at: u64,
    /// Its window has got the timer that will end it.
    window_ends: bool,
}

/// How far a thread has come in the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not in it.
    Outside,
    /// In it, and nothing decided.
    Entered,
    /// About to sleep; noted in this tick.
    Sleepy(u64),
    /// Asleep since a tick, until a tick.
    Asleep { since: u64, wake: u64 },
    /// The sleep ended in this tick, as if complete.
    Slept { wake: u64, tick: u64 },
    /// About to take the semaphore; noted with or without a signal pending.
    Wanting { wake: u64, slept: u64 },
    /// In the semaphore's queue.
    Queued,
    /// Let through, in this tick; the model says when the window closes.
    Through { tick: u64, closes: Option<u64> },
    /// Sent back.
    Back(Interrupted),
    /// The model disagreed, so it cannot say what comes next.
    Lost,
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
    /// The work was then still being run, for an earlier window, on this other CPU.
    busy_on: Option<u16>,
}

impl Follower {
    fn event(&mut self, event: &Event) {
        if !self.ticks.agree_with(event) {
            self.report.allowed.late_ticks += 1;
        }
        match event.kind {
            Kind::Trap(_) => self.trap(event),
            Kind::Sleep(_) => self.sleep(event),
            Kind::Timer(expires) => self.timer(event, expires),
            Kind::Wake => self.wake(event),
            Kind::Slept(left) => self.slept(event, left),
            Kind::Down => self.down(event),
            Kind::Line => self.line(event),
            Kind::Took { taken } => self.took(event, taken),
            Kind::Msr { on } => self.msr(event, on),
            Kind::Queue { unlocks } => self.queue(event, unlocks),
            Kind::Work { unlocks } => self.work(event, unlocks),
            Kind::Worked => self.unlocking_on = None,
            Kind::Return { retry } => self.back(event, retry),
            Kind::Done => self.done(event),
            Kind::Signal(_) => self.signal(event),
            Kind::Mark(number) => self.mark = Some(number),
        }
    }

    fn thread(&mut self, pid: i32) -> &mut Thread {
        let handler = &mut self.handler;
        self.threads.entry(pid).or_insert_with(|| Thread {
            id: handler.spawn(),
            stage: Stage::Outside,
            row: None,
            signalled: None,
            woken: 0,
            queued_at: 0,
            window_ends: false,
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

    /// Asks the model at the tick of this note and, if a tick came since the note before, at that
    /// one's; takes the first answer that is `wanted`, and otherwise the first.
    fn ask(
        &mut self,
        event: &Event,
        earlier: u64,
        question: impl Fn(&mut Handler, Jiffies) -> Option<Action>,
        wanted: impl Fn(&Action) -> bool,
    ) -> (Option<Action>, u64) {
        let mut first = None;
        for tick in [event.jiffies, earlier] {
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
        let id = self.thread(event.pid).id;
        if !self.handler.detects(id, CpuId(event.cpu.into())) {
            self.mismatch(
                event,
                "a trap on a CPU that does not detect, says the model",
            );
        }
        let row = TrapRow {
            mark: self.mark,
            ns: event.ns,
            pid: event.pid,
            cpu: event.cpu,
            verdict: Verdict::Passed,
            slept_ticks: None,
            queued_ticks: None,
            window_ticks: None,
            signal_after_ns: None,
        };
        let thread = self.thread(event.pid);
        thread.stage = Stage::Entered;
        thread.row = Some(row);
        thread.signalled = None;
        thread.window_ends = false;
    }

    /// The model's answer to a trap.
    fn trapped(&mut self, event: &Event, tick: u64, signal_pending: bool) -> Action {
        let path = if event.guest { Path::Guest } else { Path::User };
        let id = self.thread(event.pid).id;
        let trap = Trap {
            signal_pending,
            ..Trap::new(id, CpuId(event.cpu.into()), path)
        };
        self.handler.trap(Jiffies(tick), trap).action
    }

    fn sleep(&mut self, event: &Event) {
        match self.stage(event) {
            Stage::Entered if event.signal_pending => self.no_sleep(event),
            Stage::Entered => self.go_to(event, Stage::Sleepy(event.jiffies)),
            stage => self.unexpected(event, stage),
        }
    }

    /// A signal was there before the sleep.
    fn no_sleep(&mut self, event: &Event) {
        match self.trapped(event, event.jiffies, true) {
            Action::Retry(Retry::DetectionOn(cause)) => self.go_to(event, Stage::Back(cause)),
            other => self.lose(
                event,
                format!("a signal before the sleep; model: {other:?}"),
            ),
        }
    }

    fn timer(&mut self, event: &Event, expires: u64) {
        match self.stage(event) {
            Stage::Sleepy(noted) => self.fall_asleep(event, noted, expires),
            Stage::Entered => {
                self.open_at_once(event);
                self.compare_closing(event, expires + 1);
            }
            Stage::Through { .. } => self.compare_closing(event, expires + 1),
            stage => self.unexpected(event, stage),
        }
    }

    /// The wheel fires a timer in the tick after the one that it asks for.
    fn fall_asleep(&mut self, event: &Event, noted: u64, expires: u64) {
        let path = if event.guest { Path::Guest } else { Path::User };
        let trap = Trap::new(self.thread(event.pid).id, CpuId(event.cpu.into()), path);
        let wake = Jiffies(expires + 1);
        let (action, tick) = self.ask(
            event,
            noted,
            |handler, tick| Some(handler.trap(tick, trap).action),
            |action| matches!(action, Action::Sleep { wake: model, .. } if *model == wake),
        );
        match action {
            Some(Action::Sleep { wake: model, .. }) => {
                if model != wake {
                    let (found, model) = (wake.0 - tick, model.0.wrapping_sub(tick));
                    self.mismatch(event, format!("a sleep of {found} ticks; model: {model}"));
                }
                let (since, wake) = (tick, model.0);
                self.go_to(event, Stage::Asleep { since, wake });
            }
            other => self.lose(event, format!("a sleep; model: {other:?}")),
        }
    }

    fn wake(&mut self, event: &Event) {
        let stage = self.stage(event);
        self.thread(event.pid).woken = event.jiffies;
        let Stage::Asleep { wake, .. } = stage else {
            return;
        };
        if event.signal_pending {
            return;
        }
        if event.jiffies < wake {
            let early = wake - event.jiffies;
            self.mismatch(
                event,
                format!("the sleep's timer fired {early} ticks before the model's"),
            );
        }
        self.report.allowed.late_timers += u64::from(event.jiffies > wake);
    }

    fn slept(&mut self, event: &Event, left: i64) {
        match self.stage(event) {
            Stage::Back(Interrupted::BeforeSleep) if left > 0 => {}
            // The signal came after the note of the sleep.
            Stage::Sleepy(_) if left > 0 => self.no_sleep(event),
            Stage::Asleep { since, wake } => {
                self.note_row(event, |row| row.slept_ticks = Some(event.jiffies - since));
                self.note_late_thread(event);
                if left > 0 {
                    self.cut_short(event, wake, left);
                } else {
                    let tick = event.jiffies;
                    self.go_to(event, Stage::Slept { wake, tick });
                }
            }
            stage => self.unexpected(event, stage),
        }
    }

    fn note_late_thread(&mut self, event: &Event) {
        let signalled = self.thread(event.pid).signalled;
        let late = signalled.is_some_and(|tick| tick < event.jiffies);
        self.report.allowed.late_threads += u64::from(late);
    }

    fn cut_short(&mut self, event: &Event, wake: u64, left: i64) {
        let (id, woken) = (self.thread(event.pid).id, self.thread(event.pid).woken);
        let cpu = CpuId(event.cpu.into());
        let (action, tick) = self.ask(
            event,
            woken,
            |handler, now| handler.signal(now, id, cpu, Signal::Ordinary),
            |action| *action == CUT_SHORT,
        );
        if action != Some(CUT_SHORT) {
            self.lose(
                event,
                format!("cut short with {left} ms left; model: {action:?}"),
            );
            return;
        }
        // The last tick of the wait is the wheel's, and not counted as left.
        let ticks_left = (wake - 1).saturating_sub(tick);
        let expected = (ticks_left * 1000).div_ceil(self.hz);
        if left.cast_unsigned() != expected {
            self.mismatch(
                event,
                format!("{left} ms of the sleep left; model: {expected} ms"),
            );
        }
        self.go_to(event, Stage::Back(Interrupted::Asleep));
    }

    fn down(&mut self, event: &Event) {
        match self.stage(event) {
            Stage::Slept { wake, tick } => {
                self.thread(event.pid).queued_at = event.jiffies;
                self.go_to(event, Stage::Wanting { wake, slept: tick });
            }
            stage => self.unexpected(event, stage),
        }
    }

    fn line(&mut self, event: &Event) {
        let Stage::Wanting { .. } = self.stage(event) else {
            let stage = self.stage(event);
            return self.unexpected(event, stage);
        };
        if !self.join_queue(event) {
            self.deferred.push(*event);
        }
    }

    /// Whether the model, too, finds the semaphore taken. If not, somebody has taken it whose note of
    /// that is still to come, or the work that releases it has been noted and has not yet done so.
    fn join_queue(&mut self, event: &Event) -> bool {
        let before = self.handler.clone();
        let stage = match self.ask_for_semaphore(event) {
            Some(Action::Queue { .. }) => Stage::Queued,
            Some(Action::Retry(Retry::DetectionOn(Interrupted::Queued))) => {
                Stage::Back(Interrupted::Queued)
            }
            _ => {
                self.handler = before;
                return false;
            }
        };
        self.go_to(event, stage);
        true
    }

    /// The model's view of a thread that comes from its sleep.
    fn ask_for_semaphore(&mut self, event: &Event) -> Option<Action> {
        let Stage::Wanting { wake, slept } = self.stage(event) else {
            return None;
        };
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        let pending = event.signal_pending;
        let (action, _) = self.ask(
            event,
            slept,
            |handler, now| match now.0 >= wake {
                true => handler.sleep_over(now, id, cpu, pending),
                false => handler.signal(now, id, cpu, Signal::Ordinary),
            },
            |action| *action != CUT_SHORT,
        );
        action
    }

    fn through(&mut self, event: &Event, tick: u64, closes: Option<Jiffies>) {
        let closes = closes.map(|tick| tick.0);
        self.go_to(event, Stage::Through { tick, closes });
    }

    fn took(&mut self, event: &Event, taken: bool) {
        let queued_at = self.thread(event.pid).queued_at;
        self.note_row(event, |row| {
            row.queued_ticks = Some(event.jiffies - queued_at);
        });
        let was_deferred = self.deferred.iter().any(|other| other.pid == event.pid);
        self.deferred.retain(|other| other.pid != event.pid);
        self.report.allowed.races += u64::from(was_deferred);
        match (self.stage(event), taken) {
            (Stage::Back(Interrupted::Queued), false) => {}
            (Stage::Queued, true) => self.granted(event),
            (Stage::Queued, false) => self.left_queue(event),
            (Stage::Wanting { .. }, true) => self.take_free(event),
            // It queued, and left, before the work that was under way got to releasing it.
            (Stage::Wanting { .. }, false) if was_deferred && event.signal_pending => {
                self.go_to(event, Stage::Back(Interrupted::Queued));
            }
            (Stage::Lost, _) => {}
            (stage, _) => self.unexpected(event, stage),
        }
        self.ask_deferred_again();
    }

    fn take_free(&mut self, event: &Event) {
        match self.ask_for_semaphore(event) {
            Some(Action::Retry(Retry::WindowOpen { closes, .. })) => {
                self.through(event, event.jiffies, closes);
            }
            other => self.lose(event, format!("past the sleep; model: {other:?}")),
        }
    }

    /// In the order of the queue.
    fn ask_deferred_again(&mut self) {
        let deferred = std::mem::take(&mut self.deferred);
        for event in deferred {
            if self.join_queue(&event) {
                self.report.allowed.races += 1;
            } else {
                self.deferred.push(event);
            }
        }
    }

    fn granted(&mut self, event: &Event) {
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        match self.handler.granted(Jiffies(event.jiffies), id, cpu) {
            Some(Action::Retry(Retry::WindowOpen { closes, .. })) => {
                self.through(event, event.jiffies, closes);
            }
            other => self.lose(event, format!("got the semaphore; model: {other:?}")),
        }
    }

    fn left_queue(&mut self, event: &Event) {
        self.note_late_thread(event);
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        let now = Jiffies(event.jiffies);
        match self.handler.signal(now, id, cpu, Signal::Ordinary) {
            Some(Action::Retry(Retry::DetectionOn(cause))) => {
                self.go_to(event, Stage::Back(cause));
            }
            other => self.lose(
                event,
                format!("a signal at the semaphore; model: {other:?}"),
            ),
        }
    }

    /// With mitigate=0 a trap opens its window without more ado.
    fn open_at_once(&mut self, event: &Event) {
        match self.trapped(event, event.jiffies, event.signal_pending) {
            Action::Retry(Retry::WindowOpen { closes, .. }) => {
                self.through(event, event.jiffies, closes);
            }
            other => self.lose(event, format!("a window at once; model: {other:?}")),
        }
    }

    /// The tick at which the work's timer will expire.
    fn compare_closing(&mut self, event: &Event, closes: u64) {
        let Stage::Through {
            tick,
            closes: model,
        } = self.stage(event)
        else {
            return;
        };
        self.thread(event.pid).window_ends = true;
        match model {
            Some(model) if model == closes => {}
            Some(model) if model + 1 == closes && event.jiffies == tick + 1 => {
                self.report.allowed.tick_within_step += 1;
            }
            model => {
                self.mismatch(
                    event,
                    format!("a window until tick {closes}; model: {model:?}"),
                );
            }
        }
        let window = Window {
            opened: tick,
            closes,
            row: None,
            pid: event.pid,
            queued: None,
            busy_on: None,
        };
        self.windows.insert(event.cpu, window);
    }

    fn msr(&mut self, event: &Event, on: bool) {
        if !on && self.stage_if_known(event) == Some(Stage::Entered) {
            // The only work item is busy elsewhere, so that no timer was set.
            self.open_at_once(event);
        }
        if self.handler.is_off(CpuId(event.cpu.into())) == on {
            let (kernel, model) = if on { ("on", "off") } else { ("off", "on") };
            let what = format!("detection {kernel} on CPU {}; model: {model}", event.cpu);
            self.mismatch(event, what);
        }
    }

    fn stage_if_known(&self, event: &Event) -> Option<Stage> {
        self.threads.get(&event.pid).map(|thread| thread.stage)
    }

    fn queue(&mut self, event: &Event, unlocks: bool) {
        let Some(window) = self.windows.get_mut(&event.cpu) else {
            return self.mismatch(event, "re-enable work for a CPU without a window");
        };
        window.queued = Some((event.ns, event.jiffies));
        window.busy_on = self.unlocking_on.filter(|&cpu| unlocks && cpu != event.cpu);
        let (closes, ticks) = (window.closes, event.jiffies - window.opened);
        if let Some(row) = window.row {
            self.report.traps[row].window_ticks = Some(ticks);
        }
        if event.jiffies < closes {
            let early = closes - event.jiffies;
            self.mismatch(
                event,
                format!("the window's timer fired {early} ticks before its time"),
            );
        }
        self.report.allowed.late_timers += u64::from(event.jiffies > closes);
    }

    fn work(&mut self, event: &Event, unlocks: bool) {
        if unlocks {
            self.unlocking_on = Some(event.cpu);
        }
        let owner = self.owner_of_work(event.cpu);
        if let Some(window) = self.windows.remove(&owner)
            && let Some((ns, tick)) = window.queued
        {
            let allowed = &mut self.report.allowed;
            allowed.slowest_worker_ns = allowed.slowest_worker_ns.max(event.ns - ns);
            allowed.late_workers += u64::from(event.jiffies > tick);
        }
        self.report.misplaced_work += u64::from(owner != event.cpu);
        let (owner, here) = (CpuId(owner.into()), CpuId(event.cpu.into()));
        let now = Jiffies(event.jiffies);
        if self.handler.reenable_elsewhere(now, owner, here).is_none() {
            self.mismatch(event, "the re-enable work runs; model: none is due");
        }
    }

    /// The CPU whose window the work ends that runs on this one: its own, or that of a window whose
    /// timer expired while this CPU was still busy with the same work.
    fn owner_of_work(&self, cpu: u16) -> u16 {
        let waits = |window: &Window| window.queued.is_some();
        if self.windows.get(&cpu).is_some_and(waits) {
            return cpu;
        }
        let elsewhere = self
            .windows
            .iter()
            .find(|(_, window)| waits(window) && window.busy_on == Some(cpu));
        elsewhere.map_or(cpu, |(&owner, _)| owner)
    }

    fn back(&mut self, event: &Event, retry: bool) {
        let stage = self.stage(event);
        if !retry {
            self.lose(event, format!("SIGBUS; model: {stage:?}"));
        }
        let verdict = match stage {
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
        let id = self.thread(event.pid).id;
        if self.handler.detects(id, CpuId(event.cpu.into())) {
            self.mismatch(
                event,
                "a split lock was let through; model: detection is on",
            );
        }
    }

    fn signal(&mut self, event: &Event) {
        let thread = self.thread(event.pid);
        thread.signalled = Some(event.jiffies);
        if let Some(row) = &mut thread.row {
            row.signal_after_ns.get_or_insert(event.ns - row.ns);
        }
    }

    fn note_row(&mut self, event: &Event, note: impl FnOnce(&mut TrapRow)) {
        if let Some(row) = &mut self.thread(event.pid).row {
            note(row);
        }
    }

    /// Nobody may be left in the handler.
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
    }
}
