//! What is mapped at an address of this process.

use std::ffi::CString;
use std::fs;

use crate::sys;

/// Whether all of it is mapped readable and writable, and none of it is a device's.
pub(crate) fn is_memory(start: u64, end: u64) -> bool {
    fs::read("/proc/self/maps").is_ok_and(|maps| {
        let maps = String::from_utf8_lossy(&maps);
        covers(&maps, start, end, |name| {
            CString::new(name).is_ok_and(|path| sys::has_character_device_at(&path))
        })
    })
}

fn covers(maps: &str, start: u64, end: u64, is_device: impl Fn(&str) -> bool) -> bool {
    let mut next = start;
    for mapping in maps.lines().filter_map(parse) {
        if mapping.end <= next {
            continue;
        }
        if mapping.start > next || !mapping.writable || mapping.may_be_device(&is_device) {
            return false;
        }
        next = mapping.end;
        if next >= end {
            return true;
        }
    }
    false
}

#[derive(Debug)]
struct Mapping<'a> {
    start: u64,
    end: u64,
    writable: bool,
    name: &'a str,
}

fn parse(line: &str) -> Option<Mapping<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    // Permissions, offset, device, inode.
    let name = rest.splitn(5, ' ').nth(4).unwrap_or_default().trim();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        writable: rest.starts_with("rw"),
        name,
    })
}

impl Mapping<'_> {
    fn may_be_device(&self, is_device: impl Fn(&str) -> bool) -> bool {
        // A shared mapping without a file.
        const SHARED: &str = "/dev/zero (deleted)";
        let of_a_driver = self.name.starts_with("anon_inode:");
        of_a_driver
            || (self.name != SHARED && self.name.starts_with("/dev/") && is_device(self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        1000-3000 rw-p 00000000 00:00 0 \n\
        3000-4000 rw-s 00000000 00:01 77                         /dev/shm/guest memory\n\
        4000-5000 rw-s 00000000 00:01 78                         /memfd:pc.ram (deleted)\n\
        5000-6000 r--p 00000000 08:01 79                         /usr/bin/vmm\n\
        7000-8000 rw-s 00000000 00:01 80                         anon_inode:[vfio-device]\n\
        8000-9000 rw-s 00000000 00:05 81                         /dev/mem\n\
        9000-a000 rw-s 00000000 00:01 82                         /dev/zero (deleted)\n";

    fn is_memory(start: u64, end: u64) -> bool {
        covers(MAPS, start, end, |name| name == "/dev/mem")
    }

    #[test]
    fn memory_may_consist_of_several_mappings() {
        assert!(is_memory(0x1800, 0x5000) && is_memory(0x9000, 0xa000));
    }

    #[test]
    fn devices_holes_and_what_may_not_be_written_are_no_memory() {
        for (start, end) in [
            (0x4000, 0x6000),
            (0x6000, 0x7000),
            (0x7000, 0x8000),
            (0x8000, 0x9000),
            (0x9000, 0xb000),
        ] {
            assert!(!is_memory(start, end), "{start:#x}");
        }
    }

    #[test]
    fn our_own_stack_is_memory() {
        let here = 0_u64;
        let address = (&raw const here).addr() as u64;
        assert!(super::is_memory(address, address + 8));
        assert!(!super::is_memory(0, 8));
    }
}
