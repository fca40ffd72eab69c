//! A VM in 64-bit mode whose vCPUs share one memory, at CPL 0 or CPL 3.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_sregs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use kvm_preemption_timer::open_kvm;
use split_lock_assist::kvm::LongMode;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

pub(crate) const CODE: u64 = 0x1_0000;
/// An interrupt handler, at CPL 0: `out 0x99, al; hlt`
pub(crate) const HANDLER: u64 = 0x1_8000;
pub(crate) const HANDLER_PORT: u16 = 0x99;
/// Four bytes before the end of a cache line, in the middle of a page.
pub(crate) const SPLIT: u64 = 0x2_083c;
/// The same at the end of a page.
pub(crate) const SPLIT_PAGE: u64 = 0x2_0ffc;
pub(crate) const STACK: u64 = 0x3_0000;

const MEMORY_BYTES: usize = 2 << 20;
const LONG_MODE: LongMode = LongMode {
    page_tables: 0x1000,
    descriptors: 0x5000,
    task: 0x7000,
};
const SMALL_PAGES: u64 = 0x4000;
const INTERRUPTS: u64 = 0x6000;
const INTERRUPT_STACK: u64 = 0xf000;
const EFER_NO_EXECUTE: u64 = 1 << 11;
const REAL_MODE_TSS: usize = 0xfffb_d000;

/// Present, writable, for everybody, accessed, dirty.
const FREE: u64 = 0x67;
/// CPL 3 may use ports.
const FLAGS: u64 = 3 << 12 | 2;

pub(crate) struct TestVm {
    fd: VmFd,
    cpuid: CpuId,
    pub(crate) memory: GuestMemoryMmap,
}

/// Says why a test of KVM is skipped, and does not let it be skipped where it must not be.
pub(crate) fn kvm() -> Option<Kvm> {
    let required = std::env::var_os("SPLITLOCK_REQUIRE_KVM").is_some_and(|value| value == "1");
    match open_kvm() {
        Ok(kvm) => Some(kvm),
        Err(error) if required => panic!("KVM is required here: {error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

impl TestVm {
    pub(crate) fn new(kvm: &Kvm, code: &[u8]) -> Self {
        Self::prepared(kvm, code, |_| {})
    }

    /// KVM has the interrupt controllers.
    pub(crate) fn with_irqchip(kvm: &Kvm, code: &[u8]) -> Self {
        Self::prepared(kvm, code, |vm| vm.create_irq_chip().unwrap())
    }

    fn prepared(kvm: &Kvm, code: &[u8], prepare: impl FnOnce(&VmFd)) -> Self {
        let fd = kvm.create_vm().unwrap();
        fd.set_tss_address(REAL_MODE_TSS).unwrap();
        prepare(&fd);
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        let vm = TestVm {
            fd,
            cpuid: kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap(),
            memory,
        };
        vm.fill(code);
        vm.lend_memory();
        vm
    }

    fn fill(&self, code: &[u8]) {
        self.set_words(LONG_MODE.page_tables, &[0x2000 | FREE]);
        self.set_words(0x2000, &[0x3000 | FREE]);
        self.set_words(0x3000, &[SMALL_PAGES | FREE]);
        let pages: Vec<u64> = (0..512).map(|page| page << 12 | FREE).collect();
        self.set_words(SMALL_PAGES, &pages);
        self.set_words(LONG_MODE.descriptors, &LONG_MODE.descriptors());
        // An interrupt gate to the handler, for every exception.
        let gate = [
            HANDLER & 0xffff | 0x08 << 16 | 0x8e00 << 32 | (HANDLER >> 16) << 48,
            0,
        ];
        self.set_words(INTERRUPTS, &gate.repeat(32));
        // RSP0
        self.write(LONG_MODE.task + 4, &INTERRUPT_STACK.to_le_bytes());
        self.write(HANDLER, &[0xe6, HANDLER_PORT as u8, 0xf4]);
        self.write(CODE, code);
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .unwrap();
    }

    pub(crate) fn set_words(&self, address: u64, words: &[u64]) {
        for (n, word) in (0..).zip(words) {
            self.write(address + 8 * n, &word.to_le_bytes());
        }
    }

    pub(crate) fn word(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        u64::from_le_bytes(bytes)
    }

    /// As the CPU is when it is switched on.
    pub(crate) fn untouched_vcpu(&self, id: u64) -> VcpuFd {
        let vcpu = self.fd.create_vcpu(id).unwrap();
        vcpu.set_cpuid2(&self.cpuid).unwrap();
        vcpu
    }

    /// At the beginning of the code, with RSI at the split operand and RDX turns to do.
    pub(crate) fn vcpu(&self, id: u64, cpl: u8, turns: u64) -> VcpuFd {
        let vcpu = self.untouched_vcpu(id);
        let reset = vcpu.get_sregs().unwrap();
        vcpu.set_sregs(&long_mode(reset, cpl)).unwrap();
        let registers = kvm_regs {
            rip: CODE,
            rsp: STACK + 0x1000 * (id + 1),
            rflags: FLAGS,
            rsi: SPLIT,
            rdx: turns,
            ..kvm_regs::default()
        };
        vcpu.set_regs(&registers).unwrap();
        vcpu
    }

    #[expect(unsafe_code, reason = "KVM takes guest memory by address")]
    fn lend_memory(&self) {
        let start = self.memory.get_host_address(GuestAddress(0)).unwrap();
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY_BYTES as u64,
            userspace_addr: start.addr() as u64,
        };
        // SAFETY: a TestVm outlives the vCPUs that its tests run, so that the guest only runs while
        // its memory is mapped; Rust code reaches that through volatile accesses only.
        unsafe { self.fd.set_user_memory_region(region) }.unwrap();
    }
}

pub(crate) fn long_mode(reset: kvm_sregs, cpl: u8) -> kvm_sregs {
    let mut special = LONG_MODE.special_registers(reset, cpl);
    special.efer |= EFER_NO_EXECUTE;
    (special.idt.base, special.idt.limit) = (INTERRUPTS, 32 * 16 - 1);
    special
}
