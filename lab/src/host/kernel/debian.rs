//! Debian's kernels: where they come from, and where their files are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::apt::{self, Apt};
use crate::host::cache::Cache;
use crate::host::kernel::{BootKernel, NEWEST};
use crate::host::output;

/// Where Debian has the newest kernel for a stable release.
const NEWEST_SUITE: &str = "trixie-backports";

/// The packages that a kernel's image depends on for its files, since 7.3.
const FILES_OF_KERNELS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];

/// Beside a fetched kernel: what it calls itself.
const RELEASE: &str = "release";

/// Debian's cloud kernel of a series, from the cache or else the network.
pub(super) fn of_series(series: &str, cache: &Cache) -> Result<BootKernel> {
    let root = cache.folder("kernels").join(series);
    apt::unpacked(
        cache,
        &format!("Debian's kernel {series}"),
        &root,
        |apt, draft| fetch(series, apt, draft),
    )?;
    let release = fs::read_to_string(root.join(RELEASE))
        .with_context(|| format!("{} is damaged: remove it", root.display()))?;
    let image = root.join(format!("boot/vmlinuz-{release}"));
    let modules = root.join(format!("lib/modules/{release}"));
    Ok(BootKernel::new(release, image, Some(modules)))
}

/// The newest kernel that Debian offers for a stable release.
pub(super) fn newest(cache: &Cache) -> Result<BootKernel> {
    let root = cache.folder("kernels").join(NEWEST);
    let what = format!("Debian's kernel of {NEWEST_SUITE}");
    apt::unpacked_from(&what, &root, |draft| {
        let apt = newest_apt(cache)?;
        let needed = apt.dependencies("linux-image-cloud-amd64")?;
        let image = needed
            .into_iter()
            .find(|name| name.starts_with("linux-image-"));
        let image = image.context("Debian's metapackage names no kernel")?;
        let mut packages = apt.dependencies(&image)?;
        packages.retain(|name| FILES_OF_KERNELS.iter().any(|kind| name.starts_with(kind)));
        packages.push(image);
        apt.unpack(&packages, draft)
    })?;
    let all_modules = ["usr/lib/modules", "lib/modules"].map(|folder| root.join(folder));
    let all_modules = all_modules.iter().find(|folder| folder.exists());
    let modules = all_modules.and_then(|folder| fs::read_dir(folder).ok()?.next()?.ok());
    let modules = modules
        .with_context(|| format!("{} is damaged: remove it", root.display()))?
        .path();
    let release = modules.file_name().unwrap_or_default().to_string_lossy();
    let release = release.into_owned();
    let images = [
        modules.join("vmlinuz"),
        root.join(format!("boot/vmlinuz-{release}")),
    ];
    let image = images.into_iter().find(|path| path.exists());
    let image = image.with_context(|| format!("no kernel in {}", root.display()))?;
    Ok(BootKernel::new(release, image, Some(modules)))
}

/// That of the suite with the newest kernel, with its lists fetched.
pub(super) fn newest_apt(cache: &Cache) -> Result<Apt> {
    Apt::of_suite(cache, "apt-newest", NEWEST_SUITE)
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
