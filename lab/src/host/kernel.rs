//! A kernel to boot: its image, its modules, and the headers to build our own against.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_model::kernel::Profile;

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
    /// For `make -C`.
    pub(crate) headers: PathBuf,
    /// Whether it runs on two CPUs whose clock counts instructions.
    pub(crate) two_cpus_on_counted_clock: bool,
    /// What the model says it does.
    pub(crate) profile: Profile,
}

/// Notes beside a fetched kernel: what it calls itself, and what Debian calls it. The second says
/// which stable release it is.
const RELEASE: &str = "release";
const VERSION: &str = "version";

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
        let version = fs::read_to_string(root.join(VERSION))?;
        let upstream = version.split('-').next().unwrap_or_default();
        Ok(Self {
            image: root.join(format!("boot/vmlinuz-{release}")),
            modules: root.join(format!("lib/modules/{release}")),
            headers: root.join(format!("usr/src/linux-headers-{release}")),
            profile: upstream
                .parse()
                .context("the model does not know this release")?,
            release,
            // 6.1 hangs at boot.
            two_cpus_on_counted_clock: series != "6.1",
        })
    }
}

/// Debian 12 names its own series without the number.
fn metapackage(kind: &str, series: &str) -> String {
    match series {
        "6.1" => format!("linux-{kind}-cloud-amd64"),
        _ => format!("linux-{kind}-{series}-cloud-amd64"),
    }
}

fn fetch(series: &str, apt: &Apt, draft: &Path) -> Result<()> {
    let image = apt.resolve(&metapackage("image", series))?;
    let headers = apt.resolve(&metapackage("headers", series))?;
    let mut packages = vec![image.clone(), headers.clone()];
    // The compiler is the machine's own; the rest of what it names is the kernel's image, again.
    let needed = apt.dependencies(&headers)?.into_iter();
    packages
        .extend(needed.filter(|name| {
            name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-")
        }));
    apt.unpack(&packages, draft)?;
    let release = image.trim_start_matches("linux-image-");
    make_movable(&draft.join(format!("usr/src/linux-headers-{release}")))?;
    output::write(&draft.join(VERSION), apt.version(&image)?.as_bytes())?;
    output::write(&draft.join(RELEASE), release.as_bytes())
}

/// The headers expect to be installed; here they find the rest of themselves beside them.
fn make_movable(headers: &Path) -> Result<()> {
    let makefile = headers.join("Makefile");
    let text = fs::read_to_string(&makefile)
        .with_context(|| format!("no headers at {}", headers.display()))?;
    let here = "include $(dir $(lastword $(MAKEFILE_LIST)))../";
    output::write(
        &makefile,
        text.replace("include /usr/src/", here).as_bytes(),
    )?;
    // Type information for debuggers, which needs a tool that is not here.
    let types = headers.join("vmlinux");
    if types.exists() {
        fs::remove_file(types)?;
    }
    Ok(())
}
