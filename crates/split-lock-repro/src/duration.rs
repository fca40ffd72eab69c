//! Durations as people write them: `250us`, `1.5ms`, `2s`.

use std::time::Duration;

/// The units of a timeout, in rising order. Longer ones are not meant: `1M` must not become a month.
const UNITS: [(&str, u64); 5] = [
    ("ns", 1),
    ("µs", 1_000),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDurationError {
    /// Not a number and a unit.
    #[error("`{0}` is no duration: write a number and its unit, such as 250us, 1.5ms or 2s")]
    NotOne(String),
    /// A minus before it.
    #[error("`{0}` is negative: a duration cannot be")]
    Negative(String),
    /// More nanoseconds than 64 bits hold: 584 years.
    #[error("`{0}` is too long")]
    TooLong(String),
}

/// Reads a number and its unit: ns, us (or µs), ms or s. Nothing below a nanosecond exists.
///
/// ```
/// use split_lock_repro::duration;
/// use std::time::Duration;
///
/// assert_eq!(duration::parse("1.5ms"), Ok(Duration::from_micros(1500)));
/// assert!(duration::parse("1h").is_err());
/// ```
///
/// # Errors
/// If it is anything else.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(ParseDurationError::Negative(text.into()));
    }
    let not_one = || ParseDurationError::NotOne(text.into());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    let &(_, unit_ns) = unit.ok_or_else(not_one)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| not_one())?;
    let fraction_ns = fraction_ns(fraction, unit_ns).ok_or_else(not_one)?;
    whole
        .checked_mul(unit_ns)
        .and_then(|ns| ns.checked_add(fraction_ns))
        .map(Duration::from_nanos)
        .ok_or_else(|| ParseDurationError::TooLong(text.into()))
}

/// What the digits behind the point are worth; nothing below a nanosecond exists.
fn fraction_ns(digits: &str, unit_ns: u64) -> Option<u64> {
    let mut place_ns = unit_ns;
    let mut sum = 0;
    for digit in digits.chars() {
        let digit = u64::from(digit.to_digit(10)?);
        place_ns /= 10;
        if place_ns == 0 && digit != 0 {
            return None;
        }
        sum += digit * place_ns;
    }
    (!digits.is_empty()).then_some(sum)
}

/// Writes a duration without loss, in the largest unit that needs no fraction.
///
/// ```
/// use split_lock_repro::duration;
/// use std::time::Duration;
///
/// assert_eq!(duration::exact(Duration::from_millis(10)), "10ms");
/// assert_eq!(duration::exact(Duration::from_micros(1500)), "1500us");
/// ```
#[must_use]
pub fn exact(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (name, unit_ns) = UNITS
        .into_iter()
        .rev()
        .find(|(_, unit_ns)| nanos.is_multiple_of(u128::from(*unit_ns)))
        .expect("every duration is a number of nanoseconds");
    format!("{}{name}", nanos / u128::from(unit_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_those_of_a_timeout() {
        for (text, nanos) in [
            ("17ns", 17),
            ("20us", 20_000),
            ("20µs", 20_000),
            ("1.5ms", 1_500_000),
            ("0.000000001s", 1),
            ("2.50 s", 2_500_000_000),
            (" 0ms ", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["1M", "1m", "1h", "1d", "1month", "1MS", "1 ms 5us", "1e3ms"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        for text in ["0.5ns", "1.ms", ".5ms", "1.2.3ms", "1_000us", "+1ms", "١ms"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("no duration"), "{text}: {error}");
        }
        for (text, reason) in [
            ("-1ms", "negative"),
            ("", "no duration"),
            ("5", "no duration"),
            ("99999999999999999999999s", "no duration"),
            ("999999999999999s", "too long"),
            ("18446744073.709551616s", "too long"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos: u64, zeros in 0u32..12) {
            let nanos = nanos / 10_u64.pow(zeros) * 10_u64.pow(zeros);
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&exact(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_understood_or_refused(text in "[0-9.]{0,24}(ns|us|µs|ms|s)?|\\PC*") {
            let _ = parse(&text);
        }
    }
}
