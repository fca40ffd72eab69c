//! Numbers as people read them.

const PREFIXES: [(f64, &str); 6] = [
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
];

/// Three significant digits and a metric prefix: `400 M`, `1.23 k`, `0`.
pub fn si(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = 10f64.powi(value.abs().log10().floor() as i32 - 2);
    let rounded = (value / magnitude).round() * magnitude;
    let (unit, prefix) = PREFIXES
        .into_iter()
        .find(|(unit, _)| rounded.abs() >= unit * (1.0 - 1e-9))
        .unwrap_or((1.0, ""));
    let number = trimmed(rounded / unit);
    if prefix.is_empty() {
        number
    } else {
        format!("{number} {prefix}")
    }
}

/// Three significant digits, without the zeros that say nothing.
fn trimmed(value: f64) -> String {
    let whole_digits = value.abs().log10().floor() as i32 + 1;
    let decimals = (3 - whole_digits).clamp(0, 12) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A rate of progress, with its unit.
pub fn turns_per_s(value: f64) -> String {
    format!("{} turns/s", si(value))
}

/// A whole number in groups of three: `1,234,567`.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 {
        format!("-{text}")
    } else {
        text
    }
}

/// A time of so many nanoseconds, in the unit that suits it.
pub fn duration(ns: f64) -> String {
    let (unit, name) = match ns.abs() {
        x if x >= 10e9 => (1e9, "s"),
        x if x >= 1e6 => (1e6, "ms"),
        x if x >= 1e3 => (1e3, "µs"),
        _ => (1.0, "ns"),
    };
    if ns == 0.0 {
        return "0 ns".into();
    }
    format!("{} {name}", trimmed(ns / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_prefix() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (7.0, "7"),
            (999.6, "1 k"),
            (12_345.0, "12.3 k"),
            (899_900.0, "900 k"),
            (4e8, "400 M"),
            (1.8e19, "18000 P"),
        ] {
            assert_eq!(si(value), text);
        }
    }

    #[test]
    fn groups_of_three() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(-1234.0), "-1,234");
        assert_eq!(grouped(12.0), "12");
        assert_eq!(grouped(-0.2), "0");
    }

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration(20_500.0), "20.5 µs");
        assert_eq!(duration(49e6), "49 ms");
        assert_eq!(duration(0.0), "0 ns");
        assert_eq!(duration(-5.0), "-5 ns");
        assert_eq!(duration(12e9), "12 s");
    }

    #[test]
    fn rates_carry_their_unit() {
        assert_eq!(turns_per_s(9e5), "900 k turns/s");
        assert_eq!(turns_per_s(0.0), "0 turns/s");
    }
}
