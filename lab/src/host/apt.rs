//! Debian packages, without installing any: apt resolves, downloads and verifies them in a state of
//! its own, in which nothing is installed; dpkg unpacks them into a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::{output, programs};

/// apt with a state of its own.
#[derive(Clone, Debug)]
pub(crate) struct Apt {
    home: PathBuf,
}

impl Apt {
    /// Uses the machine's package sources and keys, and nothing else of its apt.
    fn new(home: PathBuf) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = home.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        output::write(&home.join("status"), b"")?;
        Ok(Self { home })
    }

    /// Fetches the lists of packages. A source that cannot be reached is no error yet: what is missed
    /// then, if anything, is found out when it is looked for.
    fn update(&self) -> Result<()> {
        programs::run(self.command("apt-get").arg("update")).map(drop)
    }

    /// What a package depends on, by name.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        let said = programs::run(command.args(["depends", "--important", package]))
            .with_context(|| format!("there is no package {package} to be had"))?;
        let names = said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    /// The only package that a metapackage depends on.
    pub(crate) fn resolve(&self, metapackage: &str) -> Result<String> {
        match &self.dependencies(metapackage)?[..] {
            [only] => Ok(only.clone()),
            other => bail!("{metapackage} is no metapackage: it depends on {other:?}"),
        }
    }

    /// The version that would be downloaded.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let mut command = self.command("apt-cache");
        let said = programs::run(command.args(["show", "--no-all-versions", package]))?;
        let version = said.lines().find_map(|line| line.strip_prefix("Version: "));
        version
            .map(str::to_owned)
            .with_context(|| format!("apt does not say which version of {package} it has"))
    }

    /// Downloads these packages alone, and unpacks them.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let downloads = tempfile::tempdir_in(&self.home)?;
        let mut command = self.command("apt-get");
        command
            .arg("download")
            .args(packages)
            .current_dir(downloads.path());
        programs::run(&mut command).with_context(|| cannot_download(packages))?;
        unpack_all(downloads.path(), into)
    }

    /// Downloads these packages and whatever they need, as if nothing were there, and unpacks them.
    pub(crate) fn unpack_with_dependencies(&self, packages: &[String], into: &Path) -> Result<()> {
        // What a run that was interrupted has left would be unpacked beside what comes now.
        programs::run(self.command("apt-get").arg("clean"))?;
        let mut command = self.command("apt-get");
        let install = "install --yes --download-only --no-install-recommends";
        command.args(install.split(' ')).args(packages);
        programs::run(&mut command).with_context(|| cannot_download(packages))?;
        let archives = self.home.join("cache/archives");
        unpack_all(&archives, into)?;
        programs::run(self.command("apt-get").arg("clean")).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let settings = [
            ("Dir::State", self.home.clone()),
            ("Dir::State::lists", self.home.join("lists")),
            ("Dir::State::status", self.home.join("status")),
            ("Dir::Cache", self.home.join("cache")),
        ];
        for (name, path) in settings {
            command.arg("-o").arg(format!("{name}={}", path.display()));
        }
        // The user that apt would download as cannot write below a home directory.
        command.args(["-o", "APT::Sandbox::User=", "-q"]);
        command.env("LC_ALL", "C");
        command
    }
}

/// A folder of the cache that `fill` unpacks packages into, unless it is there already.
pub(crate) fn unpacked(
    cache: &Cache,
    what: &str,
    folder: &Path,
    fill: impl FnOnce(&Apt, &Path) -> Result<()>,
) -> Result<()> {
    let fetch = |draft: &Path| {
        let apt = Apt::new(cache.folder("apt"))?;
        apt.update()?;
        fill(&apt, draft)
    };
    output::folder(folder, fetch).with_context(|| {
        format!(
            "cannot get {what}: this needs apt with the package sources of Debian 12 and, the first time, the network"
        )
    })
}

fn cannot_download(packages: &[String]) -> String {
    format!("cannot download {}", packages.join(", "))
}

fn unpack_all(from: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            let mut command = Command::new("dpkg-deb");
            programs::run(command.arg("--extract").arg(&path).arg(into))?;
        }
    }
    Ok(())
}
