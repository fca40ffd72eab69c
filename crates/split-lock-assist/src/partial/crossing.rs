//! Whether an operand lies across the end of a cache line or of a page.

use std::ops::RangeInclusive;

use super::PartialValue;

/// Whether something crosses a boundary, as far as its address is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crossing {
    /// Wherever its address may be.
    Never,
    /// Wherever its address may be.
    Always,
    /// It does if its address leaves one of these remainders, and they are all possible.
    IfRemainder(Vec<RangeInclusive<u64>>),
}

impl Crossing {
    /// Of `bytes` bytes, over a multiple of `unit`, which is a power of two and at most a page.
    #[must_use]
    pub fn of(address: PartialValue, bytes: u64, unit: u64) -> Self {
        let known = address.lowest(unit.ilog2());
        let possible = |&offset: &u64| PartialValue::from(Some(offset)).lowest(known.bits) == known;
        let (crossing, others): (Vec<_>, Vec<_>) = (0..unit)
            .filter(possible)
            .partition(|offset| offset + bytes > unit);
        match (crossing.is_empty(), others.is_empty()) {
            (true, _) => Self::Never,
            (_, true) => Self::Always,
            _ => Self::IfRemainder(ranges(crossing)),
        }
    }

    /// The same condition for one term of the sum that the address is; `rest` is what is known of the
    /// other terms.
    #[must_use]
    pub fn for_term(&self, rest: PartialValue, unit: u64) -> Option<Vec<RangeInclusive<u64>>> {
        let remainders = match self {
            Self::IfRemainder(remainders) if rest.bits >= unit.ilog2() => remainders,
            _ => return None,
        };
        let mut values: Vec<u64> = remainders
            .iter()
            .flat_map(Clone::clone)
            .map(|offset| (offset + unit - rest.value % unit) % unit)
            .collect();
        values.sort_unstable();
        Some(ranges(values))
    }
}

/// Rising numbers, with neighbours put together.
fn ranges(numbers: Vec<u64>) -> Vec<RangeInclusive<u64>> {
    let mut ranges: Vec<RangeInclusive<u64>> = vec![];
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::{LINE_BYTES, PAGE_BYTES};

    fn lowest(bits: u32, value: u64) -> PartialValue {
        PartialValue { value, bits }
    }

    #[test]
    fn it_depends_on_what_is_not_known() {
        use Crossing::{Always, IfRemainder, Never};
        let even = vec![58..=58, 60..=60, 62..=62];
        for (bits, value, bytes, unit, expected) in [
            (0, 0, 8, LINE_BYTES, IfRemainder(vec![57..=63])),
            (0, 0, 1, LINE_BYTES, Never),
            (0, 0, 4, PAGE_BYTES, IfRemainder(vec![4093..=4095])),
            (3, 0, 8, LINE_BYTES, Never),
            (3, 4, 8, LINE_BYTES, IfRemainder(vec![60..=60])),
            (1, 0, 8, LINE_BYTES, IfRemainder(even)),
            (6, 60, 8, LINE_BYTES, Always),
            (6, 56, 8, LINE_BYTES, Never),
            (6, 60, 8, PAGE_BYTES, IfRemainder(vec![4092..=4092])),
            (12, 124, 8, LINE_BYTES, Always),
            (12, 124, 8, PAGE_BYTES, Never),
        ] {
            let crossing = Crossing::of(lowest(bits, value), bytes, unit);
            assert_eq!(crossing, expected, "{bits} bits of {value}, {bytes} bytes");
        }
    }

    #[test]
    fn a_term_has_the_condition_less_the_rest() {
        let crossing = Crossing::of(lowest(0, 0), 8, LINE_BYTES);
        let for_rest = |rest| crossing.for_term(lowest(12, rest), LINE_BYTES).unwrap();
        assert_eq!(for_rest(0x13), [38..=44]);
        assert_eq!(for_rest(60), [0..=3, 61..=63]);
        assert_eq!(crossing.for_term(lowest(3, 0), LINE_BYTES), None);
        assert_eq!(Crossing::Never.for_term(lowest(12, 0), LINE_BYTES), None);
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
            let known = PartialValue::from(Some(address)).lowest(bits);
            let crosses = address % unit + bytes > unit;
            match Crossing::of(known, bytes, unit) {
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
