//! A vCPU's state, as far as a locked instruction depends on it.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;

/// A general-purpose register, numbered as instructions encode it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names of the registers say it")]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 16] = {
        use Gpr::*;
        [
            Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15,
        ]
    };
}

/// Bits of [`Registers::rflags`].
#[expect(missing_docs, reason = "the names of the flags say it")]
pub mod rflags {
    pub const CARRY: u64 = 1 << 0;
    pub const PARITY: u64 = 1 << 2;
    pub const ADJUST: u64 = 1 << 4;
    pub const ZERO: u64 = 1 << 6;
    pub const SIGN: u64 = 1 << 7;
    pub const TRAP: u64 = 1 << 8;
    pub const OVERFLOW: u64 = 1 << 11;
    pub const RESUME: u64 = 1 << 16;
    pub const VIRTUAL_8086: u64 = 1 << 17;
    pub const ALIGNMENT_CHECK: u64 = 1 << 18;
}

/// The registers that a locked instruction can read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registers {
    /// The general-purpose registers, in the order of [`Gpr`].
    pub gpr: [u64; 16],
    /// The instruction's offset in the code segment.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
}

/// How the CPU reads code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Real mode, virtual 8086 mode, or a 16-bit code segment.
    Bits16,
    /// A 32-bit code segment, also in compatibility mode.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl Mode {
    /// How many bits an address has by default: 16, 32 or 64.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// A segment register, numbered as instructions encode it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names of the registers say it")]
pub enum SegmentRegister {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// What is loaded in a segment register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    /// Linear address of its first byte.
    pub base: u64,
    /// Offset of its last byte; for a data segment that expands down, the last that is *not* in it.
    pub limit: u32,
    /// It can be used at all: present, and not a null selector.
    pub usable: bool,
    /// Data can be written to it. In real mode and virtual 8086 mode that holds for all of them, CS
    /// included.
    pub writable: bool,
    /// It is a data segment that expands down.
    pub expand_down: bool,
    /// Its offsets have 32 bits and not 16 (B or D flag).
    pub big: bool,
}

/// What decides about an instruction besides [`Registers`]: it changes seldom, and no locked
/// instruction changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// How code is read.
    pub mode: Mode,
    /// Segment registers are loaded from descriptors: CR0.PE is set. (In virtual 8086 mode they are
    /// not; that is a flag in [`Registers::rflags`].)
    pub protected: bool,
    /// The current privilege level, 0 to 3. In real mode it is 0, in virtual 8086 mode 3.
    pub cpl: u8,
    /// CR0.AM: with EFLAGS.AC, code at CPL 3 wants misaligned accesses to fault.
    pub alignment_mask: bool,
    /// Linear addresses of 64-bit mode have 57 bits and not 48 (CR4.LA57).
    pub five_level_paging: bool,
    /// The guest has armed breakpoints of its own (DR7 enables at least one). What they would do to
    /// an access is left to the CPU.
    pub breakpoints: bool,
    /// The segment registers, in the order of [`SegmentRegister`].
    pub segments: [Segment; 6],
}

/// A vCPU that does not run at the moment, and is between two instructions.
pub trait Cpu {
    /// What can go wrong when it is asked.
    type Error: Error + Send + Sync + 'static;

    /// The registers, as the guest would see them at its next instruction.
    ///
    /// # Errors
    /// If they cannot be had.
    fn registers(&self) -> Result<Registers, Self::Error>;

    /// The rest of what decides about an instruction.
    ///
    /// # Errors
    /// If it cannot be had.
    fn context(&self) -> Result<Context, Self::Error>;

    /// Shows both to somebody. Where they are large and at hand, they need not be copied for that.
    ///
    /// # Errors
    /// If one of them cannot be had.
    fn look<T>(&self, act: impl FnOnce(&Registers, &Context) -> T) -> Result<T, Self::Error>
    where
        Self: Sized,
    {
        Ok(act(&self.registers()?, &self.context()?))
    }

    /// An instruction is done for the guest: these are the registers after it. What the CPU ends
    /// with every instruction (the shadow of STI and MOV SS) ends as well.
    ///
    /// This comes before the instruction's result is written to memory, because it can fail and
    /// that cannot: an instruction is done once or not at all.
    ///
    /// # Errors
    /// If they cannot be set; then nothing has changed, and nothing will be written.
    fn retire(&mut self, after: &Registers) -> Result<(), Self::Error>;
}

/// A vCPU that is nothing but its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuState {
    /// The registers.
    pub registers: Registers,
    /// The rest.
    pub context: Context,
}

impl Cpu for CpuState {
    type Error = Infallible;

    fn registers(&self) -> Result<Registers, Infallible> {
        Ok(self.registers)
    }

    fn context(&self) -> Result<Context, Infallible> {
        Ok(self.context)
    }

    fn retire(&mut self, after: &Registers) -> Result<(), Infallible> {
        self.registers = *after;
        Ok(())
    }
}

impl Registers {
    /// A general-purpose register.
    #[must_use]
    pub fn get(&self, register: Gpr) -> u64 {
        self.gpr[register as usize]
    }

    /// Sets all 64 bits of a general-purpose register.
    pub fn set(&mut self, register: Gpr, value: u64) {
        self.gpr[register as usize] = value;
    }
}

impl fmt::Display for SegmentRegister {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Es => "ES",
            Self::Cs => "CS",
            Self::Ss => "SS",
            Self::Ds => "DS",
            Self::Fs => "FS",
            Self::Gs => "GS",
        })
    }
}

impl Segment {
    /// What 64-bit mode makes of ES, CS, SS and DS: everything from address 0 on.
    pub const FLAT: Self = Self {
        base: 0,
        limit: u32::MAX,
        usable: true,
        writable: true,
        expand_down: false,
        big: true,
    };
}

impl Context {
    /// 64-bit mode at this privilege level, all segments flat.
    #[must_use]
    pub const fn long_mode(cpl: u8) -> Self {
        Self {
            mode: Mode::Bits64,
            protected: true,
            cpl,
            alignment_mask: false,
            five_level_paging: false,
            breakpoints: false,
            segments: [Segment::FLAT; 6],
        }
    }

    /// The linear address of an offset in the code segment.
    #[must_use]
    pub fn code_address(&self, rip: u64) -> u64 {
        match self.mode {
            Mode::Bits64 => rip,
            Mode::Bits16 | Mode::Bits32 => {
                let base = self.segment(SegmentRegister::Cs).base;
                base.wrapping_add(rip) & u64::from(u32::MAX)
            }
        }
    }

    /// A segment register.
    #[must_use]
    pub fn segment(&self, register: SegmentRegister) -> Segment {
        self.segments[register as usize]
    }
}
