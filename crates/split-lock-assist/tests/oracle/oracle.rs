//! A batch of cases after the other: executed natively, emulated, compared.

use std::fmt;

use split_lock_assist::cpu::{CpuState, Mode};
use split_lock_assist::emulate::emulate;
use split_lock_assist::pause::SingleVcpu;

use crate::case::{Case, Source};
use crate::common::random::Random;
use crate::judge::{Comparison, Expected, judge, report};
use crate::layout::{CODE_BYTES, DATA_BYTES, Layout, READABLE_BYTES, SLOT_BYTES};
use crate::model::ModelMemory;
use crate::sys::{self, Arena, Outcome, Shared, Surroundings, Task, Unfinished, WINDOW_BYTES};

/// How many cases one child executes.
const BATCH: usize = 8192;
const _: () = assert!(BATCH as u64 * SLOT_BYTES <= CODE_BYTES);

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Executed by both.
    pub(crate) done: u64,
    /// Trapped, and left to the CPU.
    pub(crate) trapped: u64,
    /// How many of them differ in flags that the manuals leave open.
    pub(crate) undefined: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} instructions did the same, {} of them but for undefined flags; {} trapped as foretold",
            self.done, self.undefined, self.trapped
        )
    }
}

/// A CPU and the emulation, with the same memory.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) layout: Layout,
    pub(crate) source: Source,
    arena: Arena,
    memory: ModelMemory,
    tasks: Shared<Task>,
    outcomes: Shared<Outcome>,
    pub(crate) tally: Tally,
}

impl Oracle {
    /// In an arena at a fixed address, which nobody else in this process may use.
    pub(crate) fn new(start: u64, mode: Mode, seed: u64, split_locks: u64) -> Self {
        let layout = Layout::at(start);
        let arena = Arena::new(start, Layout::BYTES as usize).expect("memory at a fixed address");
        let mut random = Random::new(seed);
        let data: Vec<u8> = (0..DATA_BYTES).map(|_| random.next() as u8).collect();
        arena.write(layout.data, &data);
        arena.write(layout.back, &jump_to_exit());
        let mut source = Source::new(random.next(), mode, layout, split_locks);
        let task = source.next(layout.code).task;
        Self {
            layout,
            source,
            arena,
            memory: ModelMemory::new(layout, data),
            tasks: Shared::new(BATCH, task).expect("memory for a batch"),
            outcomes: Shared::new(BATCH, Outcome::NONE).expect("memory for a batch"),
            tally: Tally::default(),
        }
    }

    /// As many random cases as there is room for.
    pub(crate) fn batch(&mut self) -> Result<(), Unfinished> {
        let cases: Vec<_> = (0..BATCH as u64)
            .map(|n| {
                let address = self.layout.code + n * SLOT_BYTES;
                (address, self.source.next(address))
            })
            .collect();
        self.compare(&cases)
    }

    /// Panics if the two do not agree about a case whose instruction is at this address.
    pub(crate) fn compare(&mut self, cases: &[(u64, Case)]) -> Result<(), Unfinished> {
        self.execute(cases)?;
        for (n, (address, case)) in cases.iter().enumerate() {
            let expected = self.emulate(case, *address);
            let actual = self.outcomes.get(n);
            match judge(case, &expected, &actual) {
                Comparison::Same { trapped, undefined } => {
                    self.tally.done += u64::from(!trapped);
                    self.tally.trapped += u64::from(trapped);
                    self.tally.undefined += u64::from(undefined);
                }
                Comparison::Different(what) => {
                    panic!("{}", report(case, &expected, &actual, what))
                }
            }
        }
        self.compare_all_data();
        Ok(())
    }

    fn execute(&mut self, cases: &[(u64, Case)]) -> Result<(), Unfinished> {
        for (n, (address, case)) in cases.iter().enumerate() {
            self.arena.write(*address, &self.code(case, *address));
            self.tasks.set(n, case.task);
            self.outcomes.set(n, Outcome::NONE);
        }
        let surroundings = Surroundings {
            arena: &self.arena,
            access: &self.layout.access(),
            descriptors: self.source.descriptors(),
        };
        let ended = sys::execute(&surroundings, &self.tasks, &mut self.outcomes, cases.len());
        if let Err(Unfinished::Killed(_)) = ended
            && let Some(n) = (0..cases.len()).find(|n| !self.outcomes.get(*n).done)
        {
            panic!("{ended:?} at {:x?}", cases[n]);
        }
        ended
    }

    fn emulate(&mut self, case: &Case, address: u64) -> Expected {
        if case.task.poke_at != 0 {
            self.memory.poke(case.task.poke_at, &case.task.poke);
        }
        self.memory.set_code(address, &case.bytes);
        let mut cpu = CpuState {
            registers: case.registers,
            context: case.context,
        };
        let Ok(emulated) = emulate(&mut cpu, &mut self.memory, &SingleVcpu);
        let mut window = [0; WINDOW_BYTES];
        window.copy_from_slice(self.memory.data(case.task.window_at, WINDOW_BYTES));
        Expected {
            emulated,
            registers: cpu.registers,
            window,
        }
    }

    /// The instruction, and a jump to where the way back begins, which must be reached with AC set
    /// and so without an access that is not aligned.
    fn code(&self, case: &Case, address: u64) -> Vec<u8> {
        const NEAR_JUMP_BYTES: u64 = 5;
        let mut code = case.bytes.clone();
        if case.context.mode == Mode::Bits64 {
            let next = address + code.len() as u64 + NEAR_JUMP_BYTES;
            code.push(0xe9);
            code.extend((self.layout.back.wrapping_sub(next) as u32).to_le_bytes());
        } else {
            code.extend((case.context.mode == Mode::Bits16).then_some(0x66));
            code.push(0xea);
            code.extend((self.layout.back as u32).to_le_bytes());
            code.extend(sys::USER_CODE.to_le_bytes());
        }
        code
    }

    /// Nothing else was written either.
    fn compare_all_data(&self) {
        let mut actual = vec![0; READABLE_BYTES as usize];
        self.arena.read(self.layout.data, &mut actual);
        assert!(
            actual == self.memory.data(self.layout.data, actual.len()),
            "memory differs outside of what the instructions access"
        );
    }
}

/// In 64-bit mode: a jump to the address in the next eight aligned bytes.
fn jump_to_exit() -> Vec<u8> {
    let mut code = vec![0xff, 0x25, 2, 0, 0, 0, 0x90, 0x90];
    code.extend(sys::exit_address().to_le_bytes());
    code
}
