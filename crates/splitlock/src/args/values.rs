//! Values as they are written: durations, and lists of timeouts and offsets (`1ms..49ms/1ms`,
//! `250us,2s`, `0..63`).

use std::str::FromStr;
use std::time::Duration;

use split_lock_repro::duration;
use split_lock_repro::sweep::PlanError;

/// A finer sweep than this is a mistake.
const MOST_VALUES: u128 = 100_000;

/// Pending timeouts, in rising order and each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timeouts(pub(crate) Vec<Duration>);

/// Offsets within a cache line, in rising order and each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offsets(pub(crate) Vec<u8>);

impl FromStr for Timeouts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let nanos = values(text, duration_ns, None)?;
        if nanos.contains(&0) {
            return Err(PlanError::ZeroTimeout.to_string());
        }
        let timeouts = nanos.into_iter().map(Duration::from_nanos);
        Ok(Timeouts(timeouts.collect()))
    }
}

impl FromStr for Offsets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let offset = |text: &str| match text.parse::<u64>() {
            Ok(offset) if offset < 64 => Ok(offset),
            _ => Err(format!(
                "`{text}` is no offset within a cache line: use 0 to 63"
            )),
        };
        let offsets = values(text, offset, Some(1))?.into_iter();
        Ok(Offsets(offsets.map(|offset| offset as u8).collect()))
    }
}

/// `VALUE` or `FIRST..LAST/STEP`, several of them separated by commas.
fn values(
    text: &str,
    value: impl Fn(&str) -> Result<u64, String>,
    default_step: Option<u64>,
) -> Result<Vec<u64>, String> {
    let mut all = vec![];
    for part in text.split(',').map(str::trim) {
        match part.split_once("..") {
            None => all.push(value(part)?),
            Some((first, rest)) => {
                let (last, step) = match (rest.split_once('/'), default_step) {
                    (Some((last, step)), _) => (last, value(step)?),
                    (None, Some(step)) => (rest, step),
                    (None, None) => {
                        return Err(format!(
                            "`{part}` has no step: write {part}/1ms, for example"
                        ));
                    }
                };
                all.extend(range(part, value(first)?, value(last)?, step)?);
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Both ends belong to it.
fn range(
    text: &str,
    first: u64,
    last: u64,
    step: u64,
) -> Result<impl Iterator<Item = u64>, String> {
    if step == 0 {
        return Err(format!("`{text}` has a step of zero and would never end"));
    }
    if last < first {
        return Err(format!("`{text}` ends before it begins"));
    }
    let count = u128::from((last - first) / step) + 1;
    if count > MOST_VALUES {
        return Err(format!(
            "`{text}` has {count} values; {MOST_VALUES} is the limit"
        ));
    }
    Ok((0..count as u64).map(move |i| first + i * step))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it has to be more than nothing".into()),
        some => Ok(some),
    }
}

fn duration_ns(text: &str) -> Result<u64, String> {
    duration(text).map(|duration| duration.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timeouts_us(text: &str) -> Vec<u128> {
        let timeouts: Timeouts = text.parse().unwrap();
        timeouts.0.iter().map(Duration::as_micros).collect()
    }

    #[test]
    fn single_values_lists_and_ranges_are_understood() {
        assert_eq!(timeouts_us("250us"), [250]);
        assert_eq!(timeouts_us("2s,1ms, 250us,1ms"), [250, 1000, 2_000_000]);
        assert_eq!(timeouts_us("1ms..3ms/1ms"), [1000, 2000, 3000]);
        assert_eq!(
            timeouts_us("1ms..2ms/300us,5ms"),
            [1000, 1300, 1600, 1900, 5000]
        );
        assert_eq!(timeouts_us("1ms..1ms/1ms"), [1000]);
        assert_eq!("0..63".parse::<Offsets>().unwrap().0.len(), 64);
        assert_eq!(
            "56, 57,0..16/8".parse::<Offsets>().unwrap().0,
            [0, 8, 16, 56, 57]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (text, reason) in [
            ("0ms", "zero"),
            ("0ms..5ms/1ms", "zero"),
            ("-1ms", "negative"),
            ("-1ms..5ms/1ms", "negative"),
            ("", "no duration"),
            ("5", "no duration"),
            ("five", "no duration"),
            ("1ms..20ms", "no step"),
            ("1ms..20ms/0ms", "step of zero"),
            ("20ms..1ms/1ms", "ends before"),
            ("1ns..1s/1ns", "limit"),
            ("999999999999999s", "too long"),
            ("1ms,,2ms", "no duration"),
        ] {
            let error = text.parse::<Timeouts>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for text in ["64", "-1", "x", "0..64", ""] {
            let error = text.parse::<Offsets>().unwrap_err();
            assert!(error.contains("0 to 63"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_understood_or_refused(text in "[0-9a-z.,/-]{0,24}|\\PC*") {
            if let Ok(timeouts) = text.parse::<Timeouts>() {
                prop_assert!(timeouts.0.is_sorted() && !timeouts.0.contains(&Duration::ZERO));
            }
            let _ = text.parse::<Offsets>();
        }
    }
}
