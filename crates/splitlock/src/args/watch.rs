//! The command line of `watch`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use split_lock_watch::SHORTEST_CHARGED;

use super::values::positive_duration;

/// Watch who traps on split locks, who gets past, and who is in a livelock, while it happens.
///
/// Listens to the kernel by way of perf: to its tracepoints, and to probes on its split-lock handler where the kernel
/// has probes. Shows for each thread and virtual machine how many traps it took, how many of its punishments were
/// interrupted by a signal, how often it got past, how much time that cost, and whether it gets past at all. Needs
/// root (or CAP_PERFMON and a tracefs that may be read; probes need one that may be written).
///
/// With --relieve, threads that will not get past an instruction are let past: kernel.split_lock_mitigate is 0 until each of
/// them has had its window, which takes some milliseconds, and then 1 again. All other threads are punished as before. Whoever
/// makes a livelock on purpose gains at most one window, which is three ticks of the kernel, for each 2ms of the budget:
/// with 250 ticks a second and the budget of 20ms, 120ms of each second and CPU. The kernel itself gives a
/// thread 430ms of each second if it splits locks without pause and takes its punishment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo splitlock watch\n  \
    sudo splitlock watch --json --duration 10s --fail-on livelock\n  \
    sudo splitlock watch --relieve\n  \
    sudo splitlock watch --listen 9755\n\n\
    Exit codes: 0 the time is up, or Ctrl-C where no time was given; 1 --fail-on has found what it looks for; \
    2 usage or environment error; 130 Ctrl-C before the time was up.")]
pub(crate) struct WatchArgs {
    /// End after this time, instead of by Ctrl-C.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) duration: Option<Duration>,
    /// How often to show and to print.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, default_value = "500ms")]
    pub(crate) interval: Duration,
    /// Print JSON, one object to a line: when it begins, at each change of a thread's state, at each interval, and when it
    /// ends.
    #[arg(long)]
    pub(crate) json: bool,
    /// Serve metrics for Prometheus at this port, of this machine only, or at this address and port.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Use tracepoints only, and do not touch the kernel's code: less is seen.
    #[arg(long)]
    pub(crate) no_probes: bool,
    /// KiB of the ring into which the kernel writes on each CPU.
    #[arg(long, value_name = "KIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    pub(crate) buffer_kib: u32,
    /// Let threads past that will not get past an instruction: set kernel.split_lock_mitigate to 0 until each of them has
    /// had a window, and back to 1.
    #[arg(long)]
    pub(crate) relieve: bool,
    /// How much of each second kernel.split_lock_mitigate may be 0. A thread is let past only if signals come to it
    /// more often than that.
    #[arg(long, value_name = "DURATION", value_parser = relieve_budget, default_value = "20ms", requires = "relieve")]
    pub(crate) relieve_budget: Duration,
    /// Relieve also where it can leave a CPU without detection for some time: on kernels before 6.15 and several CPUs.
    #[arg(long, requires = "relieve")]
    pub(crate) relieve_any_kernel: bool,
    /// Exit with code 1 if this was seen.
    #[arg(long, value_enum, value_name = "PROBLEM")]
    pub(crate) fail_on: Option<FailOn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// A thread that will not get past an instruction.
    Livelock,
    /// A thread that gets windows without detection and does not come to its instruction while they are open.
    WindowsUnused,
}

/// From the shortest relief that there is to one all the time.
fn relieve_budget(text: &str) -> Result<Duration, String> {
    let budget = positive_duration(text)?;
    let most = Duration::from_secs(1);
    if (SHORTEST_CHARGED..most).contains(&budget) {
        return Ok(budget);
    }
    Err(format!(
        "{text} is not between {SHORTEST_CHARGED:?} and {most:?}: it is spent in each second, and a relief counts for {SHORTEST_CHARGED:?} at least"
    ))
}

/// Other machines are let in only where an address says so.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| {
        format!("`{text}` is neither a port (9755) nor an address and a port (192.168.1.2:9755, [::1]:9755)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_part_of_a_second() {
        assert_eq!(relieve_budget("2ms"), Ok(Duration::from_millis(2)));
        for wrong in ["1ms", "1s", "0ms", "x"] {
            assert!(relieve_budget(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_alone_is_for_this_machine_only() {
        let address = |text| listen_address(text).map(|address| address.to_string());
        assert_eq!(address("9755"), Ok("127.0.0.1:9755".into()));
        assert_eq!(address("0.0.0.0:1"), Ok("0.0.0.0:1".into()));
        assert_eq!(address("[::1]:9755"), Ok("[::1]:9755".into()));
        for wrong in ["", "x", "65536", "127.0.0.1", "localhost:1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
