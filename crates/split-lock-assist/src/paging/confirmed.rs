//! Translations that the CPU has agreed to.

use std::cell::RefCell;

use super::walk::Words;
use super::{Access, PageWalk, Ram, Translation};
use crate::decode::PAGE_BYTES;

/// Code and operand of as many instructions as have a breakpoint, each in two pages.
const SLOTS: usize = 16;

/// Translations that [`Ram::confirms`] has agreed to.
///
/// One counts for as long as the same registers lead through the same entries of the tables, which are read again each
/// time: a walk by the CPU would come to the same. What is not [plain](Translation::is_plain), and what two levels of
/// tables lead to, is not remembered.
#[derive(Debug, Default)]
pub struct ConfirmedTranslations {
    slots: RefCell<[Option<Confirmed>; SLOTS]>,
}

#[derive(Debug, Clone, Copy)]
struct Confirmed {
    walk: PageWalk,
    access: Access,
    page: u64,
    /// Of the first byte of the page.
    physical: u64,
    words: Words,
}

impl ConfirmedTranslations {
    /// The physical address, if it is certain and there is nothing to be marked.
    #[inline]
    pub(super) fn physical(
        &self,
        walk: &PageWalk,
        ram: &impl Ram,
        address: u64,
        access: Access,
    ) -> Option<u64> {
        let page = address / PAGE_BYTES;
        let slots = self.slots.borrow();
        let confirmed = slots[slot(page, access)].as_ref()?;
        let holds = confirmed.page == page
            && confirmed.access == access
            && confirmed.walk == *walk
            && ram.holds(confirmed.words.as_slice());
        holds.then(|| confirmed.physical + address % PAGE_BYTES)
    }

    pub(super) fn remember(
        &self,
        walk: &PageWalk,
        address: u64,
        access: Access,
        translation: &Translation,
    ) {
        let needs_no_mark = access == Access::Fetch || translation.is_marked_written();
        let words = translation.words().filter(|words| {
            needs_no_mark && translation.is_plain() && !words.as_slice().is_empty()
        });
        if let Some(words) = words {
            let page = address / PAGE_BYTES;
            self.slots.borrow_mut()[slot(page, access)] = Some(Confirmed {
                walk: *walk,
                access,
                page,
                physical: translation.physical() - address % PAGE_BYTES,
                words,
            });
        }
    }
}

/// Code and data of the same page have a slot each.
fn slot(page: u64, access: Access) -> usize {
    let half = SLOTS / 2;
    page as usize % half + if access == Access::Fetch { half } else { 0 }
}
