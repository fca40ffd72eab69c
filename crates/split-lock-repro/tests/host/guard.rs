//! The guard on real KVM: guests that the kernel's punishment would stop for ever get on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use kvm_ioctls::Kvm;
use kvm_preemption_timer::MonotonicTime;
use split_lock_assist::guard::{Config, Reaction, Stall, Statistics};
use split_lock_assist::kvm::BreakpointSupport;
use split_lock_assist::pause::{Pause, PauseGate};
use split_lock_model::kernel::Profile;
use split_lock_repro::guest::{BuiltIn, Guest, Level};
use split_lock_repro::host::{Ended, GuardedVcpu, HostedVcpu, Kernel, Punishments, grace};
use split_lock_repro::vm::Vcpu;

use crate::{LEVELS, emulated_host, guest, undetecting};

const MS: Duration = Duration::from_millis(1);
const KERNEL: &str = "6.12,hz=250";

/// What became of a vCPU.
#[derive(Debug)]
struct RunResult {
    turns: u64,
    punished: Punishments,
    guard: Statistics,
    stalls: Vec<Stall>,
    /// It stopped behind the split lock and before the count.
    is_between: bool,
    /// What all vCPUs together have counted to in memory, if that is what they do.
    shared_count: u64,
}

/// Runs a guest on so many vCPUs, each for consecutive runs of `timeout`, with a guard.
fn run<const VCPUS: usize>(
    kvm: &Kvm,
    guest: (&str, Level),
    reaction: Reaction,
    runs: (Duration, u32),
) -> [RunResult; VCPUS] {
    let support = BreakpointSupport::probe(kvm).unwrap();
    run_supported(kvm, support, guest, reaction, runs)
}

/// The same where there are no more breakpoints than these.
fn run_supported<const VCPUS: usize>(
    kvm: &Kvm,
    support: BreakpointSupport,
    (name, level): (&str, Level),
    reaction: Reaction,
    (timeout, runs): (Duration, u32),
) -> [RunResult; VCPUS] {
    let built_in: BuiltIn = name.parse().unwrap();
    let guest = &Guest::from(built_in);
    let (kernel, vcpus) = emulated_host(kvm, guest, level, KERNEL);
    let (kernel, gate, together) = (&kernel, &PauseGate::new(), &Barrier::new(VCPUS));
    let counter = built_in.operand().address;
    let run_one = move |Vcpu { mut fd, slot }| {
        let hosted = HostedVcpu::emulated(&mut fd, &slot, guest, level, Arc::clone(kernel));
        let config = Some(react(reaction));
        let mut vcpu = GuardedVcpu::new(hosted.unwrap(), config, gate, support).unwrap();
        for _ in 0..runs {
            let deadline = MonotonicTime::now() + timeout;
            while vcpu.run_until(deadline).unwrap() == Ended::Kicked {}
        }
        together.wait();
        let fd = vcpu.vcpu().fd();
        let registers = slot.guest_registers(fd).unwrap();
        RunResult {
            turns: slot.turns(fd).unwrap(),
            punished: kernel.punishments(slot.vcpu() as u32),
            guard: *vcpu.statistics().unwrap(),
            is_between: is_behind_split_lock(guest, registers.rip),
            shared_count: slot.read(counter).map_or(0, u64::from_le_bytes),
            stalls: vcpu.take_new_stalls(),
        }
    };
    thread::scope(|scope| {
        let threads = vcpus.map(|vcpu| scope.spawn(move || run_one(vcpu)));
        threads.map(|thread| thread.join().unwrap())
    })
}

/// In a loop of work, if any, the split lock, a count and a jump.
fn is_behind_split_lock(guest: &Guest, rip: u64) -> bool {
    let split_lock = guest
        .code()
        .iter()
        .position(|&byte| byte == 0xf0 || byte == 0x87);
    let after = guest.load_address() + split_lock.unwrap() as u64 + 1;
    let jump = guest.load_address() + guest.code().len() as u64 - 2;
    (after..jump).contains(&rip)
}

fn react(reaction: Reaction) -> Config {
    Config::new(reaction).with_grace(grace(&KERNEL.parse::<Profile>().unwrap(), 1))
}

#[test]
fn below_the_threshold_every_turn_is_emulated_once() {
    let Some(host) = undetecting() else { return };
    for level in LEVELS {
        for name in ["split", "page", "xchg", "sparse:100us"] {
            let [result] = run(&host.kvm, (name, level), Reaction::Emulate, (MS, 150));
            assert!(result.turns > 10, "{name} at {level}: {result:?}");
            if result.punished.windows == 0 {
                let emulated =
                    result.guard.emulated_at_stalls + result.guard.emulated_at_breakpoints;
                let completed = result.turns + u64::from(result.is_between);
                assert_eq!(emulated, completed, "{name} at {level}: {result:?}");
            }
            assert_eq!(result.guard.left_to_cpu, 0, "{name} at {level}: {result:?}");
        }
    }
}

#[test]
fn where_breakpoints_reach_a_split_lock_stalls_once_and_never_again() {
    let Some(host) = undetecting() else { return };
    let guest = ("split", Level::Cpl0);
    let [result] = run(&host.kvm, guest, Reaction::Emulate, (MS, 150));
    assert!(result.guard.emulated_at_breakpoints > 10, "{result:?}");
    // It takes two runs to see that a vCPU does not move. After that nothing traps; on a busy machine a
    // run can still end there with hardly any CPU time.
    assert!(result.punished.traps <= 4, "{result:?}");
    let at_stalls = result.guard.emulated_at_stalls;
    assert!(
        (1..result.guard.emulated_at_breakpoints / 4).contains(&at_stalls),
        "{result:?}"
    );
    assert_eq!(result.guard.misses, 0, "{result:?}");
}

#[test]
fn where_breakpoints_do_not_reach_every_split_lock_stalls() {
    let Some(host) = undetecting() else { return };
    let guest = ("split", Level::Cpl0);
    let [result] = run_supported(
        &host.kvm,
        BreakpointSupport::NONE,
        guest,
        Reaction::Emulate,
        (MS, 150),
    );
    assert!(result.guard.emulated_at_stalls > 10, "{result:?}");
    assert_eq!(result.guard.emulated_at_breakpoints, 0, "{result:?}");
}

#[test]
fn reporting_changes_nothing_and_names_each_instruction_once() {
    let Some(host) = undetecting() else { return };
    let guest = ("split", Level::Cpl3);
    let [result] = run(&host.kvm, guest, Reaction::Report, (2 * MS, 30));
    assert!(
        result.turns == 0 || result.punished.windows > 0,
        "{result:?}"
    );
    assert!(result.guard.stalls > 1, "{result:?}");
    let [stall] = &result.stalls[..] else {
        panic!("{result:?}")
    };
    let text = stall.instruction.to_string();
    assert!(
        text.contains("lock bts") && text.contains("cache line"),
        "{text}"
    );
}

#[test]
fn grace_lets_the_kernel_finish_its_punishment() {
    let Some(host) = undetecting() else { return };
    let guest = ("split", Level::Cpl3);
    let [result] = run(&host.kvm, guest, Reaction::Grace, (MS, 60));
    assert!(
        result.guard.graces > 0 && result.punished.windows > 0,
        "{result:?}"
    );
    assert!(result.turns > 100, "{result:?}");
    assert_eq!(result.guard.emulated_at_stalls, 0, "{result:?}");
}

#[test]
fn left_to_itself_the_guard_gets_a_guest_on() {
    let Some(host) = undetecting() else { return };
    for level in LEVELS {
        let [result] = run(&host.kvm, ("split", level), Reaction::Auto, (MS, 300));
        assert!(result.turns > 10, "{level}: {result:?}");
    }
}

#[test]
fn two_vcpus_that_count_on_one_word_lose_nothing() {
    let Some(host) = undetecting() else { return };
    for level in LEVELS {
        let results: [RunResult; 2] =
            run(&host.kvm, ("contend", level), Reaction::Emulate, (MS, 300));
        let counted: u64 = results
            .iter()
            .map(|f| f.turns + u64::from(f.is_between))
            .sum();
        for result in &results {
            assert!(result.turns > 10, "{level}: {result:?}");
            assert_eq!(result.shared_count, counted, "{level}: {results:?}");
        }
    }
}

/// A guarded vCPU with a guest that splits, its kernel, and its VM's gate, if that can be tried here.
fn with_guarded_vcpu(config: Config, act: impl FnOnce(&mut GuardedVcpu<'_>, &Kernel, &PauseGate)) {
    let Some(host) = undetecting() else { return };
    let (guest, level, gate) = (guest("split"), Level::Cpl3, PauseGate::new());
    let (kernel, [Vcpu { mut fd, slot }]) = emulated_host(&host.kvm, &guest, level, "6.6,hz=100");
    let hosted = HostedVcpu::emulated(&mut fd, &slot, &guest, level, Arc::clone(&kernel));
    let support = BreakpointSupport::probe(&host.kvm).unwrap();
    let mut vcpu = GuardedVcpu::new(hosted.unwrap(), Some(config), &gate, support).unwrap();
    act(&mut vcpu, &kernel, &gate);
}

/// The kernel makes it sleep inside KVM_RUN, and that is where the gate looks for it.
#[test]
fn a_pause_ends_the_punishment_of_the_others() {
    with_guarded_vcpu(react(Reaction::Report), |vcpu, kernel, gate| {
        thread::scope(|scope| {
            scope.spawn(|| {
                while kernel.punishments(0).traps == 0 {
                    thread::yield_now();
                }
                drop(gate.pass(|| {}).pause_others());
            });
            let deadline = MonotonicTime::now() + 500 * MS;
            assert_eq!(vcpu.run_until(deadline).unwrap(), Ended::Kicked);
        });
    });
}

#[test]
fn kicks_do_not_hide_that_a_vcpu_is_held_up() {
    const RUN: Duration = Duration::from_millis(100);
    let config = react(Reaction::Emulate).with_shortest_probe(MS);
    with_guarded_vcpu(config, |vcpu, _, _| {
        let kicker = vcpu.vcpu().kicker();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    kicker.kick().unwrap();
                    thread::sleep(MS / 5);
                }
            });
            for _ in 0..4 {
                let deadline = MonotonicTime::now() + RUN;
                while vcpu.run_until(deadline).unwrap() == Ended::Kicked {}
            }
            is_over.store(true, Ordering::SeqCst);
        });
        // Two of the four runs at most are needed to become suspicious.
        let emulated = vcpu.statistics().unwrap().emulated_at_stalls;
        assert!(emulated > 8, "{emulated}");
    });
}
