//! The kernel's words, whole, cut short and garbled.

use super::*;

#[test]
fn names_end_at_the_last_slash() {
    for (who, expected) in [
        (&b"CPU 0/KVM/5677"[..], Some((&b"CPU 0/KVM"[..], 5677))),
        (b"a/1/2", Some((b"a/1", 2))),
        (b"/7", Some((b"", 7))),
        (b"\x1b[31m\xff: \n/7", Some((b"\x1b[31m\xff: \n", 7))),
        (b"nobody", None),
        (b"a/", None),
        (b"a/1x", None),
        (b"a/-1", None),
        (b"a/+1", None),
        (b"a/4294967296", None),
    ] {
        assert_eq!(split_who(who), expected, "{}", who.escape_ascii());
    }
}

#[test]
fn a_name_may_sound_like_a_message() {
    let text = b"#AC: a/1 fatal b/2 took a split_lock trap at address: 0x10";
    let Parsed::Whole(Message::Trap(trap), _) = Opening::Prefix.parse(text) else {
        panic!("no trap");
    };
    assert_eq!((&trap.comm[..], trap.tid), (&b"a/1 fatal b"[..], 2));
}

#[test]
fn every_beginning_of_a_message_is_cut_short_and_nothing_else() {
    let traps =
        TRAPS.map(|(exception, middle, _)| [exception, b"CPU 0/KVM/5677", middle, b"0x"].concat());
    let boots = BOOT.map(|(text, _)| text.to_vec());
    let rate = [RATE.0, b"1000", RATE.1].concat();
    for whole in traps.into_iter().chain(boots).chain([rate]) {
        for end in 0..whole.len() {
            let part = &whole[..end];
            let cut = Opening::Prefix.parse(part);
            let is_whole_too = BOOT.iter().any(|(text, _)| *text == part.trim_ascii_end());
            assert_eq!(
                cut == Parsed::CutShort,
                !is_whole_too,
                "{}: {cut:?}",
                part.escape_ascii()
            );
        }
    }
}

const REFUSED: &[u8] = b"0x33 (tried to write 0x0000000000000000) at rIP: 0xffffffff812a061f (native_write_msr+0xf/0x30)";

#[test]
fn a_refused_write_is_read_word_by_word() {
    let expected = RefusedWrite {
        value: 0,
        rip: 0xffff_ffff_812a_061f,
    };
    let whole = Parsed::whole(Message::RefusedWrite(expected));
    assert_eq!(Opening::RefusedWrite.parse(REFUSED), whole);
    for end in 0..REFUSED.len() {
        let cut = Opening::RefusedWrite.parse(&REFUSED[..end]);
        let expected = match end {
            0..=5 => Parsed::MaybeCutShort,
            _ => Parsed::CutShort,
        };
        assert_eq!(cut, expected, "{}", REFUSED[..end].escape_ascii());
    }
    for (text, expected) in [
        (&b"0x330 (tried"[..], Parsed::NotOurs),
        (b"0x3f1 (tried", Parsed::NotOurs),
        (b"0x33(", Parsed::NotOurs),
        (b"0x33 (failed", Parsed::Garbled),
        (b"0x33 (tried to write 0x) at", Parsed::Garbled),
        (
            b"0x33 (tried to write 0x11112222333344445) at",
            Parsed::Garbled,
        ),
        (b"0x33 (tried to write 0x0) at rIP: 0x1 ()", Parsed::Garbled),
        (
            b"0x33 (tried to write 0x0) at rIP: 0x1 (a) b",
            Parsed::Garbled,
        ),
    ] {
        assert_eq!(
            Opening::RefusedWrite.parse(text),
            expected,
            "{}",
            text.escape_ascii()
        );
    }
}

#[test]
fn what_is_nearly_right_is_garbled() {
    for text in [
        &b"enabled"[..],
        b"#AC: a/1 took a split_lock trap at address: 0xXXXX",
        b"#AC: a/1 took a split_lock trap at address: 401173",
        b"#AC: a/1 took a split_lock trap at address: 0x11112222333344445",
        b"#AC: a/1x took a split_lock trap at address: 0x10",
        b"#DB: setting system wide bus lock rate limit to many/sec",
        b"#DB: setting system wide bus lock rate limit to 5000000000/sec",
        b"#XX: a/1 took a split_lock trap at address: 0x10",
    ] {
        assert_eq!(
            Opening::Prefix.parse(text),
            Parsed::Garbled,
            "{}",
            text.escape_ascii()
        );
    }
}
