//! The kernel's configuration, where distributions leave it.

use std::ffi::OsStr;
use std::path::Path;

use flate2::read::GzDecoder;
use rustix::time::{ClockId, clock_getres};
use split_lock_model::time::Hz;

use crate::Root;
use crate::observed::{Fact, Observed};
use crate::root::bounded;

/// Of the kernel that runs, if it was built with `CONFIG_IKCONFIG_PROC`.
const RUNNING: &str = "proc/config.gz";
const HZ: &str = "CONFIG_HZ";
const BUS_LOCK_DETECT: &str = "CONFIG_X86_BUS_LOCK_DETECT";

pub(super) struct Config {
    text: Fact<String>,
}

impl Config {
    pub(super) fn read(root: &Root, release: Option<&str>) -> Self {
        let mut refused = None;
        for path in places(release) {
            let text = match root.read(&path) {
                Observed::Is(bytes) => unpacked(bytes),
                Observed::Absent => continue,
                Observed::Unreadable { path, why } => Observed::Unreadable { path, why },
            };
            let text = text.from(format!("/{path}"));
            match text.value {
                Observed::Is(_) => return Config { text },
                _ => refused = refused.or(Some(text)),
            }
        }
        let nowhere = || Observed::Absent.from(format!("/{}", places(release).join(", /")));
        Config {
            text: refused.unwrap_or_else(nowhere),
        }
    }

    pub(super) fn hz(&self, root: &Root) -> Fact<Hz> {
        if let Some(hz) = self.text.known().and_then(|text| configured_hz(text)) {
            return Observed::Is(hz).from(&self.text.from);
        }
        let asked = root.ask("ticks-per-second", || {
            Observed::Is(ticks_per_second().to_string())
        });
        let hz = asked.find(|hz| Hz::new(hz.parse().ok()?).ok());
        match hz {
            Observed::Is(_) => hz.from("the coarse clock"),
            _ => self.text.value.clone().find(|_| None).from(&self.text.from),
        }
    }

    /// Absent where the configuration is to be had and does not know the option, or says that it is not set: see
    /// the release.
    pub(super) fn bus_lock_detect(&self) -> Fact<bool> {
        let set = self.text.value.clone();
        set.find(|text| configured_bus_lock_detect(&text))
            .from(&self.text.from)
    }
}

pub(crate) fn configured_hz(config: &str) -> Option<Hz> {
    Hz::new(value(config, HZ)?.parse().ok()?).ok()
}

/// Whether a kernel with this configuration detects bus locks; `None` if it does not know the option.
pub(crate) fn configured_bus_lock_detect(config: &str) -> Option<bool> {
    let unset = format!("# {BUS_LOCK_DETECT} is not set");
    if config.lines().any(|line| line.trim_end() == unset) {
        return Some(false);
    }
    value(config, BUS_LOCK_DETECT).map(|value| value == "y")
}

pub(crate) fn is_config(path: &Path) -> bool {
    let is_named = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name == b"config" || name == b".config" || name.starts_with(b"config-")
    };
    path == Path::new(RUNNING) || path.file_name().is_some_and(is_named)
}

/// Of a configuration what is read here: it may name the machine and who built its kernel.
pub(crate) fn config_in_use(bytes: &[u8]) -> Vec<u8> {
    let Observed::Is(text) = unpacked(bytes.to_vec()) else {
        return vec![];
    };
    let is_in_use = |line: &&str| {
        let option = line.strip_prefix("# ").unwrap_or(line);
        let end = option.find(['=', ' ']).unwrap_or(option.len());
        [HZ, BUS_LOCK_DETECT].contains(&&option[..end])
    };
    let lines = text.lines().filter(is_in_use);
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    lines.into_bytes()
}

fn places(release: Option<&str>) -> Vec<String> {
    // A release is part of a path here, and whoever made the root chose it.
    let release = release.filter(|release| !release.is_empty() && !release.contains('/'));
    let mut places = vec![RUNNING.to_owned()];
    if let Some(release) = release {
        places.extend([
            format!("boot/config-{release}"),
            format!("usr/lib/modules/{release}/config"),
            format!("lib/modules/{release}/config"),
            format!("lib/modules/{release}/build/.config"),
        ]);
    }
    places
}

fn unpacked(bytes: Vec<u8>) -> Observed<String> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let text = if bytes.starts_with(&GZIP) {
        bounded(GzDecoder::new(&bytes[..]))
    } else {
        Ok(bytes)
    };
    match text {
        Ok(text) => Observed::Is(String::from_utf8_lossy(&text).into_owned()),
        Err(error) => Observed::Unreadable {
            path: format!("/{RUNNING}").into(),
            why: error.to_string(),
        },
    }
}

fn value<'a>(text: &'a str, option: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(option)?.strip_prefix('='))
        .map(str::trim_end)
}

/// The coarse clock advances once a tick.
fn ticks_per_second() -> i64 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let tick_ns = (tick.tv_sec * 1_000_000_000 + tick.tv_nsec).max(1);
    // 300 ticks a second are not a whole number of nanoseconds each.
    (1_000_000_000 + tick_ns / 2) / tick_ns
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::facts::fixture;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(vec![], Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn the_running_kernels_own_configuration_wins() {
        let folder = fixture::folder(&[("boot/config-6.6", "CONFIG_HZ=100\n")]);
        let config = packed(b"CONFIG_HZ=1000\n# CONFIG_X86_BUS_LOCK_DETECT is not set\n");
        fixture::write(folder.path(), RUNNING, &config);
        let root = Root::open(folder.path()).unwrap();
        let config = Config::read(&root, Some("6.6"));
        assert_eq!(config.hz(&root).value, Observed::Is(Hz::HZ_1000));
        assert_eq!(config.bus_lock_detect().value, Observed::Is(false));
        assert_eq!(config.bus_lock_detect().from, "/proc/config.gz");
    }

    #[test]
    fn options_are_read_from_a_text_that_was_sent() {
        let text = "CONFIG_HZ_300=y\nCONFIG_HZ=300 \r\nCONFIG_X86_BUS_LOCK_DETECT=y\r\n";
        assert_eq!(configured_hz(text), Some(Hz::HZ_300));
        assert_eq!(configured_bus_lock_detect(text), Some(true));
        let unset = "# CONFIG_X86_BUS_LOCK_DETECT is not set \n";
        assert_eq!(configured_bus_lock_detect(unset), Some(false));
        assert_eq!(
            (configured_hz(unset), configured_bus_lock_detect("")),
            (None, None)
        );
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let folder = fixture::folder(&[]);
        fixture::write(folder.path(), RUNNING, &packed(&vec![b'x'; 64 << 20]));
        let root = Root::open(folder.path()).unwrap();
        let config = Config::read(&root, None);
        let Observed::Unreadable { why, .. } = config.hz(&root).value else {
            panic!("{:?}", config.text.from);
        };
        assert!(why.contains("longer than 8 MiB"), "{why}");
    }

    #[test]
    fn a_release_is_no_way_out() {
        assert_eq!(places(Some("../../etc/x")), [RUNNING]);
        assert_eq!(places(Some("")), [RUNNING]);
    }

    #[test]
    fn this_machine_ticks_at_a_rate_that_kernels_offer() {
        assert!(Hz::new(ticks_per_second().try_into().unwrap()).is_ok());
    }
}
