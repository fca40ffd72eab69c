//! The events that are asked for, and what their records mean.

use super::super::happening::{Way, What};
use super::error::WatchError;
use super::format::{Field, Format};
use super::probes::{GUEST_BACK, GUEST_TRAP, Probes, SLEPT, USER_BACK, USER_TRAP};
use super::record::Sample;
use super::symbols::Symbols;
use super::tracefs::Tracefs;

/// An event to be opened on each CPU.
#[derive(Debug)]
pub(super) struct Event {
    /// What people call it.
    pub(super) name: String,
    /// The tracepoint's number.
    pub(super) id: u64,
    pub(super) filter: Option<String>,
    pub(super) has_call_chain: bool,
    meaning: Meaning,
}

/// What its records are, and where in them the numbers lie.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    Trap { way: Way, rip: Field },
    Back { retry: Field },
    Slept { left_ms: Field },
    TimerStart { expires: Field, now: Field },
    WriteMsr { value: Field },
}

/// MSR_TEST_CTRL, whose bit 29 is the detection of split locks.
const MSR_TEST_CTRL: u32 = 0x33;
const SPLIT_LOCK_DETECT: u64 = 1 << 29;

/// The tracepoint without which no window is seen.
const WRITE_MSR: &str = "msr:write_msr";
const TIMER_START: &str = "timer:timer_start";

impl Event {
    /// Windows; with call chains where nothing else is seen of a trap without a sleep.
    pub(super) fn write_msr(tracefs: &Tracefs, has_call_chain: bool) -> Result<Self, WatchError> {
        let format = tracefs.format("msr/write_msr")?;
        let found = format.as_ref().and_then(|format| {
            let value = format.field("val")?;
            let filter = Some(format!("msr == {MSR_TEST_CTRL:#x}"));
            Some(Self {
                has_call_chain,
                ..Self::new(WRITE_MSR, format, filter, Meaning::WriteMsr { value })
            })
        });
        found.ok_or(WatchError::NoTracepoint(WRITE_MSR))
    }

    /// The beginning of sleeps, with call chains, which tell whose they are.
    pub(super) fn timer_start(tracefs: &Tracefs, function: u64) -> Result<Self, WatchError> {
        let format = tracefs.format("timer/timer_start")?;
        let found = format.as_ref().and_then(|format| {
            let (expires, now) = (format.field("expires")?, format.field("now")?);
            let filter = Some(format!("function == {function:#x}"));
            let meaning = Meaning::TimerStart { expires, now };
            let event = Self::new(TIMER_START, format, filter, meaning);
            Some(Self {
                has_call_chain: true,
                ..event
            })
        });
        found.ok_or(WatchError::NoTracepoint(TIMER_START))
    }

    /// Those of the probes.
    pub(super) fn of_probes(tracefs: &Tracefs, probes: &Probes) -> Result<Vec<Self>, WatchError> {
        let mut events = vec![];
        for (name, argument) in [
            (GUEST_TRAP, "rip"),
            (USER_TRAP, "rip"),
            (GUEST_BACK, "retry"),
            (USER_BACK, "retry"),
            (SLEPT, "left_ms"),
        ] {
            let Some(event) = probes.get(name) else {
                continue;
            };
            let format = tracefs.format(&event)?;
            let found = format.and_then(|format| {
                let meaning = meaning(name, format.field(argument)?);
                Some(Self::new(format!("probe {name}"), &format, None, meaning))
            });
            events.push(found.ok_or(WatchError::NoTracepoint(name))?);
        }
        Ok(events)
    }

    fn new(
        name: impl Into<String>,
        format: &Format,
        filter: Option<String>,
        meaning: Meaning,
    ) -> Self {
        Self {
            name: name.into(),
            id: format.id,
            filter,
            has_call_chain: false,
            meaning,
        }
    }

    /// What a record says, if it says anything about split locks.
    pub(super) fn means(
        &self,
        sample: &Sample<'_>,
        symbols: &Symbols,
        tick_ns: u64,
    ) -> Option<What> {
        let read = |field: Field| field.read(sample.raw);
        Some(match self.meaning {
            Meaning::Trap { way, rip } => What::Trap {
                way,
                rip: read(rip),
            },
            Meaning::Back { retry } => What::Back {
                retry: read(retry)? != 0,
            },
            Meaning::Slept { left_ms } => What::Slept {
                left_ms: read(left_ms)?,
            },
            Meaning::TimerStart { expires, now } => {
                let ticks = read(expires)?.saturating_sub(read(now)?);
                let (way, rip) = trap_in(sample, symbols)?;
                What::Asleep {
                    way,
                    rip,
                    // The wheel fires a timer in the tick after the one that it asks for.
                    at_most_ns: ticks.saturating_add(1).saturating_mul(tick_ns),
                }
            }
            Meaning::WriteMsr { value } => What::Detection {
                on: read(value)? & SPLIT_LOCK_DETECT != 0,
                of: trap_in(sample, symbols),
            },
        })
    }
}

/// Whose trap the kernel was handling, by the call chain, and where a program was when it came in.
fn trap_in(sample: &Sample<'_>, symbols: &Symbols) -> Option<(Way, Option<u64>)> {
    let mut chain = sample.call_chain.kernel();
    let way = chain.find_map(|address| symbols.handler_at(address))?;
    Some((way, sample.call_chain.user().filter(|_| way == Way::User)))
}

/// What a probe's record says, and where in it the number lies.
fn meaning(probe: &str, number: Field) -> Meaning {
    match probe {
        GUEST_TRAP => Meaning::Trap {
            way: Way::Guest,
            rip: number,
        },
        USER_TRAP => Meaning::Trap {
            way: Way::User,
            rip: number,
        },
        SLEPT => Meaning::Slept { left_ms: number },
        _ => Meaning::Back { retry: number },
    }
}
