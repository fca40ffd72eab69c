//! The calls of KVM that are made here.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use kvm_bindings::{
    kvm_cpuid_entry2, kvm_debugregs, kvm_guest_debug, kvm_mp_state, kvm_regs, kvm_sregs,
    kvm_translation, kvm_userspace_memory_region, kvm_vcpu_events,
};
use libc::{c_int, c_ulong};

const KVMIO: c_ulong = 0xae;
const WRITE: c_ulong = 1;
const READ: c_ulong = 2;

/// As the kernel's _IOC makes them: direction, size, type and number.
const fn request(direction: c_ulong, bytes: usize, number: c_ulong) -> c_ulong {
    direction << 30 | (bytes as c_ulong) << 16 | KVMIO << 8 | number
}

/// A call that KVM answers with a `T`.
pub(in crate::kvm) struct Get<T>(Call, PhantomData<T>);

/// A call that gives KVM a `T`.
pub(in crate::kvm) struct Set<T>(Call, PhantomData<T>);

/// A call that gives KVM a `T` and gets one back.
pub(in crate::kvm) struct Exchange<T>(Call, PhantomData<T>);

/// What all of them have.
#[derive(Debug, Clone, Copy)]
pub(in crate::kvm) struct Call {
    pub(in crate::kvm) name: &'static str,
    request: c_ulong,
}

/// A call on a file descriptor of KVM.
pub(in crate::kvm) trait Give<T> {
    type Answer;

    fn call(&self) -> Call;

    fn make(&self, fd: BorrowedFd<'_>, value: T) -> io::Result<Self::Answer>;
}

/// The calls on a vCPU, and on the VM that breakpoints are tried out in.
pub(in crate::kvm) mod calls {
    use super::*;

    pub(in crate::kvm) const GET_REGS: Get<kvm_regs> = Get::new("KVM_GET_REGS", 0x81);
    pub(in crate::kvm) const SET_REGS: Set<kvm_regs> = Set::new("KVM_SET_REGS", 0x82);
    pub(in crate::kvm) const GET_SREGS: Get<kvm_sregs> = Get::new("KVM_GET_SREGS", 0x83);
    pub(in crate::kvm) const SET_SREGS: Set<kvm_sregs> = Set::new("KVM_SET_SREGS", 0x84);
    pub(in crate::kvm) const TRANSLATE: Exchange<kvm_translation> =
        Exchange::new("KVM_TRANSLATE", 0x85);
    pub(in crate::kvm) const GET_MP_STATE: Get<kvm_mp_state> = Get::new("KVM_GET_MP_STATE", 0x98);
    pub(in crate::kvm) const SET_GUEST_DEBUG: Set<kvm_guest_debug> =
        Set::new("KVM_SET_GUEST_DEBUG", 0x9b);
    pub(in crate::kvm) const GET_VCPU_EVENTS: Get<kvm_vcpu_events> =
        Get::new("KVM_GET_VCPU_EVENTS", 0x9f);
    pub(in crate::kvm) const SET_VCPU_EVENTS: Set<kvm_vcpu_events> =
        Set::new("KVM_SET_VCPU_EVENTS", 0xa0);
    pub(in crate::kvm) const GET_DEBUGREGS: Get<kvm_debugregs> =
        Get::new("KVM_GET_DEBUGREGS", 0xa1);
    pub(in crate::kvm) const SET_DEBUGREGS: Set<kvm_debugregs> =
        Set::new("KVM_SET_DEBUGREGS", 0xa2);
    pub(in crate::kvm) const SET_MEMORY: Set<kvm_userspace_memory_region> =
        Set::new("KVM_SET_USER_MEMORY_REGION", 0x46);
}

impl<T> Get<T> {
    const fn new(name: &'static str, number: c_ulong) -> Self {
        let request = request(READ, size_of::<T>(), number);
        Self(Call { name, request }, PhantomData)
    }
}

impl<T> Set<T> {
    const fn new(name: &'static str, number: c_ulong) -> Self {
        let request = request(WRITE, size_of::<T>(), number);
        Self(Call { name, request }, PhantomData)
    }
}

impl<T> Exchange<T> {
    const fn new(name: &'static str, number: c_ulong) -> Self {
        let request = request(READ | WRITE, size_of::<T>(), number);
        Self(Call { name, request }, PhantomData)
    }
}

impl<T: Default> Give<()> for Get<T> {
    type Answer = T;

    fn call(&self) -> Call {
        self.0
    }

    fn make(&self, fd: BorrowedFd<'_>, (): ()) -> io::Result<T> {
        let mut value = T::default();
        // SAFETY: the request is that of a T (`new` has its size in it, and the constants above their types from the
        // kernel's interface), so that KVM writes to this value at most, every bit pattern of which is valid.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), self.0.request, &raw mut value) };
        check(result).map(|_| value)
    }
}

impl<T> Give<&T> for Set<T> {
    type Answer = ();

    fn call(&self) -> Call {
        self.0
    }

    fn make(&self, fd: BorrowedFd<'_>, value: &T) -> io::Result<()> {
        // SAFETY: the request is that of a T, so that KVM reads this value and no more. The memory that a
        // kvm_userspace_memory_region names is `LentPages`', which says for how long it is there.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), self.0.request, ptr::from_ref(value)) };
        check(result).map(drop)
    }
}

impl<T> Give<T> for Exchange<T> {
    type Answer = T;

    fn call(&self) -> Call {
        self.0
    }

    fn make(&self, fd: BorrowedFd<'_>, mut value: T) -> io::Result<T> {
        // SAFETY: the request is that of a T, so that KVM reads and writes this value and no more.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), self.0.request, &raw mut value) };
        check(result).map(|_| value)
    }
}

/// A call with a number.
pub(in crate::kvm) type NumberCall = (&'static str, c_ulong);

pub(in crate::kvm) const CREATE_VM: NumberCall = ("KVM_CREATE_VM", request(0, 0, 0x01));
pub(in crate::kvm) const CREATE_VCPU: NumberCall = ("KVM_CREATE_VCPU", request(0, 0, 0x41));
pub(in crate::kvm) const SET_TSS_ADDRESS: NumberCall = ("KVM_SET_TSS_ADDR", request(0, 0, 0x47));
pub(in crate::kvm) const RUN: NumberCall = ("KVM_RUN", request(0, 0, 0x80));
const CHECK_EXTENSION: NumberCall = ("KVM_CHECK_EXTENSION", request(0, 0, 0x03));

/// What comes of a call with a number.
pub(in crate::kvm) fn number(
    fd: BorrowedFd<'_>,
    (_, request): NumberCall,
    number: c_ulong,
) -> io::Result<c_int> {
    // SAFETY: these calls take a number and no address. KVM_RUN writes to the run page, which only `RunPage` reads, and
    // to the memory of the VM.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, number) })
}

/// A new file descriptor that such a call makes.
pub(in crate::kvm) fn open(
    fd: BorrowedFd<'_>,
    call: NumberCall,
    argument: c_ulong,
) -> io::Result<OwnedFd> {
    let made = number(fd, call, argument)?;
    // SAFETY: KVM_CREATE_VM and KVM_CREATE_VCPU answer with a descriptor that is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// 0 if KVM does not have it, or does not know of it.
pub(in crate::kvm) fn extension(fd: BorrowedFd<'_>, extension: u32) -> u32 {
    number(fd, CHECK_EXTENSION, extension.into()).map_or(0, c_int::cast_unsigned)
}

/// struct kvm_cpuid2, with room for as many entries as KVM gives.
#[repr(C)]
#[derive(Clone)]
pub(in crate::kvm) struct CpuidEntries {
    count: u32,
    padding: u32,
    entries: [kvm_cpuid_entry2; 256],
}

impl Default for CpuidEntries {
    fn default() -> Self {
        Self {
            count: 256,
            padding: 0,
            entries: [kvm_cpuid_entry2::default(); 256],
        }
    }
}

/// Their requests have the size of struct kvm_cpuid2 without entries.
pub(in crate::kvm) const SUPPORTED_CPUID: Get<CpuidEntries> = Get(
    Call {
        name: "KVM_GET_SUPPORTED_CPUID",
        request: request(READ | WRITE, 8, 0x05),
    },
    PhantomData,
);
pub(in crate::kvm) const SET_CPUID: Set<CpuidEntries> = Set(
    Call {
        name: "KVM_SET_CPUID2",
        request: request(WRITE, 8, 0x90),
    },
    PhantomData,
);

/// struct kvm_nested_state, with room for what VMX and SVM have in it: two pages at most.
#[repr(C)]
pub(in crate::kvm) struct NestedState {
    pub(in crate::kvm) flags: u16,
    format: u16,
    size: u32,
    rest: [u64; 1039],
}

impl Default for NestedState {
    fn default() -> Self {
        Self {
            flags: 0,
            format: 0,
            size: size_of::<Self>() as u32,
            rest: [0; 1039],
        }
    }
}

/// Its request has the size of struct kvm_nested_state without the pages.
pub(in crate::kvm) const NESTED_STATE: Get<NestedState> = Get(
    Call {
        name: "KVM_GET_NESTED_STATE",
        request: request(READ | WRITE, 128, 0xbe),
    },
    PhantomData,
);

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernels_headers() {
        let requests = [
            (calls::GET_REGS.0.request, 0x8090_ae81),
            (calls::SET_REGS.0.request, 0x4090_ae82),
            (calls::GET_SREGS.0.request, 0x8138_ae83),
            (calls::TRANSLATE.0.request, 0xc018_ae85),
            (calls::SET_GUEST_DEBUG.0.request, 0x4048_ae9b),
            (calls::GET_VCPU_EVENTS.0.request, 0x8040_ae9f),
            (calls::SET_DEBUGREGS.0.request, 0x4080_aea2),
            (SUPPORTED_CPUID.0.request, 0xc008_ae05),
            (NESTED_STATE.0.request, 0xc080_aebe),
            (RUN.1, 0xae80),
        ];
        for (request, expected) in requests {
            assert_eq!(request, expected, "{request:#x}");
        }
        // 128 bytes, and two pages.
        assert_eq!(size_of::<NestedState>(), 128 + 2 * 4096);
    }
}
