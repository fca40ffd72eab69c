//! All there is to say about an instruction.

use split_lock_assist::cpu::{Mode, rflags};
use split_lock_assist::decode::ImplicitLock;
use split_lock_assist::partial::{Analysis, KnownRegisters, LockKind, OperandLocation, Split};
use split_lock_symbols::LocatedCode;

use super::linux::Treatment;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: LocatedCode,
    pub(super) known: KnownRegisters,
    /// `None` if there is no instruction that the CPU knows.
    pub(super) analysis: Option<Analysis>,
    /// What Linux does, if it can be a split lock.
    pub(super) treatment: Option<Treatment>,
    /// It is from a kernel's oops.
    pub(super) is_kernel: bool,
}

impl Answer {
    pub(super) fn is_split(&self) -> bool {
        let split = self.analysis.as_ref().map(|analysis| analysis.split);
        split == Some(Split::Yes)
    }

    /// Where its operand is, if that is what it locks.
    pub(super) fn location(&self) -> Option<&OperandLocation> {
        self.analysis.as_ref()?.location.as_ref()
    }

    pub(super) fn headline(&self) -> String {
        let Some(analysis) = &self.analysis else {
            return format!(
                "No lock: that is no instruction in {}-bit code, and the CPU raises an exception.",
                self.code.mode.bits()
            );
        };
        let text = &analysis.instruction;
        match (&analysis.location, analysis.lock) {
            (Some(location), _) => self.of_operand(analysis, location),
            (None, LockKind::Refused) => format!(
                "No lock: `{text}` may not have a LOCK prefix, and the CPU raises #UD (a program \
                 gets SIGILL)."
            ),
            (None, _) if self.loads_a_selector() => format!(
                "Only in odd cases a split lock: `{text}` loads a segment's selector. In real mode nothing is locked; in \
                 protected mode the CPU locks the segment's descriptor to mark it as accessed, and that splits if the \
                 descriptor lies across a cache line, which takes a table of descriptors that is not aligned to 8 bytes."
            ),
            (None, LockKind::Implicit(lock @ ImplicitLock::AtomicWithoutLock)) => {
                format!("Perhaps a split lock: `{text}` {lock}, and is not looked into here.")
            }
            (None, LockKind::Implicit(lock)) => format!(
                "Only in odd cases a split lock: `{text}` {lock}. That splits where a table of \
                 descriptors is not aligned to 8 bytes; Linux's own are."
            ),
            (None, _) => format!(
                "No lock: `{text}` does not lock, so it is no split lock, whatever it accesses."
            ),
        }
    }

    /// Far jumps and calls and the like in 16-bit code, which may be of real mode or not.
    pub(super) fn loads_a_selector(&self) -> bool {
        const LOADS: [&str; 16] = [
            "jmpf", "callf", "jmp far", "call far", "lds", "les", "lfs", "lgs", "lss", "retf",
            "iret", "mov ds,", "mov es,", "mov ss,", "mov fs,", "mov gs,",
        ];
        let analysis = self.analysis.as_ref();
        let text = analysis.map_or(String::new(), |analysis| analysis.instruction.to_string());
        self.code.mode == Mode::Bits16 && LOADS.iter().any(|word| text.starts_with(word))
    }

    fn of_operand(&self, analysis: &Analysis, location: &OperandLocation) -> String {
        let text = &analysis.instruction;
        if let Some(fault) = &location.fault {
            return format!("No split lock: `{text}` faults before it locks: {fault}.");
        }
        if location.operand.must_be_aligned {
            return format!(
                "No split lock: `{text}` faults unless its operand is aligned to 16 bytes, and so \
                 never crosses a cache line."
            );
        }
        let bytes = match location.operand.bytes {
            1 => "1 byte".to_owned(),
            bytes => format!("{bytes} bytes"),
        };
        let needs = joined(&location.needs, "and");
        let (at, whatever) = match location.address {
            Some(address) => (format!(" at {address:#x}"), String::new()),
            None => (String::new(), format!(", whatever {needs} may be")),
        };
        let at = format!("`{text}` locks {bytes}{at}");
        match analysis.split {
            Split::Yes => format!("A split lock: {at}, across the end of a cache line{whatever}."),
            Split::No => format!("No split lock: {at}, within one cache line{whatever}."),
            Split::Depends => {
                format!("Perhaps a split lock: {at}, and where they are depends on {needs}.")
            }
        }
    }

    /// What has to be known besides to judge the answer.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = vec![];
        let code = &self.code;
        if let (Some(inside), Some(rip)) = (code.listing.inside, code.rip) {
            notes.push(format!(
                "Read from the beginning of its function, {rip:#x} is in the middle of the \
                 instruction at {inside:#x}, so it may not be the address of an instruction."
            ));
        }
        notes.extend(self.one_after_a_lock());
        let flags = self.known.flags.unwrap_or(0);
        if flags & rflags::ALIGNMENT_CHECK != 0 && self.is_split() {
            notes.push(
                "EFLAGS.AC is set: a program gets SIGBUS for this misaligned access, whatever the \
                 mode."
                    .to_owned(),
            );
        }
        // The upper half of the address space is the kernel's.
        let is_in_a_kernel = self.is_kernel
            || code.mode == Mode::Bits64 && code.rip.is_some_and(|rip| rip >> 63 == 1);
        if self.treatment.is_some() && is_in_a_kernel {
            notes.push(
                "It is a kernel's own code: there a split lock that is detected is an oops (`Split lock detected`), in mode \
                 warn as well, and the thread dies. It is a bug of that code, or of whoever gave it the address; only \
                 split_lock_detect=off or ratelimit:N lets it run, and hides the bug."
                    .to_owned(),
            );
        }
        let analysis = self.analysis.as_ref();
        if analysis.is_some_and(|analysis| analysis.needs_five_level_paging) {
            notes.push("The address takes five-level paging: it has more than 48 bits.".to_owned());
        }
        notes
    }

    /// Bus locks are reported after the instruction, so people come with the address of the next.
    fn one_after_a_lock(&self) -> Option<String> {
        let before = self.code.listing.line_before()?;
        if !before.locks || self.location().is_some() {
            return None;
        }
        let address = match self.code.rip {
            Some(_) => format!(" at {:#x}", before.address),
            None => String::new(),
        };
        Some(format!(
            "The instruction before it{address} locks: `{}`. If the address is from a `#DB: ... took a \
             bus_lock trap` line, which names the instruction after the one that locked, explain that \
             one.",
            before.text
        ))
    }
}

/// `rsi`, `rsi and rdi`, `fs_base, rax and rcx`.
pub(super) fn joined(parts: &[String], and: &str) -> String {
    match parts {
        [first @ .., last] if !first.is_empty() => {
            format!("{} {and} {last}", first.join(", "))
        }
        parts => parts.concat(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use split_lock_assist::cpu::Mode;
    use split_lock_assist::partial::analyze;
    use split_lock_symbols::PastedBytes;

    use super::*;

    fn answer(bytes: &[u8], known: KnownRegisters, mode: Mode) -> Answer {
        let pasted = PastedBytes {
            bytes: bytes.to_owned(),
            ..PastedBytes::default()
        };
        let analysis = analyze(bytes, &known, mode).ok();
        let treatment = Treatment::by(&"6.6".parse().unwrap());
        Answer {
            code: LocatedCode::from_bytes(&pasted, mode, known.rip),
            known,
            analysis,
            treatment: Some(treatment),
            is_kernel: false,
        }
    }

    fn known(settings: &[impl AsRef<str>], mode: Mode) -> KnownRegisters {
        let settings = settings.iter().map(|text| text.as_ref().parse().unwrap());
        KnownRegisters::new(&settings.collect::<Vec<_>>(), None, mode).unwrap()
    }

    fn with(bytes: &[u8], settings: &[&str]) -> Answer {
        answer(bytes, known(settings, Mode::Bits64), Mode::Bits64)
    }

    /// Any values for some registers, of a few only the lowest byte. Code of 64 bits cannot have all
    /// of them.
    fn some_settings() -> impl Strategy<Value = Vec<String>> {
        const NAMES: &[&str] = &[
            "al", "cl", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r12", "rip", "fs_base",
            "gs_base", "ds_base", "ss_base",
        ];
        let settings = proptest::collection::vec(any::<u64>(), NAMES.len()).prop_map(|values| {
            let setting = |(name, value): (&&str, u64)| match name.ends_with('l') {
                true => format!("{name}={:#x}", value as u8),
                false => format!("{name}={value:#x}"),
            };
            NAMES.iter().zip(values).map(setting).collect::<Vec<_>>()
        });
        settings.prop_flat_map(|settings| proptest::sample::subsequence(settings, 0..=NAMES.len()))
    }

    /// lock inc dword ptr [rsi]; ret
    const INC: [u8; 4] = [0xf0, 0xff, 0x06, 0xc3];

    #[test]
    fn what_else_has_to_be_known_is_noted() {
        for (settings, part) in [
            (&["rsi=0x3e", "eflags=0x40246"][..], "EFLAGS.AC"),
            (&["rip=0xffffffff81000000"], "is an oops"),
            (&["rsi=0x1000000000003e"], "five-level"),
        ] {
            let notes = with(&INC, settings).notes();
            assert!(notes.len() == 1 && notes[0].contains(part), "{notes:?}");
        }
        for settings in [&["rsi=0x3e", "eflags=0x246", "rip=0x401000"][..], &[]] {
            assert_eq!(with(&INC, settings).notes(), [""; 0]);
        }
    }

    #[test]
    fn several_are_joined_as_in_a_sentence() {
        let names = ["a", "b", "c"].map(str::to_owned);
        for (count, sentence) in [(0, ""), (1, "a"), (2, "a or b"), (3, "a, b or c")] {
            assert_eq!(joined(&names[..count], "or"), sentence);
        }
    }

    proptest! {
        /// There is an answer to everything, in words and as JSON, and they agree.
        #[test]
        fn any_bytes_have_an_answer(
            bytes in proptest::collection::vec(any::<u8>(), 1..24),
            prefix in proptest::option::of(Just(0xf0)),
            mode in prop_oneof![Just(Mode::Bits16), Just(Mode::Bits32), Just(Mode::Bits64)],
            mut settings in some_settings(),
        ) {
            if mode == Mode::Bits64 {
                settings.retain(|text| !text.starts_with("ds_base") && !text.starts_with("ss_base"));
            }
            let bytes: Vec<u8> = prefix.into_iter().chain(bytes).collect();
            let answer = answer(&bytes, known(&settings, mode), mode);
            prop_assert!(answer.text().starts_with(answer.headline().split(' ').next().unwrap()));
            let json = answer.json();
            let split = json["split"].as_str().unwrap();
            prop_assert_eq!(answer.is_split(), split == "yes");
            let headline = answer.headline();
            let expected = match split {
                "yes" => "A split lock",
                "no" => "No ",
                _ => "",
            };
            prop_assert!(headline.starts_with(expected), "{headline}");
        }
    }
}
