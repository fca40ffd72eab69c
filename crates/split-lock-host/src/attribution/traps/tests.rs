//! Which traps belong together.

use proptest::prelude::*;

use super::*;
use split_lock_log::Records;

fn summary(log: &str) -> Summary {
    let mut traps = Traps::default();
    for record in Records::new(log.as_bytes()) {
        traps.see(&record.unwrap());
    }
    traps.summary()
}

fn line(uptime: &str, comm: &str, tid: u32, address: u64) -> String {
    format!(
        "[{uptime}] x86/split lock detection: #AC: {comm}/{tid} took a split_lock trap at \
         address: {address:#x}\n"
    )
}

#[test]
fn one_instruction_is_one_group_wherever_it_is_loaded() {
    let log = [
        line("1.5", "CPU 0/KVM", 10, 0xffff_f804_726d_fdff),
        line("2.5", "CPU 1/KVM", 11, 0xffff_f804_0c6d_fdff),
        line("3.5", "CPU 1/KVM", 11, 0xffff_f804_0c6d_fdfe),
        line("4.5", "other", 12, 0xffff_f804_0c6d_fdff),
    ];
    let summary = summary(&log.concat());
    assert_eq!(summary.groups.len(), 3);
    let group = &summary.groups[0];
    assert_eq!((group.traps, group.addresses.len()), (2, 2));
    assert_eq!(group.first.text, b"1.5");
    assert_eq!(group.last.uptime, Some(Duration::from_millis(2500)));
    let tids: Vec<_> = group.threads.iter().map(|thread| thread.tid).collect();
    assert_eq!((tids, group.space), (vec![10, 11], Space::Guest));
    assert!(!group.is_after());
    // In the order in which they came.
    assert_eq!(
        summary.groups[1].fingerprint,
        Fingerprint::WindowsKernel(0x6d_fdfe)
    );
}

#[test]
fn a_thread_of_an_earlier_boot_is_another_one() {
    let start = "[    0.000000] Linux version 6.6.1 (x@y) #1 SMP\n";
    let log = [
        start.to_owned(),
        line("1.5", "game", 10, 0x123),
        start.to_owned(),
        line("1.5", "game", 10, 0x123),
    ];
    let summary = summary(&log.concat());
    let threads = summary.groups[0].threads.iter();
    let earlier: Vec<_> = threads.map(|thread| thread.before_last_start).collect();
    assert_eq!(earlier, [true, false]);
}

#[test]
fn what_the_kernel_has_left_out_is_counted() {
    let summary = summary(
        "[1.5] handle_bus_lock: 20 callbacks suppressed\n\
         [1.6] split_lock_warn: 7 callbacks suppressed\n\
         [1.7] split_lock_warn: 18446744073709551615 callbacks suppressed\n",
    );
    assert_eq!(summary.suppressed.bus_locks, 20);
    assert_eq!(summary.suppressed.split_locks, u64::MAX);
}

#[test]
fn what_is_frequent_stays_among_any_number_of_others() {
    let mut log = String::new();
    for n in 0..20_000u32 {
        log += &line("1.5", &format!("x{n}"), n, u64::from(n));
        if n % 4 == 0 {
            log += &line("1.5", "frequent", n, 0x1000);
        }
    }
    let summary = summary(&log);
    assert!(summary.groups.len() <= MOST_GROUPS);
    let group = &summary.groups[0];
    assert_eq!(
        (&group.program.name[..], group.traps),
        (&b"frequent"[..], 5000)
    );
    assert_eq!(group.threads.len(), MOST_THREADS);
    assert_eq!(group.traps_of_other_threads, 5000 - MOST_THREADS as u64);
    let in_groups: u64 = summary.groups.iter().map(|group| group.traps).sum();
    assert_eq!(in_groups + summary.in_other_groups, 25_000);
}

#[test]
fn it_is_data_for_programs() {
    let mut log = line("1.5", "a\u{1b}b", 7, 0xffff_f804_726d_fdff);
    log += "x86/split lock detection: #DB: c/8 took a bus_lock trap at address: 0x10\n";
    let json = serde_json::to_value(summary(&log)).unwrap();
    let group = &json["groups"][0];
    assert_eq!(group["kind"], "split_lock");
    assert_eq!(group["fingerprint"], "0xfffff8...6dfdff");
    assert_eq!(group["addresses"][0]["address"], "0xfffff804726dfdff");
    assert_eq!(group["threads"][0]["comm"], "a\u{1b}b");
    assert_eq!(group["first"]["uptime_s"], 1.5);
    assert_eq!(json["groups"][1]["kind"], "bus_lock");
    assert_eq!(
        json["groups"][1]["last"]["uptime_s"],
        serde_json::Value::Null
    );
}

proptest! {
    #[test]
    fn no_trap_is_lost(
        traps in proptest::collection::vec((0u8..40, 0u32..200, 0u64..40), 0..300),
    ) {
        let line = |&(name, tid, page): &(u8, u32, u64)| {
            line("1.5", &format!("{}", char::from(b'a' + name)), tid, page << 12)
        };
        let log: String = traps.iter().map(line).collect();
        let summary = summary(&log);
        let mut all = summary.in_other_groups;
        for group in &summary.groups {
            let threads: u64 = group.threads.iter().map(|thread| thread.traps).sum();
            prop_assert_eq!(threads + group.traps_of_other_threads, group.traps);
            let addresses: u64 = group.addresses.iter().map(|address| address.traps).sum();
            prop_assert_eq!(addresses + group.traps_at_other_addresses, group.traps);
            all += group.traps;
        }
        prop_assert_eq!(all, traps.len() as u64);
        prop_assert!(summary.groups.is_sorted_by_key(Group::rank));
    }
}
