//! The logs among what was sent. An archive may have hundreds: only the best is kept.

use crate::{Events, History, LogCollector, Observed};

#[derive(Debug)]
pub(super) struct Log {
    pub(super) name: String,
    pub(super) events: Events,
    pub(super) collector: LogCollector,
}

impl Log {
    /// How good it tells of the last boot: from its beginning; as the kernel's own memory; and with how many messages.
    fn worth(&self) -> (bool, bool, u64) {
        let mut tools = ["dmesg", "journalctl"].iter();
        let is_of_this_boot = tools.any(|word| self.name.contains(word));
        let Events { begins_at_boot, .. } = self.events;
        (begins_at_boot, is_of_this_boot, self.events.messages())
    }
}

/// The log that tells most of the last boot, and of the others what is said of them.
#[derive(Debug, Default)]
pub(super) struct Logs {
    best: Option<Log>,
    /// The name and the traps of the one with most traps.
    other: Option<(String, u64)>,
    count: usize,
}

impl Logs {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, log: Log) {
        self.count += 1;
        let is_better = |best: &Log| log.worth() > best.worth();
        let worse = match self.best.as_ref().is_none_or(is_better) {
            true => self.best.replace(log),
            false => Some(log),
        };
        let Some(worse) = worse else { return };
        let traps = worse.events.traps();
        if self.other.as_ref().is_none_or(|(_, most)| traps >= *most) {
            self.other = Some((worse.name, traps));
        }
    }

    /// The best log, and what is to be said of another one.
    pub(super) fn into_best(self) -> (History, LogCollector, Option<String>) {
        let Some(best) = self.best else {
            let history = Observed::Absent.from("nothing that was given is a kernel's log");
            return (history, LogCollector::default(), None);
        };
        let other = self
            .other
            .filter(|(_, traps)| *traps > best.events.traps())
            .map(|(name, traps)| {
                format!("{name} tells of {traps} traps, maybe of an earlier boot: give it to --log to see them")
            });
        let history = Observed::Is(best.events).from(best.name);
        (history, best.collector, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, text: &str) -> Log {
        let mut collector = LogCollector::default();
        let events = History::of_log(text.as_bytes(), |record| collector.add(record)).unwrap();
        Log {
            name: name.to_owned(),
            events,
            collector,
        }
    }

    const BOOT: &str = "[    0.000000] Linux version 6.12.24 (x@y) #1 SMP\n";
    const TRAP: &str = "[    1.500000] x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10\n";

    #[test]
    fn best_log_is_found_in_any_order_and_the_one_with_more_traps_is_named() {
        let names = ["dmesg", "kern.log.1", "kern.log.2"];
        let texts = [format!("{BOOT}{TRAP}"), TRAP.repeat(2), TRAP.repeat(3)];
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut logs = Logs::default();
            for number in order {
                logs.add(log(names[number], &texts[number]));
            }
            assert_eq!(logs.count(), 3);
            let (history, _, other) = logs.into_best();
            assert_eq!(history.from, "dmesg");
            let other = other.unwrap();
            assert!(other.starts_with("kern.log.2 tells of 3 traps"), "{other}");
        }
    }
}
