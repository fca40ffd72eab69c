//! The smallest 64-bit guest: two instructions, at CPL 0 or CPL 3.

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_debug_exit_arch, kvm_guest_debug, kvm_regs};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};

use super::sys::LentPages;
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
const REAL_MODE_TSS: usize = 0xfffb_d000;

/// Present, writable, for everybody, accessed.
const TABLE: u64 = 0x27;
/// The same, dirty, and as large as the level allows.
const LARGE_PAGE: u64 = 0xe7;

/// CPL 3 may use ports.
const FLAGS: u64 = 3 << 12 | 2;

/// A signal came, on every Linux.
const EINTR: i32 = 4;

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
    vcpu: VcpuFd,
    // After the vCPU, which uses it.
    _memory: LentPages,
}

impl ScratchVm {
    pub(super) fn new(kvm: &Kvm, cpl: u8) -> Result<Self, KvmError> {
        let failed = KvmError::on_scratch_vm;
        let vm = kvm.create_vm().map_err(failed("KVM_CREATE_VM"))?;
        vm.set_tss_address(REAL_MODE_TSS)
            .map_err(failed("KVM_SET_TSS_ADDR"))?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("KVM_GET_SUPPORTED_CPUID"))?;
        let vcpu = vm.create_vcpu(0).map_err(failed("KVM_CREATE_VCPU"))?;
        let memory = LentPages::new(vm, MEMORY_BYTES)?;
        fill(&memory);
        vcpu.set_cpuid2(&cpuid).map_err(failed("KVM_SET_CPUID2"))?;
        let reset = vcpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
        vcpu.set_sregs(&LONG_MODE.special_registers(reset, cpl))
            .map_err(failed("KVM_SET_SREGS"))?;
        let scratch = Self {
            vcpu,
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
            match self.vcpu.run() {
                Ok(VcpuExit::Debug(exit)) => return Stop::Debug(exit),
                Ok(VcpuExit::IoOut(PORT, _)) => return Stop::Port,
                Err(error) if error.errno() == EINTR => {}
                _ => return Stop::Other,
            }
        }
    }

    pub(super) fn registers(&self) -> Result<kvm_regs, KvmError> {
        let registers = self.vcpu.get_regs();
        registers.map_err(KvmError::on_scratch_vm("KVM_GET_REGS"))
    }

    pub(super) fn set_registers(&self, registers: &kvm_regs) -> Result<(), KvmError> {
        let set = self.vcpu.set_regs(registers);
        set.map_err(KvmError::on_scratch_vm("KVM_SET_REGS"))
    }

    pub(super) fn set_guest_debug(&self, debug: &kvm_guest_debug) -> Result<(), KvmError> {
        let set = self.vcpu.set_guest_debug(debug);
        set.map_err(KvmError::on_scratch_vm("KVM_SET_GUEST_DEBUG"))
    }
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
