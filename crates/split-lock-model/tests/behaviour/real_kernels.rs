//! The model against real kernels: how many of 20 traps got past the sleep when a one-shot signal
//! followed after so many milliseconds. Counted on Debian's 6.1.192 and 6.12.117 at 250 Hz, with
//! phases of the ticks that were spread but not chosen.

use split_lock_model::kernel::Profile;
use split_lock_model::sim::{Budget, Scenario, TaskSpec, Until, simulate};
use split_lock_model::time::Nanos;

use crate::{guest, profile};

fn passed(kernel: &Profile, ms: u64) -> i32 {
    let run = |phase: u64| {
        let budget = Budget::Relative(Nanos::from_millis(ms));
        let mut scenario = Scenario::single(TaskSpec::vcpu(guest(), budget));
        scenario.until = Until::Runs(1);
        scenario.tick_phase = Nanos(phase * 200_000 + 100_000);
        simulate(kernel, &scenario).expect("runs").tasks[0]
            .traps
            .window
            > 0
    };
    (0..20).map(|phase| i32::from(run(phase))).sum()
}

#[test]
fn as_many_traps_get_past_the_sleep_as_on_real_kernels() {
    for (kernel, counted) in [
        ("6.1.192-1-amd64", [0, 0, 0, 0, 0, 4, 11, 14, 20]),
        ("6.12.117", [0, 5, 11, 14, 20, 20, 20, 20, 20]),
    ] {
        let kernel = profile(kernel);
        for (ms, counted) in (8..=16).zip(counted) {
            let modelled = passed(&kernel, ms);
            assert!(
                (modelled - counted).abs() <= 1,
                "{kernel} {ms} ms: {modelled} not {counted}"
            );
            let certain = counted == 0 || counted == 20;
            assert!(
                !certain || modelled == counted,
                "{kernel} {ms} ms: {modelled}"
            );
        }
    }
}
