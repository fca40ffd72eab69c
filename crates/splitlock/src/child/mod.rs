//! Programs of others that are started with something of ours (`run`, `find`).

mod folder;
mod library;
mod signals;

pub(crate) use folder::{PrivateFolder, Users};
pub(crate) use library::Library;
pub(crate) use signals::Signals;
