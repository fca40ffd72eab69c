//! An ELF file made by hand, of which every byte is known. Its program waits for ever, beside a split
//! lock that it never comes to.

/// Where its code begins, counted from the beginning of the file.
pub(crate) const TEXT: u64 = 0x100;

/// Where `split` begins in it.
pub(crate) const SPLIT: u64 = TEXT + 9;

/// The line that it claims to have inlined `split` into.
pub(crate) const CALLED_FROM: u64 = 30;

/// The name of the file that it claims to be made from, and the line of `split`.
pub(crate) const SOURCE: (&str, u64) = ("wait.s", 20);

const CODE_64: [u8; 15] = [
    0xb8, 0x22, 0, 0, 0, // wait: mov eax,34
    0x0f, 0x05, //                syscall
    0xeb, 0xf7, //                jmp wait
    0xf0, 0x48, 0x0f, 0xab, 0x3e, // split: lock bts [rsi],rdi
    0xc3, //                      ret
];
const CODE_32: [u8; 15] = [
    0xb8, 0x1d, 0, 0, 0, // wait: mov eax,29
    0xcd, 0x80, //                int 80h
    0xeb, 0xf7, //                jmp wait
    0xf0, 0x0f, 0xab, 0x3e, // split: lock bts [esi],edi
    0xc3, //                      ret
    0x90, //                      nop
];

const EXECUTABLE: u16 = 2;
const DYNAMIC: u16 = 3;

/// What it is to be like.
#[derive(Debug, Clone)]
pub(crate) struct Elf {
    pub(crate) is_64: bool,
    /// It can be loaded anywhere; it is to be loaded to `base` otherwise.
    pub(crate) is_position_independent: bool,
    pub(crate) base: u64,
    /// Functions: name, where in the file, how many bytes.
    pub(crate) symbols: Vec<(&'static [u8], u64, u64)>,
    /// It has `.eh_frame`.
    pub(crate) unwinds: bool,
    /// It has debug information.
    pub(crate) has_lines: bool,
}

impl Default for Elf {
    fn default() -> Self {
        Elf {
            is_64: true,
            is_position_independent: false,
            base: 0x40_0000,
            symbols: vec![(b"wait", TEXT, 9), (b"split", SPLIT, 6)],
            unwinds: true,
            has_lines: true,
        }
    }
}

struct Section {
    name: &'static str,
    kind: u32,
    address: u64,
    offset: u64,
    bytes: Vec<u8>,
    link: u32,
    entry_bytes: u64,
}

impl Elf {
    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut sections = self.sections();
        let mut file = vec![0; TEXT as usize];
        for section in &mut sections[1..] {
            section.offset = file.len() as u64;
            if section.name == ".eh_frame" || section.name == ".text" {
                section.address = self.base + section.offset;
            }
            if section.name == ".eh_frame" {
                section.bytes = self.unwind_table(section.address);
            }
            file.extend(&section.bytes);
            file.resize(file.len().next_multiple_of(8), 0);
        }
        let headers_at = file.len() as u64;
        let mut name = 0;
        for section in &sections {
            let header = self.section_header(section, name);
            file.extend(header);
            name += section.name.len() as u32 + 1;
        }
        let header = self.header(headers_at, sections.len() as u16);
        let all = file.len() as u64;
        let headers = [header, self.program_header(all)].concat();
        file[..headers.len()].copy_from_slice(&headers);
        file
    }

    fn sections(&self) -> Vec<Section> {
        const PROGRAM: u32 = 1;
        const SYMBOLS: u32 = 2;
        const STRINGS: u32 = 3;
        let plain = |name, kind, bytes: &[u8]| Section {
            name,
            kind,
            address: 0,
            offset: 0,
            bytes: bytes.to_vec(),
            link: 0,
            entry_bytes: 0,
        };
        let code = if self.is_64 { &CODE_64 } else { &CODE_32 };
        let mut sections = vec![plain("", 0, &[]), plain(".text", PROGRAM, code)];
        if self.unwinds {
            sections.push(plain(".eh_frame", PROGRAM, &[]));
        }
        if self.has_lines {
            sections.push(plain(".debug_abbrev", PROGRAM, &ABBREVIATIONS));
            sections.push(plain(".debug_info", PROGRAM, &self.unit()));
            sections.push(plain(".debug_line", PROGRAM, &self.lines()));
        }
        if !self.symbols.is_empty() {
            let strings = sections.len() as u32;
            let (table, names) = self.symbol_table();
            sections.push(plain(".strtab", STRINGS, &names));
            sections.push(Section {
                link: strings,
                entry_bytes: if self.is_64 { 24 } else { 16 },
                ..plain(".symtab", SYMBOLS, &table)
            });
        }
        let names = sections.iter().map(|section| section.name);
        let names: Vec<_> = names.chain([".shstrtab"]).collect();
        let names = names
            .iter()
            .flat_map(|name| [name.as_bytes(), b"\0"].concat());
        let names: Vec<u8> = names.collect();
        sections.push(plain(".shstrtab", STRINGS, &names));
        sections
    }

    fn symbol_table(&self) -> (Vec<u8>, Vec<u8>) {
        const GLOBAL_FUNCTION: u8 = 0x12;
        const IN_TEXT: u16 = 1;
        let mut names = vec![0];
        let mut table = vec![0; if self.is_64 { 24 } else { 16 }];
        for (name, offset, size) in &self.symbols {
            let name_at = (names.len() as u32).to_le_bytes();
            let (address, size) = (self.word(self.base + offset), self.word(*size));
            let what = [GLOBAL_FUNCTION, 0, IN_TEXT as u8, 0];
            table.extend(match self.is_64 {
                true => [&name_at[..], &what, &address, &size].concat(),
                false => [&name_at[..], &address, &size, &what].concat(),
            });
            names.extend([name, &b"\0"[..]].concat());
        }
        (table, names)
    }

    fn header(&self, sections_at: u64, sections: u16) -> Vec<u8> {
        let class = if self.is_64 { 2 } else { 1 };
        let kind = match self.is_position_independent {
            true => DYNAMIC,
            false => EXECUTABLE,
        };
        let machine: u16 = if self.is_64 { 62 } else { 3 };
        let (own, program, section): (u16, u16, u16) = match self.is_64 {
            true => (64, 56, 64),
            false => (52, 32, 40),
        };
        [
            &b"\x7fELF"[..],
            &[class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &kind.to_le_bytes(),
            &machine.to_le_bytes(),
            &1u32.to_le_bytes(),
            &self.word(self.base + TEXT),
            &self.word(own.into()),
            &self.word(sections_at),
            &0u32.to_le_bytes(),
            &own.to_le_bytes(),
            &program.to_le_bytes(),
            &1u16.to_le_bytes(),
            &section.to_le_bytes(),
            &sections.to_le_bytes(),
            &(sections - 1).to_le_bytes(),
        ]
        .concat()
    }

    /// All of the file is loaded at once.
    fn program_header(&self, bytes: u64) -> Vec<u8> {
        const LOAD: u32 = 1;
        const READ_AND_EXECUTE: u32 = 5;
        let flags = READ_AND_EXECUTE.to_le_bytes();
        let place = [self.word(0), self.word(self.base), self.word(self.base)];
        let (size, align) = (self.word(bytes), self.word(0x1000));
        let parts = match self.is_64 {
            true => [&flags[..], &place.concat(), &size, &size, &align].concat(),
            false => [&place.concat()[..], &size, &size, &flags, &align].concat(),
        };
        [&LOAD.to_le_bytes()[..], &parts].concat()
    }

    fn section_header(&self, section: &Section, name: u32) -> Vec<u8> {
        const ALLOCATED: u64 = 2;
        let flags = if section.address == 0 { 0 } else { ALLOCATED };
        [
            &name.to_le_bytes()[..],
            &section.kind.to_le_bytes(),
            &self.word(flags),
            &self.word(section.address),
            &self.word(section.offset),
            &self.word(section.bytes.len() as u64),
            &section.link.to_le_bytes(),
            &1u32.to_le_bytes(),
            &self.word(1),
            &self.word(section.entry_bytes),
        ]
        .concat()
    }

    /// Two functions, by their distance from where that is said.
    fn unwind_table(&self, address: u64) -> Vec<u8> {
        const COMMON: [u8; 16] = [
            0, 0, 0, 0, // this is a common entry
            1, b'z', b'R', 0, 1, 0x78,
            16, // version, augmentation, alignments, return address
            1, 0x1b, // the augmentation: addresses are relative and have four bytes
            0, 0, 0,
        ];
        let mut table = [&16u32.to_le_bytes()[..], &COMMON].concat();
        for (offset, bytes) in [(TEXT, 9u32), (SPLIT, 6)] {
            let at_pointer = table.len() as u64 + 8;
            let to_function = (self.base + offset).wrapping_sub(address + at_pointer) as u32;
            table.extend(16u32.to_le_bytes());
            table.extend((at_pointer as u32 - 4).to_le_bytes());
            table.extend(to_function.to_le_bytes());
            table.extend(bytes.to_le_bytes());
            table.extend([0; 4]);
        }
        table.extend([0; 4]);
        table
    }

    /// A unit of debug information: where its lines are, where it is, and that `split` was inlined.
    fn unit(&self) -> Vec<u8> {
        let extent = |offset: u64, bytes: u64| {
            [self.word(self.base + offset), bytes.to_le_bytes().to_vec()].concat()
        };
        let address_bytes = self.word(0).len() as u8;
        let body = [
            &4u16.to_le_bytes()[..],
            &0u32.to_le_bytes(),
            &[address_bytes],
            &[1],
            &0u32.to_le_bytes(),
            &extent(TEXT, CODE_64.len() as u64),
            &[2, 1, CALLED_FROM as u8],
            &extent(SPLIT, 6),
            &[0],
        ]
        .concat();
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    /// `wait` is line 10, `split` is line 20.
    fn lines(&self) -> Vec<u8> {
        let address = self.word(self.base + TEXT);
        let header = [
            &[1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0][..],
            SOURCE.0.as_bytes(),
            &[0, 0, 0, 0, 0],
        ]
        .concat();
        let program = [
            &[0, 1 + address.len() as u8, 2][..], // set the address
            &address,
            &[3, 9, 1],                   // nine lines on: a row
            &[2, (SPLIT - TEXT) as u8],   // some bytes on
            &[3, SOURCE.1 as u8 - 10, 1], // ten lines on: a row
            &[2, 6, 0, 1, 1],             // the end
        ]
        .concat();
        let body = [
            &4u16.to_le_bytes()[..],
            &(header.len() as u32).to_le_bytes(),
            &header,
            &program,
        ]
        .concat();
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    fn word(&self, value: u64) -> Vec<u8> {
        match self.is_64 {
            true => value.to_le_bytes().to_vec(),
            false => (value as u32).to_le_bytes().to_vec(),
        }
    }
}

/// What units and inlined functions have.
const ABBREVIATIONS: [u8; 25] = [
    1, 0x11, 1, // a compilation unit with children
    0x10, 0x17, // where its lines are, as an offset
    0x11, 0x01, // its address
    0x12, 0x07, // its size, in eight bytes
    0, 0, // the end
    2, 0x1d, 0, // an inlined function without children
    0x58, 0x0b, // the file that it was called from, in one byte
    0x59, 0x0b, // the line
    0x11, 0x01, // its address
    0x12, 0x07, // its size, in eight bytes
    0, 0, // the end
    0,
];
