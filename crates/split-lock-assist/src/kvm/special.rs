//! Segment and control registers.

use kvm_bindings::{kvm_segment, kvm_sregs};

use crate::cpu::{Context, Mode, Segment, rflags};
use crate::paging::PageWalk;

const CR0_PROTECTED: u64 = 1 << 0;
const CR0_ALIGNMENT_MASK: u64 = 1 << 18;
const CR4_FIVE_LEVELS: u64 = 1 << 12;
const CR4_VMX: u64 = 1 << 13;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
const EFER_SVM: u64 = 1 << 12;

/// What is of interest of the special registers.
#[derive(Debug)]
pub(super) struct Special {
    /// But for the guest's breakpoints, which are not among them.
    pub(super) context: Context,
    pub(super) walk: PageWalk,
    pub(super) smap: bool,
    /// The guest may be a hypervisor.
    pub(super) may_have_nested_guests: bool,
}

impl Special {
    /// The flags that have a say in what they mean.
    pub(super) const FLAGS: u64 = rflags::VIRTUAL_8086 | rflags::ALIGNMENT_CHECK;

    pub(super) fn new(special: &kvm_sregs, flags: u64) -> Self {
        let context = context(special, flags);
        Self {
            walk: PageWalk {
                cr0: special.cr0,
                cr3: special.cr3,
                cr4: special.cr4,
                efer: special.efer,
                cpl: context.cpl,
                // The others change all the time, and mean nothing to a walk.
                rflags: flags & rflags::ALIGNMENT_CHECK,
            },
            context,
            smap: special.cr4 & CR4_SMAP != 0,
            may_have_nested_guests: special.cr4 & CR4_VMX != 0 || special.efer & EFER_SVM != 0,
        }
    }
}

/// The current privilege level, which KVM shows as that of SS.
fn cpl(special: &kvm_sregs, flags: u64) -> u8 {
    if special.cr0 & CR0_PROTECTED == 0 {
        0
    } else if flags & rflags::VIRTUAL_8086 != 0 {
        3
    } else {
        special.ss.dpl
    }
}

fn context(special: &kvm_sregs, flags: u64) -> Context {
    let protected = special.cr0 & CR0_PROTECTED != 0;
    let by_descriptor = protected && flags & rflags::VIRTUAL_8086 == 0;
    let mode = if by_descriptor {
        mode(special)
    } else {
        Mode::Bits16
    };
    let segment = |kvm| segment(kvm, by_descriptor);
    Context {
        mode,
        protected,
        cpl: cpl(special, flags),
        alignment_mask: special.cr0 & CR0_ALIGNMENT_MASK != 0,
        five_level_paging: special.cr4 & CR4_FIVE_LEVELS != 0,
        breakpoints: false,
        segments: [
            segment(&special.es),
            segment(&special.cs),
            segment(&special.ss),
            segment(&special.ds),
            segment(&special.fs),
            segment(&special.gs),
        ],
    }
}

fn mode(special: &kvm_sregs) -> Mode {
    let long_mode = special.efer & EFER_LONG_MODE_ACTIVE != 0;
    match (long_mode && special.cs.l != 0, special.cs.db != 0) {
        (true, _) => Mode::Bits64,
        (false, true) => Mode::Bits32,
        (false, false) => Mode::Bits16,
    }
}

fn segment(kvm: &kvm_segment, by_descriptor: bool) -> Segment {
    const CODE: u8 = 1 << 3;
    const EXPAND_DOWN: u8 = 1 << 2;
    const WRITABLE: u8 = 1 << 1;
    let is_data = kvm.type_ & CODE == 0;
    Segment {
        base: kvm.base,
        limit: kvm.limit,
        usable: !by_descriptor || (kvm.unusable == 0 && kvm.present != 0),
        writable: !by_descriptor || (is_data && kvm.type_ & WRITABLE != 0),
        expand_down: by_descriptor && is_data && kvm.type_ & EXPAND_DOWN != 0,
        big: kvm.db != 0,
    }
}
