//! How long a run has to be for a kernel to be done with its punishment.

use std::time::Duration;

use split_lock_model::analysis::Thresholds;
use split_lock_model::kernel::Profile;

/// The whole punishment of one split lock and the window after it, while so many other threads split
/// locks as well: the sleep, a window of everybody else's before the semaphore is free, and a window
/// of one's own. `None` for a kernel that makes nobody sleep.
#[must_use]
pub fn grace(kernel: &Profile, others: u32) -> Option<Duration> {
    let limits = Thresholds::of(kernel)?;
    let longest =
        |(_, longest): (_, split_lock_model::time::Nanos)| Duration::from_nanos(longest.0);
    let window = longest(limits.window());
    Some(longest(limits.sleep()) + window * (others + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_and_as_many_windows_as_there_are_threads() {
        let kernel = "6.12,hz=250".parse().unwrap();
        assert_eq!(grace(&kernel, 0), Some(Duration::from_millis(16 + 12)));
        assert_eq!(grace(&kernel, 2), Some(Duration::from_millis(16 + 3 * 12)));
        assert_eq!(grace(&"5.10".parse().unwrap(), 0), None);
        assert_eq!(grace(&"6.12,mitigate=0".parse().unwrap(), 0), None);
    }
}
