//! What has been said already.

use std::collections::BTreeSet;

/// A guest that makes new code all the time is not to fill the host's memory.
const MANY: usize = 1024;

/// Addresses of instructions that have been reported.
#[derive(Debug, Clone, Default)]
pub(super) struct Reported(BTreeSet<u64>);

impl Reported {
    /// Whether this is the first time. Beyond a great many, the first are forgotten all at once.
    pub(super) fn is_new(&mut self, rip: u64) -> bool {
        if self.0.len() >= MANY && !self.0.contains(&rip) {
            self.0.clear();
        }
        self.0.insert(rip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_new_once() {
        let mut reported = Reported::default();
        for rip in [1, 2, 1, 2, 3] {
            let is_new = reported.is_new(rip);
            assert_eq!(is_new, !reported.0.contains(&rip) || is_new);
        }
        assert!(!reported.is_new(1) && !reported.is_new(3) && reported.is_new(4));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let mut reported = Reported::default();
        (0..10 * MANY as u64).for_each(|rip| assert!(reported.is_new(rip)));
        assert!(reported.0.len() <= MANY);
    }
}
