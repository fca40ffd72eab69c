//! The guest's memory, by linear address.

/// The guest's memory as the vCPU in question sees it at its current privilege level.
///
/// Nothing here may lock a bus: plain accesses only. What makes the update atomic is that the
/// other vCPUs are [paused](crate::pause).
///
/// No access wraps around the end of the address space.
pub trait Memory {
    /// Leave to write what has been read.
    type Permit<'a>: WritePermit
    where
        Self: 'a;

    /// Reads code: as many of the bytes from `address` on as can be fetched without a page fault
    /// and from RAM. How many that is, possibly none.
    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize;

    /// Reads what an instruction is going to write: at most 16 bytes, possibly in two pages.
    ///
    /// The pages count as accessed and as written to from now on, as they do when the CPU begins
    /// such an instruction.
    ///
    /// # Errors
    /// Why the CPU should do it instead. Nothing has changed then.
    fn load_for_update(
        &mut self,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<Self::Permit<'_>, AccessError>;
}

/// Leave to write what [`Memory::load_for_update`] has read.
///
/// Everything that could go wrong has been looked at before it was given, so that writing cannot
/// fail: by then the instruction has been retired.
pub trait WritePermit {
    /// Writes all of it: as many bytes as were read, to where they were read.
    fn store(self, bytes: &[u8]);
}

/// Why an access is left to the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
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
