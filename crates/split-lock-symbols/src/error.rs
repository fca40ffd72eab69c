//! Why code is not to be had.

/// What was tried, on what, and why that failed: a sentence, and its causes, which `{:#}` shows too.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] anyhow::Error);
