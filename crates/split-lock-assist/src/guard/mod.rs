//! Noticing that a vCPU does not get on.

mod auto;
mod breakpoints;
mod config;
mod hands;
mod keeper;
mod pace;
mod reported;
mod run;
#[cfg(test)]
mod simulation;
mod state;
mod suspicion;
mod vcpu;
mod verdict;

pub use breakpoints::{Breakpoints, Meaning};
pub use config::{Config, MEASURABLE_NATIVE_COST, Reaction, UnknownReaction};
pub use hands::{Hands, Place, Side};
pub use keeper::{Hit, Keeper, Statistics};
pub use run::{Ended, Run};
pub use vcpu::Vcpu;
pub use verdict::{Culprit, Response, Stall, Verdict};
