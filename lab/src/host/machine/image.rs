//! A CD that boots a kernel: GRUB's core with the kernel's command line in it, the kernel, and an initramfs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::cache::Cache;
use crate::host::{apt, output, programs};

/// GRUB and xorriso, unpacked somewhere.
#[derive(Clone, Debug)]
pub(crate) struct ImageTools {
    root: PathBuf,
}

/// What the machine boots from, in its folder.
pub(crate) const IMAGE: &str = "boot.iso";

impl ImageTools {
    /// From the cache, or else the network.
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let root = cache.folder("image-tools");
        apt::unpacked(cache, "GRUB and xorriso", &root, |apt, draft| {
            let packages = ["grub-common", "grub-pc-bin", "xorriso"].map(str::to_owned);
            apt.unpack_with_dependencies(&packages, draft)
        })?;
        Ok(Self { root })
    }

    /// Puts the image into a machine's folder.
    pub(crate) fn write(
        &self,
        folder: &Path,
        kernel: &Path,
        initramfs: &[u8],
        command_line: &str,
    ) -> Result<()> {
        let draft = tempfile::tempdir_in(folder)?;
        let inside = |name: &str| draft.path().join("cd").join(name);
        output::write(&inside("initramfs"), initramfs)?;
        fs::copy(kernel, inside("vmlinuz"))
            .with_context(|| format!("cannot read {}", kernel.display()))?;
        let commands = draft.path().join("grub.cfg");
        output::write(&commands, grub_commands(command_line).as_bytes())?;
        let mut core = self.command("grub-mkimage");
        core.arg("--directory")
            .arg(self.root.join("usr/lib/grub/i386-pc"))
            .args(["--format", "i386-pc-eltorito", "--prefix", "/"])
            .arg("--config")
            .arg(&commands)
            .arg("--output")
            .arg(inside("core.img"))
            .args(["biosdisk", "iso9660", "linux"]);
        programs::run(&mut core)?;
        let mut cd = self.command("xorriso");
        cd.args(
            "-as mkisofs -quiet -R -b core.img -no-emul-boot -boot-load-size 4 -boot-info-table"
                .split(' '),
        )
        .arg("-o")
        .arg(folder.join(IMAGE))
        .arg(draft.path().join("cd"));
        programs::run(&mut cd).map(drop)
    }

    /// Started through its own dynamic loader, so that the machine's libraries do not matter.
    fn command(&self, name: &str) -> Command {
        let libraries = ["lib", "usr/lib"].map(|folder| {
            let folder = self.root.join(folder).join("x86_64-linux-gnu");
            folder.display().to_string()
        });
        let mut command = Command::new(self.root.join("lib64/ld-linux-x86-64.so.2"));
        command
            .args(["--library-path", &libraries.join(":")])
            .arg(self.root.join("usr/bin").join(name));
        command
    }
}

/// GRUB carries them out as soon as it runs: no menu, no waiting.
fn grub_commands(command_line: &str) -> String {
    format!("set root=(cd)\nlinux /vmlinuz {command_line}\ninitrd /initramfs\nboot\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_boots_the_kernel_with_its_command_line() {
        let commands = grub_commands("console=ttyS0 quiet");
        assert!(commands.contains("\nlinux /vmlinuz console=ttyS0 quiet\n"));
        assert!(commands.ends_with("\nboot\n"));
    }
}
