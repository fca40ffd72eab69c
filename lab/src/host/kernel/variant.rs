//! Kernels with edits of ours.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use split_lock_model::policy::Alternative;

use crate::host::kernel::edit::{Edited, Edits};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Variant {
    /// Only a fatal signal ends the punishment.
    Killable,
    /// The first trap fixes when the punishment ends.
    Sentence,
    /// A parameter makes the kernel itself split a lock.
    KernelMode,
}

impl Variant {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Killable => include_str!("../../../patch/killable.edit"),
            Self::Sentence => include_str!("../../../patch/sentence.edit"),
            Self::KernelMode => include_str!("../../../patch/kernel-mode.edit"),
        }
    }

    /// Of a commit to Linux, if it is to become one.
    pub(crate) const fn message(self) -> Option<&'static str> {
        match self {
            Self::Killable => Some(include_str!("../../../patch/killable.message")),
            Self::Sentence => Some(include_str!("../../../patch/sentence.message")),
            Self::KernelMode => None,
        }
    }

    /// What the model calls its behaviour.
    pub(crate) const fn policy(self) -> Alternative {
        match self {
            Self::Killable => Alternative::Killable,
            Self::Sentence => Alternative::FixedEnd,
            Self::KernelMode => Alternative::Upstream,
        }
    }

    /// The files of a source that it edits, as it makes them.
    pub(crate) fn edited(self, tree: &Path) -> Result<Edited> {
        let mut edited = Edited::new();
        let edits = Edits::parse(self.text()).with_context(|| format!("in {self}.edit"))?;
        edits.apply(tree, &mut edited)?;
        Ok(edited)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no value is skipped");
        f.write_str(value.get_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_all_variants_are_understood() {
        for variant in Variant::value_variants() {
            assert!(Edits::parse(variant.text()).is_ok(), "{variant}");
        }
    }
}
