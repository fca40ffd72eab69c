//! The guest's memory, by linear address.

/// The guest's memory as the vCPU in question sees it at its current privilege level.
///
/// Nothing here may lock a bus: plain accesses only. What makes a read and a write one is that the
/// other vCPUs are [paused](crate::pause).
pub trait Memory {
    /// Reads code: as many of the bytes from `address` on as can be fetched without a page fault
    /// and from RAM. How many that is, possibly none.
    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize;

    /// Reads what an instruction is going to write: at most 16 bytes, possibly in two pages.
    ///
    /// After this has been granted, [`Memory::store`] to the same bytes succeeds. Pages count as
    /// accessed and as written to from now on, as they do when the CPU begins such an instruction.
    ///
    /// # Errors
    /// Why the CPU should do it instead. Nothing has changed then.
    fn load_for_update(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Refusal>;

    /// Writes what [`Memory::load_for_update`] has granted, all of it.
    ///
    /// # Errors
    /// If it has not been granted. Nothing has changed then.
    fn store(&mut self, address: u64, bytes: &[u8]) -> Result<(), Refusal>;
}

/// Why an access is left to the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No page there: the CPU will raise a page fault, and the guest will want it.
    #[error("{address:#x} is not mapped")]
    NotMapped {
        /// The first linear address for which that holds.
        address: u64,
    },
    /// A page that must not be written, or not at this privilege level.
    #[error("{address:#x} may not be written at this privilege level")]
    NotWritable {
        /// The first linear address for which that holds.
        address: u64,
    },
    /// A page without RAM behind it: a device, or a hole.
    #[error("{address:#x} is not RAM")]
    NotRam {
        /// The first linear address for which that holds.
        address: u64,
    },
    /// A page whose access depends on something that is not looked at here.
    #[error("whether {address:#x} can be written depends on {on}")]
    Undecided {
        /// The first linear address for which that holds.
        address: u64,
        /// On what.
        on: &'static str,
    },
}
