//! What an address of the program is part of, by the emulator's own mappings.

use split_lock_find::records::Place;

use crate::layout::Layout;

/// The lines of /proc/self/maps, and how much higher the emulator has the program's memory than the program.
#[derive(Debug)]
pub(crate) struct Mappings {
    all: Vec<Mapping>,
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    path: Vec<u8>,
}

impl Mappings {
    /// Now.
    pub(crate) fn read(above_program: u64) -> Self {
        let lines = std::fs::read("/proc/self/maps").unwrap_or_default();
        Self::parse(&lines, above_program)
    }

    fn parse(lines: &[u8], above_program: u64) -> Self {
        let lines = lines.split(|&byte| byte == b'\n');
        let all = lines.filter_map(|line| Mapping::parse(line, above_program));
        Self { all: all.collect() }
    }

    /// The file that an address is mapped from, and where its first page is.
    pub(crate) fn file(&self, address: u64) -> Option<(&[u8], u64)> {
        let n = self.position(address)?;
        Some((&self.all[n].path[..], self.first_of_file(n))).filter(|(path, _)| !path.is_empty())
    }

    pub(crate) fn place(&self, address: u64, layout: &Layout) -> Place {
        if let Some(start) = layout.heap_of(address) {
            return Place::Heap { start };
        }
        let Some(n) = self.position(address) else {
            return Place::Unknown;
        };
        let here = &self.all[n];
        if layout.is_stack(here.start, here.end) {
            return Place::Stack;
        }
        if layout.is_thread_stack(address) {
            return Place::ThreadStack;
        }
        // Data that are zero at first come behind the file's, and are nobody's.
        let of_file = if here.path.is_empty() {
            n.checked_sub(1)
                .filter(|&before| self.all[before].end == here.start)
        } else {
            Some(n)
        };
        match of_file.filter(|&n| !self.all[n].path.is_empty()) {
            Some(n) => Place::File {
                path: self.all[n].path.clone(),
                start: self.first_of_file(n),
            },
            None => Place::Anonymous { start: here.start },
        }
    }

    fn position(&self, address: u64) -> Option<usize> {
        let holds = |mapping: &Mapping| (mapping.start..mapping.end).contains(&address);
        self.all.iter().position(holds)
    }

    /// A file's parts follow one another, perhaps with gaps.
    fn first_of_file(&self, n: usize) -> u64 {
        let path = &self.all[n].path;
        let before = self.all[..n].iter().rev();
        let same = before.take_while(|mapping| mapping.path == *path || mapping.path.is_empty());
        let first = same.filter(|mapping| mapping.path == *path).last();
        first.unwrap_or(&self.all[n]).start
    }
}

impl Mapping {
    fn parse(line: &[u8], above_program: u64) -> Option<Self> {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let (start, end) = str::from_utf8(words.next()?).ok()?.split_once('-')?;
        let address = |text| {
            let address = u64::from_str_radix(text, 16).ok()?;
            address.checked_sub(above_program)
        };
        let name = words.nth(4).unwrap_or_default().trim_ascii_start();
        let path = if name.starts_with(b"/") { name } else { b"" };
        Some(Self {
            start: address(start)?,
            end: address(end)?,
            path: path.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"\
        00400000-00401000 r--p 00000000 fd:00 7    /bin/a b\n\
        00401000-00402000 r-xp 00001000 fd:00 7    /bin/a b\n\
        00402000-00403000 rw-p 00002000 fd:00 7    /bin/a b\n\
        00403000-00404000 rw-p 00000000 00:00 0 \n\
        00404000-00406000 rw-p 00000000 00:00 0 \n\
        7f0000000000-7f0000001000 r--p 00000000 fd:00 8    /lib/c.so\n\
        7f0000002000-7f0000003000 rw-p 00002000 fd:00 8    /lib/c.so\n\
        7f0000010000-7f0000020000 rw-p 00000000 00:00 0 \n\
        7f0000020000-7f0000030000 rw-p 00000000 00:00 0 [stack]\n\
        7f0000040000-7f0000050000 rw-p 00000000 00:00 0 \n\
        7f0000050000-7f0000060000 rw-p 00000000 00:00 0 \n";

    #[test]
    fn data_belong_to_their_file_also_where_they_are_zero_at_first() {
        let mappings = Mappings::parse(LINES, 0);
        let layout = Layout::default();
        layout.set_heap_end(0x40_4000);
        layout.set_heap_end(0x40_6000);
        layout.set_stack(0x7f00_0004_8000);
        layout.add_thread_stack(0x7f00_0005_0000, 0x8000);
        let file = |path: &[u8], start| Place::File {
            path: path.to_vec(),
            start,
        };
        for (address, place) in [
            (0x40_2010, file(b"/bin/a b", 0x40_0000)),
            (0x40_3010, file(b"/bin/a b", 0x40_0000)),
            (0x40_4010, Place::Heap { start: 0x40_4000 }),
            (0x7f00_0000_2010, file(b"/lib/c.so", 0x7f00_0000_0000)),
            (
                0x7f00_0001_0010,
                Place::Anonymous {
                    start: 0x7f00_0001_0000,
                },
            ),
            (0x7f00_0004_0010, Place::Stack),
            (0x7f00_0005_0010, Place::ThreadStack),
            (0x10, Place::Unknown),
        ] {
            assert_eq!(mappings.place(address, &layout), place, "{address:#x}");
        }
        let code = mappings.file(0x40_1010);
        assert_eq!(code, Some((&b"/bin/a b"[..], 0x40_0000)));
        assert_eq!(mappings.file(0x40_4010), None);
    }

    #[test]
    fn the_program_is_where_it_thinks_it_is() {
        let mappings = Mappings::parse(LINES, 0x40_0000);
        assert_eq!(mappings.file(0x1010), Some((&b"/bin/a b"[..], 0)));
    }

    #[test]
    fn no_line_is_a_panic() {
        for line in [
            &b""[..],
            b"x",
            b"1-2",
            b"1-g r",
            b"-",
            b"\xff-\xff r-xp 0 0:0 0 /x",
        ] {
            let _ = Mappings::parse(line, 0);
        }
    }
}
