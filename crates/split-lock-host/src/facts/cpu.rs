//! `/proc/cpuinfo`: its first CPU, and how many there are.

use std::collections::BTreeSet;

use crate::Root;
use crate::observed::{Fact, Observed};

const FILE: &str = "proc/cpuinfo";

pub(super) struct CpuInfo {
    text: Observed<String>,
    from: String,
}

impl CpuInfo {
    pub(super) fn read(root: &Root) -> Self {
        CpuInfo {
            text: root.text(FILE),
            from: root.origin(FILE),
        }
    }

    /// The first line `name : value`.
    pub(super) fn text(&self, name: &str) -> Fact<String> {
        self.field(name, |value| Some(value.to_owned()))
    }

    pub(super) fn number(&self, name: &str) -> Fact<u32> {
        self.field(name, |value| value.parse().ok())
    }

    pub(super) fn flags(&self) -> Fact<BTreeSet<String>> {
        let words = |value: &str| value.split_whitespace().map(str::to_owned).collect();
        self.field("flags", |value| Some(words(value)))
    }

    pub(super) fn online(&self) -> Fact<usize> {
        let is_cpu = |line: &&str| line.starts_with("processor");
        let count = |text: String| text.lines().filter(is_cpu).count();
        self.text.clone().map(count).from(&self.from)
    }

    fn field<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Fact<T> {
        let value = self.text.clone().find(|text| {
            let mut fields = text.lines().filter_map(|line| line.split_once(':'));
            let (_, value) = fields.find(|(key, _)| key.trim() == name)?;
            parse(value.trim())
        });
        value.from(&self.from)
    }
}
