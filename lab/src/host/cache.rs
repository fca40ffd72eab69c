//! Where the lab keeps things: below the target folder, so that `cargo clean` removes it all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The lab's folder and what is where in it.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// That of this workspace.
    pub(crate) fn new() -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace().join("target"), PathBuf::from);
        let root = target.join("lab");
        // make and Bochs run elsewhere.
        let root = std::path::absolute(&root).unwrap_or(root);
        Self { root }
    }

    /// The lab alone: two at once would take each other's downloads, builds and machines apart. It lasts until the
    /// answer is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let place = || format!("cannot lock {}", path.display());
        fs::create_dir_all(&self.root).with_context(place)?;
        let mut options = File::options();
        let file = options
            .create(true)
            .append(true)
            .open(&path)
            .with_context(place)?;
        if file.try_lock().is_err() {
            eprintln!(
                "lab: waiting for another one to end, which has {}",
                path.display()
            );
            file.lock().with_context(place)?;
        }
        Ok(file)
    }

    /// What is kept under a name: `apt` (its state, apart from the machine's), `kernels`,
    /// `busybox`, `build` (what is built for the machine) and `results`.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// The top of the repository.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the lab lies in the workspace")
}
