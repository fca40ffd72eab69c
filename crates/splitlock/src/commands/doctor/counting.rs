//! How to count bus locks on this CPU, for whoever has a slow machine and an empty log: a lock that nothing traps is
//! slow all the same.

use split_lock_host::Facts;

/// A command that counts them on the whole machine; `None` if the CPU cannot, or is not known.
pub(super) fn command(facts: &Facts) -> Option<String> {
    let (family, model) = (*facts.cpu_family.known()?, *facts.cpu_model_number.known()?);
    let event = event(facts.cpu_vendor.known()?, family, model)?;
    Some(format!("perf stat -a -e {event} -- sleep 10"))
}

/// Super queue: Nehalem to Rocket Lake.
const EVENT_F4: &str = "cpu/event=0xf4,umask=0x10,name=bus_locks/";
/// Sapphire Rapids to Granite Rapids.
const EVENT_2C: &str = "cpu/event=0x2c,umask=0x10,name=bus_locks/";
/// Hybrid, and the small cores do not count.
const LARGE_CORES: &str = "cpu_core/event=0x2c,umask=0x10,name=bus_locks/";
/// Hybrid, and all cores count.
const ALL_CORES: &str = "cpu_core/event=0x2c,umask=0x10,name=bus_locks/,cpu_atom/event=0x63,umask=0x8,name=split_locks/";
/// Tremont.
const EVENT_63: &str = "cpu/event=0x63,name=bus_locks/";

/// Intel's CPUs in the tables that perf has (tools/perf/pmu-events/arch/x86 of Linux 7.3): family, models, event.
const INTEL: [(u32, &[u32], &str); 6] = [
    (
        6,
        &[
            0x1a, 0x1e, 0x1f, 0x25, 0x2a, 0x2c, 0x2d, 0x2e, 0x2f, 0x3a, 0x3c, 0x3d, 0x3e, 0x3f,
            0x45, 0x46, 0x47, 0x4e, 0x4f, 0x55, 0x56, 0x5e, 0x6a, 0x6c, 0x7d, 0x7e, 0x8c, 0x8d,
            0x8e, 0x9e, 0xa5, 0xa6, 0xa7,
        ],
        EVENT_F4,
    ),
    (6, &[0x8f, 0xad, 0xae, 0xcf], EVENT_2C),
    (
        6,
        &[
            0x97, 0x9a, 0xaa, 0xac, 0xb5, 0xb7, 0xba, 0xbf, 0xcc, 0xd5, 0xe5,
        ],
        LARGE_CORES,
    ),
    (18, &[1, 3], LARGE_CORES),
    (6, &[0xbd, 0xc5, 0xc6], ALL_CORES),
    (6, &[0x86, 0x96, 0x9c], EVENT_63),
];

/// The event that counts locks across a line, and locks of uncached memory.
fn event(vendor: &str, family: u32, model: u32) -> Option<&'static str> {
    match vendor {
        // Zen 1 to 6.
        "AuthenticAMD" if matches!(family, 23 | 25 | 26) => {
            Some("cpu/event=0x25,umask=0x1,name=bus_locks/")
        }
        "GenuineIntel" => {
            let is_it =
                |(of, models, _): &&(u32, &[u32], _)| *of == family && models.contains(&model);
            INTEL.iter().find(is_it).map(|(.., event)| *event)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_cpu_has_its_event() {
        for (vendor, family, model, part) in [
            ("GenuineIntel", 6, 0x3c, Some("cpu/event=0xf4,umask=0x10")),
            ("GenuineIntel", 6, 0x8c, Some("cpu/event=0xf4,umask=0x10")),
            ("GenuineIntel", 6, 0x8f, Some("cpu/event=0x2c,umask=0x10")),
            ("GenuineIntel", 6, 0x9a, Some("cpu_core/event=0x2c")),
            (
                "GenuineIntel",
                6,
                0xbd,
                Some("/,cpu_atom/event=0x63,umask=0x8"),
            ),
            ("GenuineIntel", 6, 0x96, Some("cpu/event=0x63")),
            ("GenuineIntel", 18, 1, Some("cpu_core/event=0x2c")),
            ("AuthenticAMD", 25, 97, Some("event=0x25,umask=0x1")),
            // Cannon Lake and Sierra Forest are in no table.
            ("GenuineIntel", 6, 0x66, None),
            ("GenuineIntel", 6, 0xaf, None),
            ("GenuineIntel", 15, 4, None),
            ("AuthenticAMD", 21, 2, None),
            ("CentaurHauls", 6, 15, None),
        ] {
            let found = event(vendor, family, model);
            assert_eq!(found.is_some(), part.is_some(), "{vendor} {family} {model}");
            assert!(
                found.unwrap_or_default().contains(part.unwrap_or_default()),
                "{found:?}"
            );
        }
    }
}
