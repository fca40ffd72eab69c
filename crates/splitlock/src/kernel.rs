//! The kernel that runs here, as the model knows it.

use anyhow::{Context, Result, anyhow};
use split_lock_host::Facts;
use split_lock_model::kernel::Profile;

/// What this host's kernel would do in mode `warn`, whether or not its CPU can detect split locks.
///
/// The tick rate is not asked for but seen: the coarse clock advances once a tick.
pub(crate) fn of_this_host(facts: &Facts) -> Result<Profile> {
    let release = facts.kernel_release.known().ok_or_else(|| {
        anyhow!("cannot see which kernel runs here: name one with --kernel or --host")
    })?;
    let profile = format!("{release},hz={}", ticks_per_second());
    profile
        .parse()
        .with_context(|| format!("this host's kernel {release} is not one that the model knows"))
}

fn ticks_per_second() -> i64 {
    let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    let tick_ns = (tick.tv_sec * 1_000_000_000 + tick.tv_nsec).max(1);
    // 300 ticks a second are not a whole number of nanoseconds each.
    (1_000_000_000 + tick_ns / 2) / tick_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_ticks_at_a_rate_that_kernels_offer() {
        assert!([100, 250, 300, 1000].contains(&ticks_per_second()));
    }

    #[test]
    fn this_host_has_a_profile() {
        let facts = Facts::read(std::path::Path::new("/"));
        let profile = of_this_host(&facts).unwrap();
        let hz = format!("hz={}", ticks_per_second());
        assert!(profile.to_string().contains(&hz), "{profile}");
    }
}
