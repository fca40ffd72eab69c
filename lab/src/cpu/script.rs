//! What the first program of the machine does. It goes into the machine as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use split_lock_model::policy::Alternative;

use crate::plan::Experiment;

/// Everything for one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Kernel modules to load, in this order.
    pub modules: Vec<Module>,
    /// Lines for `kprobe_events`, of the group [`super::trace::GROUP`]; the trace of all of the script comes out as [`TRACE`].
    pub probes: Vec<String>,
    /// How long to wait before anything is tried: a kernel that has just booted is busy.
    pub settle_ms: u64,
    /// What the kernel does about signals, if it is not what unmodified ones do.
    #[serde(default)]
    pub policy: Option<Alternative>,
    /// What to measure, in this order.
    pub experiments: Vec<Experiment>,
    /// Programs to run, one after the other.
    pub commands: Vec<Command>,
    /// Then give somebody a shell on the console.
    pub shell: bool,
    /// Files from here.
    #[serde(skip)]
    pub files: Vec<PlacedFile>,
}

/// A file of the machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFile {
    /// Where it lies in the machine, from the root on and without a slash before it.
    pub at: String,
    /// Where it lies here.
    pub from: PathBuf,
}

impl PlacedFile {
    /// In the root folder, by its own name.
    #[must_use]
    pub fn in_root(from: PathBuf) -> Self {
        let name = from.file_name().unwrap_or(from.as_os_str());
        Self {
            at: name.to_string_lossy().into_owned(),
            from,
        }
    }
}

/// A kernel module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its file in [`MODULES`].
    pub file: String,
    /// Its parameters.
    pub parameters: String,
}

/// A program; what it prints comes out as the bundles `NAME.out`, `NAME.err` and `NAME.code`, and when it began and was
/// over, in ticks of the CPU's journal, as `NAME.ticks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Names the bundles.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
}

impl Command {
    /// `line` is taken apart at its spaces.
    #[must_use]
    pub fn new(name: &str, line: &str) -> Self {
        Self {
            name: name.to_owned(),
            argv: line.split(' ').map(str::to_owned).collect(),
        }
    }

    /// `text` is for busybox's shell.
    #[must_use]
    pub fn shell(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            argv: ["/bin/busybox", "sh", "-c", text].map(str::to_owned).into(),
        }
    }
}

/// Where the script lies in the machine.
pub const SCRIPT_FILE: &str = "/script.json";

/// Where kernel modules lie in the machine.
pub const MODULES: &str = "/modules";

/// The I/O port through which the machine sends its bundles: `lab/cpu/instrument.h`.
pub const RESULTS_PORT: u16 = 0x800;

/// The bundle with the kernel's trace.
pub const TRACE: &str = "trace";

/// The bundle with the kernel's log.
pub const KERNEL_LOG: &str = "kernel-log";

/// The bundle that says that everything was done.
pub const LAST_BUNDLE: &str = "end";
