//! What a forked child must not inherit.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

const PAGE_BYTES: usize = 4096;

/// A page that the kernel replaces by zeroes in a forked child, however it was forked: the address in it is then null.
static PAGE: AtomicPtr<AtomicPtr<()>> = AtomicPtr::new(ptr::null_mut());

/// The value of this process, which is made by `make` if that is given and there is none yet. It is never dropped.
///
/// A forked child has none, and gets a new one: locks of the old may be held by threads that it does not have.
pub(crate) fn per_process<T: Sync>(make: Option<fn() -> T>) -> Option<&'static T> {
    let page = page(make.is_some())?;
    let mut found = page.load(Ordering::Acquire).cast::<T>();
    if let (true, Some(make)) = (found.is_null(), make) {
        let made = Box::into_raw(Box::new(make()));
        let first = page.compare_exchange(
            ptr::null_mut(),
            made.cast(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        found = match first {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: it has just been made by Box::into_raw, and nobody has seen it.
                drop(unsafe { Box::from_raw(made) });
                other.cast()
            }
        };
    }
    // SAFETY: null, or a T that was leaked: the only caller uses one T. What other threads see of it was written before
    // the address was (Release above).
    unsafe { found.as_ref() }
}

fn page(make: bool) -> Option<&'static AtomicPtr<()>> {
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() && make {
        let made = map()?.as_ptr();
        let first =
            PAGE.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
        page = match first {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: it has just been mapped, and nobody has seen it.
                unsafe { libc::munmap(made.cast(), PAGE_BYTES) };
                other
            }
        };
    }
    // SAFETY: null, or a page that stays mapped; zeroes are an AtomicPtr, and it is only used as one.
    unsafe { page.as_ref() }
}

fn map() -> Option<NonNull<AtomicPtr<()>>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the page is ours. Where it fails (before Linux 4.14) a child that uses KVM inherits our state.
    unsafe { libc::madvise(page, PAGE_BYTES, libc::MADV_WIPEONFORK) };
    NonNull::new(page.cast())
}
