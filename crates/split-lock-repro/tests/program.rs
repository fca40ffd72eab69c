//! A program with an interval timer, in a process of its own: on this host as it is, and on emulated ones.

use std::fs;
use std::time::{Duration, Instant};

use split_lock_repro::program::{Plan, ProgramError, Timer, run};
use split_lock_repro::results::Sample;
use split_lock_repro::sweep::{Finished, Host, Stop};

fn plan(timer: Timer, period_ms: u64, host: &str) -> Plan {
    Plan {
        timers: vec![timer],
        periods: vec![Duration::from_millis(period_ms)],
        length: Duration::from_millis(80),
        repeats: 1,
        host: match host {
            "native" => Host::Native,
            kernel => Host::Emulated(kernel.parse().unwrap()),
        },
        settle: Duration::ZERO,
        seed: 1,
    }
}

fn measure(plan: &Plan) -> Result<Vec<Sample>, ProgramError> {
    let mut samples = vec![];
    let finished = run(plan, &Stop::new(), &mut |sample| samples.push(sample))?;
    assert_eq!(finished, Finished::Complete);
    Ok(samples)
}

/// The only sample of the plan, unless no kernel can be emulated here.
fn measure_one(plan: &Plan) -> Option<Sample> {
    match measure(plan) {
        Err(error @ ProgramError::NoTrap) => {
            eprintln!("skipped: {error}");
            None
        }
        samples => Some(samples.unwrap().remove(0)),
    }
}

/// Whether some run is as it should be: on a busy machine not every one has to be.
fn eventually(plan: &Plan, is_right: impl Fn(&Sample) -> bool) {
    let mut seen = vec![];
    for _ in 0..20 {
        let Some(sample) = measure_one(plan) else {
            return;
        };
        if is_right(&sample) {
            return;
        }
        seen.push(sample);
    }
    panic!("not once: {seen:#?}");
}

#[test]
fn short_timer_on_time_lets_no_split_lock_complete() {
    for timer in [Timer::ItimerReal, Timer::Monotonic] {
        eventually(&plan(timer, 2, "6.12,hz=250"), |sample| {
            // It slept, and its handler ran again and again.
            sample.turns == 0 && sample.exits > 0 && sample.cpu_ns < sample.elapsed_ns / 2
        });
    }
}

#[test]
fn short_timer_on_cpu_time_stands_still_while_the_thread_sleeps() {
    for timer in [Timer::ThreadCpu, Timer::ProcessCpu] {
        eventually(&plan(timer, 2, "6.12,hz=250"), |sample| {
            sample.turns > 0 && sample.exits > 0 && sample.cpu_ns < sample.elapsed_ns
        });
    }
}

#[test]
fn program_without_a_timer_gets_its_windows() {
    eventually(&plan(Timer::None, 1, "6.12,hz=250"), |sample| {
        let share = sample.cpu_ns as f64 / sample.elapsed_ns as f64;
        sample.turns > 0 && sample.exits == 0 && share < 0.8
    });
}

#[test]
fn nothing_holds_up_a_program_where_nothing_is_detected() {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let detects = cpuinfo.contains("split_lock_detect");
    for host in ["native", "6.12,hz=250,mode=off"] {
        if host == "native" && detects {
            eprintln!("skipped: this host detects split locks");
            continue;
        }
        eventually(&plan(Timer::ItimerReal, 2, host), |sample| {
            sample.turns > 0 && sample.exits > 0
        });
    }
}

#[test]
fn sample_names_the_timer_and_how_it_was_obtained() {
    let Some(sample) = measure_one(&plan(Timer::ItimerReal, 2, "6.12,hz=250")) else {
        return;
    };
    assert_eq!(sample.guest, "program:itimer-real");
    assert_eq!(sample.timeout_ns, 2_000_000);
    assert!(
        sample.series.ends_with("trap emulated: 6.12,hz=250)"),
        "{}",
        sample.series
    );
    assert!(sample.elapsed_ns >= 80_000_000);
}

#[test]
fn kernel_that_sends_sigbus_is_an_error_that_names_it() {
    let error = measure(&plan(Timer::None, 1, "6.12,mode=fatal")).unwrap_err();
    if let ProgramError::NoTrap = error {
        eprintln!("skipped: {error}");
        return;
    }
    assert!(matches!(error, ProgramError::Sigbus { .. }), "{error}");
    assert!(error.to_string().contains("6.12"), "{error}");
}

#[test]
fn stop_ends_a_long_run_at_once() {
    let long = Plan {
        length: Duration::from_secs(600),
        ..plan(Timer::ItimerReal, 2, "6.12,hz=250")
    };
    let stop = Stop::new();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            stop.request();
        });
        let finished = run(&long, &stop, &mut |_| panic!("a sample")).unwrap();
        assert_eq!(finished, Finished::Stopped);
    });
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn plan_that_cannot_be_carried_out_says_why() {
    let message = |change: fn(&mut Plan)| {
        let mut plan = plan(Timer::ItimerReal, 2, "native");
        change(&mut plan);
        plan.check().unwrap_err().to_string()
    };
    assert!(message(|plan| plan.timers.clear()).contains("timers"));
    assert!(message(|plan| plan.periods.clear()).contains("timeouts"));
    assert!(message(|plan| plan.repeats = 0).contains("runs"));
    assert!(message(|plan| plan.length = Duration::ZERO).contains("zero"));
    assert!(message(|plan| plan.periods[0] = Duration::ZERO).contains("zero"));
    assert!(message(|plan| plan.length = Duration::from_millis(1)).contains("longer"));
    assert!(message(|plan| plan.length = Duration::MAX).contains("too long"));
    let mut without = plan(Timer::None, 200, "native");
    without.length = Duration::from_millis(1);
    assert!(without.check().is_ok());
}

#[test]
fn setitimer_takes_no_part_of_a_microsecond() {
    let check = |timer, period| {
        let plan = Plan {
            periods: vec![Duration::from_millis(1), period],
            length: Duration::from_secs(2),
            ..plan(timer, 1, "native")
        };
        plan.check()
    };
    for period in [500, 1001, 1_000_000_001].map(Duration::from_nanos) {
        let error = check(Timer::ItimerReal, period).unwrap_err();
        let named = matches!(error, ProgramError::PartOfMicrosecond { period: it } if it == period);
        assert!(named, "{error}");
        for other in [Timer::Monotonic, Timer::ProcessCpu, Timer::ThreadCpu] {
            assert!(check(other, period).is_ok(), "{other}");
        }
    }
    assert!(check(Timer::ItimerReal, Duration::from_micros(1)).is_ok());
}
