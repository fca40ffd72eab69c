//! The smallest 64-bit guest: two instructions, at CPL 0 or CPL 3.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kvm_bindings::{kvm_debug_exit_arch, kvm_guest_debug, kvm_regs};

use super::sys::{
    CREATE_VCPU, CREATE_VM, Give, LentPages, NumberCall, RUN, RunPage, SET_CPUID, SET_TSS_ADDRESS,
    SUPPORTED_CPUID, calls, number, open,
};
use super::{KvmError, LongMode};

/// The address of its first instruction, NOP.
pub(super) const START: u64 = 0x5000;
/// The address of its second, OUT to [`PORT`].
pub(super) const OUT: u64 = START + 1;
const PORT: u16 = 0x10;
const CODE: [u8; 3] = [0x90, 0xe6, PORT as u8];

const MEMORY_BYTES: usize = 0x1_0000;
const TABLES: [u64; 3] = [0x1000, 0x2000, 0x3000];
const LONG_MODE: LongMode = LongMode {
    page_tables: TABLES[0],
    descriptors: 0x4000,
    task: 0x6000,
};
const STACK: u64 = 0x8000;

/// Three pages that Intel's CPUs without "unrestricted guest" need, out of the way.
const REAL_MODE_TSS: u64 = 0xfffb_d000;

/// Present, writable, for everybody, accessed.
const TABLE: u64 = 0x27;
/// The same, dirty, and as large as the level allows.
const LARGE_PAGE: u64 = 0xe7;

/// CPL 3 may use ports.
const FLAGS: u64 = 3 << 12 | 2;

/// Where it came out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Debug(kvm_debug_exit_arch),
    Port,
    Other,
}

/// Without an IDT: any exception ends it with a triple fault.
#[derive(Debug)]
pub(super) struct ScratchVm {
    vcpu: OwnedFd,
    page: RunPage,
    // After the vCPU, which uses it.
    _memory: LentPages,
}

impl ScratchVm {
    pub(super) fn new(kvm: BorrowedFd<'_>, cpl: u8) -> Result<Self, KvmError> {
        let make = |fd, call: NumberCall, argument| {
            open(fd, call, argument).map_err(KvmError::on_scratch_vm(call.0))
        };
        let cpuid = give(kvm, &SUPPORTED_CPUID, ())?;
        let vm = make(kvm, CREATE_VM, 0)?;
        number(vm.as_fd(), SET_TSS_ADDRESS, REAL_MODE_TSS)
            .map_err(KvmError::on_scratch_vm(SET_TSS_ADDRESS.0))?;
        let vcpu = make(vm.as_fd(), CREATE_VCPU, 0)?;
        let page = RunPage::map(vcpu.as_fd()).map_err(KvmError::on_scratch_vm("mmap"))?;
        let memory = LentPages::new(vm, MEMORY_BYTES)
            .map_err(KvmError::on_scratch_vm("KVM_SET_USER_MEMORY_REGION"))?;
        fill(&memory);
        give(vcpu.as_fd(), &SET_CPUID, &cpuid)?;
        let reset = give(vcpu.as_fd(), &calls::GET_SREGS, ())?;
        let special = LONG_MODE.special_registers(reset, cpl);
        give(vcpu.as_fd(), &calls::SET_SREGS, &special)?;
        let scratch = Self {
            vcpu,
            page,
            _memory: memory,
        };
        scratch.set_registers(&kvm_regs {
            rip: START,
            rsp: STACK,
            rflags: FLAGS,
            ..kvm_regs::default()
        })?;
        Ok(scratch)
    }

    pub(super) fn run(&mut self) -> Stop {
        loop {
            match number(self.vcpu.as_fd(), RUN, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Stop::Other,
            }
            return if let Some(exit) = self.page.debug_exit() {
                Stop::Debug(exit)
            } else if self.page.is_port_write(PORT) {
                Stop::Port
            } else {
                Stop::Other
            };
        }
    }

    pub(super) fn registers(&self) -> Result<kvm_regs, KvmError> {
        give(self.vcpu.as_fd(), &calls::GET_REGS, ())
    }

    pub(super) fn set_registers(&self, registers: &kvm_regs) -> Result<(), KvmError> {
        give(self.vcpu.as_fd(), &calls::SET_REGS, registers)
    }

    pub(super) fn set_guest_debug(&self, debug: &kvm_guest_debug) -> Result<(), KvmError> {
        give(self.vcpu.as_fd(), &calls::SET_GUEST_DEBUG, debug)
    }
}

fn give<T, C: Give<T>>(fd: BorrowedFd<'_>, call: &C, value: T) -> Result<C::Answer, KvmError> {
    let answer = call.make(fd, value);
    answer.map_err(KvmError::on_scratch_vm(call.call().name))
}

/// One page of 2 MiB at address 0, descriptors, and the two instructions.
fn fill(memory: &LentPages) {
    let words = |at: u64, words: &[u64]| {
        for (n, word) in (0..).zip(words) {
            memory.write(at + 8 * n, &word.to_le_bytes());
        }
    };
    words(TABLES[0], &[TABLES[1] | TABLE]);
    words(TABLES[1], &[TABLES[2] | TABLE]);
    words(TABLES[2], &[LARGE_PAGE]);
    words(LONG_MODE.descriptors, &LONG_MODE.descriptors());
    memory.write(START, &CODE);
}
