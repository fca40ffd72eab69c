//! A vCPU's memory through its page tables.

use super::{Access, PageWalk, Ram, RamSlice, Translation};
use crate::decode::PAGE_BYTES;
use crate::memory::{AccessError, Memory, WritePermit};

/// How often a translation is repeated because a device has changed the page tables meanwhile.
const ATTEMPTS: usize = 4;

/// The memory that a vCPU sees: RAM, by the translation of the moment.
#[derive(Debug, Clone, Copy)]
pub struct PagedMemory<R> {
    walk: PageWalk,
    ram: R,
}

/// Leave to write to one page or to two.
#[derive(Debug)]
pub struct PagedPermit<P> {
    first: P,
    first_bytes: usize,
    second: Option<P>,
}

impl<R: Ram> PagedMemory<R> {
    /// The memory of a vCPU that translates addresses like this.
    pub fn new(walk: PageWalk, ram: R) -> Self {
        Self { walk, ram }
    }

    fn translate(&self, address: u64, access: Access) -> Result<Translation, AccessError> {
        let translation = self.walk.translate(&self.ram, address, access)?;
        if translation.is_plain() || self.ram.confirms(address, translation.physical()) {
            return Ok(translation);
        }
        let on = "what else the CPU knows than the page tables";
        Err(AccessError::Undecided { address, on })
    }

    fn slice(
        &self,
        address: u64,
        at: &Translation,
        bytes: usize,
    ) -> Result<R::Slice<'_>, AccessError> {
        let slice = self.ram.slice(at.physical(), bytes);
        slice.ok_or(AccessError::NotRam { address })
    }

    /// Both pages of an access, before anything is marked.
    fn pages(
        &self,
        address: u64,
        bytes: usize,
    ) -> Result<PendingPermit<R::Slice<'_>>, AccessError> {
        let first_bytes = bytes.min(bytes_to_page_end(address));
        let part = |address: u64, bytes: usize| {
            let translation = self.translate(address, Access::Write)?;
            Ok((translation, self.slice(address, &translation, bytes)?))
        };
        let (first_at, first) = part(address, first_bytes)?;
        let second = match bytes - first_bytes {
            0 => None,
            rest => Some(part(address.wrapping_add(first_bytes as u64), rest)?),
        };
        let (second_at, second) = second.unzip();
        Ok(PendingPermit {
            translations: [Some(first_at), second_at],
            permit: PagedPermit {
                first,
                first_bytes,
                second,
            },
        })
    }
}

/// What will be permitted once it has been marked.
struct PendingPermit<P> {
    translations: [Option<Translation>; 2],
    permit: PagedPermit<P>,
}

impl<R: Ram> Memory for PagedMemory<R> {
    type Permit<'a>
        = PagedPermit<R::Slice<'a>>
    where
        R: 'a;

    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        let mut fetched = 0;
        while fetched < bytes.len() {
            let here = address.wrapping_add(fetched as u64);
            let end = bytes.len().min(fetched + bytes_to_page_end(here));
            let page = &mut bytes[fetched..end];
            let slice = self
                .translate(here, Access::Fetch)
                .and_then(|at| self.slice(here, &at, page.len()));
            let Ok(slice) = slice else { break };
            slice.read(page);
            fetched = end;
        }
        fetched
    }

    fn load_for_update(
        &mut self,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<Self::Permit<'_>, AccessError> {
        for _ in 0..ATTEMPTS {
            let pending = self.pages(address, bytes.len())?;
            let mut translations = pending.translations.iter().flatten();
            if translations.all(|translation| translation.mark_written(&self.ram)) {
                pending.permit.read(bytes);
                return Ok(pending.permit);
            }
        }
        let on = "page tables that keep changing";
        Err(AccessError::Undecided { address, on })
    }
}

impl<P: RamSlice> PagedPermit<P> {
    fn read(&self, bytes: &mut [u8]) {
        let (first, second) = bytes.split_at_mut(self.first_bytes);
        self.first.read(first);
        if let Some(slice) = &self.second {
            slice.read(second);
        }
    }
}

impl<P: RamSlice> WritePermit for PagedPermit<P> {
    fn store(self, bytes: &[u8]) {
        let (first, second) = bytes.split_at(self.first_bytes);
        self.first.write(first);
        if let Some(slice) = &self.second {
            slice.write(second);
        }
    }
}

fn bytes_to_page_end(address: u64) -> usize {
    (PAGE_BYTES - address % PAGE_BYTES) as usize
}
