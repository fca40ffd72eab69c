//! The guests that come with this crate: their code, their operand, their registers.

use std::time::Duration;

use kvm_bindings::kvm_regs;

use split_lock_assist::cpu::Gpr;

use super::{GuestNameError, Kind, Operand, Register};
use crate::layout::{OPERAND_LINE, OPERAND_PAGE_END, SHARED_LINE};
use crate::sys;

/// Which bit the `bts` guests set. As a register operand it reaches five quadwords beyond the base
/// register, so that the access splits although neither the base nor the instruction looks like it.
const BIT: u64 = 0x16c;
const REACH: u64 = (BIT >> 6) * 8;

/// What `xchg` and `cmpxchg16b` write, so that a look at memory shows that they ran.
const PATTERN: u64 = 0x5350_4c49_544c_4f43;

/// One of the built-in guests: `NAME` or `NAME@OFFSET`, and `sparse:WORK` or `sparse:WORK@OFFSET`.
///
/// OFFSET is the operand's first byte within its 64-byte cache line, 0 to 63. Eight bytes cross into
/// the next line from 57 on. `split`, `xchg`, `none`, `sparse` and `contend` stand at 60 unless told
/// otherwise and take any offset; `aligned` stands at 0 and takes those that do not cross; `page` and
/// `cmpxchg16b` are where they are by nature and take none.
///
/// WORK is a duration such as 10us: `sparse` works that long before each access. It begins anew with
/// each run, so a run that is shorter than the work shows no turn.
///
/// ```
/// use split_lock_repro::guest::BuiltIn;
///
/// let guest: BuiltIn = "split@57".parse()?;
/// assert!(guest.splits());
/// assert_eq!(guest.to_string(), "split@57");
/// assert!(!"split@56".parse::<BuiltIn>()?.splits());
/// # Ok::<(), split_lock_repro::guest::GuestNameError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    kind: Kind,
    asked_offset: Option<u8>,
}

impl BuiltIn {
    /// The guest `kind`, with its operand at `offset` within a cache line or where it usually is.
    ///
    /// # Errors
    /// If this guest cannot stand at that offset, or is to work for no time at all.
    pub fn new(kind: Kind, offset: Option<u8>) -> Result<Self, GuestNameError> {
        kind.check_work()?;
        if let Some(offset) = offset {
            kind.check_offset(offset)?;
        }
        Ok(Self {
            kind,
            asked_offset: offset,
        })
    }

    /// What it does.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// The offset that was asked for, if any was.
    pub(super) fn asked_offset(self) -> Option<u8> {
        self.asked_offset
    }

    /// How long it works before each access, in time that it really runs; `None` if it does not.
    #[must_use]
    pub fn work(self) -> Option<Duration> {
        match self.kind {
            Kind::Sparse { work } => Some(work),
            _ => None,
        }
    }

    /// The bytes that it accesses in each turn.
    #[must_use]
    pub fn operand(self) -> Operand {
        let offset = |usual: u8| u64::from(self.asked_offset.unwrap_or(usual));
        let (address, size) = match self.kind {
            Kind::Split | Kind::Xchg | Kind::None | Kind::Sparse { .. } => {
                (OPERAND_LINE + offset(60), 8)
            }
            Kind::Aligned => (OPERAND_LINE + offset(0), 8),
            Kind::Page => (OPERAND_PAGE_END - 4, 8),
            Kind::Cmpxchg16b => (OPERAND_LINE, 16),
            Kind::Contend => (SHARED_LINE + offset(60), 8),
        };
        Operand { address, size }
    }

    /// Whether it is a split lock: locked, and crossing a cache line.
    #[must_use]
    pub fn splits(self) -> bool {
        self.kind != Kind::None && self.operand().crosses_line()
    }

    /// The instructions, position independent.
    #[must_use]
    pub fn code(self) -> &'static [u8] {
        match self.kind {
            Kind::Split | Kind::Aligned | Kind::Page => sys::locked_bts(),
            Kind::None => sys::plain_bts(),
            Kind::Xchg => sys::xchg(),
            Kind::Cmpxchg16b => sys::cmpxchg16b(),
            Kind::Sparse { .. } => sys::sparse(),
            Kind::Contend => sys::locked_inc(),
        }
    }

    /// Where it counts its turns.
    #[must_use]
    pub fn counter(self) -> Register {
        match self.kind {
            Kind::Cmpxchg16b => Register(Gpr::R8),
            _ => Register(Gpr::Rcx),
        }
    }

    /// The registers that its access expects; all others are free.
    pub(super) fn operand_registers(self) -> kvm_regs {
        let address = self.operand().address;
        let (rsi, rdi) = match self.kind {
            Kind::Split | Kind::Aligned | Kind::Page | Kind::None | Kind::Sparse { .. } => {
                (address - REACH, BIT)
            }
            Kind::Xchg => (address, PATTERN),
            Kind::Contend | Kind::Cmpxchg16b => (address, 0),
        };
        let new_value = match self.kind {
            Kind::Cmpxchg16b => PATTERN,
            _ => 0,
        };
        kvm_regs {
            rsi,
            rdi,
            rbx: new_value,
            rcx: new_value,
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::WORK_LEFT;
    use super::*;
    use iced_x86::{Code, Instruction, OpKind, Register as Iced};

    fn instructions(guest: BuiltIn) -> Vec<Instruction> {
        super::super::instructions(0x10_0000, guest.code())
    }

    fn register_name(register: Iced) -> String {
        format!("{register:?}").to_lowercase()
    }

    fn register(name: Iced, from: &kvm_regs) -> u64 {
        let name: Register = register_name(name).parse().unwrap();
        name.read(from)
    }

    /// The address that the CPU computes, from the instruction and the start registers alone.
    fn effective_address(access: &Instruction, registers: &kvm_regs) -> u64 {
        let base = register(access.memory_base(), registers);
        assert_eq!(access.memory_index(), Iced::None);
        let address = base.wrapping_add(access.memory_displacement64());
        match access.code() {
            Code::Bts_rm64_r64 => {
                let bit = register(access.op1_register(), registers).cast_signed();
                address.wrapping_add_signed((bit >> 6) * 8)
            }
            _ => address,
        }
    }

    fn named(text: &str) -> BuiltIn {
        text.parse().unwrap()
    }

    fn every_guest() -> impl Iterator<Item = BuiltIn> {
        let offsets = (0..64).map(Some).chain([None]);
        offsets.flat_map(|offset| {
            Kind::ALL
                .into_iter()
                .filter_map(move |kind| BuiltIn::new(kind, offset).ok())
        })
    }

    #[test]
    fn every_guest_at_every_offset_does_what_it_says() {
        for guest in every_guest() {
            let loop_ = instructions(guest);
            let [work @ .., access, count, jump] = &loop_[..] else {
                panic!("{guest}: {loop_:?}")
            };
            assert_eq!(work.is_empty(), guest.work().is_none(), "{guest}");
            let operand = guest.operand();
            let address = effective_address(access, &guest.operand_registers());
            assert_eq!(address, operand.address, "{guest}");
            assert_eq!(access.memory_size().size() as u64, operand.size, "{guest}");

            let locked = access.has_lock_prefix() || access.code() == Code::Xchg_rm64_r64;
            assert_eq!(locked, guest.kind() != Kind::None, "{guest}");
            let crosses = address % 64 + operand.size > 64;
            assert_eq!(guest.splits(), locked && crosses, "{guest}");

            assert_eq!(count.code(), Code::Inc_rm64, "{guest}");
            let counter = register_name(count.op0_register());
            assert_eq!(counter, guest.counter().to_string(), "{guest}");
            assert_eq!(jump.near_branch_target(), loop_[0].ip(), "{guest}");
            assert_eq!(jump.op0_kind(), OpKind::NearBranch64, "{guest}");
        }
    }

    #[test]
    fn an_offset_is_where_the_operand_starts_in_its_line() {
        for offset in 0..64 {
            let guest = BuiltIn::new(Kind::Split, Some(offset)).unwrap();
            assert_eq!(guest.operand().address % 64, u64::from(offset));
            assert_eq!(guest.splits(), offset > 56);
            assert!(guest.operand().address % 4096 <= 4096 - 8);
        }
    }

    #[test]
    fn split_aligned_and_page_differ_in_their_base_register_only() {
        let without_base = |name: &str| kvm_regs {
            rsi: 0,
            ..named(name).operand_registers()
        };
        for other in ["aligned", "page", "split@0"] {
            assert_eq!(named(other).code(), named("split").code());
            assert_eq!(without_base(other), without_base("split"));
        }
    }

    /// It must not touch memory, nor ask what time it is: a host can make the guest sleep.
    #[test]
    fn work_is_a_loop_in_registers_before_the_access_of_split() {
        let loop_ = instructions(named("sparse"));
        let [start, multiply, down, back, access, ..] = &loop_[..] else {
            panic!("{loop_:?}")
        };
        assert_eq!(start.code(), Code::Mov_rm64_r64);
        assert_eq!(register_name(start.op0_register()), WORK_LEFT.to_string());
        assert_eq!(start.op1_register(), Iced::RBX);
        assert_eq!(multiply.code(), Code::Imul_r64_rm64);
        assert_eq!(multiply.op1_kind(), OpKind::Register);
        assert_eq!(down.code(), Code::Dec_rm64);
        assert_eq!(register_name(down.op0_register()), WORK_LEFT.to_string());
        assert_eq!(back.code(), Code::Jne_rel8_64);
        assert_eq!(back.near_branch_target(), multiply.ip());
        let split = instructions(named("split"));
        assert_eq!(access, &split[0]);
        let registers = named("split").operand_registers();
        assert_eq!(named("sparse").operand_registers(), registers);
    }

    #[test]
    fn page_crosses_a_page_and_cmpxchg16b_is_aligned() {
        assert_eq!(named("page").operand().address % 4096, 4096 - 4);
        assert!(named("page").splits());
        assert_eq!(named("cmpxchg16b").operand().address % 16, 0);
    }

    #[test]
    fn the_usual_offsets_are_those_in_the_documentation() {
        for (short, long) in [
            ("split", "split@60"),
            ("aligned", "aligned@0"),
            ("xchg", "xchg@60"),
            ("none", "none@60"),
            ("sparse", "sparse@60"),
            ("sparse", "split"),
            ("contend", "contend@60"),
        ] {
            assert_eq!(named(short).operand(), named(long).operand());
        }
    }
}
