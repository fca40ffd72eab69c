//! `/proc/cpuinfo`: its first CPU, and how many there are.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::Root;
use crate::observed::{Fact, Observed};

const FILE: &str = "proc/cpuinfo";

pub(super) struct Cpu {
    pub(super) vendor: Fact<String>,
    pub(super) family: Fact<u32>,
    pub(super) model_number: Fact<u32>,
    pub(super) model: Fact<String>,
    pub(super) flags: Fact<BTreeSet<String>>,
    pub(super) online: Fact<usize>,
}

impl Cpu {
    pub(super) fn read(root: &Root) -> Self {
        let cpuinfo = root.text(FILE);
        Cpu {
            vendor: said(field(&cpuinfo, "vendor_id")),
            family: said(number(&cpuinfo, "cpu family")),
            model_number: said(number(&cpuinfo, "model")),
            model: said(field(&cpuinfo, "model name")),
            flags: said(
                field(&cpuinfo, "flags")
                    .map(|flags| flags.split_whitespace().map(str::to_owned).collect()),
            ),
            online: said(cpuinfo.map(|text| {
                let cpus = text.lines().filter(|line| line.starts_with("processor"));
                cpus.count()
            })),
        }
    }
}

fn said<T>(seen: Observed<T>) -> Fact<T> {
    seen.from(format!("/{FILE}"))
}

/// The first line `name : value`.
fn field(text: &Observed<String>, name: &str) -> Observed<String> {
    text.clone().find(|text| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    })
}

fn number<T: FromStr>(text: &Observed<String>, name: &str) -> Observed<T> {
    field(text, name).find(|number| number.parse().ok())
}
