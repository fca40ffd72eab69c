//! A kernel to boot on the detecting CPU: one of Debian's, or any bzImage.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::apt::{self, Apt};
use crate::host::cache::Cache;
use crate::host::initramfs::read;
use crate::host::kernel::Kernel;

/// Unmodified, whosever it is.
#[derive(Clone, Debug)]
pub(super) struct BootKernel {
    /// What it calls itself.
    pub(super) release: String,
    /// Bootable.
    pub(super) image: PathBuf,
    /// Its modules; none where KVM is built in, or missing.
    pub(super) modules: Option<PathBuf>,
}

/// Of every kernel. A printk at 9600 baud would take 100 ms of the trap that it is about, and with several CPUs Bochs
/// misses wake-ups from MWAIT. Without the last word 6.12 warns when KVM is loaded.
pub(super) const COMMAND_LINE: &str =
    "console=ttyS0,115200 loglevel=4 idle=halt indirect_target_selection=off";

/// What the newest kernel that Debian offers for a stable release is called here, and where Debian has it.
const NEWEST: &str = "newest";
const NEWEST_SUITE: &str = "trixie-backports";

impl BootKernel {
    /// One of Debian's by its series, the newest, or a file: what has a slash in it, or exists.
    pub(super) fn get(name: &str, cache: &Cache) -> Result<Self> {
        if name == NEWEST {
            return Self::newest(cache);
        }
        let path = Path::new(name);
        if name.contains('/') || path.is_file() {
            return Self::file(path);
        }
        let kernel = Kernel::debian(name, cache)?;
        Ok(Self {
            release: kernel.release,
            image: kernel.image,
            modules: Some(kernel.modules),
        })
    }

    fn newest(cache: &Cache) -> Result<Self> {
        let root = cache.folder("kernels").join(NEWEST);
        let what = format!("Debian's kernel of {NEWEST_SUITE}");
        apt::unpacked_from(&what, &root, |draft| {
            let sources = apt::sources(NEWEST_SUITE)?;
            let apt = Apt::with_sources(cache.folder("apt-newest"), &sources)?;
            apt.update()?;
            let needed = apt.dependencies("linux-image-cloud-amd64")?;
            let image = needed
                .into_iter()
                .find(|name| name.starts_with("linux-image-"));
            let image = image.context("Debian's metapackage names no kernel")?;
            let mut packages = apt.dependencies(&image)?;
            // Since 7.3 the image only depends on the packages that have the files.
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
        let images = [
            modules.join("vmlinuz"),
            root.join(format!("boot/vmlinuz-{release}")),
        ];
        let image = images.into_iter().find(|path| path.exists());
        Ok(Self {
            release: release.into_owned(),
            image: image.with_context(|| format!("no kernel in {}", root.display()))?,
            modules: Some(modules),
        })
    }

    fn file(path: &Path) -> Result<Self> {
        let image = fs::canonicalize(path)
            .with_context(|| format!("there is no kernel {}", path.display()))?;
        let release = release(&read(&image)?)
            .with_context(|| format!("{} is no bzImage", image.display()))?;
        Ok(Self {
            release,
            image,
            modules: None,
        })
    }
}

const FILES_OF_KERNELS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];

/// What the header of a bzImage says that the kernel is.
fn release(image: &[u8]) -> Option<String> {
    const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
    const POINTER: usize = 0x20e;
    if image.get(MAGIC.0..MAGIC.0 + MAGIC.1.len())? != MAGIC.1 {
        return None;
    }
    let pointer = image.get(POINTER..POINTER + 2)?.try_into().ok()?;
    let text = image.get(usize::from(u16::from_le_bytes(pointer)) + 0x200..)?;
    let end = text.iter().position(|&byte| byte == b' ' || byte == 0)?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    // It names a folder.
    let is_plain = release
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-+_~".contains(&byte));
    (is_plain && !release.is_empty() && !release.starts_with('.')).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x300];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e] = 0x80;
        image[0x280..0x280 + text.len()].copy_from_slice(text);
        image
    }

    #[test]
    fn release_stands_in_the_header() {
        let found = release(&image(b"6.16.0-rc1+ (me@here) #1 SMP"));
        assert_eq!(found.as_deref(), Some("6.16.0-rc1+"));
    }

    #[test]
    fn what_is_no_kernel_has_no_release() {
        assert_eq!(release(b"\x7fELF"), None);
        assert_eq!(release(&image(b"../../etc")), None);
        assert_eq!(release(&image(b"")), None);
        let mut beyond = image(b"6.1");
        beyond[0x20f] = 0xff;
        assert_eq!(release(&beyond), None);
    }
}
