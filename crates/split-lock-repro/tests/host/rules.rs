//! The emulated host: what the kernel's rules make of a real guest.

use std::sync::Arc;
use std::time::Duration;

use kvm_preemption_timer::MonotonicTime;
use split_lock_model::kernel::Profile;
use split_lock_model::time::Nanos;
use split_lock_repro::guest::Level;
use split_lock_repro::host::{Ended, HostError, HostedVcpu, Kernel, Punishments};
use split_lock_repro::vm::{Vcpu, Vm};

use crate::{LEVELS, detects_split_locks, file_guest, guest, kvm, machine};

const MS: Duration = Duration::from_millis(1);

/// What became of a guest.
struct Fate {
    turns: u64,
    punished: Punishments,
    /// The longest of its runs, as it really was.
    longest_run: Duration,
}

/// Runs a guest for consecutive runs of `timeout` on a kernel. `None` if that cannot be tried here.
fn run(
    name: &str,
    level: Level,
    kernel: &str,
    timeout: Duration,
    runs: u32,
) -> Option<Result<Fate, HostError>> {
    let kvm = kvm().filter(|_| !detects_split_locks())?;
    let guest = guest(name);
    let kernel = Arc::new(Kernel::new(kernel.parse::<Profile>().unwrap(), 1));
    let mut vm = Vm::new(&kvm).unwrap();
    let vcpu = match level {
        Level::Cpl3 => vm.add_vcpu_that_checks_alignment(&guest),
        Level::Cpl0 => vm.add_vcpu(&guest, level),
    };
    let Vcpu { mut fd, slot } = vcpu.unwrap();
    let mut vcpu =
        HostedVcpu::emulated(&mut fd, &slot, &guest, level, Arc::clone(&kernel)).unwrap();
    let mut longest_run = Duration::ZERO;
    for _ in 0..runs {
        let start = MonotonicTime::now();
        match vcpu.run_until(start + timeout) {
            Ok(Ended::Expired) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => return Some(Err(error)),
        }
        longest_run = longest_run.max(MonotonicTime::now().saturating_since(start));
    }
    Some(Ok(Fate {
        turns: slot.turns(vcpu.fd()).unwrap(),
        punished: kernel.punishments(0),
        longest_run,
    }))
}

/// The same with runs of 2 ms, until other work on this machine has let none of them become as long
/// as the kernel's sleep.
fn run_below_the_threshold(name: &str, level: Level) -> Option<Fate> {
    const SHORTEST_SLEEP: Duration = Duration::from_millis(12);
    for _ in 0..50 {
        let fate = run(name, level, "6.6,hz=250", 2 * MS, 20)?.unwrap();
        if fate.longest_run < SHORTEST_SLEEP {
            return Some(fate);
        }
    }
    panic!("this machine is too busy for timers of 2 ms");
}

#[test]
fn below_the_threshold_nothing_ever_passes_and_above_it_something_does() {
    let _alone = machine();
    for level in LEVELS {
        let Some(Fate {
            turns, punished, ..
        }) = run_below_the_threshold("split", level)
        else {
            return;
        };
        assert_eq!((turns, punished.windows), (0, 0), "{level}");
        assert!(punished.traps > 1, "{level}: {punished:?}");
        assert_eq!(punished.in_vain, punished.traps, "{level}");

        let fate = run("split", level, "6.6,hz=250", 60 * MS, 3).unwrap();
        let Fate {
            turns, punished, ..
        } = fate.unwrap();
        assert!(turns > 100, "{level}: {turns}");
        assert!(punished.windows >= 2, "{level}: {punished:?}");
    }
}

#[test]
fn a_guest_that_does_not_split_is_left_alone() {
    let _alone = machine();
    for level in LEVELS {
        // Misaligned, but within a line: at CPL3 the trap is not for this, and it is let past.
        for name in ["aligned", "split@12", "none"] {
            let Some(result) = run(name, level, "6.6,hz=250", 50 * MS, 2) else {
                return;
            };
            let Fate {
                turns, punished, ..
            } = result.unwrap();
            assert!(turns > 1, "{name} at {level}: {turns}");
            assert_eq!(punished, Punishments::default(), "{name} at {level}");
        }
    }
}

#[test]
fn every_split_lock_is_one() {
    let _alone = machine();
    for name in ["split", "split@57", "page", "xchg"] {
        for level in LEVELS {
            let Some(fate) = run_below_the_threshold(name, level) else {
                return;
            };
            assert_eq!(fate.turns, 0, "{name} at {level}");
            assert!(fate.punished.traps > 0, "{name} at {level}");
        }
    }
}

#[test]
fn without_mitigation_every_kick_sees_progress() {
    let _alone = machine();
    let Some(result) = run("split", Level::Cpl3, "6.12,hz=250,mitigate=0", MS, 30) else {
        return;
    };
    let Fate {
        turns, punished, ..
    } = result.unwrap();
    assert!(turns > 100, "{turns}");
    assert_eq!(punished.in_vain, 0);
}

#[test]
fn kernels_that_do_not_make_threads_sleep_let_the_guest_go_on() {
    let _alone = machine();
    for kernel in ["5.10", "6.6,mode=off", "5.4"] {
        let Some(result) = run("split", Level::Cpl3, kernel, 5 * MS, 2) else {
            return;
        };
        let Fate {
            turns, punished, ..
        } = result.unwrap();
        assert!(turns > 100, "{kernel}: {turns}");
        assert!(punished.traps <= 1, "{kernel}: {punished:?}");
    }
}

#[test]
fn a_kernel_that_kills_says_so() {
    let _alone = machine();
    let Some(result) = run("split", Level::Cpl3, "6.6,mode=fatal", 500 * MS, 1) else {
        return;
    };
    let error = result.err().unwrap().to_string();
    assert!(error.contains("SIGBUS"), "{error}");
}

#[test]
fn a_kick_ends_a_punishment_and_a_reboot_forgets_it() {
    let _alone = machine();
    let Some(kvm) = kvm() else { return };
    let guest = guest("split");
    let kernel = Arc::new(Kernel::new("6.6,hz=100".parse().unwrap(), 1));
    let mut vm = Vm::new(&kvm).unwrap();
    let Vcpu { mut fd, slot } = vm.add_vcpu_that_checks_alignment(&guest).unwrap();
    let mut vcpu =
        HostedVcpu::emulated(&mut fd, &slot, &guest, Level::Cpl3, Arc::clone(&kernel)).unwrap();
    vcpu.kicker().kick().unwrap();
    let far = MonotonicTime::now() + Duration::from_secs(3600);
    assert_eq!(vcpu.run_until(far).unwrap(), Ended::Kicked);
    kernel.reboot(Nanos::ZERO);
    assert_eq!(kernel.punishments(0), Punishments::default());
    vcpu.reset().unwrap();
    let kicker = vcpu.kicker();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while kernel.punishments(0).traps == 0 {
                std::thread::yield_now();
            }
            kicker.kick().unwrap();
        });
        assert_eq!(vcpu.run_until(far).unwrap(), Ended::Kicked);
    });
    assert!(kernel.punishments(0).in_vain <= 1);
    assert_eq!(kernel.punishments(0).traps, 1);
}

#[test]
fn two_vcpus_share_the_semaphore() {
    let _alone = machine();
    let Some(kvm) = kvm().filter(|_| !detects_split_locks()) else {
        return;
    };
    let guest = guest("split");
    let kernel = Arc::new(Kernel::new("6.6,hz=250".parse().unwrap(), 2));
    let mut vm = Vm::new(&kvm).unwrap();
    let vcpus = [0, 1].map(|_| vm.add_vcpu_that_checks_alignment(&guest).unwrap());
    let end = MonotonicTime::now() + Duration::from_millis(300);
    std::thread::scope(|scope| {
        for Vcpu { mut fd, slot } in vcpus {
            let (kernel, guest) = (Arc::clone(&kernel), &guest);
            scope.spawn(move || {
                let mut vcpu =
                    HostedVcpu::emulated(&mut fd, &slot, guest, Level::Cpl3, kernel).unwrap();
                assert_eq!(vcpu.run_until(end).unwrap(), Ended::Expired);
                assert!(slot.turns(vcpu.fd()).unwrap() > 0);
            });
        }
    });
    // A window is at least two ticks long, and two never overlap.
    let windows: u64 = [0, 1]
        .map(|vcpu| kernel.punishments(vcpu).windows)
        .iter()
        .sum();
    assert!((4..=300 / 8 + 2).contains(&windows), "{windows}");
}

#[test]
fn a_flat_binary_has_no_trap_at_cpl0() {
    let _alone = machine();
    let Some(kvm) = kvm() else { return };
    let guest = file_guest(&[0xeb, 0xfe], Default::default());
    let mut vm = Vm::new(&kvm).unwrap();
    let Vcpu { mut fd, slot } = vm.add_vcpu(&guest, Level::Cpl0).unwrap();
    let kernel = Arc::new(Kernel::new("6.6".parse().unwrap(), 1));
    let error = HostedVcpu::emulated(&mut fd, &slot, &guest, Level::Cpl0, kernel).unwrap_err();
    assert!(error.to_string().contains("cpl3"), "{error}");
}
