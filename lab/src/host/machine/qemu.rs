//! Debian's QEMU, unmodified, and the shared libraries that it needs: for machines in which a guest of an ordinary VMM runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use split_lock_lab::cpu::script::PlacedFile;

use crate::host::cache::Cache;
use crate::host::{apt, programs};

/// Where it lies, below a folder that has all of its packages.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    root: PathBuf,
}

const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// What it reads to start a kernel on its machine `pc`.
const FIRMWARE: [&str; 3] = [
    "usr/share/seabios/bios-256k.bin",
    "usr/share/qemu/kvmvapic.bin",
    "usr/share/qemu/linuxboot_dma.bin",
];

impl Qemu {
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let root = cache.folder("qemu-in-machines");
        apt::unpacked(cache, "QEMU", &root, |apt, draft| {
            apt.unpack_with_dependencies(&["qemu-system-x86".to_owned()], draft)
        })?;
        Ok(Self { root })
    }

    /// It, the dynamic loader, and what both need. `others` are programs and libraries of ours, with what they need.
    pub(crate) fn files(&self, others: &[PlacedFile]) -> Result<Vec<PlacedFile>> {
        let in_root = |at: &str| PlacedFile {
            at: at.to_owned(),
            from: self.root.join(at),
        };
        let mut files = vec![in_root(PROGRAM), in_root(LOADER)];
        files.extend(FIRMWARE.map(in_root));
        let mut needed = self.libraries_of(&self.root.join(PROGRAM))?;
        for other in others {
            needed.extend(self.libraries_of(&other.from)?);
        }
        needed.sort();
        needed.dedup();
        files.extend(needed.into_iter().filter_map(|from| {
            let name = from.file_name()?.to_str()?;
            let at = format!("{}/{name}", LIBRARIES[0]);
            Some(PlacedFile { at, from })
        }));
        files.extend_from_slice(others);
        Ok(files)
    }

    /// The loader itself says which they are.
    fn libraries_of(&self, program: &Path) -> Result<Vec<PathBuf>> {
        let folders = LIBRARIES.map(|folder| self.root.join(folder).display().to_string());
        let mut command = Command::new(self.root.join(LOADER));
        command
            .arg("--library-path")
            .arg(folders.join(":"))
            .arg("--list")
            .arg(program);
        let said = programs::run(&mut command)
            .with_context(|| format!("cannot find the libraries of {}", program.display()))?;
        Ok(said.lines().filter_map(library).collect())
    }
}

/// `libc.so.6 => /lib/libc.so.6 (0x…)`
fn library(line: &str) -> Option<PathBuf> {
    let (_, place) = line.split_once(" => ")?;
    let (path, _) = place.rsplit_once(" (")?;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_as_the_loader_prints_them() {
        let said =
            "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /root dir/libc.so.6 (0x00007f81)\n";
        let found: Vec<_> = said.lines().filter_map(library).collect();
        assert_eq!(found, [PathBuf::from("/root dir/libc.so.6")]);
    }
}
