//! The source of Bochs and its BIOS, from Debian's package sources, with an apt state of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
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
            fetch(&Apt::of_suite(cache, "apt-bochs", SUITE)?, draft)
        })?;
        let sha256 = fs::read_to_string(root.join(CHECKSUM))
            .with_context(|| format!("{} is damaged: remove it", root.display()))?;
        Ok(Self { root, sha256 })
    }

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
    let bytes = apt.source_archive("bochs", SUITE)?;
    output::write(&draft.join(ARCHIVE), &bytes)?;
    output::write(&draft.join(CHECKSUM), sha256(&bytes).as_bytes())?;
    apt.unpack(&["bochsbios", "vgabios"].map(str::to_owned), draft)
}

/// In hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
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

    #[test]
    fn sha256_of_nothing_is_the_published_one() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }
}
