//! `/proc/PID/cgroup`: who has put a process where it is. Container engines and machine managers leave their
//! names in the paths, in both versions of cgroups.

use serde::Serialize;

use super::text::{self, is_decimal};
use crate::{Observed, Root};

/// A container that a process is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Container {
    /// What made it.
    pub engine: Engine,
    /// Its id or name.
    pub id: String,
    /// The UID of the Kubernetes pod that it is in.
    pub pod: Option<String>,
}

/// What makes containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman and others that use libpod.
    Podman,
    /// containerd, also as Kubernetes uses it.
    Containerd,
    /// CRI-O, for Kubernetes.
    CriO,
    /// LXC, Incus, Proxmox VE.
    Lxc,
    /// systemd-nspawn.
    SystemdNspawn,
    /// Kubernetes, with an engine that leaves no name.
    Kubernetes,
}

/// Where a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CgroupInfo {
    pub(super) container: Option<Container>,
    /// The unit of systemd: `libvirtd.service`.
    pub(super) unit: Option<String>,
    /// The virtual machine that libvirt has made it for.
    pub(super) libvirt_name: Option<String>,
    /// The VM of Proxmox VE.
    pub(super) proxmox_id: Option<String>,
}

impl CgroupInfo {
    pub(super) fn read(root: &Root, pid: u32) -> Observed<Self> {
        let text = root.text(format!("proc/{pid}/cgroup"));
        text.map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut place = CgroupInfo::default();
        for line in text.lines() {
            // Of a line `4:memory:/path` a controller's name may not hold a colon, but a path may.
            let Some(path) = line.splitn(3, ':').nth(2) else {
                continue;
            };
            let parts: Vec<_> = path.split('/').map(unescaped).collect();
            place.add(&parts);
        }
        place
    }

    /// Each hierarchy has a path of its own; what one of them says is enough.
    fn add(&mut self, parts: &[String]) {
        // The innermost container is the one that the process is in.
        for (at, part) in parts.iter().enumerate().rev() {
            let before = at.checked_sub(1).map_or("", |at| &parts[at]);
            if self.container.is_none() {
                self.container = container(before, part).map(|(engine, id)| Container {
                    engine,
                    id,
                    pod: pod(parts),
                });
            }
            self.libvirt_name = self.libvirt_name.take().or_else(|| libvirt(part));
            let id = part
                .strip_suffix(".scope")
                .filter(|id| is_decimal(id.as_bytes()));
            if before == "qemu.slice" {
                self.proxmox_id = self.proxmox_id.take().or(id.map(str::to_owned));
            }
            let is_unit = part.ends_with(".service") || part.ends_with(".scope");
            if is_unit && self.unit.is_none() {
                self.unit = Some(part.clone());
            }
        }
    }
}

/// Prefixes of scopes, and what makes them.
const SCOPES: [(&str, Engine); 6] = [
    ("docker-", Engine::Docker),
    ("libpod-", Engine::Podman),
    ("cri-containerd-", Engine::Containerd),
    ("nerdctl-", Engine::Containerd),
    ("crio-", Engine::CriO),
    ("machine-", Engine::SystemdNspawn),
];

/// A part of a path, and the part before it.
fn container(before: &str, part: &str) -> Option<(Engine, String)> {
    let found = |engine, id: &str| Some((engine, id.to_owned())).filter(|(_, id)| !id.is_empty());
    if let Some(scope) = part.strip_suffix(".scope") {
        let (prefix, engine) = SCOPES.iter().find(|(name, _)| scope.starts_with(name))?;
        let id = &scope[prefix.len()..];
        let is_right = match engine {
            // Virtual machines have such scopes as well.
            Engine::SystemdNspawn => !id.starts_with("qemu-") && !id.starts_with("lxc-"),
            _ => is_hexadecimal(id),
        };
        return is_right.then(|| found(*engine, id)).flatten();
    }
    if let Some(name) = part.strip_prefix("systemd-nspawn@") {
        return found(Engine::SystemdNspawn, name.strip_suffix(".service")?);
    }
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return found(Engine::Lxc, name);
    }
    if let Some(id) = part.strip_prefix("libpod-").filter(|id| is_hexadecimal(id)) {
        return found(Engine::Podman, id);
    }
    match before {
        "docker" if is_hexadecimal(part) => found(Engine::Docker, part),
        "lxc" | "lxc.payload" => found(Engine::Lxc, part),
        pod if pod_id(pod).is_some() && is_hexadecimal(part) => found(Engine::Kubernetes, part),
        _ => None,
    }
}

/// `machine-qemu-1-name.scope`, and `name.libvirt-qemu` or `qemu-1-name.libvirt-qemu` in older versions.
fn libvirt(part: &str) -> Option<String> {
    let scope = part.strip_prefix("machine-qemu-");
    let scope = scope.and_then(|rest| rest.strip_suffix(".scope"));
    let older = part.strip_suffix(".libvirt-qemu");
    let name = scope.or_else(|| older.map(|name| name.strip_prefix("qemu-").unwrap_or(name)))?;
    let name = match name.split_once('-') {
        Some((number, name)) if is_decimal(number.as_bytes()) => name,
        _ => name,
    };
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

fn pod(parts: &[String]) -> Option<String> {
    parts.iter().rev().find_map(|part| pod_id(part))
}

/// `pod<UID>`, and `kubepods-burstable-pod<UID>.slice` with other hyphens.
fn pod_id(part: &str) -> Option<String> {
    let slice = part.strip_suffix(".slice");
    let id = match slice.filter(|slice| slice.starts_with("kubepods")) {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => part.strip_prefix("pod")?.to_owned(),
    };
    let fits = |byte: u8| byte == b'-' || byte.is_ascii_hexdigit();
    (id.len() >= 32 && id.bytes().all(fits)).then_some(id)
}

/// As long as engines make them, or the short form.
fn is_hexadecimal(id: &str) -> bool {
    id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// systemd writes `\x2d` for a hyphen in a name.
fn unescaped(part: &str) -> String {
    let mut bytes = vec![];
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = rest.strip_prefix(br"\x").and_then(<[u8]>::first_chunk::<2>);
        let byte =
            escape.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        (rest, _) = match byte {
            Some(byte) => (&rest[4..], bytes.push(byte)),
            None => (after, bytes.push(first)),
        };
    }
    text::string(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f4e8a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7";
    const POD: &str = "2b0d1c9e-7f4a-4f1e-9b1a-0c2d3e4f5a6b";

    /// Engine, id and pod.
    fn container_of(path: &str) -> Option<String> {
        let systemd_pod = POD.replace('-', "_");
        let path = path.replace("SYSTEMD_POD", &systemd_pod);
        let place = CgroupInfo::parse(&path.replace("ID", ID).replace("POD", POD));
        let Container { engine, id, pod } = place.container?;
        let told = format!("{engine:?} {id} {}", pod.as_deref().unwrap_or("-"));
        Some(told.replace(ID, "ID").replace(POD, "POD"))
    }

    #[test]
    fn engines_leave_their_names() {
        for (path, expected) in [
            ("0::/system.slice/docker-ID.scope", "Docker ID -"),
            ("12:cpu,cpuacct:/docker/ID", "Docker ID -"),
            ("1:name=systemd:/docker/ID/init.scope", "Docker ID -"),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
                "Podman ID -",
            ),
            ("4:memory:/libpod_parent/libpod-ID", "Podman ID -"),
            (
                "0::/kubepods.slice/kubepods-burstable.slice/\
                 kubepods-burstable-podSYSTEMD_POD.slice/cri-containerd-ID.scope",
                "Containerd ID POD",
            ),
            (
                "0::/kubepods.slice/kubepods-podSYSTEMD_POD.slice/crio-ID.scope",
                "CriO ID POD",
            ),
            (
                "11:memory:/kubepods/besteffort/podPOD/ID",
                "Kubernetes ID POD",
            ),
            ("0::/lxc.payload.web/init.scope", "Lxc web -"),
            ("0::/lxc/101/ns/system.slice/x.service", "Lxc 101 -"),
            (
                r"0::/machine.slice/systemd-nspawn@deb\x2dian.service/payload",
                "SystemdNspawn deb-ian -",
            ),
            (
                r"0::/machine.slice/machine-deb\x2dian.scope",
                "SystemdNspawn deb-ian -",
            ),
        ] {
            assert_eq!(container_of(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "0::/",
            "0::/user.slice/user-1000.slice/session-2.scope",
            "0::/system.slice/docker.service",
            "0::/system.slice/containerd.service",
            "0::/lxc.monitor.web",
            r"0::/machine.slice/machine-qemu\x2d1\x2dvm.scope",
            "0::/docker/buildx",
            "nonsense",
            "",
        ] {
            assert_eq!(container_of(path), None, "{path}");
        }
    }

    #[test]
    fn libvirt_and_proxmox_leave_the_names_of_machines() {
        let name = |path: &str| CgroupInfo::parse(path).libvirt_name;
        for path in [
            r"0::/machine.slice/machine-qemu\x2d12\x2dwin\x2d10.scope/libvirt/emulator",
            "7:cpuset:/machine/qemu-3-win-10.libvirt-qemu/vcpu0",
            "7:cpuset:/machine/win-10.libvirt-qemu/vcpu0",
        ] {
            assert_eq!(name(path).as_deref(), Some("win-10"), "{path}");
        }
        assert_eq!(name("0::/machine.slice/machine-x.scope"), None);
        let place = CgroupInfo::parse("0::/qemu.slice/105.scope\n");
        assert_eq!(place.proxmox_id.as_deref(), Some("105"));
        assert_eq!(place.unit.as_deref(), Some("105.scope"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(
            text in r"(0::|/|machine-qemu|\\x2d|\\x|docker|-|pod|\.scope|lxc|kubepods|\n|[0-9a-f]{12}|\PC){0,24}",
        ) {
            CgroupInfo::parse(&text);
        }
    }
}
