//! One file for each command.

pub(crate) mod plot;
pub(crate) mod reproduce;
pub(crate) mod sweep;
