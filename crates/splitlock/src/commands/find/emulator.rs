//! Which emulator runs the program, and whether it can.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use split_lock_find::emulator::{Emulators, NotEmulated};
use split_lock_find::executable::search;

use crate::child::Library;

const LIBRARY: Library = Library {
    package: "split-lock-plugin",
    file: "libsplit_lock_plugin.so",
};

/// What is to be executed.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) emulator: PathBuf,
    /// From the zeroth on.
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<OsString>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Needs<'a> {
    pub(super) program: &'a [OsString],
    /// The folder that has the emulators.
    pub(super) qemu: Option<&'a Path>,
    /// The folder for records.
    pub(super) records: &'a Path,
    pub(super) has_notes: bool,
}

impl Needs<'_> {
    /// A program in the user-mode emulator.
    pub(super) fn user(&self) -> Result<Started> {
        let name = self.program.first().context("no program was named")?;
        let path = search(name, env::var_os("PATH")).with_context(|| {
            let name = name.to_string_lossy();
            format!("there is no program {name} in the folders of PATH")
        })?;
        let x86_64 = usable("qemu-x86_64", self.qemu);
        let i386 = usable("qemu-i386", self.qemu);
        let known = |it: &Result<Emulator>| it.as_ref().ok().cloned();
        let (of_64, of_32) = (known(&x86_64), known(&i386));
        if of_64.is_none() && of_32.is_none() {
            return Err(x86_64.err().context("there is no emulator")?);
        }
        let start = self
            .emulators(of_64, of_32)?
            .start(&path, self.program, &environment());
        let start = match (start, x86_64, i386) {
            (Err(NotEmulated::NoEmulator("qemu-x86_64")), Err(why), _)
            | (Err(NotEmulated::NoEmulator("qemu-i386")), _, Err(why)) => return Err(why),
            (start, _, _) => start,
        };
        let start = start.map_err(|error| {
            let next = next_step(&error, &path);
            anyhow!(
                "cannot run {} in the emulator: {error}{next}",
                path.display()
            )
        })?;
        Ok(Started {
            emulator: start.emulator,
            arguments: start.arguments,
            environment: start.environment,
        })
    }

    /// A guest in the system emulator.
    pub(super) fn system(&self) -> Result<Started> {
        let (name, arguments) = self
            .program
            .split_first()
            .context("no emulator was named")?;
        let shown = name.to_string_lossy();
        let file = Path::new(name)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let is_one = ["qemu-system-x86_64", "qemu-system-i386"]
            .iter()
            .any(|it| file.starts_with(it));
        if !is_one && file != "kvm" {
            bail!(
                "{shown} is not qemu-system-x86_64 or qemu-system-i386, whose guests --system watches"
            );
        }
        if let Some(option) = kvm_option(arguments) {
            bail!(
                "with {option} the guest runs on the CPU and not in the emulator, so nothing can be watched; leave it out"
            );
        }
        let emulator = usable(name, self.qemu)?;
        let mut all = vec![emulator.path.clone().into_os_string(), "-plugin".into()];
        let mut emulators = self.emulators(None, None)?;
        emulators.interface = emulator.interface;
        all.push(emulators.plugin_option(None));
        all.extend_from_slice(arguments);
        Ok(Started {
            emulator: emulator.path,
            arguments: all,
            environment: environment(),
        })
    }

    fn emulators(&self, x86_64: Option<Emulator>, i386: Option<Emulator>) -> Result<Emulators> {
        // Both are of one build.
        let interface = x86_64
            .as_ref()
            .or(i386.as_ref())
            .and_then(|it| it.interface);
        Ok(Emulators {
            plugin: LIBRARY.find(self.has_notes)?,
            folder: self.records.to_owned(),
            x86_64: x86_64.map(|it| it.path),
            i386: i386.map(|it| it.path),
            interface,
        })
    }
}

fn next_step(error: &NotEmulated, path: &Path) -> String {
    let path = path.display();
    match error {
        NotEmulated::Privileged(_) => "; start splitlock itself as that user instead".into(),
        NotEmulated::Other | NotEmulated::NoInterpreter => {
            format!("; if it is a script, start its interpreter: sh {path}")
        }
        _ => String::new(),
    }
}

/// The option that asks for KVM or another hypervisor.
fn kvm_option(arguments: &[OsString]) -> Option<String> {
    let texts: Vec<_> = arguments.iter().map(|it| it.to_string_lossy()).collect();
    let names_kvm = |value: &str| {
        let mut names = value.split([':', ',']);
        names.any(|name| matches!(name, "kvm" | "xen" | "hvf" | "nvmm" | "whpx" | "mshv"))
    };
    for (n, text) in texts.iter().enumerate() {
        let value = texts.get(n + 1).map_or("", |it| &**it);
        let option = text.trim_start_matches('-');
        let asks = match option {
            "enable-kvm" => return Some(text.to_string()),
            "accel" => names_kvm(value.split(',').next().unwrap_or_default()),
            "machine" | "M" => value
                .split(',')
                .any(|part| part.strip_prefix("accel=").is_some_and(names_kvm)),
            _ => false,
        };
        if text.starts_with('-') && asks {
            return Some(format!("{text} {value}"));
        }
    }
    None
}

/// An emulator that takes plugins.
#[derive(Debug, Clone)]
struct Emulator {
    path: PathBuf,
    /// The version of its plugin interface, where the plugin cannot see it.
    interface: Option<u32>,
}

fn usable(name: impl AsRef<OsStr>, folder: Option<&Path>) -> Result<Emulator> {
    let name = name.as_ref();
    let shown = name.to_string_lossy();
    let folders = folder.map_or_else(|| env::var_os("PATH"), |folder| Some(folder.into()));
    let Some(path) = search(name, folders).filter(|path| path.exists()) else {
        match folder {
            Some(folder) => bail!("there is no {shown} in {}", folder.display()),
            None => bail!(
                "{shown} is missing: install it ({}), or name its folder with --qemu; docs/find.md says which builds take plugins",
                package(&shown)
            ),
        }
    };
    let path = path
        .canonicalize()
        .and_then(std::path::absolute)
        .with_context(|| format!("cannot follow {}", path.display()))?;
    let said = |option| {
        let mut command = Command::new(&path);
        let output = command.arg(option).stdin(Stdio::null()).output();
        output.with_context(|| format!("cannot start {}", path.display()))
    };
    let output = said("-help")?;
    let help = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || help.is_empty() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint
            .lines()
            .next()
            .unwrap_or("it does not say why")
            .to_owned();
        bail!("{} does not run: {complaint}", path.display());
    }
    if !help.lines().any(|line| line.starts_with("-plugin")) {
        bail!(
            "{} is built without plugins, as Debian's qemu-user is since version 13; name the folder of another build \
             with --qemu (docs/find.md says where to get one)",
            path.display()
        );
    }
    let version = said("-version")?;
    let interface = plugin_interface(&String::from_utf8_lossy(&version.stdout));
    Ok(Emulator { path, interface })
}

/// QEMU 11.1 and later have version 7, and refuse others. Those before differ in the functions that they have.
fn plugin_interface(version: &str) -> Option<u32> {
    let (_, numbers) = version.lines().next()?.split_once("version ")?;
    let mut numbers = numbers
        .split(|it: char| !it.is_ascii_digit())
        .map(str::parse::<u32>);
    let release = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (release >= (11, 1)).then_some(7)
}

fn package(emulator: &str) -> &'static str {
    if emulator.starts_with("qemu-system") || emulator == "kvm" {
        "Debian: qemu-system-x86"
    } else {
        "Debian 12: qemu-user"
    }
}

fn environment() -> Vec<OsString> {
    let join = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    env::vars_os().map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_emulator_tell_those_of_the_interface() {
        for (text, expected) in [
            (
                "qemu-x86_64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b2)\nCopyright",
                None,
            ),
            (
                "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)",
                None,
            ),
            ("QEMU emulator version 11.0.2", None),
            (
                "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)",
                Some(7),
            ),
            ("QEMU emulator version 12.0.0", Some(7)),
            ("-one  two", None),
            ("version x", None),
            ("", None),
        ] {
            assert_eq!(plugin_interface(text), expected, "{text}");
        }
    }

    #[test]
    fn options_that_ask_for_a_hypervisor_are_noticed() {
        let found = |words: &str| {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            kvm_option(&words)
        };
        for words in [
            "-enable-kvm",
            "-m 1G --enable-kvm",
            "-accel kvm",
            "-accel kvm,thread=x",
            "-machine q35,accel=kvm",
            "-M accel=kvm:tcg",
        ] {
            assert!(found(words).is_some(), "{words}");
        }
        for words in [
            "-m 1G",
            "-accel tcg",
            "-machine q35",
            "-name kvm",
            "kvm",
            "-accel tcg,thread=multi",
        ] {
            assert_eq!(found(words), None, "{words}");
        }
    }
}
