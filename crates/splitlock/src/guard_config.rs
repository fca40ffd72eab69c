//! The guard, as commands use it.

use std::time::Duration;

use split_lock_assist::guard::{Config, Reaction, Response};
use split_lock_host::Facts;
use split_lock_model::kernel::Profile;
use split_lock_report::text::plain;
use split_lock_repro::host::grace;

use crate::kernel_choice::of_this_host;

/// An emulated trap costs CPU time that a real one does not, up to 0.1 ms where exits are dear. A
/// probe has to be longer than that by far, or it does not look as if the vCPU had slept.
const SHORTEST_PROBE: Duration = Duration::from_micros(300);

/// A guard for one of several vCPUs on a host that runs `kernel`, or on this one; `None` if none is
/// wanted. It may grant as much time as the kernel needs.
pub(crate) fn config(reaction: Reaction, kernel: Option<&Profile>, others: u32) -> Option<Config> {
    if reaction == Reaction::Off {
        return None;
    }
    let here = || of_this_host(&Facts::live().ok()?).ok();
    let kernel = kernel.cloned().or_else(here);
    let grace = kernel.and_then(|kernel| grace(&kernel, others));
    let config = Config::new(reaction).with_shortest_probe(SHORTEST_PROBE);
    Some(config.with_grace(grace))
}

/// A guard that gets a guest on without any run becoming longer than the VMM wants it to be.
pub(crate) fn within_deadlines() -> Config {
    Config::new(Reaction::Emulate).with_shortest_probe(SHORTEST_PROBE)
}

/// What a guard does about a guest that is held up.
pub(crate) fn in_words(response: &Response) -> String {
    match response {
        Response::Grace(time) => format!("its next run may last {time:?}"),
        Response::Emulated { watched: true } => {
            "it is emulated there, and from now on before it traps".into()
        }
        Response::Emulated { watched: false } => "it is emulated there".into(),
        Response::LeftToCpu(reason) => plain(&format!("it cannot be emulated: {reason}")),
        // Reported, let through, or what later versions do besides.
        _ => "it is left to the kernel".into(),
    }
}
