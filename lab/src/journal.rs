//! What a kernel did to threads that split locks. The old lab's module writes it: `lab/module/lab.h`.

use serde::{Deserialize, Serialize};

/// Something that the kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, on CLOCK_MONOTONIC.
    pub ns: u64,
    /// How many ticks the kernel had counted.
    pub jiffies: u64,
    /// The thread that this is about.
    pub pid: i32,
    /// The CPU on which it was noted.
    pub cpu: u16,
    /// What it was.
    pub kind: Kind,
    /// A signal waits for the thread.
    pub signal_pending: bool,
    /// The thread is a vCPU in KVM_RUN.
    pub guest: bool,
}

/// What the kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A split lock met detection, at this address.
    Trap(u64),
    /// A bus lock was done, and the instruction behind it, at this address, met a debug exception.
    BusLock(u64),
    /// The handler begins its sleep of so many milliseconds.
    Sleep(i64),
    /// The thread sets a timer that asks for this tick.
    Timer(u64),
    /// The thread takes back, before it has expired, the timer that asked for this tick. Right after it the kernel
    /// looks how much of the sleep is left.
    Cancel(u64),
    /// Somebody wakes the thread.
    Wake,
    /// The sleep is over; so many milliseconds of it are left.
    Slept(i64),
    /// The handler wants the semaphore.
    Down,
    /// The thread joins the semaphore's queue. Noted while the semaphore is locked, so that this is
    /// the order of the queue.
    Line,
    /// It has it, or not.
    Took {
        /// It has.
        taken: bool,
    },
    /// The kernel switched this CPU's detection.
    Msr {
        /// On.
        on: bool,
    },
    /// The timer of the re-enable work has expired.
    Queue {
        /// The work releases the semaphore, too.
        unlocks: bool,
    },
    /// The re-enable work runs.
    Work {
        /// It releases the semaphore, too.
        unlocks: bool,
    },
    /// The re-enable work that releases the semaphore has returned.
    Worked,
    /// The handler is done; `false`: SIGBUS.
    Return {
        /// The instruction is to be tried again.
        retry: bool,
    },
    /// The thread's first split lock, after a trap, that meets no detection.
    Done,
    /// A signal was made for the thread.
    Signal(i64),
    /// A number from user space.
    Mark(i64),
    /// This CPU has counted a tick.
    Tick,
}

/// The module's own account, when an experiment was over: `struct lab_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct State {
    /// Events that found the journal full.
    pub lost: u64,
    /// Traps since the module was loaded.
    pub traps: u64,
    /// Split locks that met no detection, since then.
    pub completed: u64,
    /// When some tick happens, on CLOCK_MONOTONIC.
    pub tick_ns: u64,
    /// Its number.
    pub tick_jiffies: u64,
    /// Ticks per second.
    pub hz: u32,
    /// CPUs whose detection is off.
    pub cpus_off: u32,
}

/// Bytes of one event.
pub const EVENT_BYTES: usize = 32;

/// Bytes that are no journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Not a whole number of events.
    #[error("a journal of {0} bytes is not a whole number of events of {EVENT_BYTES}")]
    Length(usize),
    /// An event of a kind that is not known.
    #[error("event {index} of the journal has the unknown kind {kind}: module and lab differ")]
    Kind {
        /// Which event.
        index: usize,
        /// Its kind.
        kind: u8,
    },
}

/// Reads what the module has written.
///
/// # Errors
/// [`JournalError`] if it is something else.
pub fn parse(bytes: &[u8]) -> Result<Vec<Event>, JournalError> {
    if !bytes.len().is_multiple_of(EVENT_BYTES) {
        return Err(JournalError::Length(bytes.len()));
    }
    let events = bytes.chunks_exact(EVENT_BYTES).enumerate();
    events.map(|(index, bytes)| event(index, bytes)).collect()
}

fn event(index: usize, bytes: &[u8]) -> Result<Event, JournalError> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let value = word(16).cast_signed();
    let is_set = value != 0;
    let (kind, flags) = (bytes[30], bytes[31]);
    let kind = match kind {
        1 => Kind::Trap(word(16)),
        2 => Kind::Sleep(value),
        3 => Kind::Timer(word(16)),
        4 => Kind::Wake,
        5 => Kind::Slept(value),
        6 => Kind::Down,
        7 => Kind::Took { taken: !is_set },
        8 => Kind::Msr { on: is_set },
        9 => Kind::Queue { unlocks: is_set },
        10 => Kind::Work { unlocks: is_set },
        11 => Kind::Return { retry: is_set },
        12 => Kind::Done,
        13 => Kind::Signal(value),
        14 => Kind::Mark(value),
        15 => Kind::Line,
        16 => Kind::Worked,
        17 => Kind::Cancel(word(16)),
        kind => return Err(JournalError::Kind { index, kind }),
    };
    Ok(Event {
        ns: word(0),
        jiffies: word(8),
        pid: i32::from_le_bytes(bytes[24..28].try_into().expect("4 bytes")),
        cpu: u16::from_le_bytes(bytes[28..30].try_into().expect("2 bytes")),
        kind,
        signal_pending: flags & 1 != 0,
        guest: flags & 4 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_the_module_lays_it_out() {
        let mut bytes = Vec::new();
        bytes.extend(5_000u64.to_le_bytes());
        bytes.extend(77u64.to_le_bytes());
        bytes.extend((-4i64).to_le_bytes());
        bytes.extend(123i32.to_le_bytes());
        bytes.extend(1u16.to_le_bytes());
        bytes.extend([7, 5]);
        let expected = Event {
            ns: 5_000,
            jiffies: 77,
            pid: 123,
            cpu: 1,
            kind: Kind::Took { taken: false },
            signal_pending: true,
            guest: true,
        };
        assert_eq!(parse(&bytes), Ok(vec![expected]));
        assert_eq!(parse(&bytes[1..]), Err(JournalError::Length(31)));
        bytes[30] = 99;
        let error = JournalError::Kind { index: 0, kind: 99 };
        assert_eq!(parse(&bytes), Err(error));
    }
}
