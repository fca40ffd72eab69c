//! The memory that `emulate` works on.

use split_lock_assist::memory::{AccessError, Memory, WritePermit};

use crate::layout::{DATA_BYTES, Layout};
use crate::sys::Access;

/// What should be in the arena.
#[derive(Debug)]
pub(crate) struct ModelMemory {
    layout: Layout,
    /// Of the instruction at hand.
    code_at: u64,
    code: Vec<u8>,
    data: Vec<u8>,
}

impl ModelMemory {
    pub(crate) fn new(layout: Layout, data: Vec<u8>) -> Self {
        assert_eq!(data.len() as u64, DATA_BYTES);
        Self {
            layout,
            code_at: 0,
            code: Vec::new(),
            data,
        }
    }

    pub(crate) fn set_code(&mut self, address: u64, code: &[u8]) {
        self.code_at = address;
        self.code.clear();
        self.code.extend_from_slice(code);
    }

    pub(crate) fn data(&self, address: u64, bytes: usize) -> &[u8] {
        let start = (address - self.layout.data) as usize;
        &self.data[start..start + bytes]
    }

    pub(crate) fn poke(&mut self, address: u64, bytes: &[u8]) {
        let start = (address - self.layout.data) as usize;
        self.data[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

impl Memory for ModelMemory {
    type Permit<'a> = ModelGrant<'a>;

    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        if address != self.code_at {
            return 0;
        }
        let count = bytes.len().min(self.code.len());
        bytes[..count].copy_from_slice(&self.code[..count]);
        count
    }

    fn load_for_update(
        &mut self,
        address: u64,
        bytes: &mut [u8],
    ) -> Result<ModelGrant<'_>, AccessError> {
        for address in (0..bytes.len() as u64).map(|n| address + n) {
            match self.layout.data_access(address) {
                Access::ReadWrite => {}
                Access::ReadOnly => return Err(AccessError::NotWritable { address }),
                _ => return Err(AccessError::NotMapped { address }),
            }
        }
        bytes.copy_from_slice(self.data(address, bytes.len()));
        Ok(ModelGrant {
            memory: self,
            address,
        })
    }
}

#[derive(Debug)]
pub(crate) struct ModelGrant<'a> {
    memory: &'a mut ModelMemory,
    address: u64,
}

impl WritePermit for ModelGrant<'_> {
    fn store(self, bytes: &[u8]) {
        self.memory.poke(self.address, bytes);
    }
}
