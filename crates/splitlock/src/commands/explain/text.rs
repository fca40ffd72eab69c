//! The answer as people read it at a terminal.

use std::ops::RangeInclusive;

use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::{LINE_BYTES, MAX_INSTRUCTION_BYTES, PAGE_BYTES};
use split_lock_assist::partial::{Crossing, LockKind, OperandLocation};
use split_lock_report::text::{plain, wrap};
use split_lock_symbols::{ListingLine, Origin};
use unicode_width::UnicodeWidthStr;

use super::answer::{Answer, joined};
use super::linux::Treatment;
use super::picture;
use crate::terminal::{self, paragraphs};

/// The columns that the names of facts take.
const NAMES: usize = 9;

/// How many bytes of an instruction are shown that is not the one in question.
const MOST_BYTES: usize = 8;

impl Answer {
    pub(super) fn text(&self) -> String {
        let origin = self.code.origin.as_ref();
        let treatment = self.treatment.as_ref();
        let sections = [
            paragraphs(&self.headline()),
            origin.map_or_else(String::new, |origin| self.found_in(origin)),
            self.listing(),
            self.facts(),
            self.picture(),
            treatment.map_or_else(String::new, treatment_in_words),
            paragraphs(&self.notes().join(" ")),
        ];
        let sections = sections.iter().filter(|section| !section.is_empty());
        sections.map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn found_in(&self, origin: &Origin) -> String {
        let what = match (origin.pid, &origin.file) {
            (Some(pid), Some(file)) => format!("process {pid}, {file}"),
            (Some(pid), None) => format!("process {pid}, in memory without a file"),
            (None, file) => file.clone().unwrap_or_default(),
        };
        let mut text = fact("found in", &what);
        let (rip, in_file) = (self.code.rip, origin.address_in_file);
        if let Some(in_file) = in_file.filter(|_| in_file != rip) {
            text.push_str(&fact("in file", &format!("{in_file:#x}")));
        }
        if let Some((name, offset)) = origin.symbol() {
            let function = format!("{}+{offset:#x}", name.demangled);
            text.push_str(&fact("function", &function));
        }
        for (n, source) in origin.source.iter().enumerate() {
            let name = if n == 0 { "source" } else { "inlined" };
            text.push_str(&fact(name, &source.to_string()));
        }
        for assumption in &self.code.assumptions {
            text.push_str(&fact("assumed", assumption));
        }
        text
    }

    /// What is around it, if there is anything.
    fn listing(&self) -> String {
        let lines = match &self.code.listing.lines[..] {
            [_] => &[],
            lines => lines,
        };
        let width = lines.iter().map(|line| shown_bytes(line).len()).max();
        let width = width.unwrap_or(0);
        let line = |line: &ListingLine| {
            let mark = if line.is_here { '>' } else { ' ' };
            let address = match self.code.rip {
                Some(_) => format!("{:#x}  ", line.address),
                None => String::new(),
            };
            let (bytes, text) = (shown_bytes(line), &line.text);
            format!("{mark} {address}{bytes:width$}  {text}\n")
        };
        lines.iter().map(line).collect()
    }

    fn facts(&self) -> String {
        let Some(analysis) = &self.analysis else {
            let longest = self.code.bytes.len().min(MAX_INSTRUCTION_BYTES);
            return fact("bytes", &hexadecimal(&self.code.bytes[..longest], " "));
        };
        let mut text = String::new();
        if self.code.listing.lines.len() <= 1 {
            let instruction = &analysis.instruction;
            let bytes = hexadecimal(instruction.bytes(), " ");
            text.push_str(&fact("bytes", &format!("{bytes}: {instruction}")));
        }
        text.push_str(&fact("locks", why(analysis.lock)));
        if let Some(location) = &analysis.location {
            text.push_str(&self.operand_facts(location));
        }
        text
    }

    fn operand_facts(&self, location: &OperandLocation) -> String {
        let mut text = fact("operand", &self.extent(location));
        if location.can_be_locked() {
            let line = self.crossing(location, &location.line, LINE_BYTES);
            let page = self.crossing(location, &location.page, PAGE_BYTES);
            text.push_str(&(fact("line", &line) + &fact("page", &page)));
        }
        if !location.needs.is_empty() {
            let needs = location.needs.iter();
            let options: String = needs.map(|name| format!(" --reg {name}=VALUE")).collect();
            text.push_str(&fact("unknown", &format!("say more with{options}")));
        }
        text
    }

    fn extent(&self, location: &OperandLocation) -> String {
        let size = location.operand.bytes;
        let bytes = if size == 1 { "byte" } else { "bytes" };
        let sum = location.operand.sum(&self.known);
        let Some(address) = location.address else {
            return format!("{size} {bytes} at {sum}");
        };
        let range = format!("{address:#x}..{:#x}", self.last_byte(address, size));
        match format!("{address:#x}") == sum {
            true => format!("{size} {bytes} at {range}"),
            false => format!("{size} {bytes} at {sum} = {range}"),
        }
    }

    fn crossing(&self, location: &OperandLocation, crossing: &Crossing, unit: u64) -> String {
        let (size, begin) = (location.operand.bytes, |address| address / unit * unit);
        match (crossing, location.address) {
            (Crossing::Never, Some(address)) => format!("all in the one at {:#x}", begin(address)),
            (Crossing::Never, None) => "never crosses the end of one".to_owned(),
            (Crossing::Always, Some(address)) => {
                let (begin, inside) = (begin(address), unit - address % unit);
                let next = self.last_byte(begin, unit + 1);
                format!(
                    "crosses from the one at {begin:#x} to the one at {next:#x}, after {inside} of its \
                     {size} bytes"
                )
            }
            (Crossing::Always, None) => "always crosses the end of one".to_owned(),
            (Crossing::IfRemainder(remainders), _) => {
                let remainders = listed(remainders);
                let mut text =
                    format!("crosses the end of one if its address mod {unit} is {remainders}");
                let unknown = location.operand.single_unknown_term(&self.known);
                if let Some((register, rest)) = unknown
                    && rest.value % unit != 0
                    && let Some(values) = crossing.for_term(rest, unit)
                {
                    let values = listed(&values);
                    text.push_str(&format!(", which is if {register} mod {unit} is {values}"));
                }
                text
            }
        }
    }

    fn picture(&self) -> String {
        let location = self.location().filter(|location| location.can_be_locked());
        let Some(location) = location.filter(|_| terminal::width() >= picture::WIDTH) else {
            return String::new();
        };
        let into_line = location.operand.low_bits(&self.known);
        let into_line = into_line.lowest(LINE_BYTES.ilog2());
        match into_line.bits < LINE_BYTES.ilog2() {
            true => String::new(),
            false => picture::draw(location.address, into_line.value, location.operand.bytes),
        }
    }

    /// The address of the last of `size` bytes.
    pub(super) fn last_byte(&self, address: u64, size: u64) -> u64 {
        let last = address.wrapping_add(size - 1);
        match self.code.mode {
            Mode::Bits64 => last,
            Mode::Bits16 | Mode::Bits32 => last & u64::from(u32::MAX),
        }
    }
}

fn treatment_in_words(treatment: &Treatment) -> String {
    let mut text = paragraphs("What Linux does about a split lock:");
    if let Some(this_host) = &treatment.this_host {
        text.push_str(&fact("this host", this_host));
    }
    let Some(by_kernel) = &treatment.kernel else {
        return text;
    };
    if treatment.supposed {
        text.push_str(&paragraphs(
            "Where the CPU detects split locks and the kernel is booted with \
             split_lock_detect=warn, this one does:",
        ));
    }
    let mut rule = by_kernel.rule.clone();
    if let Some(limits) = &by_kernel.limits {
        let (ticks, hz) = (limits.sleep_ticks().0, limits.hz().get());
        rule.push_str(&format!(" The sleep asks for {ticks} ticks of {hz} Hz."));
    }
    text.push_str(&paragraphs(&rule));
    text.push_str(&fact("program", &by_kernel.program));
    text.push_str(&fact("KVM guest", &by_kernel.guest));
    text
}

/// `57..63`, `0..2 or 60..63`, `58, 60 or 62`.
fn listed(ranges: &[RangeInclusive<u64>]) -> String {
    let range = |range: &RangeInclusive<u64>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}..{last}"),
    };
    joined(&ranges.iter().map(range).collect::<Vec<_>>(), "or")
}

/// The bytes of the one in question, and of the others as many as there is room for.
fn shown_bytes(line: &ListingLine) -> String {
    match line.is_here || line.bytes.len() <= MOST_BYTES {
        true => hexadecimal(&line.bytes, " "),
        false => format!("{} ..", hexadecimal(&line.bytes[..MOST_BYTES - 1], " ")),
    }
}

fn why(lock: LockKind) -> &'static str {
    match lock {
        LockKind::Prefix => "yes, by its LOCK prefix",
        LockKind::Exchange => "yes: XCHG with memory always does",
        LockKind::Implicit(_) => "not an operand, but by itself what it has to mark",
        LockKind::None => "no",
        LockKind::Refused => "no: the LOCK prefix is not allowed here",
    }
}

/// A name and what there is to say, with as many lines as that takes.
fn fact(name: &str, text: &str) -> String {
    let room = terminal::width().saturating_sub(NAMES + 1).max(20);
    let lines = wrap(&plain(text), room as f64, |part| part.width() as f64);
    let named = lines.iter().enumerate().map(|(n, line)| {
        let name = if n == 0 { name } else { "" };
        format!("{name:NAMES$} {line}\n")
    });
    named.collect()
}

pub(super) fn hexadecimal(bytes: &[u8], gap: &str) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().join(gap)
}
