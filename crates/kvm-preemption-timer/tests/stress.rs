//! Much of everything: nothing comes early, nothing is lost, nothing is left behind. Takes a minute or
//! two:
//!
//! `cargo test --release -p kvm-preemption-timer --test stress -- --ignored --nocapture`

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{GIVE_UP, SPIN, both_configs, far_deadline, interruption, kvm_or_skip, one_vcpu, vm};
use kvm_preemption_timer::{
    Config, Deadline, Interruption, KickReasons, MonotonicTime, Signal, VcpuBinding,
};
use split_lock_model::random::SplitMix64;

/// The ends of runs, by what ended them.
#[derive(Debug, Default)]
struct Ends {
    expired: u64,
    kicked: u64,
    other: u64,
    worst_overshoot: Duration,
}

impl Ends {
    fn count(&mut self, end: Interruption, deadline: Deadline) {
        match end {
            Interruption::Expired(expiry) => {
                let Deadline::Wall(at) = deadline else {
                    panic!("a run without a deadline has expired");
                };
                assert!(MonotonicTime::now() >= at + expiry.overshoot, "early");
                assert_eq!(expiry.deadline, deadline);
                self.expired += 1;
                self.worst_overshoot = self.worst_overshoot.max(expiry.overshoot);
            }
            Interruption::Kicked(_) => self.kicked += 1,
            _ => self.other += 1,
        }
    }
}

/// Each kicker waits for its own reason to be answered before it kicks again, so a kick that is lost
/// is never answered.
fn kicks_from_eight_threads(config: Config) -> Ends {
    const THREADS: u32 = 8;
    const KICKS: u64 = 3000;
    let (_vm, mut vcpu) = one_vcpu(SPIN).unwrap();
    let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
    let answers: [AtomicU64; THREADS as usize] = Default::default();
    let mut ends = Ends::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (kicker, answered) = (binding.kicker(), &answers[thread as usize]);
            scope.spawn(move || {
                let mut random = SplitMix64::new(u64::from(thread));
                for kick in 0..KICKS {
                    std::thread::sleep(Duration::from_nanos(random.below(20_000)));
                    kicker.kick_for(KickReasons::number(thread)).unwrap();
                    let start = Instant::now();
                    while answered.load(Ordering::SeqCst) <= kick {
                        assert!(start.elapsed() < GIVE_UP, "a kick was lost");
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut random = SplitMix64::new(99);
        let mut unanswered = KICKS * u64::from(THREADS);
        while unanswered > 0 {
            let deadline = Deadline::after(Duration::from_nanos(random.below(100_000)));
            let end = interruption(&mut binding, &mut vcpu, deadline);
            ends.count(end, deadline);
            if let Interruption::Kicked(reasons) = end {
                for thread in (0..THREADS).filter(|&n| reasons.contains(KickReasons::number(n))) {
                    answers[thread as usize].fetch_add(1, Ordering::SeqCst);
                    unanswered -= 1;
                }
            }
        }
    });
    ends
}

fn random_deadlines(config: Config, count: u64) -> Ends {
    let (_vm, mut vcpu) = one_vcpu(SPIN).unwrap();
    let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
    let mut random = SplitMix64::new(7);
    let mut ends = Ends::default();
    let start = MonotonicTime::now();
    while ends.expired < count {
        // One in sixteen has passed already, and most come while the guest is being entered.
        let now = MonotonicTime::now();
        let deadline = match random.below(16) {
            0 => MonotonicTime::from_nanos(now.as_nanos() - random.below(1_000_000)),
            _ => now + Duration::from_nanos(random.below(40_000)),
        };
        let deadline = Deadline::Wall(deadline);
        loop {
            let end = interruption(&mut binding, &mut vcpu, deadline);
            ends.count(end, deadline);
            if matches!(end, Interruption::Expired(_)) {
                break;
            }
        }
    }
    let elapsed = MonotonicTime::now().saturating_since(start);
    println!("  {count} random deadlines in {elapsed:.1?}");
    ends
}

fn sixty_four_threads(config: Config) -> Ends {
    const THREADS: u64 = 64;
    const QUANTA: u64 = 100;
    let (_vm, vcpus) = vm(SPIN, THREADS).unwrap();
    let mut all = Ends::default();
    std::thread::scope(|scope| {
        let run = |mut vcpu: kvm_ioctls::VcpuFd| {
            let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
            let mut ends = Ends::default();
            while ends.expired < QUANTA {
                let deadline = Deadline::after(Duration::from_millis(1));
                let end = interruption(&mut binding, &mut vcpu, deadline);
                ends.count(end, deadline);
            }
            binding.kicker().kick().unwrap();
            while ends.kicked == 0 {
                let end = interruption(&mut binding, &mut vcpu, far_deadline());
                ends.count(end, Deadline::Never);
            }
            ends
        };
        let threads: Vec<_> = vcpus
            .into_iter()
            .map(|vcpu| scope.spawn(move || run(vcpu)))
            .collect();
        for thread in threads {
            let ends = thread.join().unwrap();
            all.expired += ends.expired;
            all.kicked += ends.kicked;
            all.other += ends.other;
            all.worst_overshoot = all.worst_overshoot.max(ends.worst_overshoot);
        }
    });
    all
}

#[test]
#[ignore = "takes a minute or two"]
fn nothing_is_early_lost_or_left_behind() {
    if kvm_or_skip().is_none() {
        return;
    }
    let before = common::left_behind();
    for (config, offset) in both_configs().into_iter().zip([8, 9]) {
        println!("{:?}", config.mechanism);
        println!(
            "  24000 kicks from 8 threads: {:?}",
            kicks_from_eight_threads(config)
        );
        println!("  {:?}", random_deadlines(config, 200_000));
        println!("  64 threads at 1 ms: {:?}", sixty_four_threads(config));
        let realtime = config.signal(Signal::realtime(offset).unwrap());
        println!(
            "  24000 kicks by a real-time signal: {:?}",
            kicks_from_eight_threads(realtime)
        );
    }
    assert_eq!(common::left_behind(), before);
}
