//! Where the kernel's command line is written down: each boot loader, and each distribution, has its own place.

use std::iter;

use serde::Serialize;

use crate::{Facts, Os, Root};

/// Who hands the kernel its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BootLoader {
    /// NixOS, whatever loader it has installed.
    NixOs,
    /// Systems of images: Silverblue, Bazzite, CoreOS.
    RpmOstree,
    /// Pop!_OS.
    KernelStub,
    /// Proxmox VE, with its own tool for several boot partitions.
    Proxmox {
        /// Whether it uses systemd-boot: GRUB otherwise.
        systemd_boot: bool,
    },
    /// Fedora and RHEL.
    Grubby,
    /// Limine, as CachyOS has it.
    Limine,
    /// GRUB, with Debian's folder for additions.
    GrubFolder,
    /// GRUB, with one file of settings.
    Grub {
        /// Whether its tools are called `grub2-…`.
        is_called_grub2: bool,
    },
    /// systemd-boot with `kernel-install`.
    KernelInstall,
    /// systemd-boot with entries that are written by hand.
    SystemdBoot,
    /// rEFInd.
    Refind,
}

impl BootLoader {
    /// The one in use, as far as its files say so; where several have left files, the one that wins.
    pub(crate) fn of(root: &Root, facts: &Facts) -> Option<Self> {
        let has = |path: &str| root.has(path).is_there() == Some(true);
        let any = |paths: &[&str]| paths.iter().any(|path| has(path));
        let is = |name: &str| facts.os.known().is_some_and(|os: &Os| os.is(name));
        Some(if is("nixos") {
            BootLoader::NixOs
        } else if has("run/ostree-booted") {
            BootLoader::RpmOstree
        } else if has("etc/kernelstub/configuration") {
            BootLoader::KernelStub
        } else if has("etc/kernel/proxmox-boot-uuids") {
            BootLoader::Proxmox {
                systemd_boot: has("etc/kernel/cmdline"),
            }
        } else if any(&["usr/sbin/grubby", "usr/bin/grubby", "sbin/grubby"]) {
            BootLoader::Grubby
        } else if any(&[
            "etc/default/limine",
            "boot/limine.conf",
            "boot/limine/limine.conf",
        ]) {
            BootLoader::Limine
        } else if has("etc/default/grub.d") && is("debian") {
            BootLoader::GrubFolder
        } else if has("etc/default/grub") {
            BootLoader::Grub {
                is_called_grub2: has("boot/grub2"),
            }
        } else if has("etc/kernel/cmdline") {
            BootLoader::KernelInstall
        } else if any(&[
            "boot/loader/entries",
            "efi/loader/entries",
            "boot/efi/loader/entries",
        ]) {
            BootLoader::SystemdBoot
        } else if has("boot/refind_linux.conf") {
            BootLoader::Refind
        } else {
            return None;
        })
    }

    /// How to add a parameter; `old` is the one that it replaces, if there is one.
    pub(crate) fn with(self, parameter: &str, old: Option<&str>) -> Vec<String> {
        // The kernel looks at the last one alone, but two of them would puzzle the next reader.
        self.changed(old.filter(|&old| old != parameter), Some(parameter))
    }

    pub(crate) fn without(self, parameter: &str) -> Vec<String> {
        self.changed(Some(parameter), None)
    }

    /// From an old parameter, if there is one, to a new one, if there is to be one.
    fn changed(self, old: Option<&str>, new: Option<&str>) -> Vec<String> {
        let option = |name: &str, value: Option<&str>| {
            value.map_or(String::new(), |value| format!(" --{name}={value}"))
        };
        let (change, then) = match self {
            BootLoader::NixOs => {
                let change = match (old, new) {
                    (Some(old), Some(new)) => {
                        format!(r#""{new}" in the place of "{old}" in boot.kernelParams"#)
                    }
                    (Some(old), None) => format!(r#"take "{old}" out of boot.kernelParams"#),
                    (None, new) => {
                        let new = new.unwrap_or_default();
                        format!(r#"boot.kernelParams = [ "{new}" ];"#)
                    }
                };
                let change = format!("in configuration.nix: {change}");
                (change, Some("sudo nixos-rebuild boot"))
            }
            BootLoader::RpmOstree => {
                let old = option("delete-if-present", old);
                let new = option("append-if-missing", new);
                (format!("sudo rpm-ostree kargs{old}{new}"), None)
            }
            BootLoader::KernelStub => {
                let old = old.map(|old| format!("sudo kernelstub --delete-options \"{old}\""));
                let new = new.map(|new| format!("sudo kernelstub --add-options \"{new}\""));
                let commands: Vec<_> = [old, new].into_iter().flatten().collect();
                (commands.join(" && "), None)
            }
            BootLoader::Grubby => {
                let quoted = |value: &str| format!("\"{value}\"");
                let old = option("remove-args", old.map(quoted).as_deref());
                let new = option("args", new.map(quoted).as_deref());
                (format!("sudo grubby --update-kernel=ALL{old}{new}"), None)
            }
            BootLoader::Proxmox { systemd_boot } => {
                let change = match systemd_boot {
                    true => in_kernel_cmdline(old, new),
                    false => in_grub_defaults(old, new),
                };
                (change, Some("sudo proxmox-boot-tool refresh"))
            }
            BootLoader::KernelInstall => (
                in_kernel_cmdline(old, new),
                Some("sudo kernel-install add-all"),
            ),
            BootLoader::GrubFolder => {
                let files = "/etc/default/grub /etc/default/grub.d/*.cfg";
                let change = in_grub_variable(old, new, files, GRUB_ADDITION);
                (change, Some("sudo update-grub"))
            }
            BootLoader::Grub { is_called_grub2 } => {
                let then = match is_called_grub2 {
                    true => "sudo grub2-mkconfig -o /boot/grub2/grub.cfg",
                    false => "sudo grub-mkconfig -o /boot/grub/grub.cfg",
                };
                (in_grub_defaults(old, new), Some(then))
            }
            BootLoader::Limine => {
                let place =
                    "in KERNEL_CMDLINE of /etc/default/limine (or in cmdline of limine.conf)";
                (by_hand(old, new, place), Some("sudo limine-update"))
            }
            BootLoader::SystemdBoot => {
                let place =
                    "in the options line of each file of loader/entries on the boot partition";
                (by_hand(old, new, place), None)
            }
            BootLoader::Refind => {
                let place = "in the options of /boot/refind_linux.conf";
                (by_hand(old, new, place), None)
            }
        };
        iter::once(change).chain(then.map(str::to_owned)).collect()
    }
}

fn in_kernel_cmdline(old: Option<&str>, new: Option<&str>) -> String {
    let file = "/etc/kernel/cmdline";
    match old {
        Some(old) => replaced(old, new, file),
        None => format!("sudo sed -i '1s/$/ {}/' {file}", new.unwrap_or_default()),
    }
}

fn in_grub_defaults(old: Option<&str>, new: Option<&str>) -> String {
    let file = "/etc/default/grub";
    in_grub_variable(old, new, file, &format!("-a {file}"))
}

/// A shell reads these files: another line works however, and whether at all, the variable is set there.
fn in_grub_variable(old: Option<&str>, new: Option<&str>, files: &str, tee_to: &str) -> String {
    match old {
        Some(old) => replaced(old, new, files),
        None => format!(
            "echo 'GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX {}\"' | sudo tee {tee_to}",
            new.unwrap_or_default()
        ),
    }
}

/// In files that a person may have written: the old one has to be found there first. It may be there more than once,
/// and may be the beginning of another one.
fn replaced(old: &str, new: Option<&str>, files: &str) -> String {
    let new = new.map_or(String::new(), |new| format!(" {new}"));
    format!("sudo sed -Ei 's/ *\\b{old}($|[^[:alnum:]:])/{new}\\1/g' {files}")
}

fn by_hand(old: Option<&str>, new: Option<&str>, place: &str) -> String {
    match (old, new) {
        (Some(old), Some(new)) => format!("put {new} in the place of {old} {place}"),
        (Some(old), None) => format!("take {old} out {place}"),
        (None, new) => format!("add {} {place}", new.unwrap_or_default()),
    }
}

/// A file of its own, so that it is easily taken away again.
const GRUB_ADDITION: &str = "/etc/default/grub.d/60-split-lock.cfg";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::fixture;

    const DEBIAN: &str = "ID=ubuntu\nID_LIKE=debian\n";

    /// The one of a machine with these files; with an os-release too, unless that is empty.
    fn found(files: &str, os_release: &str) -> Option<BootLoader> {
        let files = files.split_whitespace().map(|path| (path, ""));
        let os_release = Some(("etc/os-release", os_release)).filter(|(_, text)| !text.is_empty());
        let folder = fixture::folder(&files.chain(os_release).collect::<Vec<_>>());
        let root = Root::open(folder.path()).unwrap();
        BootLoader::of(&root, &Facts::read(&root))
    }

    #[test]
    fn each_is_known_by_its_files() {
        // Files, an os-release, the boot loader, and a part of how a parameter is added.
        #[rustfmt::skip]
        let cases = [
            ("etc/default/grub", "ID=nixos\n", BootLoader::NixOs, "boot.kernelParams = [ \"a=b\" ]"),
            ("run/ostree-booted etc/default/grub", "", BootLoader::RpmOstree,
             "rpm-ostree kargs --append-if-missing=a=b"),
            ("etc/kernelstub/configuration", "", BootLoader::KernelStub, "kernelstub --add-options \"a=b\""),
            ("etc/kernel/proxmox-boot-uuids etc/kernel/cmdline etc/default/grub", "",
             BootLoader::Proxmox { systemd_boot: true }, "/etc/kernel/cmdline\nsudo proxmox-boot-tool refresh"),
            ("etc/kernel/proxmox-boot-uuids etc/default/grub", "", BootLoader::Proxmox { systemd_boot: false },
             "/etc/default/grub\nsudo proxmox-boot-tool refresh"),
            ("usr/sbin/grubby etc/default/grub", "", BootLoader::Grubby,
             "grubby --update-kernel=ALL --args=\"a=b\""),
            ("boot/limine.conf", "", BootLoader::Limine, "add a=b in KERNEL_CMDLINE"),
            ("etc/default/grub etc/default/grub.d/x.cfg", DEBIAN, BootLoader::GrubFolder,
             "$GRUB_CMDLINE_LINUX a=b\"' | sudo tee /etc/default/grub.d/60-split-lock.cfg\nsudo update-grub"),
            ("etc/default/grub boot/grub2/grub.cfg", "", BootLoader::Grub { is_called_grub2: true },
             "/etc/default/grub\nsudo grub2-mkconfig -o /boot/grub2/grub.cfg"),
            ("etc/default/grub", "", BootLoader::Grub { is_called_grub2: false },
             "/etc/default/grub\nsudo grub-mkconfig -o /boot/grub/grub.cfg"),
            ("etc/kernel/cmdline", "", BootLoader::KernelInstall, "sudo kernel-install add-all"),
            ("efi/loader/entries/x.conf", "", BootLoader::SystemdBoot, "loader/entries"),
            ("boot/refind_linux.conf", "", BootLoader::Refind, "/boot/refind_linux.conf"),
        ];
        for (files, os_release, boot_loader, command) in cases {
            assert_eq!(found(files, os_release), Some(boot_loader), "{files:?}");
            let commands = boot_loader.with("a=b", None).join("\n");
            assert!(commands.contains(command), "{boot_loader:?}: {commands}");
            // There is a way back, and a way to another value.
            let without = boot_loader.without("a=b").join("\n");
            assert!(without.contains("a=b"), "{boot_loader:?}: {without}");
            let replaced = boot_loader.with("a=c", Some("a=b")).join("\n");
            assert!(
                replaced.contains("a=b") && replaced.contains("a=c"),
                "{boot_loader:?}: {replaced}"
            );
        }
        assert_eq!(found("", ""), None);
    }

    /// The commands for GRUB, tried on a file.
    #[test]
    fn sed_does_what_is_promised() {
        let folder = fixture::folder(&[("grub", "GRUB_CMDLINE_LINUX=\"quiet a=b splash\"\n")]);
        let file = folder.path().join("grub");
        let grub = BootLoader::Grub {
            is_called_grub2: false,
        };
        let run = |commands: Vec<String>| {
            let path = file.display().to_string();
            let command = commands[0]
                .replace("/etc/default/grub", &path)
                .replace("sudo ", "");
            let status = std::process::Command::new("sh")
                .arg("-c")
                .arg(&command)
                .status()
                .unwrap();
            assert!(status.success(), "{command}");
            std::fs::read_to_string(&file).unwrap()
        };
        assert_eq!(
            run(grub.with("a=c", Some("a=b"))),
            "GRUB_CMDLINE_LINUX=\"quiet a=c splash\"\n"
        );
        assert_eq!(
            run(grub.without("a=c")),
            "GRUB_CMDLINE_LINUX=\"quiet splash\"\n"
        );
        assert_eq!(
            run(grub.with("a=d", None)),
            "GRUB_CMDLINE_LINUX=\"quiet splash\"\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX a=d\"\n"
        );
        // More than one, at the ends, and others that only look alike.
        fixture::write(
            folder.path(),
            "grub",
            b"X='a=b a=b a=bc xa=b quiet a=b'\nY=\"a=b:1\"\n",
        );
        assert_eq!(
            run(grub.without("a=b")),
            "X='  a=bc xa=b quiet'\nY=\"a=b:1\"\n"
        );
        fixture::write(folder.path(), "grub", b"quiet a=b");
        assert_eq!(run(grub.with("a=c", Some("a=b"))), "quiet a=c");
    }
}
