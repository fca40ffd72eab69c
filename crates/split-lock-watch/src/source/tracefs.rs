//! The folder in which the kernel says what can be traced.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::WatchError;
use super::format::Format;

/// Where the kernel's own files lie; elsewhere in tests.
#[derive(Debug, Clone)]
pub(super) struct SystemPaths {
    pub(super) tracing: Vec<PathBuf>,
    pub(super) kallsyms: PathBuf,
    pub(super) cpus: PathBuf,
}

impl Default for SystemPaths {
    fn default() -> Self {
        Self {
            tracing: ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
                .map(PathBuf::from)
                .into(),
            kallsyms: "/proc/kallsyms".into(),
            cpus: "/sys/devices/system/cpu/online".into(),
        }
    }
}

/// tracefs, where it is mounted.
#[derive(Debug, Clone)]
pub(super) struct Tracefs(PathBuf);

impl Tracefs {
    pub(super) fn find(paths: &SystemPaths) -> Result<Self, WatchError> {
        let mut refused = None;
        for place in &paths.tracing {
            match fs::metadata(place.join("events")) {
                Ok(_) => return Ok(Self(place.clone())),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    refused.get_or_insert(WatchError::of(
                        format!("look into {}", place.display()),
                        error,
                    ));
                }
                Err(_) => {}
            }
        }
        let at = paths.tracing.iter().find(|place| place.is_dir());
        Err(match (refused, at) {
            (Some(refused), _) => refused,
            (None, Some(at)) => WatchError::NoTracefs { at: at.clone() },
            (None, None) => WatchError::NoTracing,
        })
    }

    /// How an event's records look; `None` if the kernel has no such event.
    pub(super) fn format(&self, event: &str) -> Result<Option<Format>, WatchError> {
        let path = self.0.join("events").join(event).join("format");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let damaged = || WatchError::Failed {
                    what: format!("read {}", path.display()),
                    source: io::ErrorKind::InvalidData.into(),
                };
                Format::parse(&text).ok_or_else(damaged).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(WatchError::of(format!("read {}", path.display()), error)),
        }
    }

    /// The kernel probes that anybody has defined.
    pub(super) fn probes(&self) -> io::Result<String> {
        fs::read_to_string(self.0.join(PROBES))
    }

    pub(super) fn probe_profile(&self) -> io::Result<String> {
        fs::read_to_string(self.0.join("kprobe_profile"))
    }

    pub(super) fn change_probes(&self, line: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.0.join(PROBES))?;
        // In one piece: the kernel takes each write for a whole line.
        file.write_all(format!("{line}\n").as_bytes())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

const PROBES: &str = "kprobe_events";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn paths(root: &Path) -> SystemPaths {
        SystemPaths {
            tracing: vec![root.join("tracing"), root.join("debug/tracing")],
            ..SystemPaths::default()
        }
    }

    #[test]
    fn tracefs_is_found_where_it_is_mounted() {
        let format = "ID: 7\n\tfield:unsigned msr;\toffset:8;\tsize:4;\tsigned:0;\n";
        let root = fixture::folder(&[
            ("tracing/README", "not what is looked for"),
            ("debug/tracing/events/msr/write_msr/format", format),
            ("debug/tracing/events/msr/damaged/format", "?"),
        ]);
        let found = Tracefs::find(&paths(root.path())).unwrap();
        assert_eq!(found.format("msr/write_msr").unwrap().unwrap().id, 7);
        assert_eq!(found.format("msr/read_msr").unwrap(), None);
        let error = found.format("msr/damaged").unwrap_err().to_string();
        assert!(error.contains("msr/damaged/format"), "{error}");
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let root = fixture::folder(&[("tracing/README", "")]);
        let error = Tracefs::find(&paths(root.path())).unwrap_err().to_string();
        assert!(error.contains("mount -t tracefs"), "{error}");
        let none = fixture::folder(&[("other/file", "")]);
        let error = Tracefs::find(&paths(none.path())).unwrap_err();
        assert!(matches!(error, WatchError::NoTracing), "{error}");
    }
}
