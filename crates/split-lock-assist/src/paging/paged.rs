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

    #[inline]
    fn locate(&self, address: u64, access: Access) -> Result<Location, AccessError> {
        let confirmed = self.ram.confirmed();
        let known = confirmed.and_then(|it| it.physical(&self.walk, &self.ram, address, access));
        if let Some(physical) = known {
            return Ok(Location {
                physical,
                unmarked: None,
            });
        }
        let translation = self.walk.translate(&self.ram, address, access)?;
        if !self.ram.confirms(address, &translation) {
            let on = "what else the CPU knows than the page tables";
            return Err(AccessError::Undecided { address, on });
        }
        if let Some(confirmed) = confirmed {
            confirmed.remember(&self.walk, address, access, &translation);
        }
        Ok(Location {
            physical: translation.physical(),
            unmarked: Some(Box::new(translation)),
        })
    }

    fn slice(
        &self,
        address: u64,
        at: &Location,
        bytes: usize,
    ) -> Result<R::Slice<'_>, AccessError> {
        let slice = self.ram.slice(at.physical, bytes);
        slice.ok_or(AccessError::NotRam { address })
    }

    /// A part of an access that lies in one page. Nothing is marked yet.
    fn part(&self, address: u64, bytes: usize) -> Result<(Location, R::Slice<'_>), AccessError> {
        let location = self.locate(address, Access::Write)?;
        let slice = self.slice(address, &location, bytes)?;
        Ok((location, slice))
    }

    /// `None` if the tables have changed meanwhile.
    #[inline]
    fn permit(
        &self,
        address: u64,
        bytes: usize,
    ) -> Result<Option<PagedPermit<R::Slice<'_>>>, AccessError> {
        let first_bytes = bytes.min(bytes_to_page_end(address));
        let (at, first) = self.part(address, first_bytes)?;
        let second = match bytes - first_bytes {
            0 => None,
            rest => Some(self.part(address.wrapping_add(first_bytes as u64), rest)?),
        };
        let second_at = second.as_ref().map(|(at, _)| at);
        let is_marked = [Some(&at), second_at]
            .into_iter()
            .flatten()
            .filter_map(|at| at.unmarked.as_ref())
            .all(|translation| translation.mark_written(&self.ram));
        Ok(is_marked.then(|| PagedPermit {
            first,
            first_bytes,
            second: second.map(|(_, slice)| slice),
        }))
    }
}

/// Where a linear address is.
struct Location {
    physical: u64,
    /// By which entries, if they may have to be marked. That is seldom, and it is large.
    unmarked: Option<Box<Translation>>,
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
                .locate(here, Access::Fetch)
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
            if let Some(permit) = self.permit(address, bytes.len())? {
                permit.read(bytes);
                return Ok(permit);
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
