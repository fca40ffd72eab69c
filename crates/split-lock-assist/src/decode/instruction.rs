//! An instruction as it stands in memory.

use std::fmt;

use crate::cpu::Mode;

/// No instruction is longer.
pub const MAX_INSTRUCTION_BYTES: usize = 15;

/// An instruction: its bytes, where they are, and how the CPU reads them.
///
/// Shown as its disassembly; without the feature `text`, as its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    bytes: [u8; MAX_INSTRUCTION_BYTES],
    length: u8,
    mode: Mode,
    rip: u64,
}

impl Instruction {
    /// At most [`MAX_INSTRUCTION_BYTES`] of `bytes` are taken.
    pub(super) fn new(bytes: &[u8], rip: u64, mode: Mode) -> Self {
        let length = bytes.len().min(MAX_INSTRUCTION_BYTES);
        let mut own = [0; MAX_INSTRUCTION_BYTES];
        own[..length].copy_from_slice(&bytes[..length]);
        Self {
            bytes: own,
            length: length as u8,
            mode,
            rip,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length()]
    }

    /// How many bytes it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length.into()
    }

    /// Its offset in the code segment.
    #[must_use]
    pub fn rip(&self) -> u64 {
        self.rip
    }

    /// How the CPU reads it.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The offset of the instruction after it.
    ///
    /// Outside of 64-bit mode offsets have 32 bits. In a 16-bit segment too: what follows offset
    /// 0xffff is 0x10000, and it depends on the segment's limit whether the CPU can go on there.
    #[must_use]
    pub fn next_rip(&self) -> u64 {
        let next = self.rip.wrapping_add(self.length.into());
        match self.mode {
            Mode::Bits64 => next,
            Mode::Bits16 | Mode::Bits32 => next & u64::from(u32::MAX),
        }
    }

    pub(crate) fn write_bytes(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.bytes().iter().enumerate() {
            let gap = if n == 0 { "" } else { " " };
            write!(out, "{gap}{byte:02x}")?;
        }
        Ok(())
    }

    #[cfg(feature = "text")]
    fn disassembly(&self) -> Option<String> {
        use iced_x86::{DecoderError, DecoderOptions, FastFormatter};

        let options = DecoderOptions::NO_INVALID_CHECK;
        let (iced, error) = super::read(self.bytes(), self.rip, self.mode, options);
        let mut formatter = FastFormatter::new();
        formatter.options_mut().set_always_show_memory_size(true);
        let mut text = String::new();
        formatter.format(&iced, &mut text);
        (error == DecoderError::None).then_some(text)
    }

    #[cfg(not(feature = "text"))]
    fn disassembly(&self) -> Option<String> {
        None
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.disassembly() {
            Some(text) => out.pad(&text),
            None => self.write_bytes(out),
        }
    }
}
