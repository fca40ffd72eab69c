//! A cache line or two, with the operand in them.

use split_lock_assist::decode::{LINE_BYTES, PAGE_BYTES};

pub(super) const WIDTH: usize = LINE_BYTES as usize + 2;

/// Draws the lines that an operand of `bytes` bytes is in, a character for each byte. Without its
/// address, it is enough to know how far into its line it begins.
pub(super) fn draw(address: Option<u64>, into_line: u64, bytes: u64) -> String {
    let rows = (into_line + bytes).div_ceil(LINE_BYTES);
    let row = |row: u64| {
        let first = address.map(|address| {
            let line = address / LINE_BYTES * LINE_BYTES;
            line.wrapping_add(row * LINE_BYTES)
        });
        let title = match (first, row) {
            (Some(first), 1..) if first.is_multiple_of(PAGE_BYTES) => {
                format!("line {first:#x}, in another page")
            }
            (Some(first), _) => format!("line {first:#x}"),
            (None, 0) => "a line".to_owned(),
            (None, _) => "the next line".to_owned(),
        };
        let byte = |n| match (into_line..into_line + bytes).contains(&(row * LINE_BYTES + n)) {
            true => '#',
            false => '.',
        };
        let row: String = (0..LINE_BYTES).map(byte).collect();
        format!("{title}\n|{row}|\n")
    };
    (0..rows).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_in_its_line() {
        let drawn = draw(Some(0x303c), 60, 8);
        let dots = ".".repeat(60);
        let expected = format!("line 0x3000\n|{dots}####|\nline 0x3040\n|####{dots}|\n");
        assert_eq!(drawn, expected);
        assert!(drawn.lines().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn one_line_is_enough_for_what_does_not_cross() {
        let drawn = draw(Some(0x3038), 56, 8);
        assert_eq!(drawn.lines().count(), 2);
        assert!(drawn.ends_with(".########|\n"), "{drawn}");
    }

    #[test]
    fn another_page_is_named() {
        assert!(draw(Some(0x3ffc), 60, 8).contains("line 0x4000, in another page"));
        assert!(!draw(Some(0x4000), 0, 8).contains("another"));
        // The end of the address space.
        assert!(draw(Some(u64::MAX - 3), 60, 8).contains("line 0x0, in another page"));
    }

    #[test]
    fn without_an_address_there_are_still_lines() {
        let drawn = draw(None, 60, 8);
        assert!(drawn.starts_with("a line\n") && drawn.contains("the next line\n"));
    }
}
