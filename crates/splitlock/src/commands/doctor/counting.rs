//! How to count bus locks on this CPU, for whoever has a slow machine and an empty log: a lock that nothing traps is
//! slow all the same.

use split_lock_host::{Facts, Observed};

/// A command that counts them on the whole machine; `None` if the CPU cannot, or is not known.
pub(super) fn command(facts: &Facts) -> Option<String> {
    let known = |value: &Observed<u32>| match value {
        Observed::Is(number) => Some(*number),
        Observed::Absent | Observed::Unreadable { .. } => None,
    };
    let Observed::Is(vendor) = &facts.cpu_vendor.value else {
        return None;
    };
    let family = known(&facts.cpu_family.value)?;
    let event = event(vendor, family, known(&facts.cpu_model_number.value)?)?;
    Some(format!("perf stat -a -e {event} -- sleep 10"))
}

/// The event that counts locks across a line, and locks of uncached memory, by the tables that perf has.
fn event(vendor: &str, family: u32, model: u32) -> Option<&'static str> {
    // Skylake to Rocket Lake and Ice Lake-SP; Alder Lake, Sapphire Rapids and later, whose small cores do not count.
    const WITH_F4: [u32; 15] = [
        78, 85, 94, 102, 106, 108, 125, 126, 140, 141, 142, 158, 165, 166, 167,
    ];
    const WITH_2C: [u32; 4] = [143, 173, 174, 207];
    const WITH_2C_HYBRID: [u32; 7] = [151, 154, 170, 172, 183, 186, 191];
    match (vendor, family) {
        ("AuthenticAMD", 23 | 25 | 26) | ("HygonGenuine", 24) => {
            Some("cpu/event=0x25,umask=0x1,name=bus_locks/")
        }
        ("GenuineIntel", 6) if WITH_F4.contains(&model) => {
            Some("cpu/event=0xf4,umask=0x10,name=bus_locks/")
        }
        ("GenuineIntel", 6) if WITH_2C.contains(&model) => {
            Some("cpu/event=0x2c,umask=0x10,name=bus_locks/")
        }
        ("GenuineIntel", 6) if WITH_2C_HYBRID.contains(&model) => {
            Some("cpu_core/event=0x2c,umask=0x10,name=bus_locks/")
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
            ("GenuineIntel", 6, 140, Some("cpu/event=0xf4,umask=0x10")),
            ("GenuineIntel", 6, 143, Some("cpu/event=0x2c,umask=0x10")),
            ("GenuineIntel", 6, 154, Some("cpu_core/event=0x2c")),
            ("AuthenticAMD", 25, 97, Some("event=0x25,umask=0x1")),
            ("GenuineIntel", 6, 15, None),
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
