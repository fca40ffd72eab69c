//! A vCPU's state, as far as a locked instruction depends on it.

use std::error::Error;

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
    /// Data can be written to it.
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
    /// The current privilege level, 0 to 3.
    pub cpl: u8,
    /// CR0.AM: with EFLAGS.AC, code at CPL 3 wants misaligned accesses to fault.
    pub alignment_mask: bool,
    /// Linear addresses of 64-bit mode have 57 bits and not 48 (CR4.LA57).
    pub five_level_paging: bool,
    /// The segment registers, in the order of [`SegmentRegister`].
    pub segments: [Segment; 6],
}

/// A vCPU that does not run at the moment.
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

    /// An instruction has been done for the guest: these are the registers after it. What the CPU
    /// ends with every instruction (the shadow of STI and MOV SS) ends as well.
    ///
    /// # Errors
    /// If they cannot be set; then nothing has changed.
    fn retire(&mut self, after: &Registers) -> Result<(), Self::Error>;
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
            cpl,
            alignment_mask: false,
            five_level_paging: false,
            segments: [Segment::FLAT; 6],
        }
    }

    /// A segment register.
    #[must_use]
    pub fn segment(&self, register: SegmentRegister) -> Segment {
        self.segments[register as usize]
    }
}
