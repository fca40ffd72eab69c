//! From a thread id to whoever has it, or had it.

use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::process::Process;
use super::text;
use super::thread::{Stat, Status};
use super::traps::Thread;
use crate::{Observed, Root};

/// What has become of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Owner {
    /// It is there.
    Lives {
        /// The thread's name.
        comm: String,
        /// The process that it belongs to.
        process: Box<Process>,
    },
    /// It has ended. So a thread's process may live on, but nothing leads to it any more.
    Gone,
    /// Another thread has got its id: it started later, or has another name. (A thread that has changed its name is
    /// misreported so.)
    Reused,
    /// It was there before the machine was started the last time.
    EarlierBoot,
    /// It may be there.
    #[serde(rename = "could_not_see")]
    Unreadable {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be seen.
        why: String,
    },
}

/// What `/proc/PID/ns/pid` says of the first PID namespace, in which the kernel's log and its events number threads.
pub const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The kernel keeps no more of a name.
const COMM_BYTES: usize = 15;

impl Owner {
    /// The thread that has an id now.
    #[must_use]
    pub fn now(root: &Root, tid: u32) -> Self {
        let found = Status::read(root, tid).and_then(|status| {
            let comm = Stat::read(root, tid).map(|stat| text::string(&stat.comm));
            Process::read(root, status.pid).map(|process| Owner::Lives {
                comm: comm.or_default(),
                process: Box::new(process),
            })
        });
        Self::of(root, tid, found)
    }

    fn of(root: &Root, tid: u32, found: Observed<Self>) -> Self {
        match found {
            Observed::Is(owner) => owner,
            Observed::Absent => Self::absent(root, tid),
            Observed::Unreadable { path, why } => Owner::Unreadable { path, why },
        }
    }

    /// The thread that a log of this machine tells of.
    #[must_use]
    pub fn of_event(root: &Root, thread: &Thread) -> Self {
        if thread.before_last_start || is_later_than_now(root, thread.uptime) {
            return Owner::EarlierBoot;
        }
        if let Some(owner) = Self::other_namespace(root) {
            return owner;
        }
        let found =
            Stat::read(root, thread.tid).map(|stat| match is_another(root, &stat, thread) {
                true => Owner::Reused,
                false => Self::now(root, thread.tid),
            });
        Self::of(root, thread.tid, found)
    }

    /// With `hidepid=2` others' processes look like none. The first one is always there.
    fn absent(root: &Root, tid: u32) -> Self {
        match root.has("proc/1").is_there() {
            Some(false) => Owner::Unreadable {
                path: format!("/proc/{tid}").into(),
                why: "only processes of this user are shown (/proc is mounted with hidepid); ask root"
                    .into(),
            },
            _ => Owner::Gone,
        }
    }

    /// Threads have other ids in a container.
    fn other_namespace(root: &Root) -> Option<Self> {
        const LINK: &str = "proc/self/ns/pid";
        let namespace = root.link(LINK);
        let is_other = namespace
            .known()
            .is_some_and(|namespace| namespace.to_str() != Some(INITIAL_PID_NAMESPACE));
        is_other.then(|| Owner::Unreadable {
            path: format!("/{LINK}").into(),
            why:
                "threads have other ids in this container than in the kernel's log; ask on the host"
                    .into(),
        })
    }
}

/// The log's clock and that of procfs differ by the time that the machine was suspended, and, because only one
/// of them is kept right by NTP, by up to 500 millionths.
fn slack(uptime: Duration) -> Duration {
    Duration::from_secs(2) + uptime / 1000
}

fn is_later_than_now(root: &Root, event: Option<Duration>) -> bool {
    let now = root.text("proc/uptime").find(|text| {
        let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    });
    let is_later = |(event, &now): (Duration, &Duration)| event > now.saturating_add(slack(now));
    event.zip(now.known()).is_some_and(is_later)
}

/// Whether the thread that has the id now started after the event, or has another name.
fn is_another(root: &Root, stat: &Stat, thread: &Thread) -> bool {
    let begin = |comm: &[u8]| text::string(&comm[..comm.len().min(COMM_BYTES)]);
    let started = stat.started.saturating_sub(suspended(root));
    let is_later = |event: Duration| started > event.saturating_add(slack(event));
    thread.uptime.is_some_and(is_later) || begin(&stat.comm) != begin(&thread.comm)
}

/// How long the machine was suspended since it was started.
fn suspended(root: &Root) -> Duration {
    let nanos = root.ask("suspended-ns", || {
        let nanos = |clock| {
            let time = clock_gettime(clock);
            i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
        };
        Observed::Is((nanos(ClockId::Boottime) - nanos(ClockId::Monotonic)).to_string())
    });
    Duration::from_nanos(nanos.find(|nanos| nanos.parse().ok()).or_default())
}
