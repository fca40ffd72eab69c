//! What the kernel says of the calling thread.

use std::mem::MaybeUninit;

/// How often it has gone to sleep by itself so far.
pub(in crate::kvm) fn voluntary_context_switches() -> Option<u64> {
    let mut usage = MaybeUninit::uninit();
    // SAFETY: getrusage writes to this value, and to all of it unless it fails.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: it has not failed.
    let usage = unsafe { usage.assume_init() };
    u64::try_from(usage.ru_nvcsw).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn going_to_sleep_is_counted() {
        let before = voluntary_context_switches().unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert!(voluntary_context_switches().unwrap() > before);
    }
}
