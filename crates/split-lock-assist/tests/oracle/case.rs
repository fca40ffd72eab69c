//! One instruction with everything that it depends on.

use split_lock_assist::cpu::{Context, Mode, Registers, Segment, SegmentRegister, rflags};
use split_lock_assist::decode::MAX_INSTRUCTION_BYTES;

use crate::common::encoding::{EXCHANGES, Encoding, NOT_LOCKABLE, Opcode, lockable};
use crate::common::random::Random;
use crate::layout::{DATA_BYTES, Layout, PAGE, READABLE_BYTES, WRITABLE_BYTES};
use crate::segments::{Segments, Selectable};
use crate::sys::{CodeSegment, LdtEntry, Task, WINDOW_BYTES};

/// What one instruction starts from, natively and emulated.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) bytes: Vec<u8>,
    pub(crate) registers: Registers,
    pub(crate) context: Context,
    pub(crate) task: Task,
}

/// Where cases come from.
#[derive(Debug)]
pub(crate) struct Source {
    random: Random,
    mode: Mode,
    layout: Layout,
    segments: Segments,
    lockable: Vec<Opcode>,
    /// How many more operands may cross a cache line.
    crossings: u64,
}

const STATUS: u64 = rflags::CARRY
    | rflags::PARITY
    | rflags::ADJUST
    | rflags::ZERO
    | rflags::SIGN
    | rflags::OVERFLOW;
const DIRECTION: u64 = 1 << 10;
/// What is always set in a user's flags.
const ALWAYS: u64 = 1 << 1 | 1 << 9;

impl Source {
    pub(crate) fn new(seed: u64, mode: Mode, layout: Layout, crossings: u64) -> Self {
        Self {
            random: Random::new(seed),
            mode,
            layout,
            segments: Segments::new(&layout),
            lockable: lockable(mode),
            crossings,
        }
    }

    /// The descriptors that its cases need.
    pub(crate) fn descriptors(&self) -> &[LdtEntry] {
        match self.mode {
            Mode::Bits64 => &[],
            Mode::Bits16 | Mode::Bits32 => &self.segments.entries,
        }
    }

    /// A case whose instruction is at this linear address.
    pub(crate) fn next(&mut self, address: u64) -> Case {
        loop {
            if let Some(case) = self.attempt(address) {
                return case;
            }
        }
    }

    /// A case whose instruction ends before this linear address, in this code segment.
    pub(crate) fn before(&mut self, end: u64, code_base: u64) -> (u64, Case) {
        loop {
            let address = end - 1 - self.random.below(MAX_INSTRUCTION_BYTES as u64);
            let case = self.next(address);
            let base = case.context.segment(SegmentRegister::Cs).base;
            if base == code_base && address + case.bytes.len() as u64 == end {
                return (address, case);
            }
        }
    }

    /// None if the CPU would not be asked for it.
    fn attempt(&mut self, address: u64) -> Option<Case> {
        let (context, place) = self.surroundings(address);
        let mut encoding = self.encoding()?;
        let segment = context.segment(encoding.segment());
        let mut gpr = std::array::from_fn(|_| self.random.value());
        let wanted = self.target(&encoding, segment).wrapping_sub(segment.base);
        encoding.aim(&mut gpr, place.rip, wanted);
        let offset = encoding.offset(&gpr, place.rip);
        let operand = self.linear(offset, segment.base);
        if !is_canonical(offset) && self.layout.holds(operand) {
            // CPUs differ.
            return None;
        }
        self.may_touch(operand, encoding.operand_bytes() as u64)?;

        let registers = Registers {
            gpr,
            rip: place.rip,
            rflags: self.flags(),
        };
        let (poke_at, poke) = self.poke(&encoding, &gpr, operand);
        let task = Task {
            gpr,
            rflags: registers.rflags,
            place,
            poke_at,
            poke,
            window_at: self.window(operand),
        };
        Some(Case {
            bytes: encoding.bytes(),
            registers,
            context,
            task,
        })
    }

    fn encoding(&mut self) -> Option<Encoding> {
        let random = &mut self.random;
        let encoding = match random.below(32) {
            0 => {
                let opcode = *random.pick(&NOT_LOCKABLE);
                Encoding::random(random, self.mode, opcode, true)
            }
            1 => {
                let opcode = *random.pick(&self.lockable);
                Encoding::random(random, self.mode, opcode, true).with_register_destination()
            }
            2 | 3 => {
                let opcode = *random.pick(&EXCHANGES);
                Encoding::random(random, self.mode, opcode, false)
            }
            _ => {
                let opcode = *random.pick(&self.lockable);
                Encoding::random(random, self.mode, opcode, true)
            }
        };
        (encoding.bytes().len() <= MAX_INSTRUCTION_BYTES).then_some(encoding)
    }

    /// The mode, and the segments with which it is entered.
    fn surroundings(&mut self, address: u64) -> (Context, CodeSegment) {
        let mut context = Context {
            mode: self.mode,
            alignment_mask: true,
            ..Context::long_mode(3)
        };
        let mut place = CodeSegment {
            rip: address,
            code_selector: 0,
            fs_base: 0,
            gs_base: 0,
            selectors: [0; 5],
        };
        let code = match self.mode {
            Mode::Bits64 => {
                for (register, base) in [
                    (SegmentRegister::Fs, &mut place.fs_base),
                    (SegmentRegister::Gs, &mut place.gs_base),
                ] {
                    *base = canonical(self.random.value());
                    context.segments[register as usize].base = *base;
                }
                return (context, place);
            }
            Mode::Bits32 => *self.random.pick(&self.segments.code_32),
            Mode::Bits16 => self.segments.code_16,
        };
        context.segments[SegmentRegister::Cs as usize] = code.segment;
        place.code_selector = code.selector.into();
        place.rip = address.wrapping_sub(code.segment.base) & 0xffff_ffff;
        let registers = [
            SegmentRegister::Ds,
            SegmentRegister::Es,
            SegmentRegister::Fs,
            SegmentRegister::Gs,
            SegmentRegister::Ss,
        ];
        for (register, selector) in registers.into_iter().zip(&mut place.selectors) {
            let data = self.data_segment(register == SegmentRegister::Ss);
            context.segments[register as usize] = data.segment;
            *selector = data.selector;
        }
        (context, place)
    }

    /// SS can be loaded with what can be written only. What short addresses cannot reach, and what
    /// traps anyway, is seldom.
    fn data_segment(&mut self, for_stack: bool) -> Selectable {
        loop {
            let data = *self.random.pick(&self.segments.data);
            let writable = data.segment.writable;
            let far = self.mode == Mode::Bits16 && data.segment.base == 0;
            if writable && !far || (writable || !for_stack) && self.random.one_in(4) {
                return data;
            }
        }
    }

    /// Where the operand should be: mostly in writable data, and often over some boundary.
    fn target(&mut self, encoding: &Encoding, segment: Segment) -> u64 {
        let size = encoding.operand_bytes() as u64;
        let random = &mut self.random;
        let data = self.layout.data;
        let address = match random.below(32) {
            0 => data + WRITABLE_BYTES - 16 + random.below(32),
            1 => data + WRITABLE_BYTES + random.below(DATA_BYTES - WRITABLE_BYTES),
            2 if self.mode == Mode::Bits64 => canonical(random.value()),
            2 => (segment.base + u64::from(segment.limit)).wrapping_sub(random.below(32)),
            3 if self.mode == Mode::Bits64 => (1 << 47) - random.below(32),
            // What short addresses can reach.
            4..12 if encoding.address_bits() == 16 => segment.base + random.below(1 << 16),
            4..8 => across(random, data, PAGE, size),
            8..20 if self.crossings > 0 => across(random, data, 64, size),
            _ => data + 64 + random.below(WRITABLE_BYTES - 128),
        };
        let misaligned_pair = size == 16 && !random.one_in(8);
        if misaligned_pair || self.crossings == 0 {
            address & !(size - 1)
        } else {
            address
        }
    }

    fn linear(&self, offset: u64, base: u64) -> u64 {
        match self.mode {
            Mode::Bits64 => base.wrapping_add(offset),
            _ => base.wrapping_add(offset) & 0xffff_ffff,
        }
    }

    /// Where the host punishes split locks there are only so many of them.
    fn may_touch(&mut self, operand: u64, size: u64) -> Option<()> {
        if operand % 64 + size > 64 {
            self.crossings = self.crossings.checked_sub(1)?;
        }
        Some(())
    }

    fn flags(&mut self) -> u64 {
        let alignment_check = if self.random.one_in(32) {
            rflags::ALIGNMENT_CHECK
        } else {
            0
        };
        ALWAYS | self.random.next() & (STATUS | DIRECTION) | alignment_check
    }

    /// What is put under the operand. CMPXCHG often finds what it looks for.
    fn poke(&mut self, encoding: &Encoding, gpr: &[u64; 16], operand: u64) -> (u64, [u8; 16]) {
        if !self.layout.is_writable(operand, 16) {
            return (0, [0; 16]);
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.random.value().to_le_bytes());
        bytes[8..].copy_from_slice(&self.random.value().to_le_bytes());
        if encoding.is_compare_exchange() && self.random.one_in(2) {
            let half = match encoding.is_pair() {
                true => encoding.operand_bytes() / 2,
                false => encoding.operand_bytes(),
            };
            let [accumulator, _, high, ..] = gpr;
            bytes[..half].copy_from_slice(&accumulator.to_le_bytes()[..half]);
            if encoding.is_pair() {
                bytes[half..2 * half].copy_from_slice(&high.to_le_bytes()[..half]);
            }
        }
        (operand, bytes)
    }

    /// What is looked at afterwards: around the operand, where it can be read.
    fn window(&self, operand: u64) -> u64 {
        let last = self.layout.data + READABLE_BYTES - WINDOW_BYTES as u64;
        operand.saturating_sub(24).clamp(self.layout.data, last)
    }
}

pub(crate) fn is_canonical(address: u64) -> bool {
    canonical(address) == address
}

/// The canonical address with the same lowest 48 bits.
fn canonical(address: u64) -> u64 {
    ((address << 16).cast_signed() >> 16).cast_unsigned()
}

/// An operand of `size` bytes that crosses a boundary in writable data, if it can.
fn across(random: &mut Random, data: u64, unit: u64, size: u64) -> u64 {
    let boundary = data + unit * (1 + random.below(WRITABLE_BYTES / unit - 1));
    boundary - random.below(size)
}
