//! Guests that work between their split locks.

use super::*;
use kvm_preemption_timer::{Deadline, Outcome, PreemptibleVcpu, ThreadCpuTime};
use split_lock_repro::vm::work_rate;

/// Times round the work loop for each turn.
fn work(vcpu: &Vcpu) -> u64 {
    vcpu.fd.get_regs().unwrap().rbx
}

#[test]
fn work_is_measured_out_once_for_each_level() {
    let Some(kvm) = kvm() else { return };
    for level in LEVELS {
        let milliseconds = |name| work(&vcpu(&kvm, &guest(name), level));
        let (one, ten) = (milliseconds("sparse:1ms"), milliseconds("sparse:10ms"));
        assert!((ten / 10).abs_diff(one) <= 1, "at {level}: {one} and {ten}");
        assert_eq!(milliseconds("sparse:1ms@0"), one);
        let rate = work_rate(level).expect("such guests have been added");
        assert_eq!(rate.turns_in(Duration::from_millis(1)), one);
    }
}

/// To the order of magnitude: of its CPU time a thread may have had much less than it was told, when
/// it was calibrated and now.
#[test]
fn work_takes_about_as_long_as_the_name_says() {
    let Some(kvm) = kvm() else { return };
    for level in LEVELS {
        let mut vcpu = vcpu(&kvm, &guest("sparse:2ms@0"), level);
        let (turns, cpu) = turns_in_cpu_time(&mut vcpu, Duration::from_millis(100));
        let busy = turns as f64 * 2e-3 / cpu.as_secs_f64();
        assert!(
            (0.2..5.0).contains(&busy),
            "at {level}: {turns} turns in {cpu:?}"
        );
    }
}

fn turns_in_cpu_time(vcpu: &mut Vcpu, time: Duration) -> (u64, Duration) {
    let start = ThreadCpuTime::now();
    let mut bounded = PreemptibleVcpu::new(&mut vcpu.fd).unwrap();
    let outcome = bounded.run_until(Deadline::ThreadCpu(start + time));
    assert!(matches!(outcome, Ok(Outcome::Expired(_))), "{outcome:?}");
    let cpu = ThreadCpuTime::now().as_nanos() - start.as_nanos();
    drop(bounded);
    let turns = vcpu.slot.turns(&vcpu.fd).unwrap();
    (turns, Duration::from_nanos(cpu))
}

#[test]
fn a_reset_begins_the_work_anew() {
    let Some(kvm) = kvm() else { return };
    let mut vcpu = vcpu(&kvm, &guest("sparse:10s"), Level::Cpl3);
    assert_eq!(turns_in(&mut vcpu, 100).unwrap(), 0);
    assert!(vcpu.fd.get_regs().unwrap().rdx < work(&vcpu));
    vcpu.slot.reset(&vcpu.fd).unwrap();
    assert_eq!(vcpu.fd.get_regs().unwrap().rdx, work(&vcpu));
}
