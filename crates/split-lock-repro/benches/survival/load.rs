//! What else this machine is busy with.

use std::fs;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the calling thread has been ready to run so far, without a CPU. Zero where the kernel does
/// not say.
pub(crate) fn waited_for_a_cpu() -> Duration {
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

static MEASURED_NS: AtomicU64 = AtomicU64::new(0);
static WAITED_NS: AtomicU64 = AtomicU64::new(0);

/// So much was measured, and for so much of it the thread could have run and had no CPU.
pub(crate) fn note(measured: Duration, waited: Duration) {
    MEASURED_NS.fetch_add(measured.as_nanos() as u64, Ordering::Relaxed);
    WAITED_NS.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
}

/// How far the numbers can be trusted.
pub(crate) fn text() -> String {
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last_minute = loadavg.split_whitespace().next().unwrap_or("unknown");
    let cpus = thread::available_parallelism().map_or(0, NonZero::get);
    let [waited, measured] = [&WAITED_NS, &MEASURED_NS].map(|ns| ns.load(Ordering::Relaxed) as f64);
    format!(
        "Of all time measured, the vCPUs' threads had to wait for a CPU for {:.1} %; load of the last \
         minute {last_minute}, on {cpus} CPUs",
        100.0 * waited / measured
    )
}
