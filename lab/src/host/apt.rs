//! Debian packages, without installing any: apt resolves, downloads and verifies them in a state of
//! its own, in which nothing is installed; dpkg unpacks them into a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{output, programs};
use crate::host::cache::Cache;
use crate::host::machine::initramfs::read;

/// apt with a state of its own.
#[derive(Clone, Debug)]
pub(crate) struct Apt {
    home: PathBuf,
    /// Other package sources than the machine's.
    sources: Option<PathBuf>,
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
        Ok(Self {
            home,
            sources: None,
        })
    }

    /// That of the machine's package sources, with its lists fetched.
    pub(crate) fn of_machine(cache: &Cache) -> Result<Self> {
        let apt = Self::new(cache.folder("apt"))?;
        apt.update()?;
        Ok(apt)
    }

    /// That of another suite of Debian, with its lists fetched. `home` is a folder of the cache.
    pub(crate) fn of_suite(cache: &Cache, home: &str, suite: &str) -> Result<Self> {
        let home = cache.folder(home);
        let list = home.join("sources.list");
        output::write(&list, sources(suite)?.as_bytes())?;
        let apt = Self {
            sources: Some(list),
            ..Self::new(home)?
        };
        apt.update()?;
        Ok(apt)
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

    /// Downloads the only archive of a source package, which apt holds against the signed index. Mirrors may lack the
    /// description (`.dsc`) of a package whose archives they have.
    pub(crate) fn source_archive(&self, package: &str, suite: &str) -> Result<Vec<u8>> {
        let downloads = tempfile::tempdir_in(&self.home)?;
        let mut command = self.command("apt-get");
        command
            .args(["source", "--download-only", "--tar-only"])
            .arg(format!("{package}/{suite}"))
            .current_dir(downloads.path());
        programs::run(&mut command).with_context(|| cannot_download(&[package.to_owned()]))?;
        let mut archives = fs::read_dir(downloads.path())?;
        match (archives.next().transpose()?, archives.next()) {
            (Some(only), None) => read(&only.path()),
            _ => bail!("the source of {package} is not one archive"),
        }
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
        if let Some(sources) = &self.sources {
            let list = format!("Dir::Etc::sourcelist={}", sources.display());
            command.args(["-o", &list, "-o", "Dir::Etc::sourceparts=-"]);
            // Descriptions for people, in all languages, and for installers of applications.
            command.args(["-o", "Acquire::Languages=none"]);
            // All of the list is wanted, so what cannot be reached is an error at once.
            command.args(["-o", "APT::Update::Error-Mode=any"]);
            command.args([
                "-o",
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            ]);
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
    unpacked_from(what, folder, |draft| fill(&Apt::of_machine(cache)?, draft))
}

/// The same with any apt.
pub(crate) fn unpacked_from(
    what: &str,
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    output::folder(folder, fill).with_context(|| {
        format!(
            "cannot get {what}: this needs apt with the package sources of Debian 12 and, the first time, the network"
        )
    })
}

/// Package sources for another suite of Debian, from the mirror that this machine uses.
fn sources(suite: &str) -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]);
    let said = programs::run(&mut command)?;
    let mirror = mirror(&said).context("apt has no mirror of Debian among its package sources")?;
    let options = "[arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    Ok(format!(
        "deb {options} {mirror} {suite} main\ndeb-src {options} {mirror} {suite} main\n"
    ))
}

/// Of the addresses that apt uses, one a line, the first that ends as Debian's mirrors do.
fn mirror(addresses: &str) -> Option<&str> {
    let mut addresses = addresses.lines().map(|line| line.trim_end_matches('/'));
    addresses.find(|address| address.ends_with("/debian"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_debian_itself() {
        let addresses = "http://deb.example.org/debian-security/\nhttp://deb.example.org/debian/\n";
        assert_eq!(mirror(addresses), Some("http://deb.example.org/debian"));
        assert_eq!(mirror("http://archive.example.org/ubuntu/\n"), None);
    }
}
