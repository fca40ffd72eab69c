//! The segments in which code and data lie outside of 64-bit mode.

use split_lock_assist::cpu::Segment;

use crate::layout::Layout;
use crate::sys::LdtEntry;

/// A selector, and what loading it gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selectable {
    pub(crate) selector: u16,
    pub(crate) segment: Segment,
}

/// What an LDT entry says besides base and limit.
const BIG: u32 = 1 << 0;
const EXPAND_DOWN: u32 = 1 << 1;
const CODE: u32 = 2 << 1;
const READ_ONLY: u32 = 1 << 3;
const IN_PAGES: u32 = 1 << 4;

/// All of them, with the entries that the kernel has to be given.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) code_16: Selectable,
    pub(crate) code_32: Vec<Selectable>,
    pub(crate) data: Vec<Selectable>,
    pub(crate) entries: Vec<LdtEntry>,
}

impl Segments {
    pub(crate) fn new(layout: &Layout) -> Self {
        let data = layout.data as u32;
        let code = layout.code_segment() as u32;
        let code_around = layout.code_segment_around() as u32;
        let mut entries = Vec::new();
        let mut add = |base, limit, flags| {
            let number = entries.len() as u32;
            entries.push(LdtEntry {
                number,
                base,
                limit,
                flags,
            });
            Selectable {
                // The local table, privilege level 3.
                selector: (number << 3 | 7) as u16,
                segment: segment(base, limit, flags),
            }
        };
        let code_16 = add(code, 0xf_ffff, CODE);
        let code_32 = vec![
            add(code, 0xf_ffff, CODE | BIG | IN_PAGES),
            add(code_around, 0xf_ffff, CODE | BIG | IN_PAGES),
            Selectable {
                selector: 0x23,
                segment: Segment {
                    writable: false,
                    ..Segment::FLAT
                },
            },
        ];
        let mut data = vec![
            add(0, 0xf_ffff, BIG | IN_PAGES),
            add(data, 0xffff, 0),
            add(data + 0x123, 0x7fff, BIG),
            // Its offsets wrap around the end of the address space.
            add(data.wrapping_sub(0x3000_0000), 0xf_ffff, BIG | IN_PAGES),
            add(data, 0x1_ffff, READ_ONLY),
            add(data, 0xfff, EXPAND_DOWN),
            add(data, 0x3fff, EXPAND_DOWN | BIG),
        ];
        data.push(Selectable {
            selector: 0x2b,
            segment: Segment::FLAT,
        });
        data.push(Selectable {
            selector: 0,
            segment: Segment {
                usable: false,
                ..Segment::default()
            },
        });
        Self {
            code_16,
            code_32,
            data,
            entries,
        }
    }
}

fn segment(base: u32, limit: u32, flags: u32) -> Segment {
    let limit = if flags & IN_PAGES != 0 {
        limit << 12 | 0xfff
    } else {
        limit
    };
    Segment {
        base: base.into(),
        limit,
        usable: true,
        writable: flags & (READ_ONLY | CODE) == 0,
        expand_down: flags & EXPAND_DOWN != 0,
        big: flags & BIG != 0,
    }
}
