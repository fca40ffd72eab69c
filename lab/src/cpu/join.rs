//! The kernel's account and the CPU's, joined to one by time: when a trap happened says the CPU, whose it was and what
//! became of it the kernel.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::journal::{self, Journal, SPLIT_LOCK_DETECT};
use super::trace::{Noted, What};
use crate::journal::{Event, Kind};
use crate::replay::Ticks;

/// Both accounts of one experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// Split locks that the CPU let through, if its journal has them.
    pub bus_locks: u64,
}

/// Two accounts that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The trace was cut off.
    #[error("the kernel's trace has no beginning or no end of the experiment")]
    Marks,
    /// A CPU that is not there.
    #[error("a trace speaks of CPU {0}, which is not there")]
    Cpu(u32),
    /// A trap without a handler.
    #[error(
        "at tick {tick} CPU {cpu} trapped at {rip:#x}, and its kernel does not say that it knows"
    )]
    TrapUnhandled {
        /// When.
        tick: u64,
        /// Where.
        cpu: u32,
        /// At which instruction.
        rip: u64,
    },
    /// A handler without a trap.
    #[error(
        "at tick {tick} the kernel on CPU {cpu} handles a trap at {ip:#x} that the CPU does not have"
    )]
    TrapUnknown {
        /// When.
        tick: u64,
        /// Where.
        cpu: u16,
        /// At which instruction.
        ip: u64,
    },
}

/// Joins what the kernel has noted of an experiment with the journal of the CPU, which has all of the boot.
///
/// # Errors
/// Where one of them has a trap that the other does not have.
pub fn join(noted: &[Noted], cpu: &Journal, ticks: &Ticks) -> Result<Joined, JoinError> {
    let mark = |what: What| noted.iter().find(|noted| noted.what == what);
    let (Some(begin), Some(end)) = (mark(What::Begin), mark(What::End)) else {
        return Err(JoinError::Marks);
    };
    let mut joiner = Joiner {
        cpu,
        ticks,
        waiting: BTreeMap::new(),
        handled: HashMap::new(),
        signalled: HashSet::new(),
        timers: HashMap::new(),
        last: HashMap::new(),
        running: HashMap::new(),
        jiffies: 0,
        joined: Joined::default(),
    };
    let of_experiment = |event: &&journal::Event| (begin.tick..=end.tick).contains(&event.tick);
    let mut theirs = cpu.events.iter().filter(of_experiment).peekable();
    for (ours, jiffies) in noted.iter().zip(counts(noted, cpu, ticks)) {
        if u32::from(ours.cpu) >= cpu.cpus {
            return Err(JoinError::Cpu(ours.cpu.into()));
        }
        while let Some(event) = theirs.next_if(|event| event.tick <= ours.tick) {
            joiner.by_cpu(*event)?;
        }
        joiner.jiffies = jiffies;
        joiner.by_kernel(ours)?;
    }
    joiner.finish()
}

/// The kernel's count of ticks at each note: what it says itself, or what the notes around it leave possible.
fn counts(noted: &[Noted], cpu: &Journal, ticks: &Ticks) -> Vec<u64> {
    let mut last = None;
    let mut next: Vec<Option<u64>> = Vec::with_capacity(noted.len());
    let mut upcoming = None;
    for note in noted.iter().rev() {
        upcoming = note.jiffies.or(upcoming);
        next.push(upcoming);
    }
    let notes = noted.iter().zip(next.into_iter().rev());
    let count = |(note, next): (&Noted, Option<u64>)| {
        last = note.jiffies.or(last);
        let guess = ticks.at(cpu.nanos(note.tick));
        match (last, next) {
            (Some(last), Some(next)) => guess.min(next).max(last.min(next)),
            _ => guess,
        }
    };
    notes.map(count).collect()
}

struct Joiner<'a> {
    cpu: &'a Journal,
    ticks: &'a Ticks,
    /// By CPU, what the kernel has not told yet.
    waiting: BTreeMap<u32, VecDeque<journal::Event>>,
    /// By thread in the handler: it is a vCPU.
    handled: HashMap<i32, bool>,
    /// Threads with a signal that they have not taken.
    signalled: HashSet<i32>,
    /// By timer, what it asks for.
    timers: HashMap<u64, u64>,
    /// By CPU, the last event that its kernel has noted.
    last: HashMap<u16, usize>,
    /// By CPU, the thread that runs there, as far as is known.
    running: HashMap<u32, i32>,
    /// The kernel's count of ticks.
    jiffies: u64,
    joined: Joined,
}

impl Joiner<'_> {
    fn by_cpu(&mut self, event: journal::Event) -> Result<(), JoinError> {
        let kind = match event.kind {
            journal::Kind::BusLock(_) => {
                self.joined.bus_locks += 1;
                Kind::Done
            }
            journal::Kind::TestCtrl(value) => Kind::Msr {
                on: value & SPLIT_LOCK_DETECT != 0,
            },
            journal::Kind::AlignmentCheck(_) | journal::Kind::DebugException => {
                self.waiting.entry(event.cpu).or_default().push_back(event);
                return Ok(());
            }
        };
        let ns = self.cpu.nanos(event.tick);
        self.joined.events.push(Event {
            ns,
            jiffies: self.ticks.at(ns),
            // The CPU does not know threads.
            pid: self.running.get(&event.cpu).copied().unwrap_or_default(),
            cpu: u16::try_from(event.cpu).map_err(|_| JoinError::Cpu(event.cpu))?,
            kind,
            signal_pending: false,
            guest: event.guest,
        });
        Ok(())
    }

    fn by_kernel(&mut self, noted: &Noted) -> Result<(), JoinError> {
        let is_handled = self.handled.contains_key(&noted.pid);
        match noted.what {
            What::Begin | What::End => {}
            What::SplitLock { ip, guest } => {
                let is_it = |event: &journal::Event| {
                    event.kind.is_alignment_check() && (event.rip, event.guest) == (ip, guest)
                };
                self.trapped(noted, ip, guest, is_it, Kind::Trap(ip))?;
            }
            What::BusLock(ip) => {
                let is_it = |event: &journal::Event| {
                    event.kind == journal::Kind::DebugException && event.rip == ip
                };
                self.trapped(noted, ip, false, is_it, Kind::BusLock(ip))?;
            }
            What::TimerStart { timer, expires } => {
                self.timers.insert(timer, expires);
                if is_handled {
                    self.push_at(noted.tick, noted, Kind::Timer(expires));
                }
            }
            What::TimerCancel(timer) => {
                if let Some(&expires) = self.timers.get(&timer).filter(|_| is_handled) {
                    self.push_at(noted.tick, noted, Kind::Cancel(expires));
                }
            }
            What::Deliver => {
                self.signalled.remove(&noted.pid);
            }
            What::Event(kind) => self.event(noted, kind),
        }
        // The others are about other threads.
        if !matches!(noted.what, What::Event(Kind::Wake | Kind::Signal(_))) {
            self.running.insert(noted.cpu.into(), noted.pid);
        }
        Ok(())
    }

    fn trapped(
        &mut self,
        noted: &Noted,
        ip: u64,
        guest: bool,
        is_it: impl Fn(&journal::Event) -> bool,
        kind: Kind,
    ) -> Result<(), JoinError> {
        let unknown = JoinError::TrapUnknown {
            tick: noted.tick,
            cpu: noted.cpu,
            ip,
        };
        // Nearly always the oldest; a kernel that preempts itself may tell of another thread's first.
        let waiting = self.waiting.entry(noted.cpu.into()).or_default();
        let index = waiting.iter().position(is_it).ok_or(unknown)?;
        let trap = waiting.remove(index).ok_or(unknown)?;
        self.handled.insert(noted.pid, guest);
        self.push_at(trap.tick, noted, kind);
        Ok(())
    }

    fn event(&mut self, noted: &Noted, kind: Kind) {
        let is_handled = self.handled.contains_key(&noted.pid);
        match kind {
            Kind::Signal(_) => {
                self.signalled.insert(noted.pid);
                self.woken_by_signal(noted);
            }
            // Of any thread, outside of the handler.
            Kind::Sleep(_)
            | Kind::Slept(_)
            | Kind::Wake
            | Kind::Down
            | Kind::Took { .. }
            | Kind::Line
                if !is_handled =>
            {
                return;
            }
            _ => {}
        }
        self.push_at(noted.tick, noted, kind);
        if matches!(kind, Kind::Return { .. }) {
            self.handled.remove(&noted.pid);
        }
    }

    /// Making a signal ends with waking its thread, and is noted after that.
    fn woken_by_signal(&mut self, noted: &Noted) {
        let last = self.last.get(&noted.cpu);
        let last = last.and_then(|&index| self.joined.events.get_mut(index));
        if let Some(event) = last.filter(|event| (event.kind, event.pid) == (Kind::Wake, noted.pid))
        {
            event.signal_pending = true;
        }
    }

    /// At a moment at which the kernel had not counted more ticks than where it noted this.
    fn push_at(&mut self, tick: u64, noted: &Noted, kind: Kind) {
        let ns = self.cpu.nanos(tick);
        let jiffies = match tick == noted.tick {
            true => self.jiffies,
            false => self.ticks.at(ns).min(self.jiffies),
        };
        self.last.insert(noted.cpu, self.joined.events.len());
        self.joined.events.push(Event {
            ns,
            jiffies,
            pid: noted.pid,
            cpu: noted.cpu,
            kind,
            signal_pending: self.signalled.contains(&noted.pid),
            guest: self.handled.get(&noted.pid) == Some(&true),
        });
    }

    fn finish(mut self) -> Result<Joined, JoinError> {
        if let Some(&journal::Event { tick, cpu, rip, .. }) = self.waiting.values().flatten().next()
        {
            return Err(JoinError::TrapUnhandled { tick, cpu, rip });
        }
        self.joined.events.sort_by_key(|event| event.ns);
        Ok(self.joined)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RIP: u64 = 0x40_1000;

    /// Ticks at multiples of 4 ms.
    fn ticks() -> Ticks {
        let counts: Vec<_> = (0..100)
            .map(|tick| (tick * 4_000_000, 1_000 + tick))
            .collect();
        Ticks::counted(&counts).expect("a tick rate")
    }

    fn cpu(events: &[(u64, journal::Kind)]) -> Journal {
        let event = |&(tick, kind)| journal::Event {
            tick,
            cpu: 0,
            rip: RIP,
            guest: false,
            kind,
        };
        Journal {
            ticks_per_second: 200_000_000,
            cpus: 1,
            events: events.iter().map(event).collect(),
            totals: None,
        }
    }

    const AC: journal::Kind = journal::Kind::AlignmentCheck(0x7fff_003e);
    const OFF: journal::Kind = journal::Kind::TestCtrl(0);

    fn noted(tick: u64, what: What) -> Noted {
        Noted {
            tick,
            cpu: 0,
            pid: 7,
            jiffies: Some(1_000 + tick / 800_000),
            what,
        }
    }

    /// A trap, a signal meanwhile, and a window.
    fn noted_trap() -> Vec<Noted> {
        [
            (100, What::Begin),
            (
                850,
                What::SplitLock {
                    ip: RIP,
                    guest: false,
                },
            ),
            (900, What::Event(Kind::Sleep(10))),
            (910, What::Event(Kind::Signal(10))),
            (920, What::Event(Kind::Slept(8))),
            (
                930,
                What::TimerStart {
                    timer: 1,
                    expires: 1_003,
                },
            ),
            (940, What::Event(Kind::Return { retry: true })),
            (950, What::Deliver),
            (960, What::Event(Kind::Sleep(10))),
            (999, What::End),
        ]
        .map(|(tick, what)| noted(tick * 1000, what))
        .into()
    }

    fn cpu_of_trap() -> Vec<(u64, journal::Kind)> {
        vec![
            (50_000, AC),
            (799_000, AC),
            (932_000, OFF),
            (935_000, journal::Kind::BusLock(62)),
        ]
    }

    #[test]
    fn trap_is_where_the_cpu_raised_it_and_whose_the_kernel_says() {
        let joined = join(&noted_trap(), &cpu(&cpu_of_trap()), &ticks()).expect("they agree");
        let found: Vec<_> = joined
            .events
            .iter()
            .map(|event| (event.ns / 5000, event.kind, event.pid, event.signal_pending))
            .collect();
        let expected = [
            (799, Kind::Trap(RIP), 7, false),
            (900, Kind::Sleep(10), 7, false),
            (910, Kind::Signal(10), 7, true),
            (920, Kind::Slept(8), 7, true),
            (930, Kind::Timer(1_003), 7, true),
            (932, Kind::Msr { on: false }, 7, false),
            (935, Kind::Done, 7, false),
            (940, Kind::Return { retry: true }, 7, true),
        ];
        assert_eq!(found, expected);
        assert_eq!(joined.bus_locks, 1);
        // The tick came between the trap and its handler.
        assert_eq!(joined.events[0].jiffies, 1_000);
        assert_eq!(joined.events[1].jiffies, 1_001);
    }

    #[test]
    fn what_only_one_side_tells_is_refused() {
        let refused = |noted: &[Noted], events: &[_]| {
            join(noted, &cpu(events), &ticks()).expect_err("they contradict each other")
        };
        let (noted, events) = (noted_trap(), cpu_of_trap());
        assert_eq!(refused(&noted[1..], &events), JoinError::Marks);
        let missing = JoinError::TrapUnknown {
            tick: 850_000,
            cpu: 0,
            ip: RIP,
        };
        assert_eq!(refused(&noted, &events[2..]), missing);
        let (tick, cpu, rip) = (799_000, 0, RIP);
        let mut without = noted.clone();
        without.remove(1);
        assert_eq!(
            refused(&without, &events),
            JoinError::TrapUnhandled { tick, cpu, rip }
        );
    }

    #[test]
    fn count_of_ticks_is_what_the_notes_around_leave_possible() {
        let tick = 1_600_000;
        let mut notes =
            [tick - 50, tick + 10, tick + 20].map(|tick| noted(tick, What::Event(Kind::Tick)));
        let count = |notes: &[Noted]| counts(notes, &cpu(&[]), &ticks())[1];
        notes[1].jiffies = None;
        assert_eq!(count(&notes), 1_002);
        notes[0].jiffies = Some(1_001);
        notes[2].jiffies = Some(1_001);
        assert_eq!(count(&notes), 1_001, "the tick came late");
    }

    proptest! {
        #[test]
        fn no_order_of_events_makes_it_panic(
            order in prop::collection::vec((0..10usize, 0..4u16, 0..2_000_000u64), 0..40),
            cpus in prop::collection::vec((0..4usize, 0..4u32, 0..2_000_000u64), 0..40),
        ) {
            let all = noted_trap();
            let mut noted: Vec<Noted> = order
                .into_iter()
                .map(|(index, cpu, tick)| Noted { tick, cpu, ..all[index] })
                .collect();
            noted.push(all[0]);
            noted.push(all[9]);
            let kinds = cpu_of_trap();
            let events = cpus.into_iter().map(|(index, cpu, tick)| journal::Event {
                tick, cpu, rip: RIP, guest: false, kind: kinds[index].1,
            });
            let journal = Journal { events: events.collect(), cpus: 4, ..cpu(&[]) };
            if let Ok(joined) = join(&noted, &journal, &ticks()) {
                let machine = crate::replay::Machine {
                    hardware: split_lock_model::machine::Hardware::ICE_LAKE,
                    topology: split_lock_model::machine::Topology::new(4, 1).expect("a machine"),
                    ticks: ticks(),
                };
                let profile = "6.12".parse().expect("a profile");
                let rules = split_lock_model::handler::Rules::UPSTREAM;
                let _ = crate::replay::replay(&profile, rules, &machine, &joined.events);
            }
        }
    }
}
