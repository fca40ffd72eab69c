//! Windows in the CPU's journal: from the write of TEST_CTRL that switches detection off to the one that switches it on.

use super::journal::{Event, Journal, Kind, SPLIT_LOCK_DETECT};

/// Detection off on a CPU, begin and end seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Which logical CPU switched it off.
    pub cpu: u32,
    /// When, in ticks of the CPU.
    pub opened: u64,
    /// When the last split lock in it began; when it opened if there was none.
    pub last_lock: u64,
    /// When detection was on again.
    pub closed: u64,
    /// Split locks of programs on that CPU meanwhile.
    pub program_locks: u32,
    /// Those of guests.
    pub guest_locks: u32,
}

/// In the order in which they closed. A journal tells split locks in windows if
/// [`super::options::CpuOptions::journal_locks`] asks for it.
#[must_use]
pub fn windows(journal: &Journal) -> Vec<Window> {
    let mut open: Vec<Option<Window>> = vec![None; journal.cpus as usize];
    let mut windows = Vec::new();
    for event in &journal.events {
        let slot = &mut open[event.cpu as usize];
        match event.kind {
            Kind::TestCtrl(value) if value & SPLIT_LOCK_DETECT == 0 => {
                slot.get_or_insert_with(|| opened_by(event));
            }
            Kind::TestCtrl(_) => windows.extend(slot.take().map(|window| Window {
                closed: event.tick,
                ..window
            })),
            Kind::BusLock(_) => {
                if let Some(window) = slot {
                    window.last_lock = event.tick;
                    let locks = match event.guest {
                        true => &mut window.guest_locks,
                        false => &mut window.program_locks,
                    };
                    *locks += 1;
                }
            }
            Kind::AlignmentCheck(_) | Kind::DebugException => {}
        }
    }
    windows
}

fn opened_by(event: &Event) -> Window {
    Window {
        cpu: event.cpu,
        opened: event.tick,
        last_lock: event.tick,
        closed: event.tick,
        program_locks: 0,
        guest_locks: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tick: u64, cpu: u32, kind: Kind) -> Event {
        Event {
            tick,
            cpu,
            rip: 0,
            guest: cpu == 1,
            kind,
        }
    }

    const OFF: Kind = Kind::TestCtrl(0);
    const ON: Kind = Kind::TestCtrl(SPLIT_LOCK_DETECT);
    const LOCK: Kind = Kind::BusLock(0x3e);

    fn found(events: &[(u64, u32, Kind)]) -> Vec<Window> {
        let events = events
            .iter()
            .map(|&(tick, cpu, kind)| event(tick, cpu, kind));
        windows(&Journal {
            ticks_per_second: 1,
            cpus: 2,
            events: events.collect(),
            totals: None,
        })
    }

    #[test]
    fn each_cpu_has_windows_of_its_own() {
        let both = found(&[
            (1, 0, OFF),
            (2, 1, OFF),
            (3, 0, LOCK),
            (4, 1, LOCK),
            (5, 1, LOCK),
            (6, 1, ON),
            (7, 0, LOCK),
            (8, 0, ON),
        ]);
        let times: Vec<_> = both
            .iter()
            .map(|window| (window.cpu, window.opened, window.last_lock, window.closed))
            .collect();
        assert_eq!(times, [(1, 2, 5, 6), (0, 1, 7, 8)]);
        let locks: Vec<_> = both
            .iter()
            .map(|window| (window.program_locks, window.guest_locks))
            .collect();
        assert_eq!(locks, [(0, 2), (2, 0)]);
    }

    #[test]
    fn window_without_an_end_is_none() {
        assert_eq!(found(&[(1, 0, ON), (2, 0, OFF), (3, 0, LOCK)]), []);
    }

    #[test]
    fn switching_off_twice_opens_one_window() {
        let windows = found(&[(1, 0, OFF), (2, 0, LOCK), (3, 0, OFF), (4, 0, ON)]);
        assert_eq!(windows.len(), 1);
        assert_eq!((windows[0].opened, windows[0].program_locks), (1, 1));
    }
}
