//! A kernel to boot on the detecting CPU: one of Debian's, or any bzImage.

pub(crate) mod built;
pub(crate) mod config;
mod debian;
pub(crate) mod edit;
mod source;
mod tree;
pub(crate) mod variant;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use split_lock_lab::cpu::options::Vendor;
use split_lock_model::policy::Alternative;
use split_lock_model::time::Hz;

use crate::host::cache::Cache;
use crate::host::kernel::built::BuiltKernel;
use crate::host::kernel::config::{KernelConfig, Kvm};
use crate::host::kernel::variant::Variant;
use crate::host::machine::initramfs::read;

/// Unmodified, whosever it is, unless it was built with edits.
#[derive(Clone, Debug)]
pub(crate) struct BootKernel {
    /// What it calls itself.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    pub(crate) modules: Option<PathBuf>,
    pub(crate) variant: Option<Variant>,
    /// Where it is known.
    config: Option<KernelConfig>,
}

/// Of every kernel. A printk at 9600 baud would take 100 ms of the trap that it is about, and with several CPUs Bochs
/// misses wake-ups from MWAIT. Without the next word 6.12 warns when KVM is loaded. The last one is for kernels that have
/// KVM built in: see [`crate::host::machine::rootfs::kvm_modules`].
pub(crate) const COMMAND_LINE: &str = "console=ttyS0,115200 loglevel=4 idle=halt indirect_target_selection=off kvm_intel.enable_apicv=0";

/// What the newest kernel that Debian offers for a stable release is called here.
pub(crate) const NEWEST: &str = "newest";

/// One of Debian's kernels: `6.12`, or `newest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelSeries(String);

impl FromStr for KernelSeries {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_number =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_series = text
            .split_once('.')
            .is_some_and(|(major, minor)| is_number(major) && is_number(minor));
        ensure!(
            text == NEWEST || is_series,
            "{text:?} is neither a series such as 6.12 nor {NEWEST:?}"
        );
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KernelSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What `--kernel` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KernelName {
    Debian(KernelSeries),
    Built(BuiltKernel),
    File(PathBuf),
}

impl FromStr for KernelName {
    type Err = Error;

    /// A file has a slash in its name, or exists.
    fn from_str(text: &str) -> Result<Self> {
        let path = Path::new(text);
        if text.contains('/') || path.is_file() {
            return Ok(Self::File(path.to_owned()));
        }
        let parsed = if text.contains('@') {
            text.parse().map(Self::Built)
        } else {
            text.parse().map(Self::Debian)
        };
        parsed.with_context(|| {
            format!("there is no kernel {text}: name a series (6.12), one with a tick rate (6.12@1000), {NEWEST}, or a bzImage")
        })
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(series) => series.fmt(f),
            Self::Built(kernel) => kernel.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl BootKernel {
    /// From the cache, or else fetched, and built if it has to be.
    pub(crate) fn get(name: &KernelName, cache: &Cache) -> Result<Self> {
        match name {
            KernelName::Debian(series) => Self::debian(series, cache),
            KernelName::Built(kernel) => Ok(Self {
                variant: kernel.variant,
                ..Self::file(&kernel.image(cache)?)?
            }),
            KernelName::File(path) => Self::file(path),
        }
    }

    /// Gets all of it that comes from the network.
    pub(crate) fn fetch(name: &KernelName, cache: &Cache) -> Result<()> {
        match name {
            KernelName::Debian(series) => Self::debian(series, cache).map(drop),
            KernelName::Built(kernel) => kernel.fetch(cache).map(drop),
            KernelName::File(path) => bail!("{} is a file: nothing to fetch", path.display()),
        }
    }

    /// What the model calls its behaviour.
    pub(crate) fn policy(&self) -> Alternative {
        self.variant.map_or(Alternative::Upstream, Variant::policy)
    }

    /// How it has KVM; unless its configuration says otherwise, it has none.
    pub(crate) fn kvm(&self, vendor: Vendor) -> Kvm {
        let config = self.config.as_ref();
        match config.map_or(Kvm::Missing, |config| config.kvm(vendor)) {
            Kvm::Modules if self.modules.is_none() => Kvm::Missing,
            kvm => kvm,
        }
    }

    /// How often it ticks: its configuration says so, and the release of one that the lab has built.
    pub(crate) fn hz(&self) -> Result<Hz> {
        let configured = self.config.as_ref().and_then(KernelConfig::hz);
        configured
            .or_else(|| hz_of_release(&self.release))
            .with_context(|| {
                format!(
                    "the tick rate of kernel {} is unknown: put its configuration beside it, as config-{}",
                    self.image.display(),
                    self.release
                )
            })
    }

    fn debian(series: &KernelSeries, cache: &Cache) -> Result<Self> {
        match &*series.0 {
            NEWEST => debian::newest(cache),
            series => debian::of_series(series, cache),
        }
    }

    fn file(path: &Path) -> Result<Self> {
        let image = fs::canonicalize(path)
            .with_context(|| format!("there is no kernel {}", path.display()))?;
        let release = release(&read(&image)?)
            .with_context(|| format!("{} is no bzImage", image.display()))?;
        Ok(Self::new(release, image, None))
    }

    fn new(release: String, image: PathBuf, modules: Option<PathBuf>) -> Self {
        Self {
            config: KernelConfig::beside(&image, &release),
            release,
            image,
            modules,
            variant: None,
        }
    }
}

/// As in `6.12.48-hz1000-killable`.
fn hz_of_release(release: &str) -> Option<Hz> {
    let (_, rest) = release.split_once("-hz")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Hz::new(digits.parse().ok()?).ok()
}

/// What the header of a bzImage says that the kernel is.
pub(crate) fn release(image: &[u8]) -> Option<String> {
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
    use crate::host::output;

    #[test]
    fn kernels_are_named_by_series_tick_rate_and_file() {
        let name = |text: &str| text.parse::<KernelName>().ok();
        let series = |text: &str| KernelSeries(text.to_owned());
        assert_eq!(name("6.12"), Some(KernelName::Debian(series("6.12"))));
        assert_eq!(name(NEWEST), Some(KernelName::Debian(series(NEWEST))));
        assert!(matches!(name("6.12@100"), Some(KernelName::Built(_))));
        assert!(matches!(name("./6.12@100"), Some(KernelName::File(_))));
        for bad in [
            "", ".", "..", "6", "6.", "6.12.1", "-x.1", "6.12@", "6.12@7",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }

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
    fn tick_rate_stands_in_the_configuration_or_the_release() {
        let folder = tempfile::tempdir().expect("a folder");
        let hz = |release: &str| {
            BootKernel::new(release.to_owned(), folder.path().join("bzImage"), None).hz()
        };
        assert_eq!(hz("6.12.48-hz1000").ok(), Some(Hz::HZ_1000));
        assert_eq!(hz("6.12.48-hz100-killable").ok(), Some(Hz::HZ_100));
        let error = hz("6.16.0+").expect_err("nothing says it").to_string();
        assert!(error.contains("config-6.16.0+"), "{error}");
        let config = folder.path().join("config-6.16.0+");
        output::write(&config, b"CONFIG_HZ=300\n").expect("it can be written");
        assert_eq!(hz("6.16.0+").ok(), Some(Hz::HZ_300));
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
