//! The output of tools that tell of a machine, each known by what it says.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::attribution::text::is_decimal;
use crate::facts::{self, Os};
use crate::reported_facts::ReportedFacts;

/// Reads a text, and the name that it has in an archive.
type Reader = fn(&str, Option<&str>) -> Option<ReportedFacts>;

/// What a text tells, and the name of what it is.
pub(super) fn facts_in(
    text: &str,
    member: Option<&str>,
) -> impl Iterator<Item = (&'static str, ReportedFacts)> {
    const READERS: [(&str, Reader); 6] = [
        ("lscpu", |text, _| lscpu(text)),
        ("uname", uname),
        ("sysctl", sysctl),
        ("a kernel's configuration", |text, _| config(text)),
        ("os-release", |text, _| os_release(text)),
        ("inxi", |text, _| inxi(text)),
    ];
    READERS
        .into_iter()
        .filter_map(move |(name, read)| Some((name, read(text, member)?)))
}

/// All flags of a CPU, and not only those that people like to see: the first ones are always there.
fn all_flags(words: &str) -> Option<BTreeSet<String>> {
    let flags: BTreeSet<String> = words.split_whitespace().map(str::to_owned).collect();
    ["fpu", "tsc", "msr"]
        .iter()
        .all(|flag| flags.contains(*flag))
        .then_some(flags)
}

/// Its words are translated, but for the names of flags.
fn lscpu(text: &str) -> Option<ReportedFacts> {
    let pairs = json_fields(text).unwrap_or_else(|| {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect()
    });
    let value = |name: &str| named(&pairs, name);
    let flags = pairs.iter().find_map(|(_, value)| all_flags(value));
    let is_lscpu = value("Architecture").is_some() || value("CPU(s)").is_some();
    // `/proc/cpuinfo` has them as well, and is another file.
    let is_cpuinfo = value("processor").is_some();
    if is_cpuinfo || !(is_lscpu || flags.is_some()) {
        return None;
    }
    let number = |name: &str| value(name)?.parse().ok();
    let mut facts = ReportedFacts {
        cpu_vendor: value("Vendor ID"),
        cpu_family: number("CPU family"),
        cpu_model_number: number("Model"),
        online_cpus: value("CPU(s)").and_then(|count| count.parse().ok()),
        hypervisor: value("Hypervisor vendor"),
        cpu_flags: flags,
        ..ReportedFacts::default()
    };
    if let Some(model) = value("Model name") {
        facts.set_cpu_model(&model);
    }
    (facts != ReportedFacts::default()).then_some(facts)
}

/// Names, and what they are.
type Pairs = Vec<(String, String)>;

fn named(pairs: &Pairs, name: &str) -> Option<String> {
    let found = pairs.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.clone())
}

/// `lscpu --json`, whose newer forms are nested.
fn json_fields(text: &str) -> Option<Pairs> {
    fn walk(value: &Value, pairs: &mut Pairs) {
        let Value::Array(rows) = value else { return };
        for row in rows {
            let word = |name: &str| row.get(name).and_then(Value::as_str);
            if let (Some(field), Some(data)) = (word("field"), word("data")) {
                let field = field.trim().trim_end_matches(':');
                pairs.push((field.to_owned(), data.to_owned()));
            }
            if let Some(children) = row.get("children") {
                walk(children, pairs);
            }
        }
    }
    let start = text.find("{").filter(|_| text.contains("\"lscpu\""))?;
    let document = serde_json::Deserializer::from_str(&text[start..])
        .into_iter::<Value>()
        .next()?
        .ok()?;
    let mut pairs = vec![];
    walk(document.get("lscpu")?, &mut pairs);
    Some(pairs)
}

/// `uname -a` (`Linux tower 6.12.24-Unraid #1 SMP …`), or `uname -r` alone.
fn uname(text: &str, member: Option<&str>) -> Option<ReportedFacts> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().next()?;
    let alone =
        lines.clone().count() == 1 && member.is_none_or(is_uname_output) && is_release(first);
    let release = if alone {
        first
    } else {
        lines.find_map(|line| {
            let mut words = line.split_whitespace();
            let is_uname =
                words.next() == Some("Linux") && line.contains(" SMP ") && line.contains("x86_64");
            words
                .nth(1)
                .filter(|word| is_uname && begins_with_version(word))
        })?
    };
    Some(ReportedFacts {
        kernel_release: Some(release.to_owned()),
        ..ReportedFacts::default()
    })
}

/// An archive has many files of one line, and the versions of drivers (`1.7.0.0-k`) look like a kernel's.
fn is_uname_output(member: &str) -> bool {
    let name = member.strip_suffix(".txt").unwrap_or(member);
    ["uname", "uname_-r", "uname_-a"]
        .iter()
        .any(|command| name.ends_with(command))
}

/// Whether it is a kernel's release, and not only a number: `6.12.24-Unraid`.
fn is_release(text: &str) -> bool {
    let version = text.split(['-', '+']).next().unwrap_or(text);
    let mut parts = version.split('.');
    let is_short = |part: Option<&str>| part.is_some_and(|part| is_number(part) && part.len() <= 3);
    is_short(parts.next())
        && is_short(parts.next())
        && parts.next().is_some()
        && !text.contains(char::is_whitespace)
}

fn begins_with_version(word: &str) -> bool {
    let mut numbers = word.split(['.', '-', '+']);
    numbers.next().is_some_and(is_number) && numbers.next().is_some_and(is_number)
}

fn is_number(part: &str) -> bool {
    is_decimal(part.as_bytes())
}

/// `sysctl -a`, or one of it. What is to be set at boot may have been changed since, or never been set.
fn sysctl(text: &str, member: Option<&str>) -> Option<ReportedFacts> {
    let is_for_boot = |name: &str| name.contains("sysctl.d/") || name.ends_with("sysctl.conf");
    if member.is_some_and(is_for_boot) {
        return None;
    }
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let is_it = matches!(
            name.trim(),
            "kernel.split_lock_mitigate" | "kernel/split_lock_mitigate"
        );
        is_it.then(|| value.trim().to_owned())
    })?;
    Some(ReportedFacts {
        split_lock_mitigate: Some(value),
        ..ReportedFacts::default()
    })
}

fn config(text: &str) -> Option<ReportedFacts> {
    let hz = facts::configured_hz(text)?;
    Some(ReportedFacts {
        hz: Some(hz),
        bus_lock_detect_option: facts::configured_bus_lock_detect(text),
        ..ReportedFacts::default()
    })
}

fn os_release(text: &str) -> Option<ReportedFacts> {
    let has = |name: &str| text.lines().any(|line| line.starts_with(name));
    (has("ID=") && has("PRETTY_NAME=")).then(|| ReportedFacts {
        os: Some(Os::parse(text)),
        ..ReportedFacts::default()
    })
}

/// `inxi -F`: words with a colon, and what they are; a line may be wrapped anywhere.
fn inxi(text: &str) -> Option<ReportedFacts> {
    let section = |name: &str| {
        let mut lines = text.lines().skip_while(|line| !line.starts_with(name));
        let first = lines.next()?.strip_prefix(name)?;
        let more = lines.take_while(|line| line.starts_with(' '));
        let mut pairs: Pairs = vec![];
        for word in std::iter::once(first)
            .chain(more)
            .flat_map(str::split_whitespace)
        {
            match (word.strip_suffix(':'), pairs.last_mut()) {
                (Some(name), _) => pairs.push((name.to_owned(), String::new())),
                (None, Some((_, value))) => {
                    *value += if value.is_empty() { "" } else { " " };
                    *value += word;
                }
                (None, None) => {}
            }
        }
        Some(pairs)
    };
    let (system, cpu) = (section("System:"), section("CPU:"));
    if system.is_none() && cpu.is_none() {
        return None;
    }
    let of = |section: &Option<Pairs>, name: &str| named(section.as_ref()?, name);
    let first = |text: String| text.split_whitespace().next().map(str::to_owned);
    let mut facts = ReportedFacts {
        kernel_release: of(&system, "Kernel").and_then(first),
        command_line: of(&system, "parameters"),
        cpu_family: of(&cpu, "family").and_then(|family| number(&family)),
        cpu_model_number: of(&cpu, "model-id").and_then(|id| number(&id)),
        cpu_flags: ["Flags", "flags", "Flags-all"]
            .iter()
            .find_map(|name| all_flags(&of(&cpu, name)?)),
        ..ReportedFacts::default()
    };
    if let Some(model) = of(&cpu, "model") {
        facts.set_cpu_model(&model);
    }
    let is_virtual = |kind: &String| {
        matches!(
            &*kind.to_lowercase(),
            "kvm"
                | "qemu"
                | "vmware"
                | "virtualbox"
                | "xen"
                | "hyper-v"
                | "microsoft"
                | "parallels"
                | "bhyve"
        )
    };
    let kind = of(&section("Machine:"), "Type").and_then(first);
    facts.hypervisor = kind.filter(is_virtual);
    (facts != ReportedFacts::default()).then_some(facts)
}

/// `0x8C (140)`, `6`, `8C (140)`, `0x1A (26)`: in hexadecimal, and what that is.
fn number(text: &str) -> Option<u32> {
    match text.split_once('(') {
        Some((_, decimal)) => decimal.split(')').next()?.trim().parse().ok(),
        None => match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits.trim(), 16).ok(),
            None => text.trim().parse().ok(),
        },
    }
}
