//! How programs are started in the emulator: by the command the first one, by the plugin those that it executes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::executable::{Executable, MOST_SCRIPTS, Machine, is_permitted, privilege};

/// The emulators, and where the plugin and its records are. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulators {
    /// The plugin.
    pub plugin: PathBuf,
    /// The folder for a file of records of each process.
    pub folder: PathBuf,
    /// For programs of 64 bits.
    pub x86_64: Option<PathBuf>,
    /// For programs of 32 bits.
    pub i386: Option<PathBuf>,
    /// The version of the emulator's plugin interface, where it cannot be seen from inside: since 7.
    pub interface: Option<u32>,
}

/// The option's name.
const INTERFACE: &str = "interface";

/// Why a program cannot be started in the emulator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotEmulated {
    /// There is nothing that the kernel would execute.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The kernel would not execute it.
    #[error(
        "it may not be executed: it lacks the permission, or its file system is mounted noexec"
    )]
    NotPermitted,
    /// It would get rights that an emulator cannot give it.
    #[error("it {0}, which an emulator cannot give it")]
    Privileged(&'static str),
    /// There is no emulator for it.
    #[error("it is for 32-bit x86, and {0} is missing")]
    NoEmulator(&'static str),
    /// A program for another processor.
    #[error("it is not for x86-64 or 32-bit x86")]
    OtherMachine,
    /// A damaged program.
    #[error("its ELF header is damaged")]
    Damaged,
    /// A script that begins with `#!` and nothing else.
    #[error("it is a script that names no interpreter")]
    NoInterpreter,
    /// A script whose interpreter is a script, and so on.
    #[error("it is a script whose interpreters are scripts without end")]
    TooManyScripts,
    /// Neither a program nor a script.
    #[error("it is neither an ELF file nor a script that begins with #!")]
    Other,
}

/// What is to be executed in a program's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The emulator.
    pub emulator: PathBuf,
    /// Its arguments, from the zeroth on.
    pub arguments: Vec<OsString>,
    /// Its environment, as `NAME=value`.
    pub environment: Vec<OsString>,
    /// The ELF file that it loads.
    pub elf: PathBuf,
}

impl Emulators {
    /// The value of QEMU's option `-plugin`, for a program or a machine.
    #[must_use]
    pub fn plugin_option(&self, program: Option<&Path>) -> OsString {
        let mut option = escaped(self.plugin.as_os_str());
        if let Some(version) = self.interface {
            option.push(format!(",{INTERFACE}={version}"));
        }
        let parts = [
            ("folder", Some(&*self.folder)),
            ("x86_64", self.x86_64.as_deref()),
            ("i386", self.i386.as_deref()),
            ("plugin", Some(&*self.plugin)),
            ("program", program),
        ];
        for (name, path) in parts {
            if let Some(path) = path {
                option.push(format!(",{name}="));
                option.push(escaped(path.as_os_str()));
            }
        }
        option
    }

    /// Reads what the plugin gets of that option, `name=value`, and the program's path if it is a program. `None` if
    /// something is missing.
    pub fn from_options<'a>(
        options: impl Iterator<Item = &'a [u8]>,
    ) -> Option<(Self, Option<PathBuf>)> {
        let (mut plugin, mut folder, mut x86_64, mut i386) = (None, None, None, None);
        let (mut program, mut interface) = (None, None);
        for option in options {
            let at = option.iter().position(|&byte| byte == b'=')?;
            let path = PathBuf::from(OsString::from_vec(option[at + 1..].to_vec()));
            match &option[..at] {
                b"plugin" => plugin = Some(path),
                b"folder" => folder = Some(path),
                b"x86_64" => x86_64 = Some(path),
                b"i386" => i386 = Some(path),
                b"program" => program = Some(path),
                name if name == INTERFACE.as_bytes() => interface = path.to_str()?.parse().ok(),
                _ => return None,
            }
        }
        let all = Self {
            plugin: plugin?,
            folder: folder?,
            x86_64,
            i386,
            interface,
        };
        Some((all, program))
    }

    /// The version of the plugin interface that the emulator's command line tells, for the plugin before it is asked.
    pub fn interface_version<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<u32> {
        words.find(|&word| word == b"-plugin")?;
        let mut options = words.next()?.split(|&byte| byte == b',');
        let prefix = format!("{INTERFACE}=");
        let version = options.find_map(|it| it.strip_prefix(prefix.as_bytes()))?;
        str::from_utf8(version).ok()?.parse().ok()
    }

    /// What to execute in the place of `program` with these arguments, from the zeroth on, and this environment
    /// (`NAME=value`).
    ///
    /// # Errors
    /// If the kernel would not execute it, or no emulator can.
    pub fn start(
        &self,
        program: &Path,
        arguments: &[OsString],
        environment: &[OsString],
    ) -> Result<Start, NotEmulated> {
        let mut program = program.to_owned();
        let mut arguments = arguments.to_vec();
        for _ in 0..=MOST_SCRIPTS {
            let (executable, metadata) =
                Executable::open(&program).map_err(NotEmulated::Unreadable)?;
            if !is_permitted(&program) {
                return Err(NotEmulated::NotPermitted);
            }
            let elf = match executable {
                Executable::Elf(elf) => elf,
                Executable::Script(script) => {
                    let rest = arguments.drain(..).skip(1);
                    let first = [script.interpreter.clone().into_os_string()];
                    arguments = first
                        .into_iter()
                        .chain(script.argument)
                        .chain([program.into_os_string()])
                        .chain(rest)
                        .collect();
                    program = script.interpreter;
                    continue;
                }
                Executable::ScriptWithoutInterpreter => return Err(NotEmulated::NoInterpreter),
                Executable::DamagedElf => return Err(NotEmulated::Damaged),
                Executable::Other => return Err(NotEmulated::Other),
            };
            if let Some(why) = privilege(&program, &metadata) {
                return Err(NotEmulated::Privileged(why));
            }
            let (emulator, name) = match elf.machine {
                Machine::X86_64 => (&self.x86_64, "qemu-x86_64"),
                Machine::I386 => (&self.i386, "qemu-i386"),
                Machine::Other => return Err(NotEmulated::OtherMachine),
            };
            let emulator = emulator.clone().ok_or(NotEmulated::NoEmulator(name))?;
            return Ok(self.command(emulator, program, arguments, environment));
        }
        Err(NotEmulated::TooManyScripts)
    }

    fn command(
        &self,
        emulator: PathBuf,
        elf: PathBuf,
        arguments: Vec<OsString>,
        environment: &[OsString],
    ) -> Start {
        let mut arguments = arguments.into_iter();
        let mut all = vec![emulator.clone().into_os_string()];
        // The program may change its folder, and then execute itself.
        let program = elf.canonicalize().unwrap_or_else(|_| elf.clone());
        all.extend(["-plugin".into(), self.plugin_option(Some(&program))]);
        let (for_loader, environment): (Vec<_>, Vec<_>) = environment
            .iter()
            .cloned()
            .partition(|it| is_for_loader(it));
        all.extend(for_loader.into_iter().flat_map(|it| ["-E".into(), it]));
        // Without the option QEMU would take the path; there may be none at all.
        if let Some(zeroth) = arguments.next() {
            all.extend(["-0".into(), zeroth]);
        }
        let path = elf.as_os_str();
        // What begins with a dash would be an option.
        let is_option = path.as_bytes().starts_with(b"-");
        all.push(if is_option {
            Path::new(".").join(path).into()
        } else {
            path.into()
        });
        all.extend(arguments);
        Start {
            emulator,
            arguments: all,
            environment,
            elf,
        }
    }
}

/// What the program's loader is to do, that of the emulator is not. QEMU's option takes a comma for the end of a variable.
fn is_for_loader(variable: &OsStr) -> bool {
    let bytes = variable.as_bytes();
    bytes.starts_with(b"LD_") && !bytes.contains(&b',')
}

/// In the value of an option a comma is written twice.
fn escaped(value: &OsStr) -> OsString {
    let mut bytes = vec![];
    for &byte in value.as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn emulators() -> Emulators {
        Emulators {
            plugin: "/p,q/plugin.so".into(),
            folder: "/tmp/f".into(),
            x86_64: Some("/bin/qemu-x86_64".into()),
            i386: None,
            interface: Some(7),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    fn put(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_plugin_gets_what_it_needs_to_start_others() {
        let all = emulators();
        let option = all
            .plugin_option(Some(Path::new("/bin/a")))
            .into_string()
            .unwrap();
        assert!(
            option.starts_with("/p,,q/plugin.so,interface=7,folder=/tmp/f,"),
            "{option}"
        );
        let words = ["/bin/qemu-x86_64", "-plugin", &option, "interface=8"].map(str::as_bytes);
        assert_eq!(Emulators::interface_version(words.into_iter()), Some(7));
        assert_eq!(
            Emulators::interface_version(words[..2].iter().copied()),
            None
        );
        let options = [
            "interface=7",
            "folder=/tmp/f",
            "x86_64=/bin/qemu-x86_64",
            "plugin=/p,q/plugin.so",
            "program=/bin/a",
        ];
        let read = Emulators::from_options(options.iter().map(|it| it.as_bytes()));
        assert_eq!(read, Some((all, Some("/bin/a".into()))));
        assert_eq!(
            Emulators::from_options([&b"folder=/tmp"[..]].into_iter()),
            None
        );
        assert_eq!(Emulators::from_options([&b"x"[..]].into_iter()), None);
    }

    #[test]
    fn a_program_keeps_its_arguments() {
        let this_test = std::env::current_exe().unwrap();
        let start = emulators()
            .start(&this_test, &os(&["name", "-x", ""]), &[])
            .unwrap();
        let path = this_test.to_str().unwrap();
        assert_eq!(start.arguments[3..], os(&["-0", "name", path, "-x", ""]));
        assert_eq!(start.arguments[0], "/bin/qemu-x86_64");
        let start = emulators().start(&this_test, &[], &[]).unwrap();
        assert_eq!(start.arguments[3..], os(&[path]));
    }

    #[test]
    fn what_is_for_the_programs_loader_is_not_for_the_emulators() {
        let this_test = std::env::current_exe().unwrap();
        let environment = os(&["A=b", "LD_PRELOAD=x.so", "LD_AUDIT=a,b"]);
        let start = emulators()
            .start(&this_test, &os(&["name"]), &environment)
            .unwrap();
        assert_eq!(start.arguments[3..5], os(&["-E", "LD_PRELOAD=x.so"]));
        assert_eq!(start.environment, os(&["A=b", "LD_AUDIT=a,b"]));
    }

    #[test]
    fn a_script_is_started_as_the_kernel_does() {
        let folder = tempfile::tempdir().unwrap();
        let this_test = std::env::current_exe().unwrap();
        let line = format!("#!{} -a b\n", this_test.display());
        let inner = put(folder.path(), "inner", &line, 0o755);
        let outer = put(
            folder.path(),
            "outer",
            &format!("#!{}\n", inner.display()),
            0o755,
        );
        let start = emulators().start(&outer, &os(&["name", "x"]), &[]).unwrap();
        let [this_test, inner, outer] = [&this_test, &inner, &outer].map(|it| it.to_str().unwrap());
        let expected = ["-0", this_test, this_test, "-a b", inner, outer, "x"];
        assert_eq!(start.arguments[3..], os(&expected));
    }

    #[test]
    fn what_cannot_be_emulated_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let endless = folder.join("endless");
        put(
            folder,
            "endless",
            &format!("#!{}\n", endless.display()),
            0o755,
        );
        for (path, part) in [
            (folder.join("missing"), "No such file"),
            (folder.to_owned(), "not a file that can be executed"),
            (put(folder, "text", "echo", 0o755), "neither an ELF file"),
            (
                put(folder, "closed", "#!/bin/sh", 0o644),
                "may not be executed",
            ),
            (put(folder, "nameless", "#!\n", 0o755), "no interpreter"),
            (put(folder, "damaged", "\x7fELF", 0o755), "damaged"),
            (endless, "without end"),
        ] {
            let message = emulators()
                .start(&path, &os(&["x"]), &[])
                .unwrap_err()
                .to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
