//! Virtual machines, by the command line of the process that runs them.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// A virtual machine, as far as its VMM's command line tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vm {
    /// The program that runs it.
    pub vmm: Vmm,
    /// Its name.
    pub name: Option<String>,
    /// Firecracker's or Proxmox VE's id; where there is neither name nor id, the path of its socket or disk.
    pub id: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// What has started the VMM.
    pub manager: Option<Manager>,
}

/// A program that runs virtual machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vmm {
    /// QEMU.
    Qemu,
    /// Firecracker.
    Firecracker,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// crosvm.
    Crosvm,
    /// VirtualBox.
    VirtualBox,
    /// VMware Workstation or Player.
    Vmware,
    /// kvmtool.
    Kvmtool,
    /// One that is not known here, but has a virtual machine of KVM open.
    Other,
}

/// What starts VMMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// libvirt.
    Libvirt,
    /// Proxmox VE.
    Proxmox,
    /// Firecracker's jailer.
    Jailer,
}

impl Vmm {
    /// By the name of its program. Releases are called `firecracker-v1.7.0-x86_64` and the like.
    fn by_program(program: &str) -> Option<Self> {
        Some(match program {
            "qemu-kvm" | "kvm" => Vmm::Qemu,
            "VBoxHeadless" | "VirtualBoxVM" | "VirtualBox" => Vmm::VirtualBox,
            "crosvm" => Vmm::Crosvm,
            "vmware-vmx" => Vmm::Vmware,
            "lkvm" => Vmm::Kvmtool,
            name if name.starts_with("qemu-system-") => Vmm::Qemu,
            name if name.starts_with("firecracker") => Vmm::Firecracker,
            name if name.starts_with("cloud-hypervisor") => Vmm::CloudHypervisor,
            _ => return None,
        })
    }

    pub(super) fn names_vcpus(self) -> bool {
        match self {
            Vmm::Firecracker | Vmm::CloudHypervisor | Vmm::Crosvm | Vmm::VirtualBox => true,
            Vmm::Qemu | Vmm::Vmware | Vmm::Kvmtool | Vmm::Other => false,
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Vmm::Qemu => "QEMU",
            Vmm::Firecracker => "Firecracker",
            Vmm::CloudHypervisor => "Cloud Hypervisor",
            Vmm::Crosvm => "crosvm",
            Vmm::VirtualBox => "VirtualBox",
            Vmm::Vmware => "VMware",
            Vmm::Kvmtool => "kvmtool",
            Vmm::Other => "a VMM that is not known here",
        })
    }
}

impl Vm {
    /// The one that a process with this command line runs.
    ///
    /// ```
    /// use split_lock_host::attribution::{Manager, Vm};
    ///
    /// let command_line = "/usr/bin/kvm -id 105 -name win-10,debug-threads=on".split(' ');
    /// let vm = Vm::of_command_line(&command_line.map(str::to_owned).collect::<Vec<_>>()).unwrap();
    /// assert_eq!(vm.name.as_deref(), Some("win-10"));
    /// assert_eq!(vm.manager, Some(Manager::Proxmox));
    /// ```
    #[must_use]
    pub fn of_command_line(command_line: &[String]) -> Option<Self> {
        let (program, arguments) = command_line.split_first()?;
        let program = Path::new(program).file_name()?.to_str()?;
        let arguments = Arguments(arguments);
        Some(match Vmm::by_program(program)? {
            Vmm::Qemu => qemu(arguments),
            Vmm::Firecracker => firecracker(arguments),
            Vmm::CloudHypervisor => cloud_hypervisor(arguments),
            Vmm::Crosvm if arguments.0.first().is_some_and(|word| word == "run") => {
                crosvm(arguments)
            }
            // Its other commands run no machine.
            Vmm::Crosvm => return None,
            Vmm::VirtualBox => virtual_box(arguments)?,
            Vmm::Vmware => vmware(arguments),
            Vmm::Kvmtool => Vm {
                name: arguments.value(&["--name", "-n"]),
                ..Vm::of(Vmm::Kvmtool)
            },
            Vmm::Other => Vm::of(Vmm::Other),
        })
    }

    /// The best of its names, if it has one.
    #[must_use]
    pub fn best_name(&self) -> Option<&str> {
        let names = [&self.name, &self.id, &self.uuid];
        names.into_iter().flatten().next().map(String::as_str)
    }

    pub(super) fn of(vmm: Vmm) -> Self {
        Vm {
            vmm,
            name: None,
            id: None,
            uuid: None,
            manager: None,
        }
    }
}

/// Those after the program's name.
#[derive(Clone, Copy)]
struct Arguments<'a>(&'a [String]);

impl Arguments<'_> {
    /// What follows the first option of these names, or stands after its `=`.
    fn value(self, names: &[&str]) -> Option<String> {
        self.values(names).next()
    }

    fn values(self, names: &[&str]) -> impl Iterator<Item = String> {
        let value = move |(at, word): (usize, &String)| {
            names.iter().find_map(|name| {
                let rest = word.strip_prefix(name)?;
                match rest.strip_prefix('=') {
                    Some(value) => Some(value.to_owned()),
                    None if rest.is_empty() => self.0.get(at + 1).cloned(),
                    None => None,
                }
            })
        };
        self.0.iter().enumerate().filter_map(value)
    }

    fn mentions(self, text: &str) -> bool {
        self.0.iter().any(|word| word.contains(text))
    }
}

/// `key=value,key=value`; a comma in a value is written twice. What has no key belongs to `implied`.
fn pair(options: &str, key: &str, implied: bool) -> Option<String> {
    const COMMA: &str = "\u{0}";
    let options = options.replace(",,", COMMA);
    let mut parts = options.split(',').enumerate();
    let value = parts.find_map(|(at, part)| match part.split_once('=') {
        Some((name, value)) => (name == key).then_some(value),
        None => (implied && at == 0).then_some(part),
    })?;
    Some(value.replace(COMMA, ",")).filter(|value| !value.is_empty())
}

fn qemu(arguments: Arguments) -> Vm {
    let smbios = || {
        let mut tables = arguments.values(&["-smbios", "--smbios"]);
        tables.find_map(|table| pair(&table, "uuid", false))
    };
    let names = arguments.values(&["-name", "--name"]);
    // Proxmox VE's QEMU has this option, and no other one.
    let id = arguments.value(&["-id", "--id"]);
    let manager = match () {
        () if id.is_some() => Some(Manager::Proxmox),
        () if arguments.mentions("/libvirt/qemu/") => Some(Manager::Libvirt),
        () => None,
    };
    Vm {
        name: names.filter_map(|name| pair(&name, "guest", true)).last(),
        uuid: arguments.value(&["-uuid", "--uuid"]).or_else(smbios),
        id,
        manager,
        ..Vm::of(Vmm::Qemu)
    }
}

fn firecracker(arguments: Arguments) -> Vm {
    const NO_ID: &str = "anonymous-instance";
    let id = arguments.value(&["--id"]).filter(|id| id != NO_ID);
    let from_jailer = arguments.mentions("--parent-cpu-time-us");
    Vm {
        id: id.or_else(|| arguments.value(&["--api-sock"])),
        manager: from_jailer.then_some(Manager::Jailer),
        ..Vm::of(Vmm::Firecracker)
    }
}

fn cloud_hypervisor(arguments: Arguments) -> Vm {
    let path = |option| pair(&arguments.value(&[option])?, "path", true);
    Vm {
        id: path("--api-socket").or_else(|| path("--disk")),
        ..Vm::of(Vmm::CloudHypervisor)
    }
}

fn crosvm(arguments: Arguments) -> Vm {
    Vm {
        name: arguments.value(&["--name"]),
        id: arguments.value(&["--socket", "-s"]),
        ..Vm::of(Vmm::Crosvm)
    }
}

/// The same program is the window in which machines are managed.
fn virtual_box(arguments: Arguments) -> Option<Vm> {
    let started = arguments.value(&["--startvm", "-startvm", "-s"])?;
    let comment = arguments.value(&["--comment", "-comment"]);
    let (name, uuid) = match is_uuid(&started) {
        true => (comment, Some(started)),
        false => (Some(started), None),
    };
    Some(Vm {
        name,
        uuid,
        ..Vm::of(Vmm::VirtualBox)
    })
}

fn vmware(arguments: Arguments) -> Vm {
    let mut paths = arguments.0.iter().map(Path::new);
    let file = paths.find(|path| path.extension().is_some_and(|ending| ending == "vmx"));
    Vm {
        name: file.and_then(|file| Some(file.file_stem()?.to_string_lossy().into_owned())),
        id: file.map(|file| file.display().to_string()),
        ..Vm::of(Vmm::Vmware)
    }
}

fn is_uuid(text: &str) -> bool {
    let text = text.trim_matches(['{', '}']);
    let parts: Vec<_> = text.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && text.bytes().all(|c| c == b'-' || c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";

    fn vm(command_line: &str) -> Option<Vm> {
        let command_line = command_line.replace("UUID", UUID);
        let words: Vec<_> = command_line.split_whitespace().map(str::to_owned).collect();
        Vm::of_command_line(&words)
    }

    /// A command line, and what it tells: VMM, name, id, UUID, manager; `-` for what it does not.
    const COMMAND_LINES: [(&str, &str); 19] = [
        (
            "/usr/bin/qemu-system-x86_64 -name guest=win,debug-threads=on -S -object \
             {\"file\":\"/var/lib/libvirt/qemu/domain-1-win/master-key.aes\"} -uuid UUID",
            "QEMU win - UUID Libvirt",
        ),
        (
            "/usr/bin/kvm -id 105 -name dc01,debug-threads=on -smbios type=1,uuid=UUID",
            "QEMU dc01 105 UUID Proxmox",
        ),
        ("qemu-system-x86_64 -name web", "QEMU web - - -"),
        ("qemu-system-x86_64 --name a,,b,process=x", "QEMU a,b - - -"),
        (
            "/usr/libexec/qemu-kvm -name debug-threads=on",
            "QEMU - - - -",
        ),
        (
            "qemu-system-i386 -name debug-threads=on,guest=z",
            "QEMU z - - -",
        ),
        ("qemu-system-x86_64 -name", "QEMU - - - -"),
        (
            "/firecracker --id 551e7604 --parent-cpu-time-us 12 --start-time-us 5",
            "Firecracker - 551e7604 - Jailer",
        ),
        (
            "./firecracker-v1.7.0-x86_64 --id=anonymous-instance --api-sock /run/fc.sock",
            "Firecracker - /run/fc.sock - -",
        ),
        (
            "cloud-hypervisor --api-socket path=/run/ch/web.sock --disk path=/x.raw,readonly=on",
            "Cloud Hypervisor - /run/ch/web.sock - -",
        ),
        (
            "cloud-hypervisor-static --api-socket /run/web.sock",
            "Cloud Hypervisor - /run/web.sock - -",
        ),
        (
            "cloud-hypervisor --kernel /k --disk path=/x.raw",
            "Cloud Hypervisor - /x.raw - -",
        ),
        (
            "/usr/bin/crosvm run --name android -s /run/crosvm.sock /k",
            "crosvm android /run/crosvm.sock - -",
        ),
        (
            "/usr/lib/virtualbox/VirtualBoxVM --comment win --startvm UUID",
            "VirtualBox win - UUID -",
        ),
        ("VBoxHeadless --startvm win", "VirtualBox win - - -"),
        ("VBoxHeadless -s {UUID}", "VirtualBox - - {UUID} -"),
        (
            "/usr/lib/vmware/bin/vmware-vmx -s x=y -@ a /home/u/win/win.vmx",
            "VMware win /home/u/win/win.vmx - -",
        ),
        ("lkvm run --name box", "kvmtool box - - -"),
        ("lkvm run", "kvmtool - - - -"),
    ];

    #[test]
    fn machines_are_known_by_their_command_lines() {
        for (command_line, expected) in COMMAND_LINES {
            let vm = vm(command_line).unwrap();
            let word = |word: &Option<String>| word.clone().unwrap_or("-".into());
            let manager = vm.manager.map(|manager| format!("{manager:?}"));
            let (name, id, uuid, manager) =
                (word(&vm.name), word(&vm.id), word(&vm.uuid), word(&manager));
            let told = format!("{} {name} {id} {uuid} {manager}", vm.vmm);
            assert_eq!(told, expected.replace("UUID", UUID), "{command_line}");
        }
    }

    #[test]
    fn other_programs_run_no_machine() {
        for command_line in [
            "",
            "/",
            "/usr/bin/vim qemu-system-x86_64",
            "/usr/lib/virtualbox/VirtualBox",
            "crosvm stop /run/crosvm.sock",
            "qemu-img convert",
        ] {
            assert_eq!(vm(command_line), None, "{command_line}");
        }
    }

    proptest! {
        #[test]
        fn no_command_line_is_a_panic(
            words in proptest::collection::vec(
                "(qemu-system-x|firecracker|crosvm|run|VBoxHeadless|-s|-name|--id|=|,|guest|path|\\PC){0,5}",
                0..8,
            ),
        ) {
            let _ = Vm::of_command_line(&words);
        }
    }
}
