//! A folder for what the programs write down.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// Nobody else.
    Own,
    /// If it is root's, everybody: a program that root starts may become another user's. Nobody may list it, or remove
    /// what others have made.
    All,
}

/// A new folder. Removed at the end.
#[derive(Debug)]
pub(crate) struct PrivateFolder(TempDir);

impl PrivateFolder {
    pub(crate) fn new(users: Users) -> Result<Self> {
        let parent = env::temp_dir();
        let parent = parent.canonicalize().unwrap_or(parent);
        let cannot = || format!("cannot make a folder in {}", parent.display());
        let made = tempfile::Builder::new()
            .prefix("splitlock-run-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .with_context(cannot)?;
        if users == Users::All && rustix::process::geteuid().is_root() {
            fs::set_permissions(made.path(), Permissions::from_mode(0o1733))
                .with_context(cannot)?;
        }
        Ok(Self(made))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}
