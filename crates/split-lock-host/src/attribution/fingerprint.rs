//! What stays of an instruction's address when the program is loaded elsewhere.

use std::fmt;

use serde::{Serialize, Serializer};

/// Address randomisation moves code by whole pages, and the kernel of Windows by more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fingerprint {
    /// The offset in its page, 12 bits. Two different instructions have the same one in 4096 cases.
    PageOffset(u16),
    /// The 24 low bits of an address at which Windows has its kernel.
    WindowsKernel(u32),
}

/// The upper 24 bits of addresses of Windows' kernel and its drivers, on x64.
const WINDOWS_KERNEL: u64 = 0xff_fff8;

impl Fingerprint {
    /// That of an instruction at this address.
    ///
    /// ```
    /// use split_lock_host::attribution::Fingerprint;
    ///
    /// // The same instruction on two hosts.
    /// let (one, other) = (0xffff_f804_726d_fdff, 0xffff_f804_0c6d_fdff);
    /// assert_eq!(Fingerprint::of(one), Fingerprint::of(other));
    /// assert_eq!(Fingerprint::of(one).to_string(), "0xfffff8...6dfdff");
    /// assert_eq!(Fingerprint::of(0x56d3_1179_5123).to_string(), "...123");
    /// ```
    #[must_use]
    pub fn of(address: u64) -> Self {
        if address >> 40 == WINDOWS_KERNEL {
            Fingerprint::WindowsKernel((address & 0xff_ffff) as u32)
        } else {
            Fingerprint::PageOffset((address & 0xfff) as u16)
        }
    }
}

/// Dots for the digits that differ.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fingerprint::PageOffset(offset) => write!(f, "...{offset:03x}"),
            Fingerprint::WindowsKernel(bits) => write!(f, "0xfffff8...{bits:06x}"),
        }
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_of_the_windows_kernel_are_no_part_of_it() {
        let windows = |address| matches!(Fingerprint::of(address), Fingerprint::WindowsKernel(_));
        assert!(windows(0xffff_f800_0000_0000) && windows(0xffff_f8ff_ffff_ffff));
        assert!(!windows(0xffff_f7ff_ffff_ffff) && !windows(0xffff_f900_0000_0000));
        assert!(!windows(0xffff_ffff_8102_38b0) && !windows(0xf8_0000_0000));
    }

    proptest! {
        #[test]
        fn moving_by_pages_changes_nothing(address in 0u64..1 << 47, pages in 0u64..1 << 34) {
            let moved = address + pages * 4096;
            prop_assert_eq!(Fingerprint::of(address), Fingerprint::of(moved));
        }
    }
}
