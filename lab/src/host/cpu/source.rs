//! The source of Bochs and its BIOS, from Debian's package sources, with an apt state of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::host::apt::{self, Apt};
use crate::host::cache::Cache;
use crate::host::machine::initramfs::read;
use crate::host::output;

/// The first release of Debian with Bochs 3.0. The machine's own may be an older one.
const SUITE: &str = "trixie";

const ARCHIVE: &str = "bochs.orig.tar.xz";
const CHECKSUM: &str = "sha256";

/// Bochs as it is published, and the BIOS of its machine.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    root: PathBuf,
    /// Of the archive.
    pub(crate) sha256: String,
}

impl Source {
    /// From the cache, or else the network.
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let root = cache.folder("bochs");
        let what = format!("the source of Bochs (Debian's {SUITE})");
        apt::unpacked_from(&what, &root, |draft| {
            let sources = apt::sources(SUITE)?;
            let apt = Apt::with_sources(cache.folder("apt-bochs"), &sources)?;
            apt.update()?;
            fetch(&apt, draft)
        })?;
        let sha256 = fs::read_to_string(root.join(CHECKSUM))
            .with_context(|| format!("{} is damaged: remove it", root.display()))?;
        Ok(Self { root, sha256 })
    }

    /// The bytes of the archive.
    pub(crate) fn archive(&self) -> Result<Vec<u8>> {
        read(&self.root.join(ARCHIVE))
    }

    pub(crate) fn bios(&self) -> PathBuf {
        self.root.join("usr/share/bochs/BIOS-bochs-latest")
    }

    pub(crate) fn vga_bios(&self) -> PathBuf {
        self.root.join("usr/share/vgabios/vgabios.bin")
    }
}

fn fetch(apt: &Apt, draft: &Path) -> Result<()> {
    let expected = upstream_archive(&apt.source_record("bochs")?)?;
    let bytes = apt.source_archive("bochs", SUITE, &expected.name)?;
    let found = sha256(&bytes);
    ensure!(
        found == expected.sha256,
        "{} is not the file of the signed index: its SHA-256 is {found}, not {}",
        expected.name,
        expected.sha256
    );
    output::write(&draft.join(ARCHIVE), &bytes)?;
    output::write(&draft.join(CHECKSUM), found.as_bytes())?;
    apt.unpack(&["bochsbios", "vgabios"].map(str::to_owned), draft)
}

/// A file of a source package, as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceFile {
    name: String,
    sha256: String,
}

/// The archive as its authors published it, in what `apt-cache showsrc` says of one version of a package.
fn upstream_archive(record: &str) -> Result<SourceFile> {
    let mut lines = record.lines();
    lines.find(|&line| line == "Checksums-Sha256:");
    let files = lines.take_while(|line| line.starts_with(' '));
    let mut archives = files.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (sha256, _size, name) = (words.next()?, words.next()?, words.next()?);
        let is_hex = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex && name.ends_with(".orig.tar.xz")).then(|| SourceFile {
            name: name.to_owned(),
            sha256: sha256.to_owned(),
        })
    });
    match (archives.next(), archives.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => bail!("the index has no SHA-256 of an archive .orig.tar.xz"),
        (Some(_), Some(_)) => bail!("the index has several archives .orig.tar.xz"),
    }
}

/// In hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes))
}

/// Names what was made from these parts: other parts, or parts that are cut elsewhere, have another key.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    digits(&hash.finalize())[..16].to_owned()
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "Package: bochs\nVersion: 3.0+dfsg-1\nFiles:\n \
        fbdcfe265449f5014d164dcafe1151ef 3896488 bochs_3.0+dfsg.orig.tar.xz\nVcs-Browser: x\nChecksums-Sha256:\n \
        6a4edf052e133b241cf22d96cd6816587e9d5d11df20cb92accb2234d8f036d4 2554 bochs_3.0+dfsg-1.dsc\n \
        78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b 3896488 bochs_3.0+dfsg.orig.tar.xz\n \
        c68fe1162aa485249467ec93707ccbf5d039b00d12815899fc2c819ec16d00df 30720 bochs_3.0+dfsg-1.debian.tar.xz\n\
        Homepage: https://example.org\n";

    #[test]
    fn archive_is_found_by_its_sha256_and_not_by_its_md5() {
        let file = upstream_archive(RECORD).expect("a complete record");
        assert_eq!(file.name, "bochs_3.0+dfsg.orig.tar.xz");
        assert!(file.sha256.starts_with("78f6c73d"));
    }

    #[test]
    fn record_without_one_archive_is_refused() {
        assert!(upstream_archive("").is_err());
        assert!(upstream_archive(&RECORD.replace("Sha256", "Sha1")).is_err());
        assert!(upstream_archive(&RECORD.replace("78f6c73d", "78f6c73")).is_err());
        assert!(upstream_archive(&RECORD.replace("-1.dsc", ".orig.tar.xz")).is_err());
    }

    #[test]
    fn sha256_of_nothing_is_the_published_one() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }
}
