//! What guest code and the VMM agree on: where things are in a guest's memory, the slots of its
//! descriptor tables, and the ports that it writes to.
//!
//! Every vCPU has memory and an address space of its own, so that vCPUs share no cache line, but for
//! one page, and the same guest finds the same addresses on each of them:
//!
//! | guest address | what |
//! |---|---|
//! | 0 | not mapped: a stray null pointer is an exception |
//! | 0x1000 | descriptors, TSS, page tables, exception handlers, a kernel if there is one: CPL0 only |
//! | 0x1_0000 | stack, down from [`STACK_TOP`] |
//! | [`FREE_START`] | free for flat binaries; built-in guests have [`CODE`] and their operands here |
//! | [`MEMORY_SIZE`] | mapped up to 1 GiB, but there is no memory: an access is an MMIO exit |
//! | [`SHARED_PAGE`] | 2 MiB of memory that all vCPUs of a VM share |

use split_lock_assist::kvm::LongMode;

pub(crate) mod two_tasks;

pub(crate) const CACHE_LINE: u64 = 64;

/// Memory of one vCPU, in bytes.
pub(crate) const MEMORY_SIZE: u64 = 16 << 20;

/// What RSP starts with. Aligned, and not used itself: the first push goes below it.
pub(crate) const STACK_TOP: u64 = 0x2_0000;

/// The first address at which a flat binary may be loaded.
pub(crate) const FREE_START: u64 = STACK_TOP;

/// Where built-in guests are loaded.
pub(crate) const CODE: u64 = 0x2_0000;

/// A cache line in the middle of a page, for operands; the line after it is free as well.
pub(crate) const OPERAND_LINE: u64 = 0x3_0800;

/// The boundary between two pages that hold operands and nothing else.
pub(crate) const OPERAND_PAGE_END: u64 = 0x3_1000;

/// Where all vCPUs find the same memory: one large page.
pub(crate) const SHARED_PAGE: u64 = 0x2000_0000;

/// Its size, in bytes.
pub(crate) const SHARED_PAGE_SIZE: u64 = 2 << 20;

/// A cache line in it for operands; the line after it is free as well.
pub(crate) const SHARED_LINE: u64 = SHARED_PAGE + 0x800;

/// Up to where addresses are mapped.
pub(crate) const MAPPED_END: u64 = 1 << 30;

/// vCPU number n finds its address 0 at n times this physical address.
pub(crate) const PHYSICAL_STRIDE: u64 = MAPPED_END;

/// One more, and physical addresses would need more than the 36 bits that every 64-bit CPU has.
pub(crate) const MAX_VCPUS: u64 = 64;

/// Where the shared page is in physical memory: in a hole behind the memory of vCPU number 0.
pub(crate) const SHARED_PHYSICAL: u64 = SHARED_PAGE;

pub(crate) const GDT: u64 = 0x1000;
pub(crate) const TSS: u64 = 0x2000;
pub(crate) const PAGE_TABLES: u64 = 0x3000;

/// Interrupt descriptors, where a vCPU has any.
pub(crate) const IDT: u64 = 0xe000;

/// What they lead to.
pub(crate) const EXCEPTION_CODE: u64 = 0xf000;

/// Where the CPU's stack is when it takes an exception at CPL3: below the end of the same page.
pub(crate) const EXCEPTION_STACK_TOP: u64 = 0x1_0000;

/// The end of what only CPL0 may touch.
pub(crate) const SYSTEM_END: u64 = 0x1_0000;

pub(crate) const KERNEL_CODE: u16 = LongMode::KERNEL_CODE;
pub(crate) const USER_DATA: u16 = LongMode::USER_DATA;
pub(crate) const USER_CODE: u16 = LongMode::USER_CODE;

/// Where the TSS has the stack for whatever enters CPL0.
pub(crate) const TSS_RSP0: u64 = 0x04;
/// And the first of those that a gate can ask for.
pub(crate) const TSS_IST1: u64 = 0x24;

pub(crate) const DEBUG_VECTOR: usize = 1;
pub(crate) const ALIGNMENT_CHECK_VECTOR: usize = 17;

/// The handler of #DB; that of #AC is at [`EXCEPTION_CODE`].
pub(crate) const STEPPED_ENTRY: u64 = EXCEPTION_CODE + 16;

/// The one port that a guest may write to, at any level: such an exit is counted and ignored.
pub(crate) const DEBUG_PORT: u16 = 0xe9;

/// Written to by the guest's handler of #AC.
pub const ALIGNMENT_CHECK_PORT: u16 = 0xea;

/// Written to by the guest's handler of #DB.
pub const STEPPED_PORT: u16 = 0xeb;

/// Written to by a guest kernel when one of its tasks is done: see [`two_tasks`](crate::two_tasks).
pub(crate) const TASK_DONE_PORT: u16 = 0xec;
