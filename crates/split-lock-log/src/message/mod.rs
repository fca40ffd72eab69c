//! The kernel's messages, word by word: read, and written.

pub(crate) mod alignment;
mod boot;

use boot::{BOOT, RATE, boot};

use crate::{Boot, Exception, Message, RefusedWrite, Suppressed, Trap, TrapKind};

/// What the first line of a kernel's log says.
pub(crate) const LINUX_VERSION: &[u8] = b"Linux version ";

pub(crate) const PREFIX: &[u8] = b"x86/split lock detection: ";

/// What the kernel prints when it may not write a register that it did not expect to be refused.
pub(crate) const REFUSED_WRITE: &[u8] = b"unchecked MSR access error: WRMSR to ";

/// MSR_TEST_CTRL, as it stands after [`REFUSED_WRITE`].
const TEST_CTRL: &[u8] = b"0x33";

/// What is left of it when the beginning is lost.
pub(crate) const END_OF_REFUSED_WRITE: &[u8] = b"WRMSR to 0x33 (tried to write 0x";

const CALLBACKS_SUPPRESSED: &[u8] = b" callbacks suppressed";

/// Which of the messages has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opening {
    Prefix,
    /// The name of the function whose messages were left out, before their count.
    RateLimited(Exception),
    RefusedWrite,
}

pub(crate) const OPENINGS: [(&[u8], Opening); 4] = [
    (PREFIX, Opening::Prefix),
    (
        b"split_lock_warn: ",
        Opening::RateLimited(Exception::AlignmentCheck),
    ),
    (b"handle_bus_lock: ", Opening::RateLimited(Exception::Debug)),
    (REFUSED_WRITE, Opening::RefusedWrite),
];

impl Opening {
    pub(crate) fn parse(self, body: &[u8]) -> Parsed {
        let body = body.trim_ascii_end();
        match self {
            Opening::Prefix => traps(body).unwrap_or_else(|| boot(body)),
            Opening::RateLimited(exception) => after_function(body, exception),
            Opening::RefusedWrite => after_refused_write(body),
        }
    }
}

/// What stands before a name.
pub(crate) const AC: &[u8] = b"#AC: ";
pub(crate) const DB: &[u8] = b"#DB: ";

/// What stands between who did it and where, and after which exception's name.
const TRAPS: [(&[u8], &[u8], TrapKind); 4] = {
    use TrapKind::{BogusSplitLock, BusLock, FatalSplitLock, SplitLock};
    [
        (AC, b" took a split_lock trap at address: ", SplitLock),
        (AC, b" fatal split_lock trap at address: ", FatalSplitLock),
        (AC, b" bogus split_lock trap at address: ", BogusSplitLock),
        (DB, b" took a bus_lock trap at address: ", BusLock),
    ]
};

/// What is left of [`TRAPS`] when a line's beginning is lost.
pub(crate) const ENDS_OF_TRAPS: [&[u8]; 2] =
    [b"split_lock trap at address:", b"bus_lock trap at address:"];

pub(crate) const LONGEST_HEXADECIMAL: usize = 16;

/// The kernel's limit, and what it says about offset, size and module.
const LONGEST_SYMBOL: usize = 640;

/// The kernel's own names have 15 bytes at most; those in texts that people have touched up may have more.
const LONGEST_COMM: usize = 64;

/// What follows the words of an [`Opening`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    Whole(Message, Ending),
    /// More text could make it whole.
    CutShort,
    /// More text could make it whole, or something else.
    MaybeCutShort,
    Garbled,
    /// Something else.
    NotOurs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// So many bytes of the text are behind it, and not its own.
    pub(crate) behind: usize,
    /// It ends in digits with nothing behind them, and could be an address with more of them.
    pub(crate) may_go_on: bool,
}

impl Parsed {
    /// Without anything behind it.
    fn whole(message: Message) -> Self {
        Parsed::Whole(message, Ending::default())
    }
}

/// A trap, from the exception's name on.
pub(crate) fn traps(body: &[u8]) -> Option<Parsed> {
    TRAPS
        .iter()
        .enumerate()
        .find_map(|(n, &(exception, middle, kind))| {
            let rest = body.strip_prefix(exception)?;
            // A search takes longer to prepare than all the rest of a message takes to read.
            let last_word = memchr::memrchr(b' ', rest).map_or(0, |at| at + 1);
            if let Some(who) = rest[..last_word].strip_suffix(middle)
                && who.len() <= LONGEST_COMM + "/4294967295".len()
            {
                return Some(trap(kind, who, &rest[last_word..]));
            }
            // Of several the first that makes a whole message: behind it there may be another.
            let places = || MIDDLE_FINDERS[n].find_iter(rest);
            let at = |at: usize| trap(kind, &rest[..at], &rest[at + middle.len()..]);
            let whole = places()
                .map(at)
                .find(|parsed| matches!(parsed, Parsed::Whole(..)));
            whole.or_else(|| places().next().map(at))
        })
}

/// To make one takes longer than to search a line.
static MIDDLE_FINDERS: std::sync::LazyLock<[memchr::memmem::Finder<'static>; 4]> =
    std::sync::LazyLock::new(|| TRAPS.map(|(_, middle, _)| memchr::memmem::Finder::new(middle)));

fn trap(kind: TrapKind, who: &[u8], address: &[u8]) -> Parsed {
    let Some((comm, tid)) = split_who(who) else {
        return Parsed::Garbled;
    };
    let Some(digits) = address.strip_prefix(b"0x").or(address.strip_prefix(b"0X")) else {
        return cut_short_if(b"0x".starts_with(address));
    };
    let (digits, behind) = split_digits(digits, u8::is_ascii_hexdigit);
    if digits.is_empty() {
        return cut_short_if(behind.is_empty());
    }
    let Some(address) = hexadecimal_digits(digits).filter(|_| ends_a_number(behind)) else {
        return Parsed::Garbled;
    };
    let message = Message::Trap(Trap {
        kind,
        comm: comm.to_vec(),
        tid,
        address,
    });
    Parsed::Whole(
        message,
        Ending {
            behind: behind.len(),
            may_go_on: behind.is_empty() && !is_all_of_an_address(digits),
        },
    )
}

/// What is behind a number's last digit. A letter is a digit that something has changed, and dots are digits that
/// somebody has left out.
fn ends_a_number(behind: &[u8]) -> bool {
    match behind {
        [first, ..] if first.is_ascii_alphanumeric() || *first == b'_' => false,
        [first, ..] if !first.is_ascii() => {
            !behind.starts_with("…".as_bytes()) && is_punctuation(behind)
        }
        _ => !behind.starts_with(b"..."),
    }
}

fn is_punctuation(behind: &[u8]) -> bool {
    let marks = ["\u{a0}", "\u{201d}", "\u{2019}", "»", "│", "\u{3000}"];
    marks.iter().any(|mark| behind.starts_with(mark.as_bytes()))
}

/// Whether no address has more digits: 47 bits are a program's, and 64 are the kernel's. What has fewer digits may be
/// all of an address, or the beginning of one.
pub(crate) fn is_all_of_an_address(digits: &[u8]) -> bool {
    match digits {
        [b'1'..=b'7', ..] => digits.len() >= 12,
        _ => digits.len() >= LONGEST_HEXADECIMAL,
    }
}

/// The thread that a damaged line names, if it does: its name ends where the message goes on.
pub(crate) fn who_in(line: &[u8]) -> Option<(&[u8], u32)> {
    let mut exceptions = [AC, DB].iter();
    let start =
        exceptions.find_map(|words| Some(memchr::memmem::find(line, words)? + words.len()))?;
    let rest = &line[start..];
    let end = TRAPS.iter().find_map(|(_, middle, _)| {
        let end_of_name = middle.strip_suffix(b" at address: ")?;
        memchr::memmem::find(rest, end_of_name)
    })?;
    split_who(&rest[..end])
}

/// A name may hold slashes and digits of its own: the last slash counts.
fn split_who(who: &[u8]) -> Option<(&[u8], u32)> {
    let slash = memchr::memrchr(b'/', who)?;
    let (comm, tid) = (&who[..slash], decimal(&who[slash + 1..])?);
    // Of two lines that have run into each other neither can be trusted.
    let is_name = comm.len() <= LONGEST_COMM && memchr::memmem::find(comm, PREFIX).is_none();
    Some((comm, u32::try_from(tid).ok()?)).filter(|_| is_name)
}

/// Whether what is behind a message is not its own: the kernel writes no such marks there.
fn ends_a_message(behind: &[u8]) -> bool {
    behind.is_empty()
        || b"\"'`<,.)]}|\\[;&\r\n\t".contains(&behind[0])
        || behind.starts_with(b" [")
        || is_punctuation(behind)
}

/// A name can hold nearly anything, so as long as it is not too long it may still go on.
fn is_beginning_of_trap(body: &[u8]) -> bool {
    let longest = LONGEST_COMM + "/4294967295 took a split_lock trap at address:".len();
    let who = TRAPS
        .iter()
        .find_map(|(exception, ..)| body.strip_prefix(*exception));
    who.is_some_and(|who| who.len() <= longest && memchr::memmem::find(who, PREFIX).is_none())
}

/// Reads what follows [`Opening::RateLimited`], the name of a function: stack traces have it, too.
fn after_function(body: &[u8], exception: Exception) -> Parsed {
    match counted(body, CALLBACKS_SUPPRESSED) {
        Ok(count) => Parsed::whole(Message::Suppressed(Suppressed { exception, count })),
        Err(Parsed::Garbled) => Parsed::NotOurs,
        Err(parsed) => parsed,
    }
}

/// Reads what follows [`REFUSED_WRITE`].
fn after_refused_write(body: &[u8]) -> Parsed {
    match body.strip_prefix(TEST_CTRL) {
        Some(rest) if rest.starts_with(b" ") => refused_write(rest).unwrap_or_else(|parsed| parsed),
        // Digits may follow.
        _ if TEST_CTRL.starts_with(body) => Parsed::MaybeCutShort,
        _ => Parsed::NotOurs,
    }
}

/// Reads what follows the register, or says why that is not possible.
fn refused_write(text: &[u8]) -> Result<Parsed, Parsed> {
    let rest = after(b" (tried to write 0x", text)?;
    let (value, rest) = leading_number(rest)?;
    let rest = after(b") at rIP: 0x", rest)?;
    let (rip, rest) = leading_number(rest)?;
    let symbol = after(b" (", rest)?;
    match memchr::memchr(b')', symbol) {
        Some(end) if end > 0 && ends_a_message(&symbol[end + 1..]) => {
            Ok(Parsed::whole(Message::RefusedWrite(RefusedWrite {
                value,
                rip,
            })))
        }
        None if symbol.len() <= LONGEST_SYMBOL => Err(Parsed::CutShort),
        _ => Err(Parsed::Garbled),
    }
}

fn after<'a>(words: &[u8], text: &'a [u8]) -> Result<&'a [u8], Parsed> {
    let missing = || cut_short_if(words.starts_with(text));
    text.strip_prefix(words).ok_or_else(missing)
}

/// A hexadecimal number that does not end the text, and what follows it.
fn leading_number(text: &[u8]) -> Result<(u64, &[u8]), Parsed> {
    let (digits, rest) = split_digits(text, u8::is_ascii_hexdigit);
    if rest.is_empty() {
        return Err(cut_short_if(text.len() <= LONGEST_HEXADECIMAL));
    }
    let number = hexadecimal_digits(digits).ok_or(Parsed::Garbled)?;
    Ok((number, rest))
}

fn cut_short_if(may_go_on: bool) -> Parsed {
    if may_go_on {
        Parsed::CutShort
    } else {
        Parsed::Garbled
    }
}

/// The number before `unit`; otherwise whether more text could make it one.
fn counted(text: &[u8], unit: &[u8]) -> Result<u64, Parsed> {
    let (number, rest) = split_digits(text, u8::is_ascii_digit);
    if rest.strip_prefix(unit).is_some_and(ends_a_message) {
        return decimal(number).ok_or(Parsed::Garbled);
    }
    Err(cut_short_if(
        unit.starts_with(rest) && (!number.is_empty() || rest.is_empty()),
    ))
}

/// The digits that a text begins with, and what follows them.
pub(crate) fn split_digits(text: &[u8], is_digit: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !is_digit(byte));
    text.split_at(end.unwrap_or(text.len()))
}

pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

pub(crate) fn hexadecimal_digits(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    is_number.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
}

impl Message {
    /// The kernel's words for this, without a time. A [`Scanner`](crate::Scanner) reads them as the same message.
    ///
    /// What a message does not keep (who built a kernel, which function's write was refused) is left out, or has
    /// its usual name. `None` for what no kernel prints, and for damaged messages: not all of them is known.
    #[must_use]
    pub fn to_kernel_text(&self) -> Option<Vec<u8>> {
        Some(match self {
            Message::Trap(trap) => {
                let (exception, middle, _) = TRAPS.iter().find(|(.., kind)| *kind == trap.kind)?;
                let before = [PREFIX, exception, &trap.comm].concat();
                let tid = format!("/{}", trap.tid);
                let address = format!("{:#x}", trap.address);
                [&before, tid.as_bytes(), middle, address.as_bytes()].concat()
            }
            Message::Boot(Boot::BusLockRate { per_second }) => {
                [PREFIX, RATE.0, per_second.to_string().as_bytes(), RATE.1].concat()
            }
            Message::Boot(boot) => [PREFIX, BOOT.iter().find(|(_, of)| of == boot)?.0].concat(),
            Message::Suppressed(Suppressed { exception, count }) => {
                let (function, _) = OPENINGS.iter().find(
                    |(_, opening)| matches!(opening, Opening::RateLimited(of) if of == exception),
                )?;
                [function, count.to_string().as_bytes(), CALLBACKS_SUPPRESSED].concat()
            }
            Message::RefusedWrite(RefusedWrite { value, rip }) => format!(
                "unchecked MSR access error: WRMSR to 0x33 (tried to write {value:#018x}) at rIP: {rip:#x} \
                 (native_write_msr)"
            )
            .into_bytes(),
            Message::Started { release } => [LINUX_VERSION, release, b" ()"].concat(),
            Message::KernelSplitLock(oops) => oops.to_kernel_text(),
            Message::AlignmentSignal(signal) => alignment::to_kernel_text(signal),
            Message::Damaged { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests;
