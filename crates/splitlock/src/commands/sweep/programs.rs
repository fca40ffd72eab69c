//! `splitlock sweep --program`

use anyhow::Result;
use split_lock_report::modelled;
use split_lock_repro::program::Plan;

use super::{Outputs, write_measured, write_modelled};
use crate::args::Host;
use crate::args::measure::{On, SweepArgs};
use crate::exit::Exit;
use crate::kernel_choice::asked_or_of_this_host;
use crate::measuring::{Session, seed};

pub(super) fn run(args: &SweepArgs) -> Result<Exit> {
    let mut plan = Plan {
        timers: args.timer.clone(),
        periods: args.timeouts.0.clone(),
        length: args.length,
        repeats: args.repeat,
        host: args.host.measured(),
        settle: args.settle.unwrap_or_default(),
        seed: seed(args.seed),
    };
    plan.timers.sort_unstable();
    plan.timers.dedup();
    plan.check()?;
    if args.on == On::Model {
        let (kernel, taken) = asked_or_of_this_host(args.host.kernel())?;
        let outputs = Outputs::prepare(args)?;
        let samples = modelled::programs(&kernel, &plan, args.split_cost)?;
        return write_modelled(outputs, samples, plan.seed, taken.as_deref());
    }
    let outputs = Outputs::prepare(args)?;
    let session = Session::begin()?;
    if args.settle.is_none() {
        plan.settle = session.settle();
    }
    if let Host::Kernel(_) = args.host {
        session.warn_if_punished_twice();
    }
    let sweep = session.measure_programs("measuring", &plan)?;
    write_measured(outputs, sweep, &session)
}
