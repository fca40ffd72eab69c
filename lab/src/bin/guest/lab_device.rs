//! The module's device.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use split_lock_lab::journal::State;

use crate::sys::{self, LabCommand};

/// The open device; the module allows one at a time.
#[derive(Debug)]
pub(crate) struct LabDevice {
    file: File,
}

impl LabDevice {
    pub(crate) fn open() -> Result<Self> {
        let path = "/dev/split_lock_lab";
        let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
        Ok(Self { file })
    }

    /// One split lock of this thread: done, or to be tried again.
    pub(crate) fn split(&self) -> Result<()> {
        self.command(LabCommand::Split, 0)
    }

    pub(crate) fn mark(&self, number: u32) -> Result<()> {
        self.command(LabCommand::Note, number)
    }

    pub(crate) fn state(&self) -> Result<State> {
        sys::lab_state(&self.file).context("cannot ask the module for its state")
    }

    /// Makes every CPU detect, or none, as if booted so.
    pub(crate) fn detect(&self, on: bool) -> Result<()> {
        self.command(LabCommand::Detect, on.into())
    }

    /// Empties the journal.
    pub(crate) fn clear(&self) -> Result<()> {
        self.command(LabCommand::Clear, 0)
    }

    fn command(&self, command: LabCommand, argument: u32) -> Result<()> {
        sys::lab_command(&self.file, command, argument)
            .with_context(|| format!("the device refuses {command:?}"))
    }

    pub(crate) fn take_journal(&mut self) -> Result<Vec<u8>> {
        let mut journal = Vec::new();
        self.file
            .read_to_end(&mut journal)
            .context("cannot read the journal")?;
        Ok(journal)
    }
}
