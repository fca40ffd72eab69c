//! Facts of a machine from other places than its own files: in a log's first lines, and in the output of tools.

use std::collections::BTreeSet;
use std::io::{self, Read};

use memchr::memmem;
use split_lock_model::time::Hz;

use crate::facts::Os;
use crate::{Facts, Observed};

/// Facts as a log or a tool reports them; what it does not report is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReportedFacts {
    pub(crate) cpu_vendor: Option<String>,
    pub(crate) cpu_family: Option<u32>,
    pub(crate) cpu_model_number: Option<u32>,
    pub(crate) cpu_model: Option<String>,
    /// All of them.
    pub(crate) cpu_flags: Option<BTreeSet<String>>,
    pub(crate) online_cpus: Option<usize>,
    pub(crate) kernel_release: Option<String>,
    pub(crate) command_line: Option<String>,
    pub(crate) hz: Option<Hz>,
    pub(crate) bus_lock_detect_option: Option<bool>,
    pub(crate) split_lock_mitigate: Option<String>,
    pub(crate) hypervisor: Option<String>,
    pub(crate) os: Option<Os>,
}

impl ReportedFacts {
    /// The name that a CPU goes by begins with its maker.
    pub(crate) fn set_cpu_model(&mut self, model: &str) {
        let is = |maker: &str| model.contains(maker);
        if self.cpu_vendor.is_none() {
            self.cpu_vendor = match () {
                () if is("Intel") => Some("GenuineIntel".to_owned()),
                () if is("AMD") => Some("AuthenticAMD".to_owned()),
                () if is("Hygon") => Some("HygonGenuine".to_owned()),
                () => None,
            };
        }
        self.cpu_model = Some(model.to_owned());
    }
}

impl Facts {
    /// Takes over what is not known otherwise.
    pub(crate) fn learn(&mut self, facts: &ReportedFacts, from: &str) {
        macro_rules! learn {
            ($($fact:ident),+) => {$(
                if let (Observed::Unreadable { .. }, Some(value)) = (&self.$fact.value, &facts.$fact) {
                    self.$fact = Observed::Is(value.clone()).from(from);
                }
            )+};
        }
        learn!(
            cpu_vendor,
            cpu_family,
            cpu_model_number,
            cpu_model,
            cpu_flags,
            online_cpus,
            kernel_release,
            command_line,
            hz,
            bus_lock_detect_option,
            split_lock_mitigate,
            hypervisor,
            os
        );
    }
}

/// Passes a log on, and keeps what the kernel says there of its machine when it starts: the last time.
#[derive(Debug)]
pub(crate) struct BootLogReader<R> {
    log: R,
    /// The beginning of the line that has not ended.
    line: Vec<u8>,
    /// So many lines may still be of a kernel that starts.
    lines: u32,
    pub(crate) facts: ReportedFacts,
}

const MOST_LINE_BYTES: usize = 4096;

/// The kernel has said all that matters here long before.
const MOST_LINES: u32 = 5_000;

impl<R: Read> BootLogReader<R> {
    pub(crate) fn new(log: R) -> Self {
        BootLogReader {
            log,
            line: vec![],
            lines: 0,
            facts: ReportedFacts::default(),
        }
    }

    fn take_lines(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.keep(&rest[..end]);
            self.end_line();
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    fn keep(&mut self, part: &[u8]) {
        let room = MOST_LINE_BYTES - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        if memmem::find(&self.line, b"Linux version ").is_some() {
            self.facts = ReportedFacts::default();
            self.lines = MOST_LINES;
        }
        if self.lines > 0 {
            self.lines -= 1;
            read_boot_line(&mut self.facts, &String::from_utf8_lossy(&self.line));
        }
        self.line.clear();
    }
}

impl<R: Read> Read for BootLogReader<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.log.read(to)?;
        self.take_lines(&to[..count]);
        if count == 0 {
            self.end_line();
        }
        Ok(count)
    }
}

fn read_boot_line(facts: &mut ReportedFacts, line: &str) {
    let after = |words: &str| {
        let text = line.split_once(words)?.1;
        // A logger that writes JSON ends a message with a quotation mark.
        let end = match line.trim_start().starts_with('{') {
            true => text.find('"').unwrap_or(text.len()),
            false => text.len(),
        };
        Some(text[..end].trim())
    };
    if facts.command_line.is_none()
        && let Some(words) = after("Command line: ").or_else(|| after("Kernel command line: "))
    {
        facts.command_line = Some(words.to_owned());
    }
    if facts.cpu_model.is_none()
        && let Some((name, numbers)) = after("CPU0: ").and_then(|text| text.rsplit_once(" (fam"))
    {
        facts.set_cpu_model(name);
        let number = |name: &str| {
            let value = numbers.split_once(name)?.1.split([',', ')']).next()?;
            u32::from_str_radix(value.trim().trim_start_matches("0x"), 16).ok()
        };
        facts.cpu_family = number("ily: ").or_else(|| number(": "));
        facts.cpu_model_number = number("model: ");
    }
    if let Some(name) = after("Hypervisor detected: ") {
        facts.hypervisor = Some(name.to_owned());
    }
    if let Some((_, cpus)) = after("Brought up ").and_then(|text| text.split_once(", ")) {
        let count = cpus.strip_suffix(" CPUs").or(cpus.strip_suffix(" CPU"));
        facts.online_cpus = count.and_then(|count| count.parse().ok());
    }
    let jiffies = after("clocksource: jiffies: ");
    if let Some((_, idle)) = jiffies.and_then(|text| text.split_once("max_idle_ns: ")) {
        let ns = idle.strip_suffix(" ns").and_then(|ns| ns.parse().ok());
        facts.hz = ns.and_then(hz_of_jiffies);
    }
}

/// The clock source of jiffies can stand still for so many ticks, whatever they are.
fn hz_of_jiffies(max_idle_ns: u64) -> Option<Hz> {
    const TICKS: f64 = 1_911_260_446.275;
    let tick_seconds = max_idle_ns as f64 / 1e9 / TICKS;
    let hz = (1.0 / tick_seconds).round();
    (100.0..=1000.0)
        .contains(&hz)
        .then(|| Hz::new(hz as u32).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(log: &str) -> ReportedFacts {
        let mut reader = BootLogReader::new(log.as_bytes());
        io::copy(&mut reader, &mut io::sink()).unwrap();
        reader.facts
    }

    #[test]
    fn what_the_kernel_says_of_its_machine_is_kept() {
        let log = "[    0.000000] Linux version 6.6.58-1-lts (x@y) #1 SMP\n\
            [    0.000000] Command line: BOOT_IMAGE=/vmlinuz quiet split_lock_detect=off\n\
            [    0.000000] Hypervisor detected: KVM\n\
            [    0.000000] clocksource: jiffies: mask: 0xffffffff max_cycles: 0xffffffff, max_idle_ns: 6370867519511994 ns\n\
            [    0.162119] smpboot: CPU0: 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz (family: 0x6, model: 0x8c, stepping: 0x1)\n\
            [    0.262119] smp: Brought up 1 node, 8 CPUs";
        let facts = facts(log);
        assert_eq!(
            facts.command_line.as_deref(),
            Some("BOOT_IMAGE=/vmlinuz quiet split_lock_detect=off")
        );
        assert_eq!(facts.cpu_vendor.as_deref(), Some("GenuineIntel"));
        assert_eq!(
            (facts.cpu_family, facts.cpu_model_number),
            (Some(6), Some(0x8c))
        );
        assert_eq!(facts.hypervisor.as_deref(), Some("KVM"));
        assert_eq!((facts.hz, facts.online_cpus), (Some(Hz::HZ_300), Some(8)));
    }

    #[test]
    fn what_came_before_the_last_start_does_not_count() {
        let log = "Linux version 6.1\nCommand line: a\nLinux version 6.2\n";
        assert_eq!(facts(log), ReportedFacts::default());
        assert_eq!(facts("sudo: Command line: a\n"), ReportedFacts::default());
    }

    #[test]
    fn ticks_a_second_follow_from_how_long_they_may_be_left_out() {
        for (ns, hz) in [
            (1_911_260_446_275_000, Some(Hz::HZ_1000)),
            (7_645_041_785_100_000, Some(Hz::HZ_250)),
            (19_112_604_462_750_000, Some(Hz::HZ_100)),
            (0, None),
        ] {
            assert_eq!(hz_of_jiffies(ns), hz);
        }
    }
}
