//! How many runs are not ended by the signal that should end them, when budgets are so short that
//! the signal often comes before the guest is entered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvm_preemption_timer::Mechanism;
use split_lock_model::random::SplitMix64;

use crate::alternatives::EmptyHandler;
use crate::common::{SPIN, vm};
use crate::progress;
use crate::scheme::{RunEnd, Scheme};
use crate::sys;
use crate::this_crate::ThisCrate;

const MAX_BUDGET_NS: u64 = 50_000;

/// A run of at most 50 us that has not ended after this long has lost its signal for good.
const HUNG: Duration = Duration::from_secs(10);

/// Interleaves single runs of all schemes, in turn.
pub(crate) fn compare(runs: u64) {
    let (_vm, mut vcpus) = vm(SPIN, 3).expect("KVM was there a moment ago");
    let mut next = || vcpus.pop().expect("one vCPU for each scheme");
    let mut schemes: [Box<dyn Scheme>; 3] = [
        Box::new(ThisCrate::new(next(), Mechanism::MaskedSignal, 1)),
        Box::new(ThisCrate::new(next(), Mechanism::ImmediateExit, 2)),
        Box::new(EmptyHandler::new(next(), 5)),
    ];
    let mut lost = [0u64; 3];
    let progress = progress("lost kicks", runs);
    watched(|finished| {
        let mut random = SplitMix64::new(5);
        for run in 0..runs {
            for (scheme, lost) in schemes.iter_mut().zip(&mut lost) {
                let budget = Duration::from_nanos(random.below(MAX_BUDGET_NS));
                *lost += u64::from(is_lost(&mut **scheme, budget));
                finished.fetch_add(1, Ordering::Relaxed);
            }
            if run % 1000 == 0 {
                progress.set_position(run);
            }
        }
    });
    progress.finish_and_clear();
    println!(
        "\nLost kicks: runs of 0 to 50 us that their timer's signal did not end (one that is lost \
         for good would end the benchmark after {HUNG:?})"
    );
    for (scheme, lost) in schemes.iter().zip(lost) {
        let share = lost as f64 / runs as f64 * 100.0;
        println!("  {:32} {lost:>9} of {runs} ({share:.4} %)", scheme.name());
    }
}

/// This crate's runs only come back if they were ended by their signal, or else never: that is what
/// the watch is for. An empty handler that has run before KVM_RUN was interrupted by a second
/// signal has lost the first.
fn is_lost(scheme: &mut dyn Scheme, budget: Duration) -> bool {
    let before = sys::handled_signals();
    scheme.begin(budget);
    while matches!(scheme.enter(), RunEnd::Exit) {}
    scheme.end();
    sys::handled_signals() - before > 1
}

/// Aborts the process with a message if nothing is finished for too long.
fn watched(work: impl FnOnce(&AtomicU64)) {
    let finished = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut seen, mut since) = (0, Instant::now());
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                let now = finished.load(Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, Instant::now());
                } else if since.elapsed() > HUNG {
                    eprintln!("a run was not ended by its signal: lost after {now} runs");
                    std::process::abort();
                }
            }
        });
        work(&finished);
        done.store(true, Ordering::Relaxed);
    });
}
