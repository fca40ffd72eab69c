//! Prometheus' text format.

use std::fmt::Write;

/// Metrics of this program, whose names all begin with its own. Those of one name come one after the other.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    text: String,
    last: &'static str,
}

impl Metrics {
    /// Adds what may rise and fall.
    pub(crate) fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.one(name, "gauge", help, labels, value);
    }

    /// Adds what only rises.
    pub(crate) fn counter(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        self.one(name, "counter", help, labels, value);
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn one(
        &mut self,
        name: &'static str,
        kind: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        if self.last != name {
            self.last = name;
            let _ = writeln!(
                self.text,
                "# HELP splitlock_{name} {help}.\n# TYPE splitlock_{name} {kind}"
            );
        }
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "splitlock_{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_may_hold_anything() {
        let mut metrics = Metrics::default();
        metrics.gauge("a", "About a", &[("x", "1\"2\\3\n4")], 0.5);
        metrics.gauge("a", "About a", &[], 2.0);
        metrics.counter("b_total", "About b", &[], 3.0);
        assert_eq!(
            metrics.text,
            "# HELP splitlock_a About a.\n# TYPE splitlock_a gauge\nsplitlock_a{x=\"1\\\"2\\\\3\\n4\"} 0.5\nsplitlock_a 2\n\
             # HELP splitlock_b_total About b.\n# TYPE splitlock_b_total counter\nsplitlock_b_total 3\n"
        );
    }
}
