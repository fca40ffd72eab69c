//! How long it takes to decode and to do a locked instruction, without any exit of a guest.
//! `cargo bench -p split-lock-assist`
//!
//! Prints medians; asserts nothing, because times depend on the machine. `emulate` is the whole of it,
//! with fetching and decoding.

use std::hint::black_box;
use std::time::Instant;

use split_lock_assist::cpu::{Context, CpuState, Gpr, Registers};
use split_lock_assist::decode::{Decoded, decode};
use split_lock_assist::emulate::{Emulated, emulate, perform};
use split_lock_assist::memory::{AccessError, Memory, WritePermit};
use split_lock_assist::pause::SingleVcpu;

const CODE: u64 = 0x1000;
const OPERAND: u64 = 0x203d;

const INSTRUCTIONS: [(&str, &[u8]); 6] = [
    ("lock bts [rsi],edi", &[0xf0, 0x0f, 0xab, 0x3e]),
    ("lock inc qword [rsi]", &[0xf0, 0x48, 0xff, 0x06]),
    ("lock xadd [rsi],rax", &[0xf0, 0x48, 0x0f, 0xc1, 0x06]),
    ("lock cmpxchg [rsi],ecx", &[0xf0, 0x0f, 0xb1, 0x0e]),
    ("lock cmpxchg8b [rsi]", &[0xf0, 0x0f, 0xc7, 0x0e]),
    (
        "xchg gs:[rsi+rcx*8+0],al",
        &[0x65, 0x86, 0x84, 0xce, 0, 0, 0, 0],
    ),
];

/// The instruction, and an operand that lies over two cache lines.
struct Pages {
    code: &'static [u8],
    operand: [u8; 16],
}

impl Memory for Pages {
    type Permit<'a> = Bytes<'a>;

    fn fetch(&mut self, _: u64, bytes: &mut [u8]) -> usize {
        bytes[..self.code.len()].copy_from_slice(self.code);
        self.code.len()
    }

    fn load_for_update(&mut self, _: u64, bytes: &mut [u8]) -> Result<Bytes<'_>, AccessError> {
        bytes.copy_from_slice(&self.operand[..bytes.len()]);
        Ok(Bytes(&mut self.operand))
    }
}

struct Bytes<'a>(&'a mut [u8; 16]);

impl WritePermit for Bytes<'_> {
    fn store(self, bytes: &[u8]) {
        self.0[..bytes.len()].copy_from_slice(bytes);
    }
}

/// Nanoseconds per call, the median of many rounds.
fn median_ns(mut work: impl FnMut()) -> f64 {
    const ROUNDS: usize = 101;
    const CALLS: u32 = 10_000;
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..CALLS).for_each(|_| work());
            start.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2].as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn main() {
    println!(
        "{:26} {:>7} {:>7} {:>7}",
        "nanoseconds", "decode", "perform", "emulate"
    );
    for (name, code) in INSTRUCTIONS {
        let mut registers = Registers {
            rip: CODE,
            ..Registers::default()
        };
        registers.set(Gpr::Rsi, OPERAND);
        let context = Context::long_mode(3);
        let mut guest = CpuState { registers, context };
        let mut pages = Pages {
            code,
            operand: [0; 16],
        };
        let Decoded::Locked(access) = decode(code, &registers, &context) else {
            panic!("{name} locks");
        };

        let decoding = median_ns(|| {
            black_box(decode(black_box(code), black_box(&registers), &context));
        });
        let performing = median_ns(|| {
            black_box(perform(black_box(&access), black_box(&registers), 1));
        });
        let all = median_ns(|| {
            guest.registers = registers;
            let Ok(emulated) = emulate(&mut guest, &mut pages, &SingleVcpu);
            black_box(&guest);
            assert!(matches!(black_box(emulated), Emulated::Done(_)));
        });
        println!("{name:26} {decoding:7.1} {performing:7.1} {all:7.1}");
    }
}
