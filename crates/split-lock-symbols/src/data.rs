//! Data that were looked up.

use std::path::Path;

use crate::elf::{FunctionName, Image, UntrustedFile};
use crate::error::Error;

/// A variable that an address lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: FunctionName,
    /// How far into it the address is.
    pub offset: u64,
}

impl Variable {
    /// The variable of a program or library that is at an address; `base` is where its first page was loaded. `None` if
    /// the file names none there.
    ///
    /// # Errors
    /// If the file cannot be read, or is no program or library.
    pub fn in_file(path: &Path, address: u64, base: u64) -> Result<Option<Self>, Error> {
        let file = UntrustedFile::open(path).map_err(Error::other)?;
        let image = Image::parse(file.data()).map_err(Error::not_in_file)?;
        let in_file = image.before_loading(address, base);
        let found = in_file.and_then(|address| image.object_at(address));
        Ok(found.map(|(name, offset)| Self { name, offset }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    static COUNTERS: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

    #[test]
    fn this_program_knows_its_own_data() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let base = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let address = &raw const COUNTERS[3] as u64;
        let program = std::env::current_exe().unwrap();
        let variable = Variable::in_file(&program, address, base).unwrap().unwrap();
        assert!(variable.name.demangled.contains("COUNTERS"), "{variable:?}");
        assert_eq!(variable.offset, 24);
        assert_eq!(Variable::in_file(&program, base, base).unwrap(), None);
    }
}
