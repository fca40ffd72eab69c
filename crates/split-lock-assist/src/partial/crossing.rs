//! Whether an operand lies across the end of a cache line or of a page.

use std::fmt::Write;
use std::ops::RangeInclusive;

use super::operand::Residue;

/// Whether something crosses a boundary, as far as its address is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crossing {
    /// Wherever it is.
    Never,
    /// Wherever it is.
    Always,
    /// It does if its address leaves one of these remainders, and they are all possible.
    IfRemainder(Vec<RangeInclusive<u64>>),
}

impl Crossing {
    /// Of `bytes` bytes, over a multiple of `unit`, which is a power of two and at most a page.
    #[must_use]
    pub fn of(address: Residue, bytes: u64, unit: u64) -> Self {
        let crosses = |offset: u64| offset + bytes > unit;
        let possible = || (0..unit).filter(|offset| could_be(address, *offset, unit));
        if !possible().any(crosses) {
            Self::Never
        } else if possible().all(crosses) {
            Self::Always
        } else {
            Self::IfRemainder(ranges(possible().filter(|offset| crosses(*offset))))
        }
    }

    /// The same condition for one term of the sum that the address is; `rest` is what is known of the
    /// other terms.
    #[must_use]
    pub fn for_term(&self, rest: Residue, unit: u64) -> Option<Vec<RangeInclusive<u64>>> {
        let Self::IfRemainder(remainders) = self else {
            return None;
        };
        if rest.modulus < unit {
            return None;
        }
        let mut values: Vec<u64> = remainders
            .iter()
            .flat_map(Clone::clone)
            .map(|offset| (offset + unit - rest.value % unit) % unit)
            .collect();
        values.sort_unstable();
        Some(ranges(values.into_iter()))
    }
}

/// An address of which that much is known can have this offset within its unit.
fn could_be(address: Residue, offset: u64, unit: u64) -> bool {
    if address.modulus <= unit {
        address.allows(offset)
    } else {
        address.value % unit == offset
    }
}

/// Rising numbers, with neighbours put together.
fn ranges(numbers: impl Iterator<Item = u64>) -> Vec<RangeInclusive<u64>> {
    let mut ranges: Vec<RangeInclusive<u64>> = vec![];
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

/// `57..63`, `0..2 or 60..63`, `58, 60 or 62`.
#[must_use]
pub fn listed(ranges: &[RangeInclusive<u64>]) -> String {
    let mut text = String::new();
    for (n, range) in ranges.iter().enumerate() {
        let gap = match n {
            0 => "",
            n if n + 1 == ranges.len() => " or ",
            _ => ", ",
        };
        let (first, last) = (range.start(), range.end());
        let _ = match first == last {
            true => write!(text, "{gap}{first}"),
            false => write!(text, "{gap}{first}..{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::decode::{LINE_BYTES, PAGE_BYTES};
    use proptest::prelude::*;

    use super::*;

    fn residue(modulus: u64, value: u64) -> Residue {
        Residue { modulus, value }
    }

    fn condition(address: Residue, bytes: u64, unit: u64) -> String {
        match Crossing::of(address, bytes, unit) {
            Crossing::IfRemainder(remainders) => listed(&remainders),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn it_depends_on_what_is_not_known() {
        for (modulus, value, bytes, unit, expected) in [
            (1, 0, 8, LINE_BYTES, "57..63"),
            (1, 0, 1, LINE_BYTES, "Never"),
            (1, 0, 4, PAGE_BYTES, "4093..4095"),
            (8, 0, 8, LINE_BYTES, "Never"),
            (8, 4, 8, LINE_BYTES, "60"),
            (2, 0, 8, LINE_BYTES, "58, 60 or 62"),
            (64, 60, 8, LINE_BYTES, "Always"),
            (64, 56, 8, LINE_BYTES, "Never"),
            (64, 60, 8, PAGE_BYTES, "4092"),
            (4096, 124, 8, LINE_BYTES, "Always"),
            (4096, 124, 8, PAGE_BYTES, "Never"),
        ] {
            let condition = condition(residue(modulus, value), bytes, unit);
            assert_eq!(condition, expected, "{value} mod {modulus}, {bytes} bytes");
        }
    }

    #[test]
    fn a_term_has_the_condition_less_the_rest() {
        let unknown = residue(1, 0);
        let crossing = Crossing::of(unknown, 8, LINE_BYTES);
        let for_rest = |rest| {
            let values = crossing.for_term(residue(4096, rest), LINE_BYTES);
            listed(&values.unwrap())
        };
        assert_eq!(for_rest(0x13), "38..44");
        assert_eq!(for_rest(60), "0..3 or 61..63");
        assert_eq!(crossing.for_term(residue(8, 0), LINE_BYTES), None);
        assert_eq!(Crossing::Never.for_term(residue(4096, 0), LINE_BYTES), None);
    }

    proptest! {
        /// Whatever address it turns out to be, what was said of it holds.
        #[test]
        fn what_is_said_holds_for_every_address(
            address in any::<u64>(),
            bits in 0u32..=12,
            bytes in proptest::sample::select(vec![1u64, 2, 4, 8, 16]),
            unit in proptest::sample::select(vec![LINE_BYTES, PAGE_BYTES]),
        ) {
            let modulus = 1 << bits;
            let crosses = address % unit + bytes > unit;
            match Crossing::of(residue(modulus, address % modulus), bytes, unit) {
                Crossing::Never => prop_assert!(!crosses),
                Crossing::Always => prop_assert!(crosses),
                Crossing::IfRemainder(remainders) => {
                    let is_listed = remainders.iter().any(|range| range.contains(&(address % unit)));
                    prop_assert_eq!(is_listed, crosses);
                }
            }
        }
    }
}
