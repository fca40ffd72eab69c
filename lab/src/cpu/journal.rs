//! The CPU's own account: JSON lines, one for each event. `lab/cpu/README.md` has the format.

use serde::Deserialize;

/// Everything that one run has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// How many ticks, which are instructions of one CPU, make a second.
    pub ticks_per_second: u32,
    /// Logical CPUs.
    pub cpus: u32,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// The last line; none if the machine was killed.
    pub totals: Option<Totals>,
}

/// Something that the CPU did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, on the machine's only clock.
    pub tick: u64,
    /// Which logical CPU.
    pub cpu: u32,
    /// The instruction: of a trap ([`Kind::DebugException`]) the next one.
    pub rip: u64,
    /// A guest ran, and `rip` is the guest's.
    pub guest: bool,
    /// What it was.
    pub kind: Kind,
}

/// What the CPU did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It raised #AC for a split lock with this operand. For an operand that crosses a page this is where its second
    /// page begins.
    AlignmentCheck(u64),
    /// It let a split lock with this operand through. Only told where [`super::options::CpuOptions::journal_locks`]
    /// asks for it.
    BusLock(u64),
    /// It raised #DB for a bus lock.
    DebugException,
    /// TEST_CTRL was written.
    TestCtrl(u64),
}

/// The bit of TEST_CTRL that makes split locks trap.
pub(super) const SPLIT_LOCK_DETECT: u64 = 1 << 29;

impl Kind {
    /// Whether this is a split lock's #AC.
    #[must_use]
    pub fn is_alignment_check(self) -> bool {
        matches!(self, Self::AlignmentCheck(_))
    }
}

/// How much there was of everything, journalled or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// When the machine ended.
    pub tick: u64,
    /// Split locks that raised #AC.
    pub alignment_checks: u64,
    /// Split locks that the CPU saw and let through. It sees them while something asks for it: detection, a time for
    /// each, or the journal.
    pub bus_locks: u64,
    /// Bus locks that raised #DB.
    pub debug_exceptions: u64,
}

/// A line that does not belong into a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the CPU's journal: {fault}")]
pub struct JournalError {
    /// The first one is 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: String,
}

/// The only version of the format so far.
const FORMAT: u32 = 1;

impl Journal {
    /// The #ACs, in order.
    pub fn alignment_checks(&self) -> impl Iterator<Item = &Event> {
        let is_it = |event: &&Event| event.kind.is_alignment_check();
        self.events.iter().filter(is_it)
    }

    /// When a tick of the clock was, in nanoseconds since the machine was switched on.
    #[must_use]
    pub fn nanos(&self, tick: u64) -> u64 {
        let ns = u128::from(tick) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// Reads what the CPU has written.
    ///
    /// # Errors
    /// At the first line that is not what the CPU writes, that goes back in time or speaks of a CPU that is not there,
    /// and at a last line whose totals are not those of the lines before.
    pub fn parse(text: &str) -> Result<Self, JournalError> {
        let mut journal = None;
        for (index, text) in text.lines().enumerate() {
            let line = serde_json::from_str(text).map_err(|error| error.to_string());
            let added = line.and_then(|line| match &mut journal {
                None => Self::begin(&line).map(|begun| journal = Some(begun)),
                Some(journal) => journal.add(line),
            });
            added.map_err(|fault| JournalError {
                line: index + 1,
                fault,
            })?;
        }
        journal.ok_or_else(|| JournalError {
            line: 1,
            fault: "there is none".to_owned(),
        })
    }

    fn begin(line: &Line) -> Result<Self, String> {
        let &Line::Begin {
            format,
            ticks_per_second,
            cpus,
        } = line
        else {
            return Err("a journal starts with \"begin\"".to_owned());
        };
        if format != FORMAT {
            return Err(format!("format {format}, and only {FORMAT} is known"));
        }
        Ok(Self {
            ticks_per_second,
            cpus,
            events: Vec::new(),
            totals: None,
        })
    }

    fn add(&mut self, line: Line) -> Result<(), String> {
        if self.totals.is_some() {
            return Err("something after the end".to_owned());
        }
        let (at, kind) = match line {
            Line::Begin { .. } => return Err("a second beginning".to_owned()),
            Line::Ac { at, operand } => (at, Kind::AlignmentCheck(operand.0)),
            Line::BusLock { at, operand } => (at, Kind::BusLock(operand.0)),
            Line::Db { at } => (at, Kind::DebugException),
            Line::TestCtrl { at, value } => (at, Kind::TestCtrl(value.0)),
            Line::End {
                tick,
                ac,
                bus_locks,
                db,
            } => {
                return self.end(Totals {
                    tick,
                    alignment_checks: ac,
                    bus_locks,
                    debug_exceptions: db,
                });
            }
        };
        self.is_in_order(at.tick)?;
        if at.cpu >= self.cpus {
            return Err(format!("CPU {} of {}", at.cpu, self.cpus));
        }
        self.events.push(Event {
            tick: at.tick,
            cpu: at.cpu,
            rip: at.rip.0,
            guest: at.guest,
            kind,
        });
        Ok(())
    }

    fn end(&mut self, totals: Totals) -> Result<(), String> {
        self.is_in_order(totals.tick)?;
        let count = |is_it: fn(Kind) -> bool| {
            let events = self.events.iter();
            events.filter(|event| is_it(event.kind)).count() as u64
        };
        let found = [
            count(Kind::is_alignment_check),
            count(|kind| kind == Kind::DebugException),
        ];
        let told = [totals.alignment_checks, totals.debug_exceptions];
        if found != told {
            return Err(format!("{told:?} #AC and #DB in all, and {found:?} lines"));
        }
        self.totals = Some(totals);
        Ok(())
    }

    fn is_in_order(&self, tick: u64) -> Result<(), String> {
        match self.events.last() {
            Some(last) if last.tick > tick => Err(format!("tick {tick} after tick {}", last.tick)),
            _ => Ok(()),
        }
    }
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Begin {
        format: u32,
        ticks_per_second: u32,
        cpus: u32,
    },
    Ac {
        #[serde(flatten)]
        at: At,
        operand: Hex,
    },
    BusLock {
        #[serde(flatten)]
        at: At,
        operand: Hex,
    },
    Db {
        #[serde(flatten)]
        at: At,
    },
    TestCtrl {
        #[serde(flatten)]
        at: At,
        value: Hex,
    },
    End {
        tick: u64,
        ac: u64,
        bus_locks: u64,
        db: u64,
    },
}

/// What all events have.
#[derive(Debug, Deserialize)]
struct At {
    tick: u64,
    cpu: u32,
    rip: Hex,
    guest: bool,
}

/// An address or a register: `0x` and hexadecimal digits.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Hex(u64);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = super::trace::hexadecimal(&text).map(Self);
        number.ok_or_else(|| format!("{text:?} is no number such as 0x1f"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = r#"{"event":"begin","format":1,"ticks_per_second":200000000,"cpus":2}"#;
    const OFF: &str = r#"{"event":"test-ctrl","tick":7,"cpu":1,"rip":"0xffffffff81000000","guest":false,"value":"0x0"}"#;
    const AC: &str =
        r#"{"event":"ac","tick":9,"cpu":0,"rip":"0x401000","guest":true,"operand":"0x7fff003e"}"#;
    const LOCK: &str =
        r#"{"event":"bus-lock","tick":9,"cpu":0,"rip":"0x401000","guest":false,"operand":"0x3e"}"#;
    const DB: &str = r#"{"event":"db","tick":10,"cpu":0,"rip":"0x401004","guest":false}"#;
    const END: &str = r#"{"event":"end","tick":20,"ac":1,"bus_locks":5,"db":1}"#;

    fn parse(lines: &[&str]) -> Result<Journal, JournalError> {
        Journal::parse(&lines.join("\n"))
    }

    fn refused(lines: &[&str]) -> (usize, String) {
        let error = parse(lines).expect_err("it is no journal");
        (error.line, error.fault)
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let journal = parse(&[BEGIN, OFF, AC, LOCK, DB, END]).expect("a journal");
        assert_eq!((journal.ticks_per_second, journal.cpus), (200_000_000, 2));
        let kinds: Vec<_> = journal.events.iter().map(|event| event.kind).collect();
        let expected = [
            Kind::TestCtrl(0),
            Kind::AlignmentCheck(0x7fff_003e),
            Kind::BusLock(0x3e),
            Kind::DebugException,
        ];
        assert_eq!(kinds, expected);
        let event = journal.events[1];
        assert_eq!(
            (event.tick, event.cpu, event.rip, event.guest),
            (9, 0, 0x40_1000, true)
        );
        assert_eq!(journal.totals.map(|totals| totals.bus_locks), Some(5));
        assert_eq!(journal.alignment_checks().count(), 1);
    }

    #[test]
    fn journal_of_a_killed_machine_has_no_totals() {
        let journal = parse(&[BEGIN, AC]).expect("a journal");
        assert_eq!(journal.totals, None);
    }

    #[test]
    fn bad_line_is_refused_by_its_number() {
        assert_eq!(refused(&[]).0, 1);
        assert_eq!(refused(&[AC]).0, 1);
        assert_eq!(refused(&[&BEGIN.replace(":1,", ":2,")]).0, 1);
        assert_eq!(refused(&[BEGIN, BEGIN]).0, 2);
        assert_eq!(refused(&[BEGIN, OFF, &AC[..AC.len() - 4]]).0, 3);
        assert_eq!(refused(&[BEGIN, "", OFF]).0, 2);
        assert_eq!(refused(&[BEGIN, &AC.replace("0x401000", "401000")]).0, 2);
        assert_eq!(refused(&[BEGIN, &AC.replace("\"ac\"", "\"gp\"")]).0, 2);
        assert_eq!(refused(&[BEGIN, AC, DB, END, AC]).0, 5);
    }

    #[test]
    fn line_that_contradicts_others_is_refused() {
        assert_eq!(
            refused(&[BEGIN, AC, OFF]),
            (3, "tick 7 after tick 9".to_owned())
        );
        let third = AC.replace("\"cpu\":0", "\"cpu\":2");
        assert_eq!(refused(&[BEGIN, &third]), (2, "CPU 2 of 2".to_owned()));
        let (line, fault) = refused(&[BEGIN, DB, END]);
        assert_eq!((line, fault.contains("[0, 1] lines")), (3, true), "{fault}");
    }
}
