//! The kernel's own account of a trap: kprobe events, which any kernel has, without a module of ours.

/// Kprobe events to define, one a line of `kprobe_events`. `%di` is the first argument; the tick count comes with each.
pub const PROBES: [&str; 2] = [
    "p:split_lock/warn split_lock_warn ip=%di:x64 j=@jiffies_64:u64",
    "p:split_lock/guest handle_guest_split_lock ip=%di:x64 j=@jiffies_64:u64",
];

/// A trap that the kernel's handler was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The thread that trapped, by its name and number.
    pub thread: String,
    /// Where.
    pub ip: u64,
    /// How many ticks the kernel had counted.
    pub jiffies: u64,
}

/// The calls of `split_lock_warn()` in the kernel's trace, in order. Other lines are passed over.
#[must_use]
pub fn traps(trace: &str) -> Vec<Trap> {
    trace.lines().filter_map(trap).collect()
}

/// `lab-split-71      [000] .....     9.210334: warn: (split_lock_warn+0x0/0x1c0) ip=0x7f2a j=4294669543`
fn trap(line: &str) -> Option<Trap> {
    let (before, fields) = line.split_once(" warn: (split_lock_warn")?;
    let (thread, _) = before.split_once(" [")?;
    let field = |name: &str| {
        let words = fields.split_whitespace();
        words
            .filter_map(|word| word.split_once('='))
            .find(|&(found, _)| found == name)
    };
    Some(Trap {
        thread: thread.trim().to_owned(),
        ip: hexadecimal(field("ip")?.1)?,
        jiffies: field("j")?.1.parse().ok()?,
    })
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
    use super::*;

    #[test]
    fn traps_are_found_among_other_lines() {
        let trace = "# tracer: nop\n#\n\
            \x20      lab-split-71      [000] .....     9.210334: warn: (split_lock_warn+0x0/0x1c0) ip=0x7f2a004 j=4294669543\n\
            \x20      splitlock-80      [001] .....    10.1: guest: (handle_guest_split_lock+0x0/0x90) ip=0x1000 j=7\n";
        let expected = Trap {
            thread: "lab-split-71".to_owned(),
            ip: 0x7f2_a004,
            jiffies: 4_294_669_543,
        };
        assert_eq!(traps(trace), [expected]);
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
}
