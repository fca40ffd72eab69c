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
use crate::host::machine::initramfs::{self, file, folder, kernel_module, read};

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
pub(crate) fn archive(
    kernel: &BootKernel,
    programs: &GuestPrograms,
    script: &Script,
) -> Result<Vec<u8>> {
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
        let place = Path::new(MODULES).join(&module.file);
        files.push((place.display().to_string(), kernel_module(modules, name)?));
    }
    for placed in &script.files {
        files.push((placed.at.clone(), read(&placed.from)?));
    }
    let mut folders: BTreeSet<String> = ["dev", "proc", "sys", "tmp", "bin"]
        .map(str::to_owned)
        .into();
    for (path, _) in &files {
        let parents = Path::new(path.trim_start_matches('/')).ancestors().skip(1);
        let parents = parents.filter(|parent| !parent.as_os_str().is_empty());
        folders.extend(parents.map(|parent| parent.display().to_string()));
    }
    // In their order a folder comes before what is in it.
    let folders = folders.iter().map(|path| folder(path));
    let files = files.into_iter().map(|(path, bytes)| file(&path, bytes));
    initramfs::archive(folders.chain(files).collect())
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
