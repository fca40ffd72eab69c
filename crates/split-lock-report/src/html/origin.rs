//! Where a sweep comes from, as facts to be listed.

use split_lock_repro::results::{SCHEMA, SCHEMA_VERSION};

use super::NamedSweep;
use crate::figure::stopped_early_line;

pub(super) struct Origin<'a> {
    pub(super) name: &'a str,
    /// As it can be pasted into a shell; `None` if unknown.
    pub(super) command: Option<String>,
    /// Names and values.
    pub(super) facts: Vec<(&'static str, String)>,
    /// What is the same as for the first of the page is left out.
    pub(super) as_above: bool,
}

impl<'a> Origin<'a> {
    /// Of all sweeps of a page.
    pub(super) fn of_all(named: &[NamedSweep<'a>]) -> Vec<Self> {
        let mut origins: Vec<Self> = named.iter().map(Self::of).collect();
        if let Some((first, others)) = origins.split_first_mut() {
            for other in others {
                let count = other.facts.len();
                other.facts.retain(|fact| !first.facts.contains(fact));
                other.as_above = other.facts.len() < count;
            }
        }
        origins
    }

    fn of(named: &NamedSweep<'a>) -> Self {
        let mut facts = vec![("samples", named.sweep.samples.len().to_string())];
        facts.extend(stopped_early_line(named.sweep).map(|line| ("complete", line)));
        let from = named.sweep.provenance.as_ref();
        if let Some(from) = from {
            let host = &from.host;
            let kind = if host.virtual_machine { "yes" } else { "no" };
            let cpus = match host.online_cpus {
                0 => "unknown".into(),
                count => count.to_string(),
            };
            facts.extend([
                ("program", from.program.clone()),
                ("schema", format!("{SCHEMA} {SCHEMA_VERSION}")),
                ("begun (UTC)", from.started_utc.clone()),
                ("seed of the order", from.seed.to_string()),
                ("CPU", host.cpu.clone()),
                ("logical CPUs", cpus),
                ("kernel", host.kernel.clone()),
                ("itself a virtual machine", kind.into()),
                ("detection", host.detection.clone()),
            ]);
        }
        Origin {
            name: named.name,
            command: from.map(|from| shell_line(&from.command)),
            facts,
            as_above: false,
        }
    }
}

/// The arguments as a shell would have to be given them.
fn shell_line(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@+%".contains(c);
        if !argument.is_empty() && argument.chars().all(safe) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_the_same_arguments() {
        let arguments = [
            "splitlock",
            "--out",
            "my report",
            "it's",
            "",
            "1ms..49ms/1ms",
        ];
        let line = shell_line(&arguments.map(String::from));
        assert_eq!(
            line,
            r"splitlock --out 'my report' 'it'\''s' '' 1ms..49ms/1ms"
        );
    }
}
