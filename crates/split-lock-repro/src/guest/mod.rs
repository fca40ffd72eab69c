//! What runs in the VM: the built-in guests, and flat binaries from files.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use kvm_bindings::kvm_regs;

use crate::layout::{CODE, OPERAND_LINE, STACK_TOP};
use work::working;

mod built_in;
mod file;
mod kind;
mod level;
mod name;
mod operand;
mod register;
pub(crate) mod two_tasks;
mod work;

pub use built_in::BuiltIn;
pub use file::{FileOptions, GuestFile, GuestFileError};
pub use kind::Kind;
pub use level::{Level, UnknownLevel};
pub use name::GuestNameError;
pub use operand::Operand;
pub use register::{Register, UnknownRegister};
pub(crate) use work::WORK_LEFT;
pub use work::WorkRate;

/// Lets CPL3 use I/O ports.
const RFLAGS_IOPL3: u64 = 3 << 12;
/// A bit that the architecture wants to be set.
const RFLAGS_ALWAYS_SET: u64 = 1 << 1;

/// A guest, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Guest {
    /// One that comes with this crate.
    BuiltIn(BuiltIn),
    /// One from a file.
    File(GuestFile),
}

/// Why a text names no guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// It names no built-in guest, and no file either.
    #[error("{0}; nor is there a file of that name")]
    NeitherNameNorFile(GuestNameError),
    /// It names a built-in guest and asks for something that this guest cannot do.
    #[error(transparent)]
    Name(GuestNameError),
    /// It names a file that cannot be a guest.
    #[error(transparent)]
    File(#[from] GuestFileError),
}

impl Guest {
    /// Finds what `text` names: a built-in guest ([`BuiltIn`] says how they are named), or else a file,
    /// which is read with `options`. A file with the name of a built-in guest can be had as `./NAME`.
    ///
    /// ```
    /// use split_lock_repro::guest::{FileOptions, Guest};
    ///
    /// let guest = Guest::find("split@57", FileOptions::default())?;
    /// assert_eq!(guest.to_string(), "split@57");
    /// # Ok::<(), split_lock_repro::guest::GuestError>(())
    /// ```
    ///
    /// # Errors
    /// If it is neither, or the file cannot be a guest.
    pub fn find(text: &str, options: FileOptions) -> Result<Self, GuestError> {
        match text.parse() {
            Ok(built_in) => Ok(Guest::BuiltIn(built_in)),
            Err(error @ GuestNameError::Unknown { .. }) => {
                if text.contains('/') || Path::new(text).exists() {
                    Ok(Guest::File(GuestFile::read(text, options)?))
                } else {
                    Err(GuestError::NeitherNameNorFile(error))
                }
            }
            Err(error) => Err(GuestError::Name(error)),
        }
    }

    /// The bytes to load.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        match self {
            Guest::BuiltIn(guest) => guest.code(),
            Guest::File(guest) => guest.code(),
        }
    }

    /// Guest address of the first byte, which is also the entry.
    #[must_use]
    pub fn load_address(&self) -> u64 {
        match self {
            Guest::BuiltIn(_) => CODE,
            Guest::File(guest) => guest.options().load_address,
        }
    }

    /// Where it counts its turns, from whatever this register holds at the start.
    #[must_use]
    pub fn counter(&self) -> Register {
        match self {
            Guest::BuiltIn(guest) => guest.counter(),
            Guest::File(guest) => guest.options().counter,
        }
    }

    /// All general registers as they are before the first instruction. Guests that work need to know
    /// how fast they are: only for those `rate` is called.
    ///
    /// # Errors
    /// What `rate` says.
    pub fn start_registers<E>(
        &self,
        rate: impl FnOnce() -> Result<WorkRate, E>,
    ) -> Result<kvm_regs, E> {
        let own = match self {
            Guest::BuiltIn(guest) => guest.operand_registers(),
            Guest::File(_) => kvm_regs {
                rsi: OPERAND_LINE,
                ..Default::default()
            },
        };
        let own = match self.work() {
            Some(work) => working(rate()?.turns_in(work), own),
            None => own,
        };
        Ok(kvm_regs {
            rip: self.load_address(),
            rsp: STACK_TOP,
            rflags: RFLAGS_ALWAYS_SET | RFLAGS_IOPL3,
            ..own
        })
    }

    fn work(&self) -> Option<Duration> {
        match self {
            Guest::BuiltIn(guest) => guest.work(),
            Guest::File(_) => None,
        }
    }
}

impl From<BuiltIn> for Guest {
    fn from(guest: BuiltIn) -> Self {
        Guest::BuiltIn(guest)
    }
}

impl From<GuestFile> for Guest {
    fn from(guest: GuestFile) -> Self {
        Guest::File(guest)
    }
}

/// The name as a user writes it: a built-in guest's, or a file's path.
impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guest::BuiltIn(guest) => guest.fmt(f),
            Guest::File(guest) => f.pad(&guest.path().to_string_lossy()),
        }
    }
}

/// Guest code, disassembled.
#[cfg(test)]
pub(crate) fn instructions(address: u64, code: &[u8]) -> Vec<iced_x86::Instruction> {
    let options = iced_x86::DecoderOptions::NONE;
    let decoder = iced_x86::Decoder::with_ip(64, code, address, options);
    decoder.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_name_is_a_built_in_guest_and_a_path_is_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0xeb, 0xfe]).unwrap();
        let path = file.path().to_str().unwrap();
        let found = Guest::find(path, FileOptions::default()).unwrap();
        assert_eq!(found.to_string(), path);
        assert_eq!(found.code(), [0xeb, 0xfe]);
        let found = Guest::find("aligned", FileOptions::default()).unwrap();
        assert!(matches!(found, Guest::BuiltIn(_)));
    }

    #[test]
    fn what_names_nothing_is_refused_with_the_names_there_are() {
        let refusal = |text| {
            let error = Guest::find(text, FileOptions::default());
            error.unwrap_err().to_string()
        };
        let error = refusal("spilt");
        assert!(error.contains("use one of split, aligned"), "{error}");
        assert!(error.contains("nor is there a file"), "{error}");
        assert!(refusal("./split").contains("cannot read the guest ./split"));
        assert!(refusal("page@1").contains("takes no offset"));
        assert!(refusal("sparse:soon").contains("no duration"));
    }

    #[test]
    fn only_work_needs_a_rate() {
        let unknown = || Err(());
        let rate = || WorkRate::from_measured(3000, Duration::from_millis(1)).ok_or(());
        let find = |name| Guest::find(name, FileOptions::default()).unwrap();
        assert!(find("split").start_registers(unknown).is_ok());
        assert!(find("sparse").start_registers(unknown).is_err());
        let registers = find("sparse:10us").start_registers(rate).unwrap();
        assert_eq!((registers.rbx, WORK_LEFT.read(&registers)), (30, 30));
    }
}
