//! How a kernel was configured, where that lies beside it.

use std::fs;
use std::path::{Path, PathBuf};

use split_lock_lab::cpu::options::Vendor;
use split_lock_model::time::Hz;

/// The text of a `.config`.
#[derive(Clone, Debug)]
pub(crate) struct KernelConfig(String);

/// How a kernel has KVM for one kind of CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kvm {
    BuiltIn,
    Modules,
    Missing,
}

impl KernelConfig {
    /// That of an image in the tree in which it was built, or in a folder like `/boot` or `/usr/lib/modules/RELEASE`.
    pub(crate) fn beside(image: &Path, release: &str) -> Option<Self> {
        let places = places(image, release).into_iter();
        let text = places.filter_map(|path| fs::read_to_string(path).ok());
        text.map(Self).next()
    }

    pub(crate) fn kvm(&self, vendor: Vendor) -> Kvm {
        let option = match vendor {
            Vendor::Intel => "CONFIG_KVM_INTEL",
            Vendor::Amd => "CONFIG_KVM_AMD",
        };
        match self.value(option) {
            Some("y") => Kvm::BuiltIn,
            Some("m") => Kvm::Modules,
            _ => Kvm::Missing,
        }
    }

    /// How often it ticks.
    pub(crate) fn hz(&self) -> Option<Hz> {
        Hz::new(self.value("CONFIG_HZ")?.parse().ok()?).ok()
    }

    fn value(&self, option: &str) -> Option<&str> {
        let lines = self.0.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(option)?.strip_prefix('='));
        values.next()
    }
}

fn places(image: &Path, release: &str) -> Vec<PathBuf> {
    let Some(folder) = image.parent() else {
        return Vec::new();
    };
    let mut places = vec![folder.join(format!("config-{release}"))];
    if folder.ends_with(release) {
        places.push(folder.join("config"));
    }
    if folder.ends_with("arch/x86/boot") {
        places.push(folder.join("../../../.config"));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::output;

    #[test]
    fn kvm_is_told_for_each_vendor() {
        let config = KernelConfig(
            "CONFIG_KVM=y\nCONFIG_KVM_INTEL=y\n# CONFIG_KVM_AMD is not set\n".to_owned(),
        );
        assert_eq!(config.kvm(Vendor::Intel), Kvm::BuiltIn);
        assert_eq!(config.kvm(Vendor::Amd), Kvm::Missing);
        let config = KernelConfig("CONFIG_KVM_INTEL_PROVE_VE=y\nCONFIG_KVM_AMD=m\n".to_owned());
        assert_eq!(config.kvm(Vendor::Intel), Kvm::Missing);
        assert_eq!(config.kvm(Vendor::Amd), Kvm::Modules);
    }

    #[test]
    fn tick_rate_is_told() {
        let hz = |text: &str| KernelConfig(text.to_owned()).hz();
        let config = "# CONFIG_HZ_250 is not set\nCONFIG_HZ_1000=y\nCONFIG_HZ=1000\n";
        assert_eq!(hz(config), Some(Hz::HZ_1000));
        assert_eq!(hz("CONFIG_HZ_1000=y\n"), None);
        assert_eq!(hz("CONFIG_HZ=7\n"), None);
    }

    #[test]
    fn configuration_is_found_in_the_tree_of_the_build_and_beside_installed_images() {
        let found = |image: &str, config: &str| {
            let root = tempfile::tempdir().expect("a folder");
            let (image, config) = (root.path().join(image), root.path().join(config));
            for path in [&image, &config] {
                output::write(path, b"CONFIG_KVM_INTEL=y\n").expect("it can be written");
            }
            KernelConfig::beside(&image, "6.16.0+").is_some()
        };
        assert!(found("linux/arch/x86/boot/bzImage", "linux/.config"));
        assert!(found("boot/vmlinuz-6.16.0+", "boot/config-6.16.0+"));
        assert!(found("modules/6.16.0+/vmlinuz", "modules/6.16.0+/config"));
        assert!(!found("boot/vmlinuz", "boot/config-6.16.0"));
        assert!(!found("a/b/c/bzImage", ".config"));
    }
}
