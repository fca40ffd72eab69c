//! The shell of the demonstration's guest.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::apt::{self, Apt};
use super::cache::Cache;
use super::output;

/// Debian's, linked statically: from the cache, or else the network.
pub(crate) fn get(cache: &Cache) -> Result<PathBuf> {
    let root = cache.busybox();
    output::folder(&root, |draft| {
        let apt = Apt::new(cache.apt())?;
        apt.update()?;
        apt.unpack(&["busybox-static".to_owned()], draft)
    })
    .with_context(|| format!("cannot get busybox: {}", apt::NEEDS))?;
    Ok(root.join("bin/busybox"))
}
