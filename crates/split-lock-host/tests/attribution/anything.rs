//! Hosts that are made of anything.

use proptest::prelude::*;

use crate::any_host::{SEPARATOR, check};

#[test]
fn a_host_with_everything_is_looked_at() {
    let files: [(u8, &str); 11] = [
        (0, "7 (vmm) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 100 0"),
        (1, "Tgid:\t7\nThreads:\t2\n"),
        (3, "firecracker\0--id\0x\0"),
        (4, "ID: 0\nsignal: 34/0\nnotify: signal/tid.8\nClockID: 1\n"),
        (6, "fc_vcpu 0\n"),
        (7, "it_interval: (0, 1000000)\n"),
        (
            8,
            "8 (fc_vcpu 0) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 100 0",
        ),
        (9, "Tgid:\t7\n"),
        (22, "40000000\n7 1 40\n"),
        (
            26,
            "[9.0] x86/split lock detection: #AC: fc_vcpu 0/8 took a split_lock trap at address: 0x1\n",
        ),
        (28, "anon_inode:[timerfd]"),
    ];
    let mut input = vec![];
    for (number, text) in files {
        input.push(number);
        input.extend(text.as_bytes());
        input.push(SEPARATOR);
    }
    check(&input);
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(
        files in proptest::collection::vec(
            (any::<u8>(), "(7|8|-|/|\\(|\\)| |\n|:|,|[0-9]{1,25}|fc_vcpu|Tgid:|signal/tid\\.|kvm-vm|\\PC){0,20}"),
            0..12,
        ),
        noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut input = noise;
        for (number, text) in files {
            input.push(SEPARATOR);
            input.push(number);
            input.extend(text.as_bytes());
        }
        check(&input);
    }
}
