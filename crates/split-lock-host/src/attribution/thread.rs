//! What procfs says of one thread, in `stat` and `status`.

use std::time::Duration;

use crate::{Observed, Root};

/// Ticks of procfs in a second, on x86.
const USER_HZ: u64 = 100;

/// `/proc/TID/stat`, as far as it is of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: Vec<u8>,
    /// When the thread started, since the machine did.
    pub(super) started: Duration,
}

impl Stat {
    pub(super) fn read(root: &Root, tid: u32) -> Observed<Self> {
        let bytes = root.read(format!("proc/{tid}/stat"));
        bytes.find(|bytes| Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        const START: usize = 22;
        let open = memchr::memchr(b'(', bytes)?;
        // A name may hold anything; what comes after it has no brackets.
        let close = memchr::memrchr(b')', bytes)?;
        let comm = bytes.get(open + 1..close)?.to_owned();
        let rest = str::from_utf8(&bytes[close + 1..]).ok()?;
        // The first one after the name is the third one.
        let start = rest.split_ascii_whitespace().nth(START - 3)?;
        let ticks: u64 = start.parse().ok()?;
        let millis = ticks.checked_mul(1000 / USER_HZ)?;
        let started = Duration::from_millis(millis);
        Some(Stat { comm, started })
    }
}

/// `/proc/TID/status`, as far as it is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// The process that the thread belongs to.
    pub(super) pid: u32,
    /// Its effective user.
    pub(super) user: Option<u32>,
    pub(super) threads: Option<u32>,
}

impl Status {
    pub(super) fn read(root: &Root, tid: u32) -> Observed<Self> {
        let text = root.text(format!("proc/{tid}/status"));
        text.find(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let number = |name, at| field(name)?.split_ascii_whitespace().nth(at)?.parse().ok();
        Some(Status {
            pid: number("Tgid", 0)?,
            user: number("Uid", 1),
            threads: number("Threads", 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_look_like_the_end_of_one() {
        let stat =
            b"16179 (a) S 1 (b)) S 16178 16158 11225 0 -1 4194304 116 0 0 0 0 0 0 0 20 0 1 0 \
                     2349040 10928128 310";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!(stat.comm, b"a) S 1 (b)");
        assert_eq!(stat.started, Duration::from_millis(23_490_400));
        for damaged in ["", "1 (x", "1 x) (", "1 (x) S", ")("] {
            assert_eq!(Stat::parse(damaged.as_bytes()), None, "{damaged}");
        }
    }

    #[test]
    fn a_status_tells_the_process_and_its_user() {
        let status = "Name:\tTgid: 9\nUmask:\t0022\nTgid:\t7\nUid:\t1\t2\t3\t4\nThreads:\t5\n";
        let status = Status::parse(status).unwrap();
        assert_eq!(
            (status.pid, status.user, status.threads),
            (7, Some(2), Some(5))
        );
        assert_eq!(Status::parse("Uid:\t1\n"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b')'), Just(b'(')], 0..99),
            text in "(Tgid|Uid|Threads|:|\t|[0-9]{1,25}|\n|\\PC){0,20}",
        ) {
            let _ = (Stat::parse(&bytes), Status::parse(&text));
        }

        #[test]
        fn any_name_is_read(comm in proptest::collection::vec(any::<u8>(), 0..16)) {
            let stat = [b"7 (", &comm[..], b") R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 250 0"].concat();
            let stat = Stat::parse(&stat).unwrap();
            prop_assert_eq!(stat.comm, comm);
            prop_assert_eq!(stat.started, Duration::from_millis(2500));
        }
    }
}
