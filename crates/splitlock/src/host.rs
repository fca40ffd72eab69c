//! The facts about this host that go with every result.

use split_lock_host::{Fact, Facts};
use split_lock_repro::results::HostFacts;

pub(crate) fn facts(facts: &Facts) -> HostFacts {
    HostFacts {
        cpu: or_unknown(&facts.cpu_model),
        kernel: or_unknown(&facts.kernel_release),
        online_cpus: facts.online_cpus.known().map_or(0, |&cpus| cpus as u32),
        detection: facts.detection().to_string(),
        virtual_machine: facts.has_cpu_flag("hypervisor") == Some(true),
    }
}

fn or_unknown(text: &Fact<String>) -> String {
    text.known().cloned().unwrap_or_else(|| "unknown".into())
}
