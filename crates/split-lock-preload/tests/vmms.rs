//! VMMs in C behave as they do without the library, whatever they do. On a host that does not detect split locks stalls are
//! feigned, so that vCPUs are kicked out, looked at, emulated for and watched all the time.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use common::{Library, number, reports, vmm};

/// It prints the same with and without, and instructions were emulated.
fn behaves_the_same(scenario: &[&str]) {
    let plain = vmm(scenario, Library::None).run();
    let with = vmm(scenario, Library::FeigningStalls);
    assert_eq!(with.run(), plain, "{scenario:?}");
    let emulated = reports(with.folder())
        .iter()
        .map(|it| number(it, "emulated"))
        .sum::<u64>();
    assert!(emulated > 0, "nothing was emulated");
}

#[test]
fn a_guest_counts_as_far_as_it_should() {
    behaves_the_same(&["count", "20000"]);
}

#[test]
fn vms_are_closed_and_reopened_and_one_takes_anothers_descriptor() {
    behaves_the_same(&["reopen"]);
}

#[test]
fn a_vcpu_moves_between_threads() {
    behaves_the_same(&["move"]);
}

#[test]
fn slots_change_while_the_guest_runs_and_memory_that_was_taken_back_is_not_written() {
    behaves_the_same(&["slots"]);
}

#[test]
fn a_forked_child_has_vms_of_its_own() {
    behaves_the_same(&["fork", "10000"]);
}

#[test]
fn a_vmm_that_debugs_its_guest_has_the_breakpoints_for_itself() {
    behaves_the_same(&["debug"]);
}

#[test]
fn a_blocked_timer_signal_that_kvm_lets_through_is_all_that_ends_a_run() {
    behaves_the_same(&["mask"]);
}

#[test]
fn kicks_by_immediate_exit_are_all_answered() {
    behaves_the_same(&["immediate_exit"]);
}

#[test]
fn a_thread_may_block_all_signals_that_kvm_lets_through() {
    behaves_the_same(&["block", "1"]);
}

#[test]
fn a_thread_that_takes_no_signals_runs_on() {
    let plain = vmm(&["block", "0"], Library::None).run();
    assert_eq!(vmm(&["block", "0"], Library::FeigningStalls).run(), plain);
}

#[test]
fn eight_vcpus_count_at_one_word() {
    behaves_the_same(&["many", "6000"]);
}

#[test]
fn two_vms_in_one_process() {
    behaves_the_same(&["two_vms"]);
}

#[test]
fn a_triple_fault_is_the_guests() {
    behaves_the_same(&["triple_fault"]);
}

#[test]
fn registers_in_the_run_page_are_the_vmms() {
    behaves_the_same(&["sync_registers"]);
}

#[test]
fn what_was_written_here_is_in_the_dirty_log() {
    behaves_the_same(&["dirty_log"]);
}

/// A ring has no place for pages that others write, so that they are left to the CPU, which says so.
#[test]
fn what_is_written_is_in_the_dirty_ring() {
    let plain = vmm(&["dirty_ring"], Library::None).run();
    assert_eq!(vmm(&["dirty_ring"], Library::FeigningStalls).run(), plain);
}

#[test]
fn without_kcmp_the_vmms_numbers_are_trusted() {
    for scenario in [&["count", "20000"][..], &["move"], &["many", "6000"]] {
        behaves_the_same(&[&["without_kcmp"], scenario].concat());
    }
}

#[test]
fn nothing_is_lost_when_all_is_stopped_for_longer_than_a_kick_may_take() {
    let plain = vmm(&["stopped", "20000"], Library::None).run();
    let with = vmm(&["stopped", "20000"], Library::FeigningStalls);
    let mut child = with.command().stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    for _ in 0..2 {
        common::signal(&child, "STOP");
        std::thread::sleep(Duration::from_millis(1200));
        common::signal(&child, "CONT");
        std::thread::sleep(Duration::from_millis(20));
    }
    out.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text, plain);
    for report in reports(with.folder()) {
        assert!(!report.contains("switched_off"), "{report}");
    }
}

#[test]
fn what_was_done_for_a_vmm_that_is_killed_is_known_to_the_last_second() {
    let with = vmm(&["forever"], Library::FeigningStalls);
    let mut child = with.command().stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    child.kill().unwrap();
    child.wait().unwrap();
    let reports = reports(with.folder());
    assert_eq!(reports.len(), 1);
    assert!(number(&reports[0], "emulated") > 0, "{reports:?}");
}

#[test]
fn nothing_is_done_and_nothing_said_where_nobody_is_punished() {
    let plain = vmm(&["many", "4000"], Library::None).run();
    let with = vmm(&["many", "4000"], Library::Loaded);
    assert_eq!(with.run(), plain);
    for report in reports(with.folder()) {
        for field in ["emulated", "kicks", "stalls", "punishments_seen"] {
            assert_eq!(number(&report, field), 0, "{report}");
        }
    }
}

#[test]
fn another_thread_gets_its_turn_with_a_vcpu_that_comes_back_at_once() {
    let plain = vmm(&["asked"], Library::None).run();
    assert_eq!(vmm(&["asked"], Library::Loaded).run(), plain);
}

#[test]
fn a_run_takes_as_many_system_calls_as_without() {
    let plain = vmm(&["system_calls"], Library::None).run();
    assert_eq!(vmm(&["system_calls"], Library::Loaded).run(), plain);
}

#[test]
fn a_program_without_kvm_is_left_alone() {
    let with = vmm(&["no such scenario"], Library::Loaded);
    let status = with.command().status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(reports(with.folder()).is_empty());
}
