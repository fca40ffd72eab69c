//! Functions by their addresses: from symbols, or from what is there for unwinding the stack.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrame, LittleEndian, UnwindSection};
use object::{Object, ObjectSection, ObjectSymbol, ReadRef, Symbol, SymbolKind};
use split_lock_assist::cpu::Mode;

use super::image::Image;
use super::name::FunctionName;
use crate::listing::BYTES_AFTER;

pub(super) const LONGEST_NAME: usize = 4096;

/// A function in which more than that comes before an instruction is not read from its beginning.
const MOST_BEFORE: u64 = 1 << 20;

/// A function that has an address in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The address of its first instruction.
    pub start: u64,
    /// The address after its last one, if that is known.
    pub end: Option<u64>,
    /// None if only its extent is known.
    pub name: Option<FunctionName>,
}

/// What to read, so as to show the instruction at `address` among others of its function.
pub(crate) fn to_read(function: Option<&Function>, address: u64) -> Range<u64> {
    let start = function.map(|function| function.start);
    let is_near = |start: &u64| address - start <= MOST_BEFORE;
    let end = function.and_then(|function| function.end);
    let enough = address.saturating_add(BYTES_AFTER as u64);
    start.filter(is_near).unwrap_or(address)..end.unwrap_or(enough).min(enough)
}

impl<'a, R: ReadRef<'a>> Image<'a, R> {
    pub(crate) fn function_at(&self, address: u64) -> Option<Function> {
        self.best_symbol(address, |symbol| address - symbol.address() < symbol.size())
            .or_else(|| self.unwound_at(address))
            // Assembly often does not say where a function ends.
            .or_else(|| self.best_symbol(address, |symbol| symbol.size() == 0))
    }

    /// The code around an address, which is in `function`, and where it begins. It reaches back to the
    /// beginning of the function, from which on instructions can be told apart, if that is near.
    pub(crate) fn code_around(
        &self,
        function: Option<&Function>,
        address: u64,
    ) -> Option<(u64, &'a [u8])> {
        let Range { start, end } = to_read(function, address);
        let mut parts = [start, address]
            .into_iter()
            .filter_map(|start| Some((start, self.code(start..end)?)));
        parts.find(|(start, bytes)| bytes.len() as u64 > address - start)
    }

    /// The last symbol before an address, of those that will do; of several at the same place a
    /// function, and one that other files see.
    fn best_symbol(
        &self,
        address: u64,
        will_do: impl Fn(&Symbol<'a, '_, R>) -> bool,
    ) -> Option<Function> {
        let is_code = |symbol: &Symbol<'a, '_, R>| {
            matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown)
                && symbol.section_index().is_some()
        };
        let name =
            |symbol: &Symbol<'a, '_, R>| symbol.name_bytes().ok().filter(|name| !name.is_empty());
        let symbols = self.file.symbols().chain(self.file.dynamic_symbols());
        let symbol = symbols
            .filter(|symbol| is_code(symbol) && symbol.address() <= address && will_do(symbol))
            .filter(|symbol| name(symbol).is_some())
            .max_by_key(|symbol| {
                let is_function = symbol.kind() == SymbolKind::Text;
                (symbol.address(), is_function, symbol.is_global())
            })
            .filter(|symbol| self.code_segment(symbol.address()) == self.code_segment(address))?;
        let name = name(&symbol)?;
        let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST_NAME)]);
        let (start, size) = (symbol.address(), symbol.size());
        Some(Function {
            start,
            end: start.checked_add(size).filter(|_| size > 0),
            name: Some(FunctionName::of(&name)),
        })
    }

    /// A function without a name, from `.eh_frame`, which stripped files have too.
    fn unwound_at(&self, address: u64) -> Option<Function> {
        let section = self.file.section_by_name(".eh_frame")?;
        let mut frames = EhFrame::new(section.data().ok()?, LittleEndian);
        frames.set_address_size(match self.mode {
            Mode::Bits64 => 8,
            Mode::Bits16 | Mode::Bits32 => 4,
        });
        let text = self.file.section_by_name(".text");
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address())
            .set_text(text.map_or(0, |text| text.address()));
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
