//! `traps: NAME[PID] trap alignment check ip:... sp:... error:0 in FILE[...]`: what a program dies of in mode `fatal`.

use super::{Ending, Parsed, decimal, hexadecimal_digits, split_digits};
use crate::{AlignmentSignal, Message};

pub(crate) const BEFORE: &[u8] = b"traps: ";

pub(crate) const MIDDLE: &[u8] = b" trap alignment check ip:";

/// Reads what follows [`BEFORE`].
pub(crate) fn parse(body: &[u8]) -> Parsed {
    let Some(at) = memchr::memmem::find(body, MIDDLE) else {
        return Parsed::NotOurs;
    };
    let (who, rest) = (&body[..at], &body[at + MIDDLE.len()..]);
    let named = who.strip_suffix(b"]").and_then(|who| {
        let open = memchr::memrchr(b'[', who)?;
        let tid = u32::try_from(decimal(&who[open + 1..])?).ok()?;
        Some((&who[..open], tid))
    });
    let Some((comm, tid)) = named.filter(|(comm, _)| comm.len() <= super::LONGEST_COMM) else {
        return Parsed::Garbled;
    };
    let Some((ip, rest)) = number(rest) else {
        return super::cut_short_if(rest.iter().all(u8::is_ascii_hexdigit));
    };
    let numbers: Option<&[u8]> = [&b" sp:"[..], b" error:"]
        .iter()
        .try_fold(rest, |rest, name| {
            let (digits, rest) = split_digits(rest.strip_prefix(*name)?, u8::is_ascii_hexdigit);
            (!digits.is_empty()).then_some(rest)
        });
    let Some(rest) = numbers else {
        return Parsed::CutShort;
    };
    let module = rest.strip_prefix(b" in ");
    let behind = module.map_or(rest, |_| &rest[rest.len()..]);
    Parsed::Whole(
        Message::AlignmentSignal(AlignmentSignal {
            comm: comm.to_vec(),
            tid,
            ip,
            module: module.and_then(|module| self::module(module, ip)),
        }),
        Ending {
            behind: behind.len(),
            may_go_on: false,
        },
    )
}

/// `steamclient.so[f2e00000+1c00000]`, and since 6.11 `steamclient.so[43a094,f2e00000+1c00000]`.
fn module(text: &[u8], ip: u64) -> Option<(Vec<u8>, u64)> {
    let open = memchr::memchr(b'[', text)?;
    let (name, inside) = (&text[..open], &text[open + 1..]);
    let inside = &inside[..memchr::memchr(b']', inside)?];
    if let Some(comma) = memchr::memchr(b',', inside) {
        return Some((name.to_vec(), hexadecimal_digits(&inside[..comma])?));
    }
    let plus = memchr::memchr(b'+', inside)?;
    let start = hexadecimal_digits(&inside[..plus])?;
    Some((name.to_vec(), ip.checked_sub(start)?))
}

/// A hexadecimal number that something follows.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = split_digits(text, u8::is_ascii_hexdigit);
    (!rest.is_empty()).then_some((hexadecimal_digits(digits)?, rest))
}

pub(crate) fn to_kernel_text(signal: &AlignmentSignal) -> Vec<u8> {
    let AlignmentSignal {
        comm,
        tid,
        ip,
        module,
    } = signal;
    let mut text = [BEFORE, comm, format!("[{tid}]").as_bytes(), MIDDLE].concat();
    text.extend(format!("{ip:x} sp:0 error:0").bytes());
    if let Some((name, offset)) = module {
        let start = ip.saturating_sub(*offset);
        let place = format!("[{offset:x},{start:x}+1000]");
        text.extend([b" in ", &name[..], place.as_bytes()].concat());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_with_the_offset_in_it_in_old_and_new_words() {
        for (text, offset) in [
            (
                "a b[7] trap alignment check ip:f323a094 sp:e4ffe0b0 error:0 in x.so[f2e00000+1c00000]",
                0x43a094,
            ),
            (
                "a b[7] trap alignment check ip:f323a094 sp:e4ffe0b0 error:0 in x.so[43a094,f2e00000+1c00000]",
                0x43a094,
            ),
        ] {
            let Parsed::Whole(Message::AlignmentSignal(signal), _) = parse(text.as_bytes()) else {
                panic!("{text}");
            };
            assert_eq!(
                (&signal.comm[..], signal.tid, signal.ip),
                (&b"a b"[..], 7, 0xf323_a094)
            );
            assert_eq!(signal.module, Some((b"x.so".to_vec(), offset)));
            let again = to_kernel_text(&signal);
            assert_eq!(parse(&again[BEFORE.len()..]), parse(text.as_bytes()));
        }
    }

    #[test]
    fn other_traps_are_not_this_one() {
        assert_eq!(parse(b"a[7] trap int3 ip:1 sp:2 error:0"), Parsed::NotOurs);
        assert_eq!(parse(b"a[7] trap alignment check ip:1"), Parsed::CutShort);
        assert_eq!(
            parse(b"a7 trap alignment check ip:1 sp:2 error:0"),
            Parsed::Garbled
        );
    }
}
