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

/// VMX: an exception (exit reason 0) that is #AC, with an error code.
const GUEST_ALIGNMENT_CHECK: &str = "isa == 1 && exit_reason == 0 && intr_info == 0x80000b11";

/// The tracepoint without which no window is seen.
const WRITE_MSR: &str = "msr:write_msr";
const TIMER_START: &str = "timer:timer_start";
const KVM_EXIT: &str = "kvm:kvm_exit";

impl Event {
    /// Windows.
    pub(super) fn write_msr(tracefs: &Tracefs) -> Result<Self, WatchError> {
        let format = tracefs.format("msr/write_msr")?;
        let found = format.as_ref().and_then(|format| {
            let value = format.field("val")?;
            let filter = Some(format!("msr == {MSR_TEST_CTRL:#x}"));
            Some(Self::new(
                WRITE_MSR,
                format,
                filter,
                Meaning::WriteMsr { value },
            ))
        });
        found.ok_or(WatchError::NoTracepoint(WRITE_MSR))
    }

    /// The beginning of sleeps; with call chains, where nothing else tells whose they are.
    pub(super) fn timer_start(
        tracefs: &Tracefs,
        function: u64,
        has_call_chain: bool,
    ) -> Result<Option<Self>, WatchError> {
        let format = tracefs.format("timer/timer_start")?;
        Ok(format.as_ref().and_then(|format| {
            let (expires, now) = (format.field("expires")?, format.field("now")?);
            let filter = Some(format!("function == {function:#x}"));
            let event = Self::new(
                TIMER_START,
                format,
                filter,
                Meaning::TimerStart { expires, now },
            );
            Some(Self {
                has_call_chain,
                ..event
            })
        }))
    }

    /// Traps of guests, where KVM uses VMX.
    pub(super) fn kvm_exit(tracefs: &Tracefs) -> Result<Option<Self>, WatchError> {
        let format = tracefs.format("kvm/kvm_exit")?;
        Ok(format.as_ref().and_then(|format| {
            let rip = format.field("guest_rip")?;
            format.field("intr_info")?;
            let way = Way::Guest;
            let filter = Some(GUEST_ALIGNMENT_CHECK.to_owned());
            Some(Self::new(
                KVM_EXIT,
                format,
                filter,
                Meaning::Trap { way, rip },
            ))
        }))
    }

    /// Those of the probes. Without the beginning of sleeps, their ends tell nothing.
    pub(super) fn of_probes(
        tracefs: &Tracefs,
        probes: &Probes,
        sees_sleeps: bool,
    ) -> Result<Vec<Self>, WatchError> {
        let mut events = vec![];
        for (name, argument) in [
            (GUEST_TRAP, "rip"),
            (USER_TRAP, "rip"),
            (GUEST_BACK, "retry"),
            (USER_BACK, "retry"),
            (SLEPT, "left_ms"),
        ] {
            if name == SLEPT && !sees_sleeps {
                continue;
            }
            let Some(event) = probes.get(name) else {
                continue;
            };
            let Some(format) = tracefs.format(&event)? else {
                continue;
            };
            let Some(field) = format.field(argument) else {
                continue;
            };
            let meaning = match name {
                GUEST_TRAP => Meaning::Trap {
                    way: Way::Guest,
                    rip: field,
                },
                USER_TRAP => Meaning::Trap {
                    way: Way::User,
                    rip: field,
                },
                SLEPT => Meaning::Slept { left_ms: field },
                _ => Meaning::Back { retry: field },
            };
            events.push(Self::new(format!("probe {name}"), &format, None, meaning));
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
                let of = if self.has_call_chain {
                    let mut chain = sample.call_chain.kernel();
                    let way = chain.find_map(|address| symbols.handler_at(address))?;
                    let rip = sample.call_chain.user().filter(|_| way == Way::User);
                    Some((way, rip))
                } else {
                    None
                };
                // The wheel fires a timer in the tick after the one that it asks for.
                let at_most_ns = ticks.saturating_add(1).saturating_mul(tick_ns);
                What::Asleep { at_most_ns, of }
            }
            Meaning::WriteMsr { value } => What::Detection {
                on: read(value)? & SPLIT_LOCK_DETECT != 0,
            },
        })
    }
}
