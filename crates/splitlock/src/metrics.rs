//! Prometheus' text format.

use std::fmt::Write;

/// Metrics of this program, whose names all begin with its own. The values of one come behind its name.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    text: String,
    name: &'static str,
    /// What is said of the metric before its first value.
    header: Option<String>,
}

impl Metrics {
    /// Begins one that may rise and fall.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.begin(name, "gauge", help)
    }

    /// Begins one that only rises.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.begin(name, "counter", help)
    }

    fn begin(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        let header = format!("# HELP splitlock_{name} {help}.\n# TYPE splitlock_{name} {kind}\n");
        self.name = name;
        self.header = Some(header);
        self
    }

    /// Adds a value of the metric that was begun last.
    pub(crate) fn value(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.text += &self.header.take().unwrap_or_default();
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels: Vec<_> = labels.iter().map(label).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "splitlock_{}{labels} {value}", self.name);
        self
    }

    pub(crate) fn into_text(self) -> String {
        self.text
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
        let a = metrics.gauge("a", "About a");
        a.value(&[("x", "1\"2\\3\n4")], 0.5).value(&[], 2.0);
        metrics.gauge("nothing", "About nothing");
        metrics.counter("b_total", "About b").value(&[], 3.0);
        assert_eq!(
            metrics.text,
            "# HELP splitlock_a About a.\n# TYPE splitlock_a gauge\nsplitlock_a{x=\"1\\\"2\\\\3\\n4\"} 0.5\nsplitlock_a 2\n\
             # HELP splitlock_b_total About b.\n# TYPE splitlock_b_total counter\nsplitlock_b_total 3\n"
        );
    }
}
