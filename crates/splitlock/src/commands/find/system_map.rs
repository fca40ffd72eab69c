//! System.map: a symbol of the kernel on each line.

use anyhow::{Result, bail};
use split_lock_symbols::FunctionName;

/// Functions by their addresses.
#[derive(Debug)]
pub(super) struct SystemMap(Vec<(u64, String)>);

impl SystemMap {
    /// # Errors
    /// If no line of it is one of System.map.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(text);
        let mut symbols: Vec<_> = text.lines().filter_map(symbol).collect();
        if symbols.is_empty() {
            bail!("it is neither an ELF file nor a list of symbols such as System.map");
        }
        symbols.sort();
        Ok(Self(symbols))
    }

    /// The function that holds an address, if one begins within a megabyte before it.
    pub(super) fn name(&self, address: u64) -> Option<(FunctionName, u64)> {
        const LARGEST: u64 = 1 << 20;
        let after = self.0.partition_point(|(start, _)| *start <= address);
        let (start, name) = self.0.get(after.checked_sub(1)?)?;
        let offset = address - start;
        // The last symbol has nothing behind it.
        let is_inside = after < self.0.len() && offset < LARGEST;
        is_inside.then(|| {
            let name = FunctionName {
                mangled: name.clone(),
                demangled: name.clone(),
            };
            (name, offset)
        })
    }
}

/// `ffffffff81000000 T _stext`
fn symbol(line: &str) -> Option<(u64, String)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_code = matches!(words.next()?, "T" | "t" | "W" | "w");
    let name = words.next()?;
    is_code.then(|| (address, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_function_before_it() {
        let text = b"ffffffff81000000 T _stext\nffffffff81000040 t wait [module]\nffffffff81000048 D data\n\
            ffffffff82000000 T _etext\n";
        let map = SystemMap::parse(text).unwrap();
        let name = |address| {
            map.name(address)
                .map(|(name, offset)| (name.demangled, offset))
        };
        assert_eq!(name(0xffff_ffff_8100_004a), Some(("wait".into(), 10)));
        assert_eq!(name(0xffff_ffff_80ff_ffff), None);
        assert_eq!(name(0xffff_ffff_8200_0001), None);
        assert!(SystemMap::parse(b"hello\n").is_err());
        assert!(SystemMap::parse(b"").is_err());
    }
}
