//! Progress, on standard error.

use std::time::Instant;

use anyhow::Result;

/// Says what is being done, does it, and says how long it took if that was worth mentioning.
pub(crate) fn step<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    eprintln!("lab: {what}");
    let done = act()?;
    let seconds = begin.elapsed().as_secs_f64();
    if seconds >= 1.0 {
        eprintln!("lab:   done after {seconds:.1} s");
    }
    Ok(done)
}
