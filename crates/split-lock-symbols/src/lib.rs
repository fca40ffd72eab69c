//! Code at an address: ELF files, processes, listings and source lines.

mod bytes;
mod elf;
mod found;
mod listing;
mod process;
mod subject;

pub use bytes::{Pasted, parse};
pub use elf::{Function, Name, SourceLine};
pub use found::{Found, at, before};
pub use listing::{Line, Listing};
pub use subject::{Origin, Subject, from_bytes, from_file, from_process};
