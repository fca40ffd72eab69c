//! Sweeps as they could have been measured, for looking at pictures of them.

use super::Figure;
use split_lock_repro::results::{HostFacts, Outcome, Provenance, Sample, Sweep};

pub(crate) const NATIVE: &str = "measured (native)";
pub(crate) const EMULATED_CPU: &str = "measured (CPU emulated)";

/// Noise that is the same every time: about ±`percent`.
fn noisy(value: f64, percent: f64, seed: u64) -> u64 {
    let mut bits = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    bits ^= bits >> 29;
    bits = bits.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits ^= bits >> 32;
    let share = (bits >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0;
    (value * (1.0 + share * percent / 100.0)) as u64
}

fn host_of(series: &str) -> &str {
    let inside = series
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    let inside = inside.map_or("native", |(inside, _)| inside);
    inside.trim_start_matches("trap emulated: ")
}

pub(crate) fn sample(series: &str, guest: &str, timeout_ns: u64, run: u32, turns: u64) -> Sample {
    Sample {
        series: series.into(),
        guest: guest.into(),
        host: host_of(series).into(),
        vcpu: 0,
        timeout_ns,
        run,
        turns,
        elapsed_ns: timeout_ns + 20_000 + u64::from(run) * 1000,
        cpu_ns: timeout_ns,
        exits: 0,
        outcome: Outcome::Expired,
    }
}

/// A curve over `1..=to` ms whose turns are `turns(ms)`, ±3 %.
pub(crate) fn curve(
    series: &str,
    guest: &str,
    to_ms: u64,
    turns: impl Fn(f64) -> f64,
) -> Vec<Sample> {
    let runs = (1..=to_ms).flat_map(|ms| (0..10).map(move |run| (ms, run)));
    runs.map(|(ms, run)| {
        let seed = ms * 1000 + u64::from(run) + guest.len() as u64 * 77_777;
        let turns = noisy(turns(ms as f64), 3.0, seed);
        sample(series, guest, ms * 1_000_000, run, turns)
    })
    .collect()
}

pub(crate) fn sweep(samples: Vec<Sample>) -> Sweep {
    let planned_samples = samples.len() as u64;
    Sweep {
        provenance: Some(Provenance {
            program: "splitlock 0.1.0".into(),
            command: ["splitlock", "reproduce", "--out", "my report"]
                .map(String::from)
                .to_vec(),
            seed: 7,
            started_utc: "2026-11-22T10:00:00Z".into(),
            planned_samples,
            host: HostFacts {
                cpu: "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz".into(),
                kernel: "6.12.48+deb13-cloud-amd64".into(),
                online_cpus: 2,
                detection: "split-lock detection: not supported by this CPU".into(),
                virtual_machine: true,
            },
            work_turns_per_second: [].into(),
        }),
        samples,
    }
}

/// What the main job measures today.
pub(crate) fn native() -> Sweep {
    let mut samples = curve(NATIVE, "split", 49, |ms| ms * 900.0);
    samples.extend(curve(NATIVE, "aligned", 49, |ms| ms * 400_000.0));
    sweep(samples)
}

/// What it will measure with `warn`: nothing below a threshold, one turn per 12 ms above.
pub(crate) fn with_warn() -> Sweep {
    let mut all = native();
    let emulated = "measured (trap emulated: 6.12,hz=250)";
    let slow = |ms: f64| (ms / 12.0).floor() * 1800.0;
    all.samples.extend(curve(emulated, "split", 49, slow));
    let modelled = "modelled (6.12,hz=1000)";
    let model = |ms: f64| (ms / 11.0).floor() * 1700.0;
    all.samples.extend(curve(modelled, "split", 49, model));
    all
}

pub(crate) fn offsets() -> Sweep {
    let samples = (0..64).flat_map(|offset| {
        let rate = if offset < 57 { 400_000.0 } else { 900.0 };
        curve(NATIVE, &format!("split@{offset}"), 5, move |ms| ms * rate)
    });
    sweep(samples.collect())
}

pub(crate) fn bystander() -> Sweep {
    let beside = format!("{NATIVE}; beside 1 x split");
    let guests = [
        ("aligned", 400_000.0, 0.42),
        ("none", 900_000.0, 0.97),
        ("split", 900.0, 0.51),
    ];
    let samples = guests.into_iter().flat_map(|(guest, rate, left)| {
        let alone = curve(NATIVE, guest, 3, move |ms| ms * rate);
        let slowed = curve(&beside, guest, 3, move |ms| ms * rate * left);
        alone.into_iter().chain(slowed)
    });
    sweep(samples.collect())
}

/// More curves than anyone should draw, with names that nobody should give.
pub(crate) fn crowded() -> Sweep {
    let names = [
        "split",
        "aligned",
        "page",
        "xchg",
        "cmpxchg16b",
        "none",
        "<script>alert(1)</script>&\"'",
        "a-guest-with-a-name-that-is-longer-than-anybody-needs-and-has-no-place-to-break-it-in-two-at-all-so-there-really",
    ];
    let samples = names.into_iter().zip(1..).flat_map(|(name, place)| {
        let rate = 300.0 * f64::from(place * place * place);
        curve(NATIVE, name, 30, move |ms| ms * rate)
    });
    let mut sweep = sweep(samples.collect());
    let from = sweep.provenance.as_mut().unwrap();
    from.planned_samples += 100;
    from.host.cpu = "An Extraordinarily Long Processor Name ".repeat(6);
    from.host.detection = "split-lock detection: on, mode warn (kernel command line \
        split_lock_detect=warn), mitigation on (sysctl kernel.split_lock_mitigate=1): a thread that \
        splits sleeps 10 ms and then waits for a system-wide semaphore"
        .into();
    sweep
}

/// A bystander that nearly stands still, beside neighbours whose names need room.
pub(crate) fn neighbours() -> Sweep {
    let mut samples = curve(NATIVE, "none", 2, |ms| ms * 900_000.0);
    for (neighbours, left) in [
        ("1 x split", 0.4),
        (
            "2 x split, 1 x a-guest-from-a-file-with-a-long-name.bin",
            0.0007,
        ),
        ("7 x page", 0.0),
    ] {
        let series = format!("{NATIVE}; beside {neighbours}");
        samples.extend(curve(&series, "none", 2, move |ms| ms * 900_000.0 * left));
    }
    sweep(samples)
}

/// The largest and smallest numbers that a table can hold.
pub(crate) fn extreme() -> Sweep {
    let samples = [1, 1_000, u64::MAX / 2].into_iter().flat_map(|timeout_ns| {
        let turns = [("none", u64::MAX), ("split", 1), ("page", 0)];
        turns.map(|(guest, turns)| sample(NATIVE, guest, timeout_ns, 0, turns))
    });
    sweep(samples.collect())
}

/// A single point.
pub(crate) fn lonely() -> Sweep {
    sweep(vec![sample(NATIVE, "split", 250_000, 0, 7)])
}

/// One of every kind, and of every oddity.
pub(crate) fn every_figure() -> Vec<(&'static str, Figure)> {
    let progress = |sweep| Figure::progress(&[sweep]).unwrap();
    let beside = |sweep| Figure::bystander(&sweep).unwrap();
    vec![
        ("native", progress(native())),
        ("warn", progress(with_warn())),
        ("crowded", progress(crowded())),
        ("lonely", progress(lonely())),
        ("extreme", progress(extreme())),
        ("neighbours", beside(neighbours())),
        ("offsets", Figure::offsets(&offsets()).unwrap()),
        ("bystander", beside(bystander())),
    ]
}
