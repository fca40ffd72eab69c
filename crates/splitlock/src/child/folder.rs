//! A folder for what the programs write down.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use anyhow::{Context, Result};

/// Who may add files to it.
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
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    pub(crate) fn new(users: Users) -> Result<Self> {
        let parent = env::temp_dir();
        let parent = parent.canonicalize().unwrap_or(parent);
        Self::in_folder(&parent, users)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn in_folder(parent: &Path, users: Users) -> io::Result<Self> {
        let pid = std::process::id();
        let mut attempts = (0..100).map(|n| parent.join(format!("splitlock-run-{pid}-{n}")));
        // Nobody else's: it must not be there yet.
        let made =
            attempts.find_map(
                |path| match fs::DirBuilder::new().mode(0o700).create(&path) {
                    Ok(()) => Some(Ok(path)),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                    Err(error) => Some(Err(error)),
                },
            );
        let made = made.unwrap_or_else(|| Err(io::ErrorKind::AlreadyExists.into()))?;
        let made = Self(made);
        if users == Users::All && rustix::process::geteuid().is_root() {
            fs::set_permissions(&made.0, fs::Permissions::from_mode(0o1733))?;
        }
        Ok(made)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}
