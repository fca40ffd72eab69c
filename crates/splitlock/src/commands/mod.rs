//! One file for each command.

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod find;
pub(crate) mod generate;
pub(crate) mod log;
pub(crate) mod plot;
pub(crate) mod policies;
pub(crate) mod reproduce;
pub(crate) mod run;
pub(crate) mod simulate;
pub(crate) mod sweep;
pub(crate) mod thresholds;
pub(crate) mod watch;
