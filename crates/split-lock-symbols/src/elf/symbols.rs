//! Functions by their addresses: from symbols, or from what is there for unwinding the stack.

use gimli::{BaseAddresses, EhFrame, LittleEndian, UnwindSection};
use object::{Object, ObjectSection, ObjectSymbol, ReadRef, SymbolKind};
use split_lock_assist::cpu::Mode;

use super::{Image, Name};

/// More of a name is not looked at.
const LONGEST_NAME: usize = 4096;

/// A function that has an address in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The address of its first instruction.
    pub start: u64,
    /// The address after its last one, if that is known.
    pub end: Option<u64>,
    /// None if only its extent is known.
    pub name: Option<Name>,
}

/// A symbol of code.
#[derive(Debug)]
struct Symbol<'a> {
    address: u64,
    size: u64,
    is_function: bool,
    is_global: bool,
    name: &'a [u8],
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    /// The function that an address of code is in.
    pub(crate) fn function_at(&self, address: u64) -> Option<Function> {
        let named = |symbol: Symbol| Function {
            start: symbol.address,
            end: symbol
                .address
                .checked_add(symbol.size)
                .filter(|_| symbol.size > 0),
            name: Some(symbol.name()),
        };
        let sized = self.best_symbol(address, |symbol| symbol.contains(address));
        sized
            .map(named)
            .or_else(|| self.unwound_at(address))
            .or_else(|| {
                // Assembly often does not say where a function ends.
                let unsized_one = |symbol: &Symbol| symbol.size == 0;
                self.best_symbol(address, unsized_one).map(named)
            })
    }

    /// The last symbol before an address, of those that will do; of several at the same place a
    /// function, and one that other files see.
    fn best_symbol(&self, address: u64, will_do: impl Fn(&Symbol) -> bool) -> Option<Symbol<'a>> {
        let symbols = self.file.symbols().chain(self.file.dynamic_symbols());
        symbols
            .filter(|symbol| {
                let kind = symbol.kind();
                matches!(kind, SymbolKind::Text | SymbolKind::Unknown)
                    && symbol.section_index().is_some()
            })
            .filter(|symbol| symbol.address() <= address)
            .map(|symbol| Symbol {
                address: symbol.address(),
                size: symbol.size(),
                is_function: symbol.kind() == SymbolKind::Text,
                is_global: symbol.is_global(),
                name: symbol.name_bytes().unwrap_or_default(),
            })
            .filter(|symbol| !symbol.name.is_empty() && will_do(symbol))
            .max_by_key(|symbol| (symbol.address, symbol.is_function, symbol.is_global))
            .filter(|symbol| self.code_segment(symbol.address) == self.code_segment(address))
    }

    /// A function without a name, from `.eh_frame`, which stripped files have too.
    fn unwound_at(&self, address: u64) -> Option<Function> {
        let section = self.file.section_by_name(".eh_frame")?;
        let mut frames = EhFrame::new(section.data().ok()?, LittleEndian);
        frames.set_address_size(match self.mode {
            Mode::Bits64 => 8,
            Mode::Bits16 | Mode::Bits32 => 4,
        });
        let text = self
            .file
            .section_by_name(".text")
            .map_or(0, |text| text.address());
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address())
            .set_text(text);
        let entry = frames
            .fde_for_address(&bases, address, EhFrame::cie_from_offset)
            .ok()?;
        Some(Function {
            start: entry.initial_address(),
            end: Some(entry.end_address()),
            name: None,
        })
        .filter(|function| function.start <= address)
    }
}

impl Symbol<'_> {
    fn contains(&self, address: u64) -> bool {
        address
            .checked_sub(self.address)
            .is_some_and(|offset| offset < self.size)
    }

    fn name(&self) -> Name {
        let looked_at = &self.name[..self.name.len().min(LONGEST_NAME)];
        Name::of(&String::from_utf8_lossy(looked_at))
    }
}
