//! A vCPU, memory and other vCPUs that note what is done to them, in order.

use std::cell::RefCell;
use std::fmt;

use split_lock_assist::cpu::{Context, Cpu, Registers};
use split_lock_assist::memory::{AccessError, Memory, WritePermit};
use split_lock_assist::pause::Pause;

/// Something that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Pause,
    Load { address: u64, bytes: usize },
    Retire,
    Store { bytes: usize },
    Resume,
}

/// What has happened, in order.
#[derive(Debug, Default)]
pub(crate) struct Log(RefCell<Vec<Event>>);

impl Log {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.borrow().clone()
    }

    fn note(&self, event: Event) {
        self.0.borrow_mut().push(event);
    }
}

/// The vCPU.
#[derive(Debug)]
pub(crate) struct WorldCpu<'a> {
    pub(crate) log: &'a Log,
    pub(crate) registers: Registers,
    pub(crate) context: Context,
    /// It cannot be set.
    pub(crate) is_stuck: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stuck;

impl fmt::Display for Stuck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the vCPU's registers cannot be set")
    }
}

impl std::error::Error for Stuck {}

impl Cpu for WorldCpu<'_> {
    type Error = Stuck;

    fn registers(&self) -> Result<Registers, Stuck> {
        Ok(self.registers)
    }

    fn context(&self) -> Result<Context, Stuck> {
        Ok(self.context)
    }

    fn retire(&mut self, after: &Registers) -> Result<(), Stuck> {
        self.log.note(Event::Retire);
        if self.is_stuck {
            return Err(Stuck);
        }
        self.registers = *after;
        Ok(())
    }
}

/// What is behind a page's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Ram,
    Absent,
    ReadOnly,
    Device,
    Undecided,
}

/// Code at one address, and data in two adjacent pages.
#[derive(Debug)]
pub(crate) struct WorldMemory<'a> {
    pub(crate) log: &'a Log,
    pub(crate) code_at: u64,
    pub(crate) code: &'a [u8],
    /// The address of the first page, and what the pages are.
    pub(crate) pages_at: u64,
    pub(crate) pages: [Page; 2],
    /// What is read, wherever it is.
    pub(crate) operand: [u8; 16],
    /// What was written, to where.
    pub(crate) written: Option<(u64, Vec<u8>)>,
}

impl WorldMemory<'_> {
    /// What stands against writing a byte.
    pub(crate) fn error(&self, address: u64) -> Option<AccessError> {
        let page = match address.wrapping_sub(self.pages_at) / 4096 {
            0 => self.pages[0],
            1 => self.pages[1],
            _ => Page::Absent,
        };
        match page {
            Page::Ram => None,
            Page::Absent => Some(AccessError::NotMapped { address }),
            Page::ReadOnly => Some(AccessError::NotWritable { address }),
            Page::Device => Some(AccessError::NotRam { address }),
            Page::Undecided => Some(AccessError::Undecided {
                address,
                on: "the test",
            }),
        }
    }
}

impl<'a> Memory for WorldMemory<'a> {
    type Permit<'b>
        = WorldPermit<'a, 'b>
    where
        Self: 'b;

    fn fetch(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        let after_first = (bytes.len() as u64).saturating_sub(1);
        assert!(
            address.checked_add(after_first).is_some(),
            "it wraps around"
        );
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
    ) -> Result<WorldPermit<'a, '_>, AccessError> {
        self.log.note(Event::Load {
            address,
            bytes: bytes.len(),
        });
        for n in 0..bytes.len() as u64 {
            let address = address.checked_add(n).expect("it wraps around");
            if let Some(error) = self.error(address) {
                return Err(error);
            }
        }
        bytes.copy_from_slice(&self.operand[..bytes.len()]);
        Ok(WorldPermit {
            bytes: bytes.len(),
            address,
            memory: self,
        })
    }
}

#[derive(Debug)]
pub(crate) struct WorldPermit<'a, 'b> {
    memory: &'b mut WorldMemory<'a>,
    address: u64,
    bytes: usize,
}

impl WritePermit for WorldPermit<'_, '_> {
    fn store(self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes, "not what was loaded");
        self.memory.log.note(Event::Store { bytes: bytes.len() });
        self.memory.written = Some((self.address, bytes.to_vec()));
    }
}

/// The other vCPUs.
#[derive(Debug)]
pub(crate) struct Others<'a>(pub(crate) &'a Log);

#[derive(Debug)]
pub(crate) struct OthersPaused<'a>(&'a Log);

impl Pause for Others<'_> {
    type Paused<'b>
        = OthersPaused<'b>
    where
        Self: 'b;

    fn pause_others(&self) -> OthersPaused<'_> {
        self.0.note(Event::Pause);
        OthersPaused(self.0)
    }
}

impl Drop for OthersPaused<'_> {
    fn drop(&mut self) {
        self.0.note(Event::Resume);
    }
}
