//! The events that are asked for, and what their records mean.

use std::io;

use split_lock_model::handler::TrapOrigin;

use super::error::WatchError;
use super::format::{Field, Format};
use super::probes::{GUEST_TRAP, Probes, SLEPT, USER_TRAP};
use super::record::Sample;
use super::symbols::Symbols;
use super::tracefs::Tracefs;
use crate::event::EventKind;

/// An event to be opened on each CPU.
#[derive(Debug)]
pub(super) struct PerfEvent {
    /// What people call it.
    pub(super) name: String,
    /// The tracepoint's number.
    pub(super) id: u64,
    pub(super) filter: Option<String>,
    pub(super) has_call_chain: bool,
    kind: RecordKind,
}

/// What its records are, and where in them the numbers lie.
#[derive(Debug, Clone, Copy)]
enum RecordKind {
    Trap { origin: TrapOrigin, rip: Field },
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

impl PerfEvent {
    /// Windows; with call chains where nothing else is seen of a trap without a sleep.
    pub(super) fn write_msr(tracefs: &Tracefs, has_call_chain: bool) -> Result<Self, WatchError> {
        let format = tracefs.format("msr/write_msr")?;
        let found = format.as_ref().and_then(|format| {
            let value = format.field("val")?;
            let filter = Some(format!("msr == {MSR_TEST_CTRL:#x}"));
            Some(Self {
                has_call_chain,
                ..Self::new(WRITE_MSR, format, filter, RecordKind::WriteMsr { value })
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
            let kind = RecordKind::TimerStart { expires, now };
            Some(Self {
                has_call_chain: true,
                ..Self::new(TIMER_START, format, filter, kind)
            })
        });
        found.ok_or(WatchError::NoTracepoint(TIMER_START))
    }

    pub(super) fn of_probes(tracefs: &Tracefs, probes: &Probes) -> Result<Vec<Self>, WatchError> {
        let mut events = vec![];
        for (name, event, argument) in probes.defined() {
            let format = tracefs.format(&event)?;
            let found = format.and_then(|format| {
                let kind = kind(name, format.field(argument)?);
                Some(Self::new(format!("probe {name}"), &format, None, kind))
            });
            events.push(found.ok_or(WatchError::NoTracepoint(name))?);
        }
        Ok(events)
    }

    pub(super) fn failed(&self, cpu: u32, error: io::Error) -> WatchError {
        let what = format!("open the perf event {} on CPU {cpu}", self.name);
        WatchError::of(what, error)
    }

    fn new(
        name: impl Into<String>,
        format: &Format,
        filter: Option<String>,
        kind: RecordKind,
    ) -> Self {
        Self {
            name: name.into(),
            id: format.id,
            filter,
            has_call_chain: false,
            kind,
        }
    }

    /// What a record says, if it says anything about split locks.
    pub(super) fn decode(
        &self,
        sample: &Sample<'_>,
        symbols: &Symbols,
        tick_ns: u64,
    ) -> Option<EventKind> {
        let read = |field: Field| field.read(sample.raw);
        Some(match self.kind {
            RecordKind::Trap { origin, rip } => EventKind::Trap {
                origin,
                rip: read(rip),
            },
            RecordKind::Back { retry } => EventKind::Back {
                retry: read(retry)? != 0,
            },
            RecordKind::Slept { left_ms } => EventKind::Slept {
                left_ms: read(left_ms)?,
            },
            RecordKind::TimerStart { expires, now } => {
                let ticks = read(expires)?.saturating_sub(read(now)?);
                let (origin, rip) = trap_in(sample, symbols)?;
                EventKind::Asleep {
                    origin,
                    rip,
                    // The wheel fires a timer in the tick after the one that it asks for.
                    at_most_ns: ticks.saturating_add(1).saturating_mul(tick_ns),
                }
            }
            RecordKind::WriteMsr { value } => EventKind::Detection {
                on: read(value)? & SPLIT_LOCK_DETECT != 0,
                of: trap_in(sample, symbols),
            },
        })
    }
}

/// Whose trap the kernel was handling, by the call chain, and where a program was when it came in.
fn trap_in(sample: &Sample<'_>, symbols: &Symbols) -> Option<(TrapOrigin, Option<u64>)> {
    let chain = sample.call_chain;
    let origin = chain
        .kernel()
        .find_map(|address| symbols.handler_at(address))?;
    let rip = chain.user().filter(|_| origin == TrapOrigin::User);
    Some((origin, rip))
}

/// What a probe's record says, and where in it the number lies.
fn kind(probe: &str, number: Field) -> RecordKind {
    match probe {
        GUEST_TRAP => RecordKind::Trap {
            origin: TrapOrigin::Guest,
            rip: number,
        },
        USER_TRAP => RecordKind::Trap {
            origin: TrapOrigin::User,
            rip: number,
        },
        SLEPT => RecordKind::Slept { left_ms: number },
        _ => RecordKind::Back { retry: number },
    }
}
