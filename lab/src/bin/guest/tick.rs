//! Moments within a tick.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::clock;
use crate::lab_device::LabDevice;

const SECOND: u64 = 1_000_000_000;

/// Sleeps until the first of `of` evenly spread moments of a tick, or the second, and so on.
///
/// Where exactly the thread wakes up does not matter: the journal says where it was.
pub(crate) fn sleep_until_phase(device: &LabDevice, phase: u32, of: u32) -> Result<()> {
    let state = device.state()?;
    let tick = SECOND / u64::from(state.hz);
    let offset = tick * u64::from(phase) / u64::from(of);
    let now = clock::monotonic_ns()?;
    // In the tick after the next, so that there is time to fall asleep.
    let since = now.saturating_sub(state.tick_ns) / tick;
    let target = state.tick_ns + (since + 2) * tick + offset;
    thread::sleep(Duration::from_nanos(target - now));
    Ok(())
}

/// Sleeps until every CPU detects again, or it is clear that one never will.
pub(crate) fn settle(device: &LabDevice) -> Result<()> {
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(8));
        if device.state()?.cpus_off == 0 {
            break;
        }
    }
    Ok(())
}
