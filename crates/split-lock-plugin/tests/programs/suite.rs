//! A crate one of whose tests splits a lock.

#[cfg(test)]
mod tests {
    use std::ptr::addr_of_mut;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;

    /// As a message has it on the wire: every 32nd counter crosses the end of a cache line.
    #[repr(C, packed(2))]
    #[derive(Clone, Copy)]
    struct Event {
        kind: u16,
        count: u32,
    }

    #[repr(align(64))]
    struct Events([Event; 32]);

    fn bump(count: *mut u32) {
        // SAFETY: it is valid, and deliberately not aligned.
        unsafe { AtomicU32::from_ptr(count) }.fetch_add(1, SeqCst);
    }

    #[test]
    fn counts_every_event() {
        let mut events = Events([Event { kind: 0, count: 0 }; 32]);
        for event in &mut events.0 {
            bump(addr_of_mut!(event.count));
        }
        assert!(events.0.iter().all(|event| { event.count } == 1));
    }

    #[test]
    fn is_as_good_as_it_is_told_to_be() {
        assert!(std::env::var_os("SUITE_FAILS").is_none());
    }
}
