//! What can be said without simulating: closed forms, each held against the simulator in tests.
//!
//! All of them describe a machine on which every step between guest instructions takes no time
//! ([`Costs::ZERO`](crate::sim::Costs::ZERO)); real costs of microseconds move edges by as much.

mod contention;
mod row;
mod thresholds;

pub use contention::Contended;
pub use row::ThresholdRow;
pub use thresholds::{PassPrediction, Ratio, Saturation, Thresholds, WindowUse};
