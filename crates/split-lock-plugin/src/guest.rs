//! Which program of a guest it is: by its page tables, and by the path that Linux leaves at the end of its stack
//! (AT_EXECFN).

use split_lock_assist::decode::PAGE_BYTES;

/// What is read of a vCPU when it has split a lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct VcpuRegisters {
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) cs: u64,
    pub(crate) sp: u64,
}

impl VcpuRegisters {
    /// The physical address of its page tables, if it executes user code (privilege level 3). The kernel is the same in all
    /// of them, and firmware has none, or one for itself.
    pub(crate) fn page_table_of_program(&self) -> Option<u64> {
        const CR0_PG: u64 = 1 << 31;
        const CR4_PCIDE: u64 = 1 << 17;
        let is_program = self.cr0 & CR0_PG != 0 && self.cs & 3 == 3;
        // With CR4.PCIDE the low bits are the PCID. With PAE paging tables begin at any multiple of 32.
        let address = match self.cr4 & CR4_PCIDE {
            0 => 0x000f_ffff_ffff_ffe0,
            _ => 0x000f_ffff_ffff_f000,
        };
        Some(self.cr3 & address).filter(|&table| is_program && table != 0)
    }
}

/// A stack and what is above it may be so large; a default limit of Linux is as large.
const MOST_PAGES: u64 = 2048;

/// The path by which a program was executed, if `sp` is on its first thread's stack: Linux puts it at the end, and behind
/// it a word that is zero. Empty if there is none to be seen.
pub(crate) fn exec_path(sp: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Vec<u8> {
    let mut bytes = [0; PAGE_BYTES as usize];
    let mut has_page = false;
    let first = sp - sp % PAGE_BYTES;
    // Pages that were never touched are not there, so the first gap need not be the end.
    for n in 0..MOST_PAGES {
        let Some(page) = first.checked_add(n * PAGE_BYTES) else {
            break;
        };
        let mut next = [0; PAGE_BYTES as usize];
        if read(page, &mut next) {
            (bytes, has_page) = (next, true);
        } else if std::mem::take(&mut has_page)
            && let Some(name) = last_name(&bytes)
        {
            return name.to_vec();
        }
    }
    vec![]
}

/// The text that these bytes end with, its zero byte, and a word of 4 or 8 bytes that is zero.
fn last_name(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().rposition(|&byte| byte != 0)?;
    let is_end = [1 + 4, 1 + 8].contains(&(bytes.len() - last - 1));
    let before = bytes[..last].iter().rposition(|&byte| byte == 0)?;
    let name = &bytes[before + 1..=last];
    let is_text = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
    (is_end && name.iter().all(is_text)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_code_with_paging_has_an_address_space() {
        let user = VcpuRegisters {
            cr0: 0x8000_0011,
            cr3: 0x8000_0000_0123_4066,
            cr4: 0x2_0020,
            cs: 0x33,
            sp: 0,
        };
        assert_eq!(user.page_table_of_program(), Some(0x0123_4000));
        let with_pae = VcpuRegisters { cr4: 0x20, ..user };
        assert_eq!(with_pae.page_table_of_program(), Some(0x0123_4060));
        for other in [
            VcpuRegisters { cs: 0x10, ..user },
            VcpuRegisters { cr0: 0x11, ..user },
            VcpuRegisters { cr3: 0, ..user },
        ] {
            assert_eq!(other.page_table_of_program(), None);
        }
    }

    /// Memory from page 16 on: `.` is not there, `s` has other things, and `n` the end of a stack.
    fn found(pages: &str, end: &[u8]) -> Vec<u8> {
        let read = |address: u64, bytes: &mut [u8]| {
            assert_eq!((address % PAGE_BYTES, bytes.len() as u64), (0, PAGE_BYTES));
            let kind = pages.as_bytes().get((address / PAGE_BYTES - 16) as usize);
            bytes.fill(0);
            match kind {
                Some(b's') => bytes[..3].copy_from_slice(b"x=y"),
                Some(b'n') => bytes[PAGE_BYTES as usize - end.len()..].copy_from_slice(end),
                _ => return false,
            }
            true
        };
        exec_path(16 * PAGE_BYTES + 8, read)
    }

    #[test]
    fn name_is_at_the_end_of_the_stack() {
        let end = b"A=b\0/bin/a b\0\0\0\0\0\0\0\0\0";
        for pages in ["n", "sn", "s..sssn", "s.n.s", "ns"] {
            let expected = if pages == "ns" { &b""[..] } else { b"/bin/a b" };
            assert_eq!(found(pages, end), expected, "{pages}");
        }
        assert_eq!(found("n", b"A=b\0./a\0\0\0\0\0"), b"./a");
    }

    #[test]
    fn memory_that_ends_otherwise_has_no_name() {
        for end in [
            &b"\0/bin/a\0\0\0\0"[..],
            b"\0/bin/a\0\0\0\0\0\0\0\0\0\0",
            b"\0\x01\x02\0\0\0\0\0\0\0\0\0",
            b"",
        ] {
            assert_eq!(found("sn", end), b"", "{end:?}");
        }
        assert_eq!(exec_path(u64::MAX, |_, _| false), b"");
        assert_eq!(exec_path(0, |_, _| true), b"");
    }
}
