//! Decoding and emulating, with as little around it as there can be: no KVM, and no other vCPU.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use split_lock_assist::cpu::{Context, Cpu, Gpr, Registers};
use split_lock_assist::emulate::{Emulated, emulate};
use split_lock_assist::memory::{AccessError, Memory, WritePermit};
use split_lock_assist::pause::SingleVcpu;

use crate::table::Distribution;

/// `lock bts [rsi],rdi`: what `split` does.
const SPLIT: [u8; 5] = [0xf0, 0x48, 0x0f, 0xab, 0x3e];
const OPERAND: u64 = 60;

/// A vCPU that never gets past its instruction.
struct Vcpu(Registers);

/// The instruction, whatever it is fetched from, and one operand, wherever it is.
struct Ram([u8; 8]);

struct Operand<'a>(&'a mut [u8; 8]);

/// Nanoseconds for one instruction, from registers and bytes to registers and bytes.
pub(crate) fn nanoseconds(rounds: usize) -> Distribution {
    const TIMES: u32 = 10_000;
    let mut registers = Registers::default();
    registers.set(Gpr::Rsi, OPERAND);
    let (mut vcpu, mut ram) = (Vcpu(registers), Ram([0; 8]));
    Distribution::of((0..rounds).map(|_| {
        let start = Instant::now();
        for _ in 0..TIMES {
            let Ok(emulated) = emulate(&mut vcpu, &mut ram, &SingleVcpu);
            assert!(matches!(black_box(emulated), Emulated::Done(_)));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    }))
}

impl Cpu for Vcpu {
    type Error = Infallible;

    fn registers(&self) -> Result<Registers, Infallible> {
        Ok(self.0)
    }

    fn context(&self) -> Result<Context, Infallible> {
        Ok(Context::long_mode(3))
    }

    fn retire(&mut self, after: &Registers) -> Result<(), Infallible> {
        black_box(after);
        Ok(())
    }
}

impl Memory for Ram {
    type Permit<'a> = Operand<'a>;

    fn fetch(&mut self, _: u64, bytes: &mut [u8]) -> usize {
        bytes[..SPLIT.len()].copy_from_slice(&SPLIT);
        SPLIT.len()
    }

    fn load_for_update(&mut self, _: u64, bytes: &mut [u8]) -> Result<Operand<'_>, AccessError> {
        bytes.copy_from_slice(&self.0);
        Ok(Operand(&mut self.0))
    }
}

impl WritePermit for Operand<'_> {
    fn store(self, bytes: &[u8]) {
        self.0.copy_from_slice(bytes);
    }
}
