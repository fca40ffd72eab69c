//! Whether an instruction locks its operand, calls or returns.

use split_lock_assist::cpu::{Context, Mode, Registers};
use split_lock_assist::decode::{Decoded, decode};

/// The modes in which these bytes are one whole instruction that locks an operand, as numbers of bits. The emulator does
/// not tell the mode, but the length.
pub(crate) fn locking_modes(bytes: &[u8], modes: &[Mode]) -> Vec<u32> {
    if !may_lock(bytes) {
        return vec![];
    }
    let locks = |mode: &&Mode| locks_in(bytes, **mode);
    modes.iter().filter(locks).map(|mode| mode.bits()).collect()
}

/// A near call, or the end of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    Call,
    Return,
}

impl Transfer {
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        const INDIRECT: u8 = 2;
        match *after_prefixes(bytes) {
            [0xe8, ..] => Some(Self::Call),
            [0xff, modrm, ..] if modrm >> 3 & 7 == INDIRECT => Some(Self::Call),
            [0xc2 | 0xc3, ..] => Some(Self::Return),
            _ => None,
        }
    }
}

/// LOCK, or XCHG's opcode, after prefixes. Almost no instruction is looked at more closely than this.
fn may_lock(bytes: &[u8]) -> bool {
    matches!(after_prefixes(bytes), [0xf0 | 0x86 | 0x87, ..])
}

/// From the first byte on that is neither LOCK nor another prefix; INC and DEC of 32-bit code are taken for REX.
fn after_prefixes(bytes: &[u8]) -> &[u8] {
    let is_prefix = |byte: &u8| {
        matches!(
            byte,
            0x66 | 0x67 | 0xf2 | 0xf3 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x40..=0x4f
        )
    };
    let count = bytes.iter().take_while(|it| is_prefix(it)).count();
    &bytes[count..]
}

fn locks_in(bytes: &[u8], mode: Mode) -> bool {
    let context = Context {
        mode,
        ..Context::long_mode(3)
    };
    // Without registers the operand is somewhere, or where it would fault: both times it is locked.
    let length = match decode(bytes, &Registers::default(), &context) {
        Decoded::Locked(access) => access.length(),
        Decoded::Faults { instruction, .. } => instruction.length(),
        _ => return false,
    };
    length == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Mode; 3] = [Mode::Bits16, Mode::Bits32, Mode::Bits64];

    #[test]
    fn locked_instructions_are_told_from_others() {
        for (bytes, modes) in [
            (&[0xf0, 0xff, 0x07][..], &[16, 32, 64][..]),
            // xchg [rdi],eax with and without an operand in memory
            (&[0x87, 0x07], &[16, 32, 64]),
            (&[0x87, 0xc7], &[]),
            // Only 64-bit code has a REX prefix.
            (&[0xf0, 0x48, 0x0f, 0xc1, 0x07], &[64]),
            (&[0x48, 0x87, 0x07], &[64]),
            // lock cmpxchg8b, lock cmpxchg16b
            (&[0xf0, 0x0f, 0xc7, 0x0f], &[16, 32, 64]),
            (&[0xf0, 0x48, 0x0f, 0xc7, 0x0f], &[64]),
            // gs: lock bts [eax],ecx
            (&[0x65, 0xf0, 0x67, 0x0f, 0xab, 0x08], &[16, 32, 64]),
            // An offset of 32 bits in 64-bit code, which 16-bit code reads as two instructions.
            (&[0xf0, 0xff, 0x05, 1, 2, 3, 4], &[32, 64]),
            (&[0xff, 0x07], &[]),
            (&[0x0f, 0xab, 0x08], &[]),
            (&[0xf0, 0x90], &[]),
            (&[0xf0], &[]),
            (&[], &[]),
        ] {
            assert_eq!(locking_modes(bytes, &ALL), modes, "{bytes:x?}");
        }
    }

    #[test]
    fn calls_and_returns_are_told_from_other_jumps() {
        use Transfer::{Call, Return};
        for (bytes, expected) in [
            (&[0xe8, 1, 2, 3, 4][..], Some(Call)),
            // call rax, call r12, call [rip+...], and with a prefix for its length
            (&[0xff, 0xd0], Some(Call)),
            (&[0x41, 0xff, 0xd4], Some(Call)),
            (&[0xff, 0x15, 1, 2, 3, 4], Some(Call)),
            (&[0x67, 0xe8, 1, 2, 3, 4], Some(Call)),
            // jmp rax, push [rax], inc eax
            (&[0xff, 0xe0], None),
            (&[0xff, 0x30], None),
            (&[0xff, 0xc0], None),
            (&[0xe9, 1, 2, 3, 4], None),
            (&[0xc3], Some(Return)),
            (&[0xf3, 0xc3], Some(Return)),
            (&[0xc2, 8, 0], Some(Return)),
            (&[0xff], None),
            (&[], None),
        ] {
            assert_eq!(Transfer::of(bytes), expected, "{bytes:x?}");
        }
    }
}
