//! The calls of KVM that mean something here.

use libc::c_ulong;

/// The kernel's KVMIO.
const KVM: u32 = 0xae;

/// The number of KVM_RUN.
pub(crate) const RUN: u32 = none(0x80);

/// A call other than KVM_RUN, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    CreateVm,
    CreateVcpu,
    SetMemory,
    SetMemory2,
    GetDirtyLog,
    EnableCapability,
    SetSignalMask,
    SetGuestDebug,
    /// Any other: of a vCPU, or of something else.
    Other,
}

/// Whether somebody wants something of KVM. The kernel looks at 32 bits only, which some sign-extend.
pub(crate) fn is_of_kvm(request: c_ulong) -> bool {
    (request as u32 >> 8) & 0xff == KVM
}

impl Request {
    #[inline]
    pub(crate) fn is_run(request: c_ulong) -> bool {
        request as u32 == RUN
    }

    pub(crate) fn of(request: c_ulong) -> Self {
        const CREATE_VM: u32 = none(0x01);
        const CREATE_VCPU: u32 = none(0x41);
        const GET_DIRTY_LOG: u32 = write(0x42, 16);
        const SET_MEMORY: u32 = write(0x46, 32);
        const SET_MEMORY_2: u32 = write(0x49, 160);
        const SET_SIGNAL_MASK: u32 = write(0x8b, 4);
        const SET_GUEST_DEBUG: u32 = write(0x9b, 72);
        const ENABLE_CAPABILITY: u32 = write(0xa3, 104);
        match request as u32 {
            CREATE_VM => Self::CreateVm,
            CREATE_VCPU => Self::CreateVcpu,
            SET_MEMORY => Self::SetMemory,
            SET_MEMORY_2 => Self::SetMemory2,
            GET_DIRTY_LOG => Self::GetDirtyLog,
            ENABLE_CAPABILITY => Self::EnableCapability,
            SET_SIGNAL_MASK => Self::SetSignalMask,
            SET_GUEST_DEBUG => Self::SetGuestDebug,
            _ => Self::Other,
        }
    }
}

/// As the kernel's _IO makes them.
const fn none(number: u32) -> u32 {
    KVM << 8 | number
}

/// As the kernel's _IOW makes them.
const fn write(number: u32, bytes: u32) -> u32 {
    1 << 30 | bytes << 16 | none(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::{
        kvm_dirty_log, kvm_enable_cap, kvm_guest_debug, kvm_signal_mask,
        kvm_userspace_memory_region, kvm_userspace_memory_region2,
    };

    #[test]
    fn requests_have_the_sizes_of_the_kernels_structures() {
        let sizes = [
            (
                0x4010_ae42,
                size_of::<kvm_dirty_log>(),
                Request::GetDirtyLog,
            ),
            (
                0x4020_ae46,
                size_of::<kvm_userspace_memory_region>(),
                Request::SetMemory,
            ),
            (
                0x40a0_ae49,
                size_of::<kvm_userspace_memory_region2>(),
                Request::SetMemory2,
            ),
            (
                0x4004_ae8b,
                size_of::<kvm_signal_mask>(),
                Request::SetSignalMask,
            ),
            (
                0x4048_ae9b,
                size_of::<kvm_guest_debug>(),
                Request::SetGuestDebug,
            ),
            (
                0x4068_aea3,
                size_of::<kvm_enable_cap>(),
                Request::EnableCapability,
            ),
        ];
        for (number, size, request) in sizes {
            assert_eq!(Request::of(number), request);
            assert_eq!(number as usize >> 16 & 0x3fff, size, "{request:?}");
        }
    }

    #[test]
    fn a_request_that_was_an_int_is_the_same() {
        let sign_extended = (0xc008_ae05_u32 as i32) as c_ulong;
        assert!(is_of_kvm(sign_extended) && is_of_kvm(RUN.into()) && !is_of_kvm(0x5413));
        assert!(Request::is_run(0xffff_ffff_0000_ae80));
    }
}
