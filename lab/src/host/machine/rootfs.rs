//! What the machine boots into: our programs, busybox, the kernel's modules for KVM, and a script.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use split_lock_lab::cpu::options::Vendor;
use split_lock_lab::cpu::script::{MODULES, Module, SCRIPT_FILE, Script};

use crate::host::apt;
use crate::host::cache::Cache;
use crate::host::kernel::BootKernel;
use crate::host::kernel::config::Kvm;
use crate::host::machine::initramfs::{self, archive, file, folder, kernel_module, read};

/// Our programs, linked so that they need nothing in the machine.
#[derive(Clone, Debug)]
pub(crate) struct GuestPrograms {
    init: PathBuf,
    pub(crate) split: PathBuf,
    pub(crate) splitlock: PathBuf,
    pub(crate) busybox: PathBuf,
}

impl GuestPrograms {
    pub(crate) fn build(cache: &Cache) -> Result<Self> {
        let built = initramfs::build_static(
            cache,
            &[
                ("split-lock-lab", "lab-init"),
                ("split-lock-lab", "lab-split"),
                ("splitlock", "splitlock"),
            ],
        )?;
        Ok(Self {
            init: built.join("lab-init"),
            split: built.join("lab-split"),
            splitlock: built.join("splitlock"),
            busybox: busybox(cache)?,
        })
    }
}

/// Debian's, linked statically.
pub(crate) fn busybox(cache: &Cache) -> Result<PathBuf> {
    let root = cache.folder("busybox");
    apt::unpacked(cache, "busybox", &root, |apt, draft| {
        apt.unpack(&["busybox-static".to_owned()], draft)
    })?;
    Ok(root.join("bin/busybox"))
}

/// The files of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Rootfs {
    files: Vec<(String, Vec<u8>)>,
}

impl Rootfs {
    pub(crate) fn new(
        kernel: &BootKernel,
        programs: &GuestPrograms,
        script: &Script,
    ) -> Result<Self> {
        let mut files = vec![
            ("init".to_owned(), read(&programs.init)?),
            (SCRIPT_FILE.to_owned(), serde_json::to_vec(script)?),
        ];
        // The machine's BIOS takes seconds to load what nobody runs.
        if script.shell || !script.commands.is_empty() {
            files.extend([
                ("bin/lab-split".to_owned(), read(&programs.split)?),
                ("bin/splitlock".to_owned(), read(&programs.splitlock)?),
                ("bin/busybox".to_owned(), read(&programs.busybox)?),
            ]);
        }
        for module in &script.modules {
            let modules = kernel.modules.as_deref();
            let modules = modules.with_context(|| format!("no modules of {}", kernel.release))?;
            let name = module.file.trim_end_matches(".ko");
            files.push((in_modules(&module.file), kernel_module(modules, name)?));
        }
        for placed in &script.files {
            files.push((placed.at.clone(), read(&placed.from)?));
        }
        Ok(Self { files })
    }

    pub(crate) fn archive(&self) -> Result<Vec<u8>> {
        let mut folders: BTreeSet<&str> = ["dev", "proc", "sys", "tmp", "bin"].into();
        for (path, _) in &self.files {
            let parents = Path::new(path).ancestors().skip(1);
            let parents = parents.filter_map(Path::to_str);
            folders.extend(
                parents
                    .map(|path| path.trim_start_matches('/'))
                    .filter(|path| !path.is_empty()),
            );
        }
        // In their order a folder comes before what is in it.
        let folders = folders.into_iter().map(folder);
        let files = self.files.iter();
        let files = files.map(|(path, bytes)| file(path, bytes.clone()));
        archive(folders.chain(files).collect())
    }
}

fn in_modules(name: &str) -> String {
    Path::new(MODULES).join(name).display().to_string()
}

/// The modules of KVM on this CPU, of a kernel that has them as modules. With APIC virtualization, entries into a guest with an
/// in-kernel irqchip fail.
pub(crate) fn kvm_modules(kernel: &BootKernel, vendor: Vendor) -> Vec<Module> {
    if kernel.kvm(vendor) != Kvm::Modules {
        return Vec::new();
    }
    let module = |(name, parameters): (&str, &str)| Module {
        file: format!("{name}.ko"),
        parameters: parameters.to_owned(),
    };
    let last = match vendor {
        Vendor::Intel => ("kvm-intel", "enable_apicv=0"),
        Vendor::Amd => ("kvm-amd", ""),
    };
    [("irqbypass", ""), ("kvm", ""), last].map(module).into()
}
