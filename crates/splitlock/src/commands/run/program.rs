//! Whether a program can be covered: what the file says that the kernel is going to execute.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use split_lock_find::executable::{Elf, Executable, MOST_SCRIPTS, Machine, privilege, search};

/// A program that a library can be loaded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// As it is to be started.
    pub(crate) path: PathBuf,
    /// The ELF file: itself, or the interpreter of a script.
    pub(crate) elf: PathBuf,
    /// The program that loads its libraries.
    pub(crate) loader: PathBuf,
}

impl Program {
    /// Finds a program by its name, as a shell does.
    ///
    /// # Errors
    /// If there is none, or it cannot be covered.
    pub(crate) fn find(name: &OsStr) -> Result<Self> {
        let path = search(name, env::var_os("PATH")).with_context(|| {
            let name = name.to_string_lossy();
            format!("there is no program {name} in the folders of PATH")
        })?;
        let mut elf = path.clone();
        for _ in 0..MOST_SCRIPTS {
            match look_at(&elf)? {
                Kind::Script(interpreter) => elf = interpreter,
                Kind::Dynamic(loader) => return Ok(Self { path, elf, loader }),
            }
        }
        bail!(
            "{} is a script whose interpreters are scripts without end",
            path.display()
        )
    }
}

/// What the kernel makes of an executable file that a library can be added to.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Script(PathBuf),
    Dynamic(PathBuf),
}

fn look_at(path: &Path) -> Result<Kind> {
    let shown = path.display();
    let (executable, metadata) =
        Executable::open(path).with_context(|| format!("cannot read {shown}"))?;
    if let Some(why) = privilege(path, &metadata) {
        bail!(
            "{shown} {why}, so that no library may be added; start splitlock itself as that user instead"
        );
    }
    kind(executable).with_context(|| format!("{shown} cannot be covered"))
}

fn kind(executable: Executable) -> Result<Kind> {
    match executable {
        Executable::Script(script) => Ok(Kind::Script(script.interpreter)),
        Executable::Elf(Elf {
            machine: Machine::X86_64,
            loader: Some(loader),
        }) => Ok(Kind::Dynamic(loader)),
        Executable::Elf(Elf {
            machine: Machine::X86_64,
            loader: None,
        }) => bail!(
            "it is statically linked, and so takes no library; use a dynamically linked build of it"
        ),
        Executable::Elf(_) => bail!("it is not for x86-64"),
        Executable::ScriptWithoutInterpreter => bail!("it is a script that names no interpreter"),
        Executable::DamagedElf => bail!("its ELF header is damaged"),
        Executable::Other => bail!("it is neither an ELF file nor a script"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_has_a_loader_and_a_script_an_interpreter() {
        let this_test = env::current_exe().unwrap();
        let Kind::Dynamic(loader) = look_at(&this_test).unwrap() else {
            panic!("this test is a program")
        };
        assert!(loader.exists(), "{loader:?}");
    }

    #[test]
    fn what_cannot_be_covered_is_told_apart() {
        let elf = |machine| {
            Executable::Elf(Elf {
                machine,
                loader: None,
            })
        };
        for (executable, part) in [
            (elf(Machine::I386), "not for x86-64"),
            (elf(Machine::X86_64), "statically linked"),
            (Executable::Other, "neither"),
            (Executable::ScriptWithoutInterpreter, "no interpreter"),
            (Executable::DamagedElf, "damaged"),
        ] {
            let refusal = kind(executable).unwrap_err().to_string();
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
