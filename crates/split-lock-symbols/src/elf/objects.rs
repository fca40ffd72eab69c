//! Data by their addresses.

use object::{Object, ObjectSymbol, ReadRef, SymbolKind};

use super::image::Image;
use super::name::FunctionName;
use super::symbols::LONGEST_NAME;

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    /// The variable that holds an address, as the file has it, and how far into it that is.
    pub(crate) fn object_at(&self, address: u64) -> Option<(FunctionName, u64)> {
        let symbols = self.file.symbols().chain(self.file.dynamic_symbols());
        let holds = |start: u64, bytes: u64| {
            let into = address.checked_sub(start);
            into.is_some_and(|into| into < bytes)
        };
        let found = symbols
            .filter(|symbol| symbol.kind() == SymbolKind::Data && symbol.section_index().is_some())
            .filter(|symbol| holds(symbol.address(), symbol.size()))
            .min_by_key(|symbol| (symbol.size(), !symbol.is_global()))?;
        let name = found.name_bytes().ok().filter(|name| !name.is_empty())?;
        let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST_NAME)]);
        Some((FunctionName::of(&name), address - found.address()))
    }
}
