//! Small kernels of any tick rate, built from Debian's source packages: configured here, and with edits only where these
//! are asked for.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use split_lock_model::time::Hz;

use crate::host::cache::Cache;
use crate::host::cpu::source;
use crate::host::kernel::source::{BuildTools, KernelSource};
use crate::host::kernel::tree::SourceTree;
use crate::host::kernel::variant::Variant;
use crate::host::kernel::{KernelSeries, release};
use crate::host::machine::initramfs::read;
use crate::host::output;
use crate::host::programs;
use crate::host::step::step;

/// Which kernel to build: `6.12@1000`, or `6.12@1000+killable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuiltKernel {
    pub(crate) series: KernelSeries,
    pub(crate) hz: Hz,
    pub(crate) variant: Option<Variant>,
}

impl fmt::Display for BuiltKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.series, self.hz)?;
        match self.variant {
            Some(variant) => write!(f, "+{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for BuiltKernel {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (series, hz) = text
            .split_once('@')
            .context("not of the form SERIES@HZ[+EDIT], such as 6.12@1000")?;
        let (hz, variant) = match hz.split_once('+') {
            Some((hz, variant)) => (hz, Some(variant)),
            None => (hz, None),
        };
        let variant = variant.map(|name| Variant::from_str(name, false));
        Ok(Self {
            series: series.parse()?,
            hz: tick_rate(hz)?,
            variant: variant.transpose().map_err(anyhow::Error::msg)?,
        })
    }
}

/// One that kernels can be configured for.
pub(crate) fn tick_rate(text: &str) -> Result<Hz> {
    let hz = text.parse().ok().and_then(|hz| Hz::new(hz).ok());
    hz.with_context(|| format!("{text:?} is no tick rate: choose 100, 250, 300 or 1000"))
}

/// Without the tick rate and the name.
const CONFIGURATION: &str = include_str!("../../../kernel.config");

/// Lines of it that not every release knows. Since 7.3 SYSCTL alone stands for /proc/sys, and is on by default.
const NOT_IN_ALL: [&str; 4] = [
    "CONFIG_PROC_SYSCTL=y",
    "CONFIG_X86_BUS_LOCK_DETECT=y",
    "CONFIG_PREEMPT_VOLUNTARY=y",
    "CONFIG_PREEMPT_LAZY=y",
];

/// So that two builds of the same are the same.
const NEUTRAL_BANNER: [&str; 4] = [
    "KBUILD_BUILD_USER=lab",
    "KBUILD_BUILD_HOST=splitlock",
    "KBUILD_BUILD_VERSION=1",
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 2026",
];

impl BuiltKernel {
    /// What building it takes, from the cache or else the network.
    pub(crate) fn fetch(&self, cache: &Cache) -> Result<(KernelSource, BuildTools)> {
        let source = step(&format!("the source of Linux {}", self.series), || {
            KernelSource::get(&self.series.to_string(), cache)
        })?;
        let tools = step("the tools to build it", || BuildTools::get(cache))?;
        Ok((source, tools))
    }

    /// Its image, from the cache or else built. Its configuration lies beside it.
    pub(crate) fn image(&self, cache: &Cache) -> Result<PathBuf> {
        let (source, tools) = self.fetch(cache)?;
        let configuration = self.configuration();
        let edits = self.variant.map_or("", Variant::text);
        let key = source::key([&source.version, &configuration, edits].map(str::as_bytes));
        let kernels = cache.folder("build/kernels");
        let folder = kernels.join(self.to_string()).join(key);
        if !folder.exists() {
            let what = format!("building {self} of {}, some minutes", source.version);
            step(&what, || {
                let log = kernels.join(format!("{self}.log"));
                output::write(&log, b"")?;
                let tree = self.tree(&source, &tools, cache)?;
                let edited = self.variant.map(|variant| variant.edited(tree.path()));
                tree.edit(&edited.transpose()?.unwrap_or_default())?;
                let built = output::only_folder(&folder, |draft| {
                    let build = KernelBuild {
                        tools: &tools,
                        tree: tree.path(),
                        configuration: &configuration,
                        suffix: self.variant.map_or(String::new(), |it| format!("-{it}")),
                        log: &log,
                    };
                    build.run(draft)
                });
                let restored = tree.restore();
                built.with_context(|| format!("cannot build {self}"))?;
                restored
            })?;
        }
        Ok(folder.join(IMAGE))
    }

    /// The source, with the objects of whatever was built of it before.
    pub(crate) fn tree(
        &self,
        source: &KernelSource,
        tools: &BuildTools,
        cache: &Cache,
    ) -> Result<SourceTree> {
        let name = format!("{}@{}", self.series, self.hz);
        SourceTree::get(
            source,
            tools,
            &cache.folder("build/kernels/trees").join(name),
        )
    }

    fn configuration(&self) -> String {
        let hz = self.hz;
        format!("{CONFIGURATION}\nCONFIG_HZ_{hz}=y\nCONFIG_LOCALVERSION=\"-hz{hz}\"\n")
    }
}

const IMAGE: &str = "bzImage";

struct KernelBuild<'a> {
    tools: &'a BuildTools,
    tree: &'a Path,
    configuration: &'a str,
    /// Of the release's name.
    suffix: String,
    log: &'a Path,
}

impl KernelBuild<'_> {
    fn run(&self, draft: &Path) -> Result<()> {
        let wanted = draft.join("wanted");
        output::write(&wanted, self.configuration.as_bytes())?;
        let mut configure = self.tools.make(self.tree)?;
        configure
            .env("KCONFIG_ALLCONFIG", &wanted)
            .arg("allnoconfig");
        programs::run_logged(&mut configure, self.log)?;
        fs::remove_file(wanted)?;
        let got = fs::read_to_string(self.tree.join(".config"))?;
        let missing = missing(self.configuration, &got);
        ensure!(
            missing.is_empty(),
            "this source cannot be configured so: it does not take {}",
            missing.join(", ")
        );
        let mut make = self.tools.make(self.tree)?;
        make.arg(format!("LOCALVERSION={}", self.suffix))
            .args(NEUTRAL_BANNER)
            .args([&programs::jobs(), IMAGE]);
        programs::run_logged(&mut make, self.log)?;
        let image = self.tree.join("arch/x86/boot").join(IMAGE);
        let release = release(&read(&image)?).context("make has built no bzImage")?;
        output::write(&draft.join(format!("config-{release}")), got.as_bytes())?;
        fs::copy(image, draft.join(IMAGE))?;
        Ok(())
    }
}

/// What was asked for and did not come, because of a dependency or another name.
fn missing<'a>(wanted: &'a str, got: &str) -> Vec<&'a str> {
    let options = wanted.lines().filter(|line| line.starts_with("CONFIG_"));
    let is_missing = |option: &&str| !got.lines().any(|line| line == *option);
    options
        .filter(|option| !NOT_IN_ALL.contains(option))
        .filter(is_missing)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_a_series_and_a_tick_rate() {
        let kernel: BuiltKernel = "6.12@1000".parse().expect("a kernel");
        assert_eq!(kernel.hz, Hz::HZ_1000);
        assert_eq!(kernel.to_string(), "6.12@1000");
        assert!("newest@100".parse::<BuiltKernel>().is_ok());
        let kernel: BuiltKernel = "6.12@1000+kernel-mode".parse().expect("a kernel");
        assert_eq!(kernel.variant, Some(Variant::KernelMode));
        assert_eq!(kernel.to_string(), "6.12@1000+kernel-mode");
        for bad in [
            "6.12",
            "6.12@",
            "@1000",
            "6.12@250x",
            "6.12@500",
            "6.12@1000+",
            "6.12@1000+other",
            "../x@100",
        ] {
            assert!(bad.parse::<BuiltKernel>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tick_rate_is_in_configuration_and_release() {
        let kernel: BuiltKernel = "6.12@300".parse().expect("a kernel");
        let configuration = kernel.configuration();
        let lines: Vec<_> = configuration.lines().collect();
        assert!(lines.contains(&"CONFIG_HZ_300=y"));
        assert!(lines.contains(&"CONFIG_LOCALVERSION=\"-hz300\""));
    }

    #[test]
    fn options_that_did_not_come_are_named() {
        let wanted = "# why\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_PREEMPT_LAZY=y\n";
        assert_eq!(missing(wanted, "CONFIG_A=y\nCONFIG_BB=y\n"), ["CONFIG_B=y"]);
    }

    #[test]
    fn options_that_may_be_missing_are_asked_for() {
        for option in NOT_IN_ALL {
            assert!(CONFIGURATION.lines().any(|line| line == option), "{option}");
        }
    }
}
