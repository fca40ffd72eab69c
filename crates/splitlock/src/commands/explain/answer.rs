//! All there is to say about an instruction, for people.

use split_lock_assist::cpu::{Mode, rflags};
use split_lock_assist::decode::{ImplicitLock, LINE_BYTES, MAX_INSTRUCTION_BYTES, PAGE_BYTES};
use unicode_width::UnicodeWidthStr;

use super::crossing::{Crossing, listed};
use super::elf::Name;
use super::linux::{Treated, Treatment};
use super::listing::Line;
use super::picture;
use super::registers::Known;
use super::subject::{Origin, Subject};
use super::verdict::{Lock, Place, Split, Verdict};
use crate::terminal::{self, paragraphs};
use crate::text::{plain, wrap};

/// The columns that the names of facts take.
const NAMES: usize = 9;

/// A question's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) subject: Subject,
    pub(super) known: Known,
    /// `None` if there is no instruction that the CPU knows.
    pub(super) verdict: Option<Verdict>,
    /// What Linux does, if it can be a split lock.
    pub(super) treatment: Option<Treatment>,
}

impl Answer {
    pub(super) fn is_split(&self) -> bool {
        let split = self.verdict.as_ref().map(|verdict| verdict.split);
        split == Some(Split::Yes)
    }

    /// The answer in a sentence.
    pub(super) fn headline(&self) -> String {
        let Some(verdict) = &self.verdict else {
            return format!(
                "No lock: that is no instruction in {}-bit code, and the CPU raises an exception.",
                self.subject.mode.bits()
            );
        };
        let text = &verdict.instruction;
        match (&verdict.place, verdict.lock) {
            (Some(place), _) => self.of_operand(verdict, place),
            (None, Lock::Refused) => format!(
                "No lock: `{text}` may not have a LOCK prefix, and the CPU raises #UD (a program \
                 gets SIGILL)."
            ),
            (None, Lock::Implicit(lock @ ImplicitLock::AtomicWithoutLock)) => {
                format!("Perhaps a split lock: `{text}` {lock}, and is not looked into here.")
            }
            (None, Lock::Implicit(lock)) => format!(
                "Only in odd cases a split lock: `{text}` {lock}. That splits where a table of \
                 descriptors is not aligned to 8 bytes; Linux's own are."
            ),
            (None, _) => format!(
                "No lock: `{text}` does not lock, so it is no split lock, whatever it accesses."
            ),
        }
    }

    fn of_operand(&self, verdict: &Verdict, place: &Place) -> String {
        let text = &verdict.instruction;
        if let Some(fault) = &place.fault {
            return format!("No split lock: `{text}` faults before it locks: {fault}.");
        }
        if place.operand.must_be_aligned {
            return format!(
                "No split lock: `{text}` faults unless its operand is aligned to 16 bytes, and so \
                 never crosses a cache line."
            );
        }
        let bytes = match place.operand.bytes {
            1 => "1 byte".to_owned(),
            bytes => format!("{bytes} bytes"),
        };
        let at = match place.address {
            Some(address) => format!("`{text}` locks {bytes} at {address:#x}"),
            None => format!("`{text}` locks {bytes}"),
        };
        let whatever = match place.address {
            Some(_) => String::new(),
            None => format!(", whatever {} may be", joined(&place.needs)),
        };
        match verdict.split {
            Split::Yes => format!("A split lock: {at}, across the end of a cache line{whatever}."),
            Split::No => format!("No split lock: {at}, within one cache line{whatever}."),
            Split::Depends => format!(
                "Perhaps a split lock: {at}, and where they are depends on {}.",
                joined(&place.needs)
            ),
        }
    }

    /// Everything, fit for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = paragraphs(&plain(&self.headline()));
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
            text.push_str(&paragraphs(&plain(&notes.join(" "))));
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
        let bytes = |line: &Line| hexadecimal(&line.bytes, " ");
        let width = lines.iter().map(|line| bytes(line).len()).max();
        let width = width.unwrap_or(0);
        let line = |line: &Line| {
            let mark = if line.is_here { '>' } else { ' ' };
            let address = match self.subject.rip {
                Some(_) => format!("{:#x}  ", line.address),
                None => String::new(),
            };
            format!("{mark} {address}{:width$}  {}\n", bytes(line), line.text)
        };
        lines.iter().map(line).collect()
    }

    fn facts(&self) -> String {
        let Some(verdict) = &self.verdict else {
            let longest = self.subject.bytes.len().min(MAX_INSTRUCTION_BYTES);
            return fact("bytes", &hexadecimal(&self.subject.bytes[..longest], " "));
        };
        let instruction = &verdict.instruction;
        let bytes = hexadecimal(instruction.bytes(), " ");
        let mut text = String::new();
        if !self.has_listing() {
            text.push_str(&fact("bytes", &format!("{bytes}: {instruction}")));
        }
        text.push_str(&fact("locks", why(verdict.lock)));
        let Some(place) = &verdict.place else {
            return text;
        };
        let size = place.operand.bytes;
        let sum = place.operand.sum(&self.known);
        let range = match place.address {
            Some(address) => {
                let last = last_byte(address, size, self.subject.mode);
                match format!("{address:#x}") == sum {
                    true => format!("{address:#x}..{last:#x}"),
                    false => format!("{sum} = {address:#x}..{last:#x}"),
                }
            }
            None => sum,
        };
        let bytes = if size == 1 { "byte" } else { "bytes" };
        text.push_str(&fact("operand", &format!("{size} {bytes} at {range}")));
        if place.fault.is_none() && !place.operand.must_be_aligned {
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
        let drawn = place.filter(|place| place.fault.is_none() && !place.operand.must_be_aligned);
        let Some(place) = drawn else {
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
        if self.checks_alignment() {
            text.push_str(&fact(
                "EFLAGS.AC",
                "is set: a program gets SIGBUS for this misaligned access, whatever the mode.",
            ));
        }
        if self.is_in_the_kernel() {
            text.push_str(&fact(
                "kernel",
                "that address is one of the kernel's: there a split lock that is detected is an \
                 oops, in mode warn as well.",
            ));
        }
        text
    }

    fn checks_alignment(&self) -> bool {
        let is_set = |flags: u64| flags & rflags::ALIGNMENT_CHECK != 0;
        self.known.flags.is_some_and(is_set) && self.is_split()
    }

    /// The upper half of the address space is the kernel's.
    fn is_in_the_kernel(&self) -> bool {
        let is_upper = |rip: u64| rip >> 63 == 1;
        self.subject.mode == Mode::Bits64 && self.subject.rip.is_some_and(is_upper)
    }

    /// What has to be known besides to judge the answer.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = vec![];
        if let (Some(inside), Some(rip)) = (self.subject.listing.inside, self.subject.rip) {
            notes.push(format!(
                "Read from the beginning of its function, {rip:#x} is in the middle of the \
                 instruction at {inside:#x}, so it may not be the address of an instruction."
            ));
        }
        notes.extend(self.one_after_a_lock());
        let five_level = self
            .verdict
            .as_ref()
            .map(|verdict| verdict.needs_five_level_paging);
        if five_level == Some(true) {
            notes.push("The address takes five-level paging: it has more than 48 bits.".into());
        }
        notes
    }

    /// Bus locks are reported after the instruction, so people come with the address of the next.
    fn one_after_a_lock(&self) -> Option<String> {
        let locks = self
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.place.is_some());
        let before = self.subject.listing.line_before()?;
        let address = match self.subject.rip {
            Some(_) => format!(" at {:#x}", before.address),
            None => String::new(),
        };
        (before.locks && !locks).then(|| {
            format!(
                "The instruction before it{address} locks: `{}`. If the address is from a `#DB: ... \
                 took a bus_lock trap` line, which names the instruction after the one that locked, \
                 explain that one.",
                before.text
            )
        })
    }
}

impl Origin {
    /// The function's name, and how far into it.
    pub(super) fn symbol(&self) -> Option<(&Name, u64)> {
        let function = self.function.as_ref()?;
        Some((function.name.as_ref()?, self.in_file? - function.start))
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

/// Why it locks.
pub(super) fn why(lock: Lock) -> &'static str {
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

/// `rsi`, `rsi and rdi`, `fs_base, rax and rcx`.
fn joined(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [name] => name.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn hexadecimal(bytes: &[u8], gap: &str) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(gap)
}
