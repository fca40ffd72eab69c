//! Kernel profiles: what a kernel does about split locks, as features.
//!
//! A version number does not order behaviour (stable kernels took some changes and not others), so
//! everything downstream asks a [`Profile`] for features and never compares versions. Releases and
//! distribution names are only ways to look features up.

mod catalogue;
mod features;
mod parse;
mod profile;
mod release;

pub use features::{Era, Features, Mode};
pub use parse::{MAX_TEXT, ParseProfileError};
pub use profile::{Profile, ProfileError};
pub use release::{Lookup, Release, ReleaseError};
