//! The command line of `generate`.

use std::path::PathBuf;

use clap::Args;

/// Write man pages and shell completions, for packages.
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "Example:\n  splitlock generate target/generated && man -l target/generated/man/splitlock.1\n\n\
    Exit codes: 0 fine, 2 usage or environment error."
)]
pub(crate) struct GenerateArgs {
    /// Folder for `man` and `completions`. What is there under the same names is replaced.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
