//! Records as perf lays them out in its ring.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// An event has happened.
    Sample(Sample<'a>),
    /// So many records found the ring full.
    Lost(u64),
    /// A thread leaves its CPU or comes to one.
    Switch(Switch),
    /// Something else.
    Other,
}

/// An event, with what every event of ours is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample<'a> {
    /// Which event it was.
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) at_ns: u64,
    pub(crate) cpu: u32,
    /// Addresses in the kernel and, behind a marker, in the program; words of eight bytes.
    pub(crate) call_chain: CallChain<'a>,
    /// The event's own record.
    pub(crate) raw: &'a [u8],
}

/// A thread's way from or to a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch {
    pub(crate) is_out: bool,
    /// It would have gone on running.
    pub(crate) is_preempted: bool,
    pub(crate) at_ns: u64,
    pub(crate) cpu: u32,
}

/// Return addresses, innermost first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CallChain<'a>(&'a [u8]);

const LOST: u32 = 2;
const SAMPLE: u32 = 9;
const SWITCH: u32 = 14;
const SWITCH_OUT: u16 = 1 << 13;
const SWITCH_OUT_PREEMPT: u16 = 1 << 14;
const HEADER_BYTES: usize = 8;

/// What follows are addresses of the program.
const CONTEXT_USER: u64 = -512i64 as u64;
/// The largest of all such markers.
const CONTEXT_MAX: u64 = -4095i64 as u64;

/// The records in bytes from a ring; ends early if they are no records. `has_call_chain` tells that of an
/// event.
pub(crate) fn records<'a>(
    mut bytes: &'a [u8],
    has_call_chain: impl Fn(u64) -> bool,
) -> impl Iterator<Item = Record<'a>> {
    std::iter::from_fn(move || {
        let header = Reader(bytes).take(HEADER_BYTES)?;
        let kind = Reader(header).word32()?;
        let flags = u16::from_le_bytes([header[4], header[5]]);
        let size = usize::from(u16::from_le_bytes([header[6], header[7]]));
        let body = bytes.get(HEADER_BYTES..size)?;
        bytes = &bytes[size..];
        Some(record(kind, flags, body, &has_call_chain))
    })
}

fn record<'a>(
    kind: u32,
    flags: u16,
    body: &'a [u8],
    has_call_chain: &impl Fn(u64) -> bool,
) -> Record<'a> {
    let parsed = match kind {
        SAMPLE => sample(body, has_call_chain).map(Record::Sample),
        LOST => body
            .get(8..)
            .and_then(|rest| Reader(rest).word())
            .map(Record::Lost),
        SWITCH => switch(flags, body).map(Record::Switch),
        _ => None,
    };
    parsed.unwrap_or(Record::Other)
}

/// What follows every record of such an event, in the order that the kernel has for TID, TIME, CPU and IDENTIFIER.
fn switch(flags: u16, body: &[u8]) -> Option<Switch> {
    let mut reader = Reader(body);
    let (_pid, _tid) = (reader.word32()?, reader.word32()?);
    Some(Switch {
        is_out: flags & SWITCH_OUT != 0,
        is_preempted: flags & SWITCH_OUT_PREEMPT != 0,
        at_ns: reader.word()?,
        cpu: reader.word32()?,
    })
}

/// In the order that the kernel has for IDENTIFIER, TID, TIME, CPU, CALLCHAIN and RAW.
fn sample<'a>(body: &'a [u8], has_call_chain: &impl Fn(u64) -> bool) -> Option<Sample<'a>> {
    let mut reader = Reader(body);
    let id = reader.word()?;
    let (pid, tid) = (reader.word32()?, reader.word32()?);
    let at_ns = reader.word()?;
    let cpu = reader.word32()?;
    let _reserved = reader.word32()?;
    let call_chain = if has_call_chain(id) {
        let words = usize::try_from(reader.word()?).ok()?;
        CallChain(reader.take(words.checked_mul(8)?)?)
    } else {
        CallChain::default()
    };
    let size = usize::try_from(reader.word32()?).ok()?;
    Some(Sample {
        id,
        pid,
        tid,
        at_ns,
        cpu,
        call_chain,
        raw: reader.take(size)?,
    })
}

impl CallChain<'_> {
    pub(crate) fn kernel(&self) -> impl Iterator<Item = u64> {
        let is_kernels = |&address: &u64| address != CONTEXT_USER;
        self.words()
            .take_while(is_kernels)
            .filter(|&address| address < CONTEXT_MAX)
    }

    /// Where the program was when it came into the kernel.
    pub(crate) fn user(&self) -> Option<u64> {
        let mut words = self.words().skip_while(|&word| word != CONTEXT_USER);
        words.nth(1).filter(|&address| address < CONTEXT_MAX)
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        let words = self.0.chunks_exact(8);
        words.map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn word32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrap(kind: u32, body: &[u8]) -> Vec<u8> {
        wrap_with(0, kind, body)
    }

    fn wrap_with(flags: u16, kind: u32, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(HEADER_BYTES + body.len()).unwrap();
        let (kind, flags, size) = (kind.to_le_bytes(), flags.to_le_bytes(), size.to_le_bytes());
        let header = [&kind[..], &flags, &size].concat();
        [header, body.to_vec()].concat()
    }

    fn body(id: u64, chain: Option<&[u64]>, raw: &[u8]) -> Vec<u8> {
        let mut body = id.to_le_bytes().to_vec();
        body.extend(10u32.to_le_bytes());
        body.extend(11u32.to_le_bytes());
        body.extend(1234u64.to_le_bytes());
        body.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        if let Some(chain) = chain {
            body.extend((chain.len() as u64).to_le_bytes());
            chain
                .iter()
                .for_each(|word| body.extend(word.to_le_bytes()));
        }
        body.extend((raw.len() as u32).to_le_bytes());
        body.extend(raw);
        body
    }

    #[test]
    fn samples_and_losses_are_read_as_the_kernel_lays_them_out() {
        let chain = [
            (-128i64) as u64,
            0xffff_ffff_8100_0000,
            CONTEXT_USER,
            0x401000,
        ];
        let lost = [77u64.to_le_bytes(), 5u64.to_le_bytes()].concat();
        let bytes = [
            wrap(SAMPLE, &body(1, None, b"abcd")),
            wrap(LOST, &lost),
            wrap(3, b"comm"),
            wrap(SAMPLE, &body(2, Some(&chain), b"xyz!")),
        ]
        .concat();
        let all: Vec<_> = records(&bytes, |id| id == 2).collect();
        let Record::Sample(first) = all[0] else {
            panic!("{all:?}")
        };
        assert_eq!((first.pid, first.tid, first.cpu), (10, 11, 3));
        assert_eq!((first.at_ns, first.raw), (1234, &b"abcd"[..]));
        assert_eq!(all[1], Record::Lost(5));
        assert_eq!(all[2], Record::Other);
        let Record::Sample(second) = all[3] else {
            panic!("{all:?}")
        };
        let kernel: Vec<_> = second.call_chain.kernel().collect();
        assert_eq!(kernel, [0xffff_ffff_8100_0000]);
        assert_eq!(second.call_chain.user(), Some(0x401000));
    }

    #[test]
    fn a_switch_says_when_and_whether_the_thread_would_have_gone_on() {
        let id = [
            [1, 0, 0, 0, 2, 0, 0, 0],
            77u64.to_le_bytes(),
            [3, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        for (flags, is_out, is_preempted) in [
            (0, false, false),
            (SWITCH_OUT, true, false),
            (SWITCH_OUT | SWITCH_OUT_PREEMPT, true, true),
        ] {
            let switch = Switch {
                is_out,
                is_preempted,
                at_ns: 77,
                cpu: 3,
            };
            let bytes = wrap_with(flags, SWITCH, &id);
            let read = records(&bytes, |_| false).next();
            assert_eq!(read, Some(Record::Switch(switch)));
        }
    }

    #[test]
    fn damaged_records_end_the_reading() {
        let whole = wrap(SAMPLE, &body(1, None, b"abcd"));
        assert_eq!(records(&whole[..20], |_| false).count(), 0);
        assert_eq!(
            records(&wrap(SAMPLE, b"short"), |_| false).next(),
            Some(Record::Other)
        );
        // A size smaller than the header.
        assert_eq!(records(&[9, 0, 0, 0, 0, 0, 4, 0], |_| false).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for record in records(&bytes, |id| id & 1 == 1) {
                if let Record::Sample(sample) = record {
                    prop_assert!(sample.call_chain.kernel().count() <= bytes.len());
                    let _ = sample.call_chain.user();
                }
            }
        }
    }
}
