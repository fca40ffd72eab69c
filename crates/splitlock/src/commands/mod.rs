//! One file for each command.

pub(crate) mod explain;
#[path = "doctor/instruction.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "for doctor"))]
pub(crate) mod instruction;
pub(crate) mod log;
pub(crate) mod plot;
pub(crate) mod policies;
pub(crate) mod reproduce;
pub(crate) mod simulate;
pub(crate) mod sweep;
pub(crate) mod thresholds;
