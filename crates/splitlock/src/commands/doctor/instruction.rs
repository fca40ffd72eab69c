//! The instruction that a group of traps is about, where its process lives.

use serde::Serialize;
use split_lock_host::attribution::{Group, Space};
use split_lock_host::{Diagnosis, Root};
use split_lock_report::text::plain;
use split_lock_symbols::ProcessInstruction;

#[cfg(test)]
#[path = "../../../../split-lock-symbols/tests/fixture/mod.rs"]
mod fixture;

/// What is at the addresses of a group of traps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum Instruction {
    Found(ProcessInstruction),
    /// An instruction that does not: other code is loaded there by now.
    OtherCode(ProcessInstruction),
    /// The addresses are those of a guest, and in the VMM's memory they mean something else.
    OfAGuest,
    #[serde(rename = "could_not_see")]
    Unreadable {
        why: String,
    },
}

/// Which group's instruction it is, and in which process.
#[derive(Debug, Serialize)]
pub(super) struct Located {
    /// The index of the group.
    pub(super) group: usize,
    pub(super) pid: u32,
    #[serde(flatten)]
    pub(super) instruction: Instruction,
}

/// No more instructions are looked up: each takes reading a file's symbols.
const MOST_INSTRUCTIONS: usize = 8;

/// The instructions of those groups that have a process which lives.
pub(super) fn of_groups(root: &Root, diagnosis: &Diagnosis) -> Vec<Located> {
    let groups = diagnosis.attribution.groups.iter().enumerate();
    let living = groups.filter_map(|(group, traps)| {
        let owner = traps.owners.as_ref()?.processes.first()?;
        let pid = owner.process.pid;
        let instruction = Instruction::of(root, &traps.group, pid);
        Some(Located {
            group,
            pid,
            instruction,
        })
    });
    living.take(MOST_INSTRUCTIONS).collect()
}

impl Instruction {
    /// The one of a group that this process has a thread in.
    fn of(root: &Root, group: &Group, pid: u32) -> Self {
        if group.space == Space::Guest {
            return Instruction::OfAGuest;
        }
        if !root.is_live() {
            let why = "the memory of a process can only be read while it runs".into();
            return Instruction::Unreadable { why };
        }
        // Another process of the group may have its code elsewhere.
        let mut answers = group.addresses.iter().map(|address| {
            let found = match group.is_after() {
                true => ProcessInstruction::before(pid, address.address),
                false => ProcessInstruction::at(pid, address.address),
            };
            match found {
                Ok(found) if found.locks => Instruction::Found(found),
                Ok(found) => Instruction::OtherCode(found),
                Err(_) if group.space == Space::Either => Instruction::OfAGuest,
                Err(error) => Instruction::Unreadable {
                    why: format!("{error:#}"),
                },
            }
        });
        let Some(first) = answers.next() else {
            let why = "the log has no address".into();
            return Instruction::Unreadable { why };
        };
        if let Instruction::Found(_) = first {
            return first;
        }
        let better = answers.find(|answer| matches!(answer, Instruction::Found(_)));
        match better.unwrap_or(first) {
            // QEMU's own code may be anywhere, and what does not lock has not been trapped at.
            Instruction::OtherCode(_) if group.space == Space::Either => Instruction::OfAGuest,
            answer => answer,
        }
    }

    /// The same for people, fit for a terminal.
    pub(super) fn sentence(&self) -> String {
        let sentence = match self {
            Instruction::Found(found) => format!("`{}`{}", found.text, place(found)),
            Instruction::OtherCode(found) => format!(
                "at {:#x} there is `{}`{} now, which does not lock: other code has been loaded since",
                found.address,
                found.text,
                place(found)
            ),
            Instruction::OfAGuest => {
                "the address is one of the guest's, so it is not looked up in the VMM's memory"
                    .into()
            }
            Instruction::Unreadable { why } => format!("its instruction could not be seen: {why}"),
        };
        plain(&sentence)
    }
}

fn place(found: &ProcessInstruction) -> String {
    let mut text = String::new();
    if let Some(function) = &found.function {
        text += &format!(" in {function}");
    }
    if let Some(file) = &found.file {
        text += &format!(" of {file}");
    }
    if let Some(source) = found.source.first() {
        text += &format!(" ({source})");
    }
    text
}

#[cfg(test)]
mod tests {
    use split_lock_host::attribution::Traps;
    use split_lock_log::Records;
    use tempfile::TempDir;

    use super::fixture::{BASE, Elf, SPLIT, TEXT, Waiting};
    use super::*;

    /// A process in which a split lock waits.
    struct Target(Waiting, #[expect(dead_code, reason = "its file")] TempDir);

    impl Target {
        fn start(elf: &Elf) -> Self {
            let folder = tempfile::tempdir().unwrap();
            Target(Waiting::start(elf, &folder.path().join("waits")), folder)
        }

        fn instruction(&self, comm: &str, kind: &str, address: u64) -> Instruction {
            let root = Root::live().unwrap();
            Instruction::of(&root, &group(comm, kind, address), self.0.pid())
        }
    }

    fn group(comm: &str, kind: &str, address: u64) -> Group {
        let what = match kind {
            "#AC" => "split_lock",
            _ => "bus_lock",
        };
        let line = format!(
            "x86/split lock detection: {kind}: {comm}/7 took a {what} trap at address: {address:#x}\n"
        );
        let mut traps = Traps::default();
        for record in Records::new(line.as_bytes()) {
            traps.see(&record.unwrap());
        }
        traps.summary().groups.remove(0)
    }

    #[test]
    fn the_instruction_of_a_process_that_lives_is_named() {
        // #DB comes after it, and with symbols or without them there is only one that it can be.
        let elf = Elf::default();
        let nameless = Elf {
            symbols: vec![],
            unwinds: false,
            has_lines: false,
            ..Elf::default()
        };
        for (elf, function) in [(elf, Some("split+0x0")), (nameless, None)] {
            let process = Target::start(&elf);
            for (kind, address) in [("#AC", BASE + SPLIT), ("#DB", BASE + SPLIT + 5)] {
                let answer = process.instruction("game", kind, address);
                let Instruction::Found(found) = &answer else {
                    panic!("{kind}: {answer:?}");
                };
                assert_eq!(
                    (found.address, &found.bytes[..]),
                    (BASE + SPLIT, "f0480fab3e")
                );
                assert_eq!(found.function.as_deref(), function);
                let sentence = answer.sentence();
                assert!(
                    sentence.starts_with("`lock bts qword ptr [rsi],rdi`"),
                    "{sentence}"
                );
                assert!(sentence.contains("/waits"), "{sentence}");
            }
        }
    }

    #[test]
    fn code_that_does_not_lock_was_loaded_later() {
        let process = Target::start(&Elf::default());
        let answer = process.instruction("game", "#AC", BASE + TEXT);
        assert!(matches!(answer, Instruction::OtherCode(_)), "{answer:?}");
        assert!(answer.sentence().contains("does not lock"));
        // Of QEMU's nameless threads this means that it was the guest.
        let qemu = |address| process.instruction("qemu-system-x86", "#AC", address);
        assert_eq!(qemu(BASE + TEXT), Instruction::OfAGuest);
        assert_eq!(qemu(0x12_3456_7000), Instruction::OfAGuest);
        assert!(matches!(qemu(BASE + SPLIT), Instruction::Found(_)));
    }

    #[test]
    fn a_guests_address_is_not_looked_up() {
        let process = Target::start(&Elf::default());
        let answer = process.instruction("CPU 0/KVM", "#AC", BASE + SPLIT);
        assert_eq!(answer, Instruction::OfAGuest);
        assert!(answer.sentence().contains("guest's"));
    }

    #[test]
    fn what_cannot_be_seen_is_said() {
        let process = Target::start(&Elf::default());
        let answer = process.instruction("game", "#AC", 0x10);
        assert!(
            answer.sentence().contains("nothing mapped at 0x10"),
            "{answer:?}"
        );
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(json["state"], "could_not_see");
        let captured = tempfile::tempdir().unwrap();
        let root = Root::open(captured.path()).unwrap();
        let answer = Instruction::of(&root, &group("game", "#AC", 0x1000), 1);
        assert!(answer.sentence().contains("while it runs"), "{answer:?}");
    }
}
