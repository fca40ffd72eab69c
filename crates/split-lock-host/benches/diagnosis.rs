//! How long the doctor takes. `cargo bench -p split-lock-host --bench diagnosis`
//!
//! On this machine, and on a made-up one with many processes and a log of some size. Prints medians and spreads;
//! asserts nothing, because times depend on the machine.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use split_lock_host::{Diagnosis, Root};

const ROUNDS: usize = 21;
const PROCESSES: u32 = 500;
const MACHINES: u32 = 20;
const LOG_LINES: u32 = 20_000;

fn main() {
    let busy = tempfile::tempdir().expect("a folder for files");
    make_busy(busy.path());
    // One after the other in each round, so that what else the machine does falls on both alike.
    let mut times = [(Path::new("/"), vec![]), (busy.path(), vec![])];
    for _ in 0..ROUNDS {
        for (path, times) in &mut times {
            times.push(checked(path));
        }
    }
    let names = [
        "this machine".to_owned(),
        format!("{PROCESSES} processes, {MACHINES} virtual machines, a log of {LOG_LINES} lines"),
    ];
    for (name, (_, mut times)) in names.iter().zip(times) {
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name}: {:.1} ms (quartiles {:.1} to {:.1}, {ROUNDS} rounds)",
            ms(times[ROUNDS / 2]),
            ms(times[ROUNDS / 4]),
            ms(times[ROUNDS * 3 / 4])
        );
    }
}

fn checked(path: &Path) -> Duration {
    let start = Instant::now();
    let root = Root::open(path).expect("it is there");
    let diagnosis = Diagnosis::of_machine(&root);
    let time = start.elapsed();
    assert!(!diagnosis.verdict.because.is_empty());
    time
}

/// A host at risk, so that timers are looked at as well.
fn make_busy(root: &Path) {
    put(
        root,
        "proc/cpuinfo",
        "vendor_id : GenuineIntel\nflags : split_lock_detect\n",
    );
    put(root, "proc/cmdline", "quiet\n");
    put(root, "proc/sys/kernel/osrelease", "6.6.1\n");
    put(root, "proc/sys/kernel/split_lock_mitigate", "1\n");
    put(root, "boot/config-6.6.1", "CONFIG_HZ=250\n");
    let mut log = String::from("[    0.000000] Linux version 6.6.1 (x)\n");
    for line in 0..LOG_LINES {
        let seconds = line / 10;
        let _ = match line % 100 {
            0 => writeln!(
                log,
                "[{seconds:5}.000000] x86/split lock detection: #AC: CPU {}/KVM/{} took a split_lock trap at \
                 address: 0xfffff80{:05x}dfdff",
                line % 4,
                1000 + line / 100 % MACHINES,
                line
            ),
            _ => writeln!(
                log,
                "[{seconds:5}.000000] usb 1-1: new high-speed USB device number {line}"
            ),
        };
    }
    put(root, "var/log/dmesg", &log);
    for pid in 1000..1000 + PROCESSES {
        make_process(root, pid, pid < 1000 + MACHINES);
    }
}

fn make_process(root: &Path, pid: u32, is_machine: bool) {
    let (comm, command_line) = match is_machine {
        true => (
            "CPU 0/KVM",
            format!("qemu-system-x86_64\0-name\0guest=vm-{pid}\0-enable-kvm\0"),
        ),
        false => ("sleep", "sleep\x001000\0".to_owned()),
    };
    let file = |name: &str, text: &str| put(root, &format!("proc/{pid}/{name}"), text);
    file("comm", comm);
    file("cmdline", &command_line);
    file(
        "status",
        &format!("Name:\t{comm}\nTgid:\t{pid}\nPid:\t{pid}\n"),
    );
    file(
        "stat",
        &format!("{pid} ({comm}) S 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0\n"),
    );
    file("cgroup", "0::/user.slice\n");
    file(&format!("task/{pid}/comm"), comm);
}

#[expect(
    clippy::disallowed_methods,
    reason = "files of a machine that is made up"
)]
fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
    fs::write(path, text).expect("there is room");
}
