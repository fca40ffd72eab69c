//! A kernel of Debian's: its image and its modules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt::{self, Apt};
use super::cache::Cache;
use super::output;

/// Everything that belongs to one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// What it calls itself: `uname -r`.
    pub(crate) release: String,
    /// Bootable.
    pub(crate) image: PathBuf,
    /// Its modules, in any arrangement of folders.
    pub(crate) modules: PathBuf,
}

/// Beside a fetched kernel: what it calls itself.
const RELEASE: &str = "release";

impl Kernel {
    /// Debian's cloud kernel of a series, from the cache or else the network.
    pub(crate) fn debian(series: &str, cache: &Cache) -> Result<Self> {
        let root = cache.folder("kernels").join(series);
        apt::unpacked(
            cache,
            &format!("Debian's kernel {series}"),
            &root,
            |apt, draft| fetch(series, apt, draft),
        )?;
        let release = fs::read_to_string(root.join(RELEASE))
            .with_context(|| format!("{} is damaged: remove it", root.display()))?;
        Ok(Self {
            image: root.join(format!("boot/vmlinuz-{release}")),
            modules: root.join(format!("lib/modules/{release}")),
            release,
        })
    }
}

/// Debian 12 names its own series without the number.
fn metapackage(series: &str) -> String {
    match series {
        "6.1" => "linux-image-cloud-amd64".to_owned(),
        _ => format!("linux-image-{series}-cloud-amd64"),
    }
}

fn fetch(series: &str, apt: &Apt, draft: &Path) -> Result<()> {
    let image = apt.resolve(&metapackage(series))?;
    apt.unpack(std::slice::from_ref(&image), draft)?;
    let release = image.trim_start_matches("linux-image-");
    output::write(&draft.join(RELEASE), release.as_bytes())
}
