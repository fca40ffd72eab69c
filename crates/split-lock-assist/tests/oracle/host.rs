//! How many split locks can be had from this host.

use std::fs;

/// Where each one costs at least 10 ms and is a line in the kernel log.
const A_FEW: u64 = 200;

/// How many operands may cross a cache line natively. Says so if they are not as many as one likes.
pub(crate) fn split_locks_allowed() -> u64 {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let allowed = split_locks(&read("/proc/cpuinfo"), &read("/proc/cmdline"));
    if allowed != u64::MAX {
        println!("the host punishes split locks: {allowed} of them, and then none");
    }
    allowed
}

fn split_locks(cpuinfo: &str, command_line: &str) -> u64 {
    let detects = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| {
            flags
                .split_whitespace()
                .any(|flag| flag == "split_lock_detect" || flag == "bus_lock_detect")
        });
    let setting = command_line
        .split_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix("split_lock_detect="));
    match setting {
        _ if !detects => u64::MAX,
        Some("off") => u64::MAX,
        Some("fatal") => 0,
        _ => A_FEW,
    }
}

#[test]
fn the_host_decides_how_many_split_locks_there_are() {
    let cpu = "processor\t: 0\nflags\t\t: fpu split_lock_detect cx16\nbugs\t\t:\n";
    assert_eq!(split_locks(cpu, "quiet"), A_FEW);
    assert_eq!(split_locks(cpu, "split_lock_detect=fatal"), 0);
    assert_eq!(split_locks(cpu, "split_lock_detect=off quiet"), u64::MAX);
    assert_eq!(split_locks("flags : fpu cx16", ""), u64::MAX);
}
