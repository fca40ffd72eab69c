//! The kernel's own account: probes that any kernel has, without a module of ours.
//!
//! Times are counts of the TSC, as in the CPU's journal, and each event has the kernel's count of ticks.

use split_lock_model::policy::Alternative;

use crate::journal::Kind;

/// Our events are called `GROUP:NAME`.
pub const GROUP: &str = "split_lock";

/// Threads of an experiment are called this and a number.
pub const THREAD_NAME: &str = "splitting-";

/// Lines of `kprobe_events`. `%di` is a function's first argument; 128 bytes into the registers of a user thread lies its
/// instruction pointer.
pub const PROBES: [&str; 17] = [
    "p:split_lock/user handle_user_split_lock ip=+128(%di):x64 j=@jiffies_64:u64",
    "r64:split_lock/user_done handle_user_split_lock ret=$retval:u8 j=@jiffies_64:u64",
    "p:split_lock/guest handle_guest_split_lock ip=%di:x64 j=@jiffies_64:u64",
    "r64:split_lock/guest_done handle_guest_split_lock ret=$retval:u8 j=@jiffies_64:u64",
    "p:split_lock/bus_lock handle_bus_lock ip=+128(%di):x64 j=@jiffies_64:u64",
    "r64:split_lock/bus_lock_done handle_bus_lock j=@jiffies_64:u64",
    "p:split_lock/sleep msleep_interruptible ms=%di:u32 j=@jiffies_64:u64",
    "r64:split_lock/slept msleep_interruptible left=$retval:s64 j=@jiffies_64:u64",
    "p:split_lock/msleep msleep ms=%di:u32 j=@jiffies_64:u64",
    "r64:split_lock/msleep_done msleep j=@jiffies_64:u64",
    "p:split_lock/down down_interruptible j=@jiffies_64:u64",
    "r64:split_lock/took down_interruptible ret=$retval:s32 j=@jiffies_64:u64",
    "p:split_lock/queued __down_interruptible j=@jiffies_64:u64",
    "p:split_lock/work __split_lock_reenable j=@jiffies_64:u64",
    "p:split_lock/unlocking_work __split_lock_reenable_unlock j=@jiffies_64:u64",
    "r64:split_lock/unlocking_work_done __split_lock_reenable_unlock j=@jiffies_64:u64",
    "p:split_lock/tick calc_global_load j=@jiffies_64:u64",
];

/// Names in [`PROBES`], and what takes their place in a kernel with another policy. What such a kernel returns of a sleep is
/// a number of ticks.
const KILLABLE: [(&str, &str); 2] = [
    ("msleep_interruptible", "schedule_timeout_killable"),
    ("down_interruptible", "down_killable"),
];
const SENTENCE: [(&str, &str); 3] = [
    ("msleep_interruptible ms=%di", "split_lock_punish ms=\\10"),
    ("msleep_interruptible", "split_lock_punish"),
    ("down_interruptible", "buslock_wait"),
];

/// [`PROBES`] for a kernel with this policy; none: for one as it is.
#[must_use]
pub fn probes(policy: Option<Alternative>) -> Vec<String> {
    let names: &[_] = match policy {
        Some(Alternative::Killable) => &KILLABLE,
        Some(Alternative::FixedEnd) => &SENTENCE,
        _ => &[],
    };
    let replace = |probe: &str| {
        let probe = probe.to_owned();
        names
            .iter()
            .fold(probe, |probe, (old, new)| probe.replace(old, new))
    };
    PROBES.map(replace).into()
}

/// The probe of the function that comes right after the count of ticks in the kernel. A tick may interrupt another probe,
/// and is missed then; where the ticks lie is told by any of them.
pub const MAY_MISS: &str = "tick";

/// Events that the kernel has anyway. None of this is filtered or made from other events in the kernel: where its ring
/// buffer takes an event back that has interrupted another one, the times of those that follow are wrong.
pub const TRACEPOINTS: [&str; 6] = [
    "timer/timer_start",
    "timer/timer_cancel",
    "sched/sched_waking",
    "signal/signal_generate",
    "signal/signal_deliver",
    "workqueue/workqueue_queue_work",
];

/// Marks around an experiment.
pub const BEGIN: &str = "begin";
/// See [`BEGIN`].
pub const END: &str = "end";

/// Something that the kernel has noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// When, by the TSC.
    pub tick: u64,
    /// Where.
    pub cpu: u16,
    /// The thread that it is about.
    pub pid: i32,
    /// How many ticks the kernel had counted, where it says that.
    pub jiffies: Option<u64>,
    /// What.
    pub what: What,
}

/// What the kernel has noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The experiment begins.
    Begin,
    /// It has ended.
    End,
    /// The handler of split locks was called for the instruction at `ip`.
    SplitLock {
        /// Of the guest or of the thread.
        ip: u64,
        /// By KVM.
        guest: bool,
    },
    /// The handler of bus locks was called; the instruction before this address is done.
    BusLock(u64),
    /// A thread sets a timer that asks for this tick.
    TimerStart {
        /// The timer.
        timer: u64,
        /// The tick.
        expires: u64,
    },
    /// A thread takes this timer back.
    TimerCancel(u64),
    /// A thread has taken a signal.
    Deliver,
    /// Anything else is already what the model is asked about.
    Event(Kind),
}

/// A line that does not belong into a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the kernel's trace is not understood: {text}")]
pub struct TraceError {
    /// The first one is 1.
    pub line: usize,
    /// It.
    pub text: String,
}

/// Reads the kernel's file `trace`.
///
/// # Errors
/// At the first line that [`PROBES`] do not lead to, or that is earlier than the one before.
pub fn parse(text: &str) -> Result<Vec<Noted>, TraceError> {
    let mut all: Vec<Noted> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = || TraceError {
            line: index + 1,
            text: line.to_owned(),
        };
        let parsed = Line::parse(line).ok_or_else(fail)?;
        let tick = parsed.time.parse().map_err(|_| fail())?;
        if all.last().is_some_and(|last| last.tick > tick) {
            return Err(fail());
        }
        if parsed.matters() {
            all.push(parsed.noted(tick).ok_or_else(fail)?);
        }
    }
    Ok(all)
}

/// `     splitting-0-142     [000] .....   8801524854: sleep: (msleep_interruptible+0x4/0x70) ms=10 j=4294901666`
pub(crate) struct Line<'a> {
    pub(crate) pid: i32,
    cpu: u16,
    /// Neither in an interrupt nor in what follows it.
    in_task: bool,
    /// As the trace's clock writes it.
    pub(crate) time: &'a str,
    pub(crate) name: &'a str,
    pub(crate) fields: &'a str,
}

impl<'a> Line<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (thread, rest) = line.split_once(" [")?;
        let (_, pid) = thread.trim_end().rsplit_once('-')?;
        let (cpu, rest) = rest.split_once("] ")?;
        let (flags, rest) = rest.trim_start().split_once(' ')?;
        let (time, rest) = rest.trim_start().split_once(": ")?;
        let (name, fields) = rest.split_once(": ")?;
        Some(Self {
            pid: pid.parse().ok()?,
            cpu: cpu.parse().ok()?,
            in_task: matches!(flags.as_bytes().get(2)?, b'.' | b'b'),
            time,
            name,
            fields,
        })
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        let mut words = self.fields.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.field(name)?.parse().ok()
    }

    /// Not a timer of an interrupt that borrows the thread, nor any other work.
    fn matters(&self) -> bool {
        match self.name {
            "timer_start" | "timer_cancel" => self.in_task,
            "workqueue_queue_work" => self.due_work().is_some(),
            _ => true,
        }
    }

    /// Whether the work that is queued here unlocks, if it switches detection on. Delayed work is queued by its timer: at
    /// the tick that the kernel chose, whatever the worker does.
    fn due_work(&self) -> Option<bool> {
        match self.field("function")? {
            "__split_lock_reenable" => Some(false),
            "__split_lock_reenable_unlock" => Some(true),
            _ => None,
        }
    }

    fn noted(&self, tick: u64) -> Option<Noted> {
        let ip = || hexadecimal(self.field("ip")?);
        let retry = || Some(self.number::<u8>("ret")? != 0);
        let taken = || Some(self.number::<i32>("ret")? == 0);
        let timer = || u64::from_str_radix(self.field("timer")?.trim_start_matches("0x"), 16).ok();
        let is_probe = self.fields.starts_with('(');
        let mut pid = self.pid;
        let what = match self.name {
            "tracing_mark_write" => match self.fields.trim() {
                BEGIN => What::Begin,
                END => What::End,
                number => What::Event(Kind::Mark(number.parse().ok()?)),
            },
            "tick" => What::Event(Kind::Tick),
            "user" => What::SplitLock {
                ip: ip()?,
                guest: false,
            },
            "guest" => What::SplitLock {
                ip: ip()?,
                guest: true,
            },
            "user_done" | "guest_done" => What::Event(Kind::Return { retry: retry()? }),
            "bus_lock" => What::BusLock(ip()?),
            "bus_lock_done" => What::Event(Kind::Return { retry: true }),
            "sleep" | "msleep" => What::Event(Kind::Sleep(self.number("ms")?)),
            "slept" => What::Event(Kind::Slept(self.number("left")?)),
            "msleep_done" => What::Event(Kind::Slept(0)),
            "down" => What::Event(Kind::Down),
            "took" => What::Event(Kind::Took { taken: taken()? }),
            "queued" => What::Event(Kind::Line),
            "work" => What::Event(Kind::Work { unlocks: false }),
            "unlocking_work" => What::Event(Kind::Work { unlocks: true }),
            "unlocking_work_done" => What::Event(Kind::Worked),
            "workqueue_queue_work" => What::Event(Kind::Queue {
                unlocks: self.due_work()?,
            }),
            "timer_start" => What::TimerStart {
                timer: timer()?,
                expires: self.number("expires")?,
            },
            "timer_cancel" => What::TimerCancel(timer()?),
            "sched_waking" => {
                pid = self.number("pid")?;
                What::Event(Kind::Wake)
            }
            "signal_generate" => {
                pid = self.number("pid")?;
                What::Event(Kind::Signal(self.number("sig")?))
            }
            "signal_deliver" => What::Deliver,
            _ => return None,
        };
        let jiffies = self.number("j");
        (jiffies.is_some() || !is_probe).then_some(Noted {
            tick,
            cpu: self.cpu,
            pid,
            jiffies,
            what,
        })
    }
}

/// Where the kernel's log says that a thread has trapped, in order: `… took a split_lock trap at address: 0x…`, of
/// which there is one for each thread, or `… took a bus_lock trap at address: 0x…`, of which there is one for each trap.
#[must_use]
pub fn logged_addresses(log: &str) -> Vec<u64> {
    let address = |line: &str| {
        let (_, rest) = line.split_once("_lock trap at address: ")?;
        hexadecimal(rest.split_whitespace().next()?)
    };
    log.lines().filter_map(address).collect()
}

/// A number of `0x` and hexadecimal digits.
#[must_use]
pub fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "# tracer: nop\n#\n\
        \x20    splitting-0-142     [000] .....   8801516000: tracing_mark_write: begin\n\
        \x20    splitting-0-142     [000] .....   8801516702: user: (handle_user_split_lock+0x4/0x40) ip=0x7fc25681fffb j=4294901666\n\
        \x20    splitting-0-142     [000] d..2.   8801526369: timer_start: timer=00000000d6b1b2a0 function=process_timeout expires=4294901669 [timeout=3] bucket_expiry=4294901670 cpu=0 idx=3 flags=\n\
        \x20    splitting-0-142     [000] d.h2.   8801526370: timer_start: timer=00000000d6b1b2a0 function=other expires=1 [timeout=3]\n\
        \x20         <idle>-0       [001] d.s4.   8804587727: sched_waking: comm=splitting-0 pid=142 prio=120 target_cpu=000\n\
        \x20    splitting-0-142     [000] .....   8804593011: slept: (split_lock_warn+0x37/0xf0 <- msleep_interruptible) left=-12 j=4294901670\n\
        \x20         <idle>-0       [000] d.s3.   8806987723: workqueue_queue_work: work struct=000000001c1e1d6e function=vmstat_update workqueue=mm req_cpu=0 cpu=0\n\
        \x20         <idle>-0       [000] d.s3.   8806987724: workqueue_queue_work: work struct=00000000a7a1a1a1 function=__split_lock_reenable_unlock workqueue=events req_cpu=0 cpu=0\n";

    #[test]
    fn lines_of_a_real_trace_are_read() {
        let all = parse(TRACE).expect("a trace");
        let found: Vec<_> = all
            .iter()
            .map(|noted| (noted.pid, noted.what, noted.jiffies))
            .collect();
        let j = 4_294_901_666;
        let (ip, guest) = (0x7fc2_5681_fffb, false);
        let (timer, expires) = (0xd6b1_b2a0, j + 3);
        let expected = [
            (142, What::Begin, None),
            (142, What::SplitLock { ip, guest }, Some(j)),
            (142, What::TimerStart { timer, expires }, None),
            (142, What::Event(Kind::Wake), None),
            (142, What::Event(Kind::Slept(-12)), Some(j + 4)),
            (0, What::Event(Kind::Queue { unlocks: true }), None),
        ];
        assert_eq!(found, expected);
        assert_eq!((all[3].cpu, all[3].tick), (1, 8_804_587_727));
    }

    #[test]
    fn bad_line_is_refused_by_its_number() {
        let refused = |text: &str| parse(text).expect_err("it is no trace").line;
        assert_eq!(refused("CPU:0 [LOST 12 EVENTS]"), 1);
        let lines: Vec<&str> = TRACE.lines().collect();
        assert_eq!(refused(&[lines[4], lines[3]].join("\n")), 2);
        assert_eq!(refused(&lines[3].replace("ip=", "pi=")), 1);
        assert_eq!(refused(&lines[3].replace(" j=", " i=")), 1);
        assert_eq!(refused(&lines[3].replace("user:", "super:")), 1);
    }

    #[test]
    fn every_probe_of_ours_tells_the_count_of_ticks() {
        for probe in PROBES {
            assert!(probe.contains(&format!(":{GROUP}/")), "{probe}");
            assert!(probe.ends_with(" j=@jiffies_64:u64"), "{probe}");
        }
    }

    #[test]
    fn patched_kernels_are_probed_where_they_wait() {
        assert_eq!(probes(None), PROBES);
        for policy in [Alternative::Killable, Alternative::FixedEnd] {
            let probes = probes(Some(policy));
            assert!(
                !probes.iter().any(|probe| probe.contains("_interruptible")),
                "{policy}"
            );
        }
    }

    #[test]
    fn logged_addresses_are_in_order() {
        let log = "<4>[    9.2] x86/split lock detection: #AC: lab-split/71 took a split_lock trap at address: 0x7f2a004\n\
            <6>[    9.3] something else\n\
            <4>[    9.9] x86/split lock detection: #DB: lab-split/72 took a bus_lock trap at address: 0x401000\n";
        assert_eq!(logged_addresses(log), [0x7f2_a004, 0x40_1000]);
    }

    #[test]
    fn only_plain_hexadecimal_numbers_are_numbers() {
        assert_eq!(hexadecimal("0x1F"), Some(31));
        assert_eq!(hexadecimal("0xffffffffffffffff"), Some(u64::MAX));
        for bad in ["1f", "0x", "0x+1", "0x10000000000000000", "0xg"] {
            assert_eq!(hexadecimal(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\PC|\n|: |\\[|\\] |-[0-9])*", at in 0..TRACE.len()) {
            let _ = parse(&text);
            let mut mixed = TRACE.to_owned();
            mixed.insert_str(at, &text);
            let _ = parse(&mixed);
        }
    }
}
