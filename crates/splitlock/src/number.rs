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
pub(crate) fn si(value: f64) -> String {
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
pub(crate) fn turns_per_s(value: f64) -> String {
    format!("{} turns/s", si(value))
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
    fn rates_carry_their_unit() {
        assert_eq!(turns_per_s(9e5), "900 k turns/s");
        assert_eq!(turns_per_s(0.0), "0 turns/s");
    }
}
