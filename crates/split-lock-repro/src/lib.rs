//! Split-locking guests on real KVM: payloads, the small VM that runs them, and sweeps over the
//! pending timeout.

pub mod results;
pub mod summary;
