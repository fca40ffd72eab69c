//! Debian's QEMU, unmodified, and the shared libraries that it needs: for machines in which a guest of an ordinary VMM runs,
//! and a newer one for guests here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use split_lock_lab::cpu::script::PlacedFile;

use crate::host::apt::{self, Apt};
use crate::host::cache::Cache;
use crate::host::{output, programs};

/// Where it lies, below a folder that has all of its packages.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    root: PathBuf,
}

const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const PACKAGE: &str = "qemu-system-x86";

/// Of Debian, with an emulator that shows plugins registers and memory of a guest (QEMU 9.2 or later).
const NEWER_SUITE: &str = "trixie";
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
            apt.unpack_with_dependencies(&[PACKAGE.to_owned()], draft)
        })?;
        Ok(Self { root })
    }

    /// One that needs newer libraries than this machine may have.
    pub(crate) fn newer(cache: &Cache) -> Result<Self> {
        let root = cache.folder("qemu-newer");
        apt::unpacked_from(&format!("QEMU of {NEWER_SUITE}"), &root, |draft| {
            let apt = Apt::of_suite(cache, "apt-qemu", NEWER_SUITE)?;
            apt.unpack_with_dependencies(&[PACKAGE.to_owned()], draft)
        })?;
        Ok(Self { root })
    }

    /// What programs take for the emulator's own name.
    pub(crate) const NAME: &str = "qemu-system-x86_64";

    /// Makes a program of that name in a folder, which it returns, that starts it here with its own libraries.
    pub(crate) fn launcher(&self, folder: PathBuf) -> Result<PathBuf> {
        let root = self.root.canonicalize()?;
        // Debian has /lib as a link to /usr/lib, which is no package's.
        let loader = [LOADER, "usr/lib64/ld-linux-x86-64.so.2"].map(|it| root.join(it));
        let loader = loader.iter().find(|path| path.exists());
        let loader = loader.with_context(|| format!("no loader below {}", root.display()))?;
        let libraries = LIBRARIES.map(|folder| root.join(folder).display().to_string());
        let script = format!(
            "#!/bin/sh\nexec '{}' --library-path '{}' '{}' -L '{}' -L '{}' \"$@\"\n",
            loader.display(),
            libraries.join(":"),
            root.join(PROGRAM).display(),
            root.join("usr/share/qemu").display(),
            root.join("usr/share/seabios").display(),
        );
        let program = folder.join(Self::NAME);
        output::write(&program, script.as_bytes())?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        Ok(folder)
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
