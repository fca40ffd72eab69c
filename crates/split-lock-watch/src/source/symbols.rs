//! Where the kernel's functions lie. Reading that takes a fifth of a second, and many on a slow CPU.

use std::io::{self, BufRead};

use split_lock_model::handler::TrapOrigin;

/// The functions that matter, as /proc/kallsyms tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Symbols {
    /// What ends a sleep: the function of its timer.
    process_timeout: Option<u64>,
    /// Begin and end of the handlers' code.
    handlers: Vec<(TrapOrigin, u64, u64)>,
    /// The names are there, and their addresses are all zero.
    pub(crate) are_hidden: bool,
    /// Those of the functions that the kernel has.
    names: Vec<&'static str>,
}

pub(crate) const HANDLE_GUEST: &str = "handle_guest_split_lock";
pub(crate) const HANDLE_USER: &str = "handle_user_split_lock";

/// Since 5.19 there are sleeps, and this work to end windows.
const REENABLE: &str = "__split_lock_reenable";
const WANTED: [&str; 3] = [HANDLE_GUEST, HANDLE_USER, REENABLE];

/// Compilers put the unlikely half of a function elsewhere.
const COLD: &str = ".cold";

impl Symbols {
    pub(crate) fn read(mut kallsyms: impl BufRead) -> io::Result<Self> {
        let mut symbols = Self::default();
        let (mut starts, mut handlers) = (vec![], vec![]);
        // There are some hundred thousand lines.
        let mut line = vec![];
        loop {
            line.clear();
            if kallsyms.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let Some((address, name)) = function(&line) else {
                continue;
            };
            starts.push(address);
            symbols.note(address, name);
            match name.strip_suffix(COLD).unwrap_or(name) {
                HANDLE_GUEST => handlers.push((TrapOrigin::Guest, address)),
                HANDLE_USER => handlers.push((TrapOrigin::User, address)),
                _ => {}
            }
        }
        symbols.are_hidden = !starts.is_empty() && starts.iter().all(|&address| address == 0);
        if symbols.are_hidden {
            return Ok(symbols);
        }
        starts.sort_unstable();
        for (origin, begin) in handlers {
            let next = starts.partition_point(|&start| start <= begin);
            let end = starts.get(next).copied().unwrap_or(u64::MAX);
            symbols.handlers.push((origin, begin, end));
        }
        Ok(symbols)
    }

    fn note(&mut self, address: u64, name: &str) {
        if name == "process_timeout" {
            self.process_timeout = Some(address);
        }
        self.names
            .extend(WANTED.iter().find(|&&wanted| wanted == name));
    }

    pub(crate) fn has_handlers(&self) -> bool {
        self.has(HANDLE_GUEST) || self.has(HANDLE_USER)
    }

    fn has(&self, function: &str) -> bool {
        self.names.contains(&function)
    }

    /// What to look for, if sleeps and windows alone tell of traps: the timers that end sleeps, where call chains can be
    /// understood.
    pub(crate) fn timers_that_tell(&self) -> Option<u64> {
        let can = self.has(REENABLE) && !self.handlers.is_empty();
        self.process_timeout.filter(|_| can)
    }

    /// Which of the handlers a return address lies in.
    pub(crate) fn handler_at(&self, address: u64) -> Option<TrapOrigin> {
        // A call may be the last instruction of a function: then it returns to the next one's first.
        let mut handlers = self.handlers.iter();
        let holds = |&&(_, begin, end): &&(TrapOrigin, u64, u64)| begin < address && address <= end;
        handlers.find(holds).map(|&(origin, ..)| origin)
    }
}

/// `ffffffff81322d00 t split_lock_warn`, and for modules more.
fn function(line: &[u8]) -> Option<(u64, &str)> {
    let mut words = str::from_utf8(line).ok()?.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
    is_code.then_some((address, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_end_where_the_next_function_begins() {
        let text = "ffffffff81322d00 t split_lock_warn\n\
                    ffffffff81322e50 T handle_guest_split_lock\n\
                    ffffffff81322f00 T handle_user_split_lock\n\
                    ffffffff81322f80 T next\n\
                    ffffffff8120491a t handle_guest_split_lock.cold\n\
                    ffffffff81204930 t other.cold\n\
                    ffffffff81400000 D data\n\
                    ffffffff81500000 t process_timeout\n\
                    ffffffffc0000000 t f\t[kvm]\n";
        let symbols = Symbols::read(text.as_bytes()).unwrap();
        assert!(symbols.has_handlers() && symbols.has(HANDLE_USER) && !symbols.has(REENABLE));
        // A kernel before 5.19.
        assert_eq!(symbols.timers_that_tell(), None);
        let text = format!("{text}ffffffff81322d80 t __split_lock_reenable\n");
        let symbols = Symbols::read(text.as_bytes()).unwrap();
        assert_eq!(symbols.timers_that_tell(), Some(0xffff_ffff_8150_0000));
        let at = |address| symbols.handler_at(address);
        assert_eq!(at(0xffff_ffff_8132_2e90), Some(TrapOrigin::Guest));
        assert_eq!(at(0xffff_ffff_8132_2f00), Some(TrapOrigin::Guest));
        assert_eq!(at(0xffff_ffff_8132_2f01), Some(TrapOrigin::User));
        assert_eq!(at(0xffff_ffff_8120_4925), Some(TrapOrigin::Guest));
        assert_eq!(at(0xffff_ffff_8132_2d10), None);
        assert_eq!(at(0xffff_ffff_8132_2f90), None);
    }

    #[test]
    fn hidden_addresses_are_no_addresses() {
        let text = "0000000000000000 T handle_guest_split_lock\n0000000000000000 t __split_lock_reenable\n0000000000000000 t process_timeout\n";
        let symbols = Symbols::read(text.as_bytes()).unwrap();
        assert!(symbols.are_hidden && symbols.has_handlers());
        assert_eq!(symbols.timers_that_tell(), None);
        let none = Symbols::read(&b"no symbols\n"[..]).unwrap();
        assert!(!none.are_hidden && !none.has_handlers());
    }
}
