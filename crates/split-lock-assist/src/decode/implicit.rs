//! Instructions that lock something else than an operand.

use iced_x86::{Instruction as Iced, Mnemonic, OpKind, Register};

use crate::cpu::{Context, Mode, Registers, SegmentRegister, rflags};

/// A lock that comes with an instruction without being its purpose. Where it goes to a descriptor
/// table that is not aligned to 8 bytes, it can split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ImplicitLock {
    /// MOV to a segment register, POP to one, LDS, LES, LSS, LFS, LGS.
    #[error("loads {0}, which sets the accessed bit of a descriptor that does not have it set")]
    SegmentLoad(SegmentRegister),
    /// JMP, CALL and RET to another segment. To a task gate or a TSS they switch tasks, which sets
    /// and clears busy bits.
    #[error(
        "goes to another code segment, which sets the accessed bit of a descriptor that does not \
         have it set, or switches tasks"
    )]
    FarTransfer,
    /// INT n, INT1, INT3, INTO. The same goes for any exception and any interrupt.
    #[error(
        "goes through a gate to another code segment, which sets the accessed bit of a descriptor \
         that does not have it set, or switches tasks"
    )]
    Interrupt,
    /// IRET.
    #[error(
        "returns to another code segment, which sets the accessed bit of a descriptor that does \
         not have it set, or switches tasks"
    )]
    InterruptReturn,
    /// LTR.
    #[error("sets the busy bit of a TSS's descriptor")]
    TaskRegister,
    /// An access to data that is atomic without LOCK: CMPccXADD, AADD, AAND, AOR and AXOR, and those
    /// that mark the token of a shadow stack.
    #[error("is an atomic access without LOCK")]
    AtomicWithoutLock,
}

impl ImplicitLock {
    pub(super) fn of(iced: &Iced, registers: &Registers, context: &Context) -> Option<Self> {
        let lock = by_mnemonic(iced)?;
        let virtual_8086 =
            context.mode == Mode::Bits16 && registers.rflags & rflags::VIRTUAL_8086 != 0;
        let looks_at_descriptors = match lock {
            Self::SegmentLoad(_) | Self::FarTransfer => context.protected && !virtual_8086,
            Self::Interrupt | Self::InterruptReturn | Self::TaskRegister => context.protected,
            Self::AtomicWithoutLock => true,
        };
        looks_at_descriptors.then_some(lock)
    }
}

fn by_mnemonic(iced: &Iced) -> Option<ImplicitLock> {
    use ImplicitLock::{
        AtomicWithoutLock, FarTransfer, Interrupt, InterruptReturn, SegmentLoad, TaskRegister,
    };

    Some(match iced.mnemonic() {
        Mnemonic::Mov | Mnemonic::Pop => SegmentLoad(segment_destination(iced)?),
        Mnemonic::Lds => SegmentLoad(SegmentRegister::Ds),
        Mnemonic::Les => SegmentLoad(SegmentRegister::Es),
        Mnemonic::Lss => SegmentLoad(SegmentRegister::Ss),
        Mnemonic::Lfs => SegmentLoad(SegmentRegister::Fs),
        Mnemonic::Lgs => SegmentLoad(SegmentRegister::Gs),
        Mnemonic::Jmp | Mnemonic::Call if is_far(iced) => FarTransfer,
        Mnemonic::Retf => FarTransfer,
        Mnemonic::Int | Mnemonic::Int1 | Mnemonic::Int3 | Mnemonic::Into => Interrupt,
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => InterruptReturn,
        Mnemonic::Ltr => TaskRegister,
        Mnemonic::Aadd
        | Mnemonic::Aand
        | Mnemonic::Aor
        | Mnemonic::Axor
        | Mnemonic::Setssbsy
        | Mnemonic::Clrssbsy
        | Mnemonic::Rstorssp => AtomicWithoutLock,
        mnemonic if is_compare_and_add(mnemonic) => AtomicWithoutLock,
        _ => return None,
    })
}

fn segment_destination(iced: &Iced) -> Option<SegmentRegister> {
    if iced.op0_kind() != OpKind::Register {
        return None;
    }
    Some(match iced.op0_register() {
        Register::ES => SegmentRegister::Es,
        Register::SS => SegmentRegister::Ss,
        Register::DS => SegmentRegister::Ds,
        Register::FS => SegmentRegister::Fs,
        Register::GS => SegmentRegister::Gs,
        _ => return None,
    })
}

fn is_far(iced: &Iced) -> bool {
    let code = iced.code();
    code.is_jmp_far()
        || code.is_jmp_far_indirect()
        || code.is_call_far()
        || code.is_call_far_indirect()
}

fn is_compare_and_add(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Cmpoxadd
            | Mnemonic::Cmpnoxadd
            | Mnemonic::Cmpbxadd
            | Mnemonic::Cmpnbxadd
            | Mnemonic::Cmpzxadd
            | Mnemonic::Cmpnzxadd
            | Mnemonic::Cmpbexadd
            | Mnemonic::Cmpnbexadd
            | Mnemonic::Cmpsxadd
            | Mnemonic::Cmpnsxadd
            | Mnemonic::Cmppxadd
            | Mnemonic::Cmpnpxadd
            | Mnemonic::Cmplxadd
            | Mnemonic::Cmpnlxadd
            | Mnemonic::Cmplexadd
            | Mnemonic::Cmpnlexadd
    )
}
