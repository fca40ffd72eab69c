//! UTF-16, as Windows' editors and PowerShell's `>` write it, made UTF-8.

use std::io::{self, Cursor, Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    LittleEndian,
    BigEndian,
}

/// Which order it is, if a text with this beginning is UTF-16: by its mark, or because every second byte is zero.
pub(super) fn order_of(head: &[u8]) -> Option<Order> {
    match head {
        [0xff, 0xfe, ..] => return Some(Order::LittleEndian),
        [0xfe, 0xff, ..] => return Some(Order::BigEndian),
        _ => {}
    }
    const FEWEST_UNITS: usize = 8;
    let units = head.chunks_exact(2);
    let count = units.len();
    let nearly_all = |wanted: fn(&[u8]) -> bool| {
        units.clone().filter(|unit| wanted(unit)).count() * 10 >= count * 9
    };
    match () {
        () if count < FEWEST_UNITS => None,
        () if nearly_all(|unit| unit[0] != 0 && unit[1] == 0) => Some(Order::LittleEndian),
        () if nearly_all(|unit| unit[0] == 0 && unit[1] != 0) => Some(Order::BigEndian),
        () => None,
    }
}

/// Decodes while it is read. What is no character is replaced.
pub(super) struct Utf16<R> {
    input: R,
    order: Order,
    /// Bytes that are no whole character yet: a unit, or the first half of a pair and a part of the second.
    undecoded: Vec<u8>,
    decoded: Cursor<Vec<u8>>,
    is_start: bool,
    has_ended: bool,
}

const CHUNK_BYTES: usize = 64 << 10;

impl<R: Read> Utf16<R> {
    pub(super) fn new(input: R, order: Order) -> Self {
        Utf16 {
            input,
            order,
            undecoded: vec![],
            decoded: Cursor::default(),
            is_start: true,
            has_ended: false,
        }
    }

    fn decode_more(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let count = self.input.read(&mut chunk)?;
        self.has_ended = count == 0;
        self.undecoded.extend_from_slice(&chunk[..count]);
        let unit = |pair: &[u8]| match self.order {
            Order::LittleEndian => u16::from_le_bytes([pair[0], pair[1]]),
            Order::BigEndian => u16::from_be_bytes([pair[0], pair[1]]),
        };
        let mut units: Vec<u16> = self.undecoded.chunks_exact(2).map(unit).collect();
        // The other half of a pair is in the next chunk.
        if !self.has_ended
            && units
                .last()
                .is_some_and(|unit| (0xd800..0xdc00).contains(unit))
        {
            units.pop();
        }
        self.undecoded.drain(..units.len() * 2);
        let mut text: String = char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        if self.is_start && !text.is_empty() {
            self.is_start = false;
            text = text.trim_start_matches('\u{feff}').to_owned();
        }
        self.decoded = Cursor::new(text.into_bytes());
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.decoded.read(to)?;
            if count > 0 || to.is_empty() || self.has_ended {
                return Ok(count);
            }
            self.decode_more()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(to.len()).min(1);
            self.0.read(&mut to[..count])
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[a-z \n\u{e9}\u{1f600}]{0,40}", is_little in any::<bool>(), is_slow in any::<bool>()) {
            let bytes: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16())
                .flat_map(|unit| if is_little { unit.to_le_bytes() } else { unit.to_be_bytes() })
                .collect();
            let order = order_of(&bytes).unwrap();
            let mut decoded = String::new();
            if is_slow {
                Utf16::new(Slow(&bytes), order).read_to_string(&mut decoded).unwrap();
            } else {
                Utf16::new(&bytes[..], order).read_to_string(&mut decoded).unwrap();
            }
            prop_assert_eq!(decoded, text);
        }
    }

    #[test]
    fn a_text_without_a_mark_is_known_by_its_zeros() {
        let text: Vec<u8> = "[12345.678901] x86"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(order_of(&text), Some(Order::LittleEndian));
        assert_eq!(order_of(b"[12345.678901] x86/split lock"), None);
        assert_eq!(order_of(&[0; 64]), None);
    }
}
