//! A vCPU's memory.

use super::vcpu::KvmVcpu;
use crate::memory::{AccessError, Memory};
use crate::paging::{ConfirmedTranslations, PagedMemory, PagedPermit, Ram, Translation};

/// The memory of a vCPU of KVM: see [`KvmVcpu::stopped`].
#[derive(Debug)]
pub struct KvmMemory<'a, R> {
    vcpu: &'a KvmVcpu,
    state: State<'a, R>,
}

/// How the vCPU translates addresses is found out when it is needed.
#[derive(Debug)]
enum State<'a, R> {
    Unknown(R),
    Paged(PagedMemory<VcpuRam<'a, R>>),
    /// Only while it changes.
    Changing,
}

/// RAM, and a vCPU to ask about translations.
#[derive(Debug)]
struct VcpuRam<'a, R> {
    vcpu: &'a KvmVcpu,
    ram: R,
}

impl<'a, R: Ram> KvmMemory<'a, R> {
    pub(super) fn new(vcpu: &'a KvmVcpu, ram: R) -> Self {
        Self {
            vcpu,
            state: State::Unknown(ram),
        }
    }

    /// `None` if KVM does not tell how. No locked instruction changes that.
    fn paged(&mut self) -> Option<&mut PagedMemory<VcpuRam<'a, R>>> {
        if let State::Unknown(_) = self.state {
            let walk = self.vcpu.special().ok()?.walk;
            if let State::Unknown(ram) = std::mem::replace(&mut self.state, State::Changing) {
                let vcpu = self.vcpu;
                self.state = State::Paged(PagedMemory::new(walk, VcpuRam { vcpu, ram }));
            }
        }
        match &mut self.state {
            State::Paged(paged) => Some(paged),
            State::Unknown(_) | State::Changing => None,
        }
    }
}

impl<'a, R: Ram> Memory for KvmMemory<'a, R> {
    type Permit<'b>
        = PagedPermit<R::Slice<'b>>
    where
        Self: 'b;

    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        self.paged()
            .map_or(0, |memory| memory.fetch(address, bytes))
    }

    fn load_for_update(
        &mut self,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<Self::Permit<'_>, AccessError> {
        let on = "registers that KVM does not tell";
        self.paged()
            .ok_or(AccessError::Undecided { address, on })?
            .load_for_update(address, bytes)
    }
}

impl<R: Ram> Ram for VcpuRam<'_, R> {
    type Slice<'b>
        = R::Slice<'b>
    where
        Self: 'b;

    fn slice(&self, address: u64, bytes: usize) -> Option<Self::Slice<'_>> {
        self.ram.slice(address, bytes)
    }

    fn load(&self, address: u64) -> Option<u64> {
        self.ram.load(address)
    }

    #[inline]
    fn holds(&self, words: &[(u64, u64)]) -> bool {
        self.ram.holds(words)
    }

    fn compare_exchange(&self, address: u64, current: u64, new: u64) -> bool {
        self.ram.compare_exchange(address, current, new)
    }

    fn confirms(&self, linear: u64, translation: &Translation) -> bool {
        self.vcpu.confirms(linear, translation)
    }

    fn confirmed(&self) -> Option<&ConfirmedTranslations> {
        Some(self.vcpu.confirmed())
    }
}
