//! `split_lock_detect=ratelimit:N`: a budget of bus locks per second for the whole machine.

use crate::kernel::{Mode, Profile};
use crate::time::Jiffies;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RateLimit {
    per_interval: u16,
    interval: Jiffies,
    sleep: Jiffies,
    begin: Option<Jiffies>,
    used: u16,
}

impl RateLimit {
    pub(super) fn new(profile: &Profile) -> Self {
        let hz = profile.hz();
        Self {
            per_interval: match profile.mode() {
                Mode::Ratelimit(n) => n,
                _ => 0,
            },
            interval: Jiffies(hz.get().into()),
            sleep: profile.features().msleep_ticks(20, hz),
            begin: None,
            used: 0,
        }
    }

    /// Counts one bus lock if there is room; otherwise the tick until which to sleep.
    pub(super) fn admit_or_sleep(&mut self, now: Jiffies) -> Option<Jiffies> {
        let begin = *self.begin.get_or_insert(now);
        // `__ratelimit` starts over only when the interval is strictly behind it.
        if now > begin.plus(self.interval) {
            self.begin = Some(now);
            self.used = 0;
        }
        if self.used < self.per_interval {
            self.used += 1;
            return None;
        }
        Some(now.plus(self.sleep).plus(Jiffies(1)))
    }

    pub(super) fn relative_state(&self, now: Jiffies, out: &mut Vec<u64>) {
        let left = self
            .begin
            .map(|begin| begin.plus(self.interval).plus(Jiffies(1)).since(now).0);
        out.extend([left.map_or(0, |left| left + 1), self.used.into()]);
    }
}
