//! What else this machine is busy with.

use std::fs;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

/// How long the calling thread has been ready to run so far, without a CPU. Zero where the kernel does
/// not say.
fn waited_for_a_cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited_ns = schedstat.split_whitespace().nth(1);
    Duration::from_nanos(waited_ns.and_then(|ns| ns.parse().ok()).unwrap_or_default())
}

/// How long something took, less the time in which this thread could have run and had no CPU: that is
/// the doing of whatever else the machine is busy with.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let waited_before = waited_for_a_cpu();
    let start = Instant::now();
    work();
    let elapsed = start.elapsed();
    elapsed.saturating_sub(waited_for_a_cpu().saturating_sub(waited_before))
}

/// How many threads wanted a CPU in the last minute, on average.
pub(crate) fn text() -> String {
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last_minute = loadavg.split_whitespace().next().unwrap_or("unknown");
    let cpus = thread::available_parallelism().map_or(0, NonZero::get);
    format!("load of the last minute {last_minute}, on {cpus} CPUs")
}
