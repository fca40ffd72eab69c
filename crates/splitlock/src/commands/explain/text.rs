//! The answer as people read it at a terminal.

use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::{LINE_BYTES, MAX_INSTRUCTION_BYTES, PAGE_BYTES};
use split_lock_assist::partial::{Crossing, Lock, Place, listed};
use split_lock_report::text::{plain, wrap};
use split_lock_symbols::{Line, Origin};
use unicode_width::UnicodeWidthStr;

use super::answer::Answer;
use super::linux::{Treated, Treatment};
use super::picture;
use crate::terminal::{self, paragraphs};

/// The columns that the names of facts take.
const NAMES: usize = 9;

/// How many bytes of an instruction are shown that is not the one in question.
const MOST_BYTES: usize = 8;

impl Answer {
    /// Everything, fit for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = paragraphs(&self.headline());
        if let Some(origin) = &self.subject.origin {
            text.push('\n');
            text.push_str(&self.found_in(origin));
        }
        if self.has_listing() {
            text.push('\n');
            text.push_str(&self.listing());
        }
        text.push('\n');
        text.push_str(&self.facts());
        text.push_str(&self.picture());
        if let Some(treatment) = &self.treatment {
            text.push('\n');
            text.push_str(&self.treatment(treatment));
        }
        let notes = self.notes();
        if !notes.is_empty() {
            text.push('\n');
            text.push_str(&paragraphs(&notes.join(" ")));
        }
        text
    }

    fn found_in(&self, origin: &Origin) -> String {
        let mut text = String::new();
        let what = match (origin.pid, &origin.file) {
            (Some(pid), Some(file)) => format!("process {pid}, {file}"),
            (Some(pid), None) => format!("process {pid}, in memory without a file"),
            (None, file) => file.clone().unwrap_or_default(),
        };
        text.push_str(&fact("found in", &what));
        let (rip, in_file) = (self.subject.rip, origin.in_file);
        if let Some(in_file) = in_file.filter(|_| in_file != rip) {
            text.push_str(&fact("in file", &format!("{in_file:#x}")));
        }
        if let Some((name, offset)) = origin.symbol() {
            text.push_str(&fact("function", &format!("{}+{offset:#x}", name.shown)));
        }
        for (n, source) in origin.source.iter().enumerate() {
            let name = if n == 0 { "source" } else { "inlined" };
            text.push_str(&fact(name, &format!("{}:{}", source.file, source.line)));
        }
        for assumed in &self.subject.assumed {
            text.push_str(&fact("assumed", assumed));
        }
        text
    }

    /// There is something around it to be shown.
    fn has_listing(&self) -> bool {
        self.subject.listing.lines.len() > 1
    }

    fn listing(&self) -> String {
        let lines = &self.subject.listing.lines;
        let width = lines.iter().map(|line| shown_bytes(line).len()).max();
        let width = width.unwrap_or(0);
        let line = |line: &Line| {
            let mark = if line.is_here { '>' } else { ' ' };
            let address = match self.subject.rip {
                Some(_) => format!("{:#x}  ", line.address),
                None => String::new(),
            };
            let (bytes, text) = (shown_bytes(line), &line.text);
            format!("{mark} {address}{bytes:width$}  {text}\n")
        };
        lines.iter().map(line).collect()
    }

    fn facts(&self) -> String {
        let Some(verdict) = &self.verdict else {
            let longest = self.subject.bytes.len().min(MAX_INSTRUCTION_BYTES);
            return fact("bytes", &hexadecimal(&self.subject.bytes[..longest], " "));
        };
        let mut text = String::new();
        if !self.has_listing() {
            let instruction = &verdict.instruction;
            let bytes = hexadecimal(instruction.bytes(), " ");
            text.push_str(&fact("bytes", &format!("{bytes}: {instruction}")));
        }
        text.push_str(&fact("locks", why(verdict.lock)));
        if let Some(place) = &verdict.place {
            text.push_str(&self.place(place));
        }
        text
    }

    fn place(&self, place: &Place) -> String {
        let mut text = fact("operand", &self.extent(place));
        if place.can_be_locked() {
            let line = self.crossing(place, &place.line, LINE_BYTES);
            text.push_str(&fact("line", &line));
            let page = self.crossing(place, &place.page, PAGE_BYTES);
            text.push_str(&fact("page", &page));
        }
        if !place.needs.is_empty() {
            let options = place.needs.iter().map(|name| format!("--reg {name}=VALUE"));
            let options = options.collect::<Vec<_>>().join(" ");
            text.push_str(&fact("unknown", &format!("say more with {options}")));
        }
        text
    }

    fn extent(&self, place: &Place) -> String {
        let size = place.operand.bytes;
        let bytes = if size == 1 { "byte" } else { "bytes" };
        let sum = place.operand.sum(&self.known);
        let Some(address) = place.address else {
            return format!("{size} {bytes} at {sum}");
        };
        let last = last_byte(address, size, self.subject.mode);
        match format!("{address:#x}") == sum {
            true => format!("{size} {bytes} at {address:#x}..{last:#x}"),
            false => format!("{size} {bytes} at {sum} = {address:#x}..{last:#x}"),
        }
    }

    fn crossing(&self, place: &Place, crossing: &Crossing, unit: u64) -> String {
        let begin = |address: u64| address / unit * unit;
        match (crossing, place.address) {
            (Crossing::Never, Some(address)) => format!("all in the one at {:#x}", begin(address)),
            (Crossing::Never, None) => "never crosses the end of one".to_owned(),
            (Crossing::Always, Some(address)) => {
                let inside = unit - address % unit;
                let size = place.operand.bytes;
                let next = last_byte(begin(address), unit + 1, self.subject.mode);
                format!(
                    "crosses from the one at {:#x} to the one at {next:#x}, after {inside} of its \
                     {size} bytes",
                    begin(address)
                )
            }
            (Crossing::Always, None) => "always crosses the end of one".to_owned(),
            (Crossing::IfRemainder(remainders), _) => {
                let mut text = format!(
                    "crosses the end of one if its address mod {unit} is {}",
                    listed(remainders)
                );
                let unknown = place.operand.the_unknown(&self.known);
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
        let place = self
            .verdict
            .as_ref()
            .and_then(|verdict| verdict.place.as_ref());
        let Some(place) = place.filter(|place| place.can_be_locked()) else {
            return String::new();
        };
        let residue = place.operand.residue(&self.known);
        if residue.modulus < LINE_BYTES || terminal::width() < picture::WIDTH {
            return String::new();
        }
        let into_line = residue.value % LINE_BYTES;
        let drawn = picture::draw(place.address, into_line, place.operand.bytes);
        format!("\n{drawn}")
    }

    fn treatment(&self, treatment: &Treatment) -> String {
        let mut text = paragraphs("What Linux does about a split lock:");
        if let Some(this_host) = &treatment.this_host {
            text.push_str(&fact("this host", this_host));
        }
        if let Some(treated) = &treatment.kernel {
            if treatment.supposed {
                let kernel = "Where the CPU detects split locks and the kernel is booted with \
                              split_lock_detect=warn, this one does:";
                text.push_str(&paragraphs(kernel));
            }
            text.push_str(&treated_in_words(treated));
        }
        text
    }
}

fn treated_in_words(treated: &Treated) -> String {
    let mut rule = treated.rule.clone();
    if let Some(limits) = &treated.limits {
        let (ticks, hz) = (limits.sleep_ticks, limits.hz);
        rule.push_str(&format!(" The sleep asks for {ticks} ticks of {hz} Hz."));
    }
    [
        paragraphs(&rule),
        fact("program", &treated.program),
        fact("KVM guest", &treated.guest),
    ]
    .concat()
}

/// The bytes of the one in question, and of the others as many as there is room for.
fn shown_bytes(line: &Line) -> String {
    match line.is_here || line.bytes.len() <= MOST_BYTES {
        true => hexadecimal(&line.bytes, " "),
        false => format!("{} ..", hexadecimal(&line.bytes[..MOST_BYTES - 1], " ")),
    }
}

/// Why it locks.
fn why(lock: Lock) -> &'static str {
    match lock {
        Lock::Prefix => "yes, by its LOCK prefix",
        Lock::Exchange => "yes: XCHG with memory always does",
        Lock::Implicit(_) => "not an operand, but by itself what it has to mark",
        Lock::None => "no",
        Lock::Refused => "no: the LOCK prefix is not allowed here",
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

/// The address of the last of `size` bytes.
pub(super) fn last_byte(address: u64, size: u64, mode: Mode) -> u64 {
    let last = address.wrapping_add(size - 1);
    match mode {
        Mode::Bits64 => last,
        Mode::Bits16 | Mode::Bits32 => last & u64::from(u32::MAX),
    }
}

pub(super) fn hexadecimal(bytes: &[u8], gap: &str) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(gap)
}
