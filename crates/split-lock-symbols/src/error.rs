//! Why code is not to be had.

/// What failed, and why: a sentence, and its causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text has no byte in it.
    #[error("there are no bytes")]
    NoBytes,
    /// A file cannot have been loaded there.
    #[error("{0:#x} is not the address of a page")]
    UnalignedBase(u64),
    /// A file has no code at an address, nor elsewhere what could have been loaded there. Where it was
    /// loaded would help.
    #[error("{0}")]
    NoPlace(String),
    /// Nothing tells which of several places in a file was loaded at an address. Where it was loaded
    /// would help.
    #[error("{0}")]
    SeveralPlaces(String),
    /// A file is no program, or has no code at an address; which file and which address is not said.
    #[error(transparent)]
    NotInFile(Cause),
    /// A file or a process cannot be looked at, or a process has no code at an address.
    #[error(transparent)]
    Other(Cause),
}

/// The sentence and the causes of an [`Error`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Cause(anyhow::Error);

impl Error {
    pub(crate) fn not_in_file(cause: anyhow::Error) -> Self {
        Self::NotInFile(Cause(cause))
    }

    pub(crate) fn other(cause: anyhow::Error) -> Self {
        Self::Other(Cause(cause))
    }
}
