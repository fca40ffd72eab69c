//! `splitlock sweep`

use anyhow::{Context, Result, bail};
use split_lock_assist::guard::{Reaction, Stall};
use split_lock_host::Facts;
use split_lock_report::figure::Figure;
use split_lock_report::modelled::{HardwareCosts, sweep as modelled_sweep};
use split_lock_repro::guest::{BuiltIn, FileOptions, Guest};
use split_lock_repro::results::{Sample, Sweep};
use split_lock_repro::sweep::{Plan, Scenario};

use crate::args::Host;
use crate::args::measure::{On, SweepArgs};
use crate::error::{print_note, print_to_stderr};
use crate::exit::Exit;
use crate::kernel_choice::asked_or_of_this_host;
use crate::measuring::{KvmSession, Session, modelled, seed};
use crate::output::Output;
use crate::{guard_config, terminal};

mod programs;

pub(crate) fn run(args: &SweepArgs) -> Result<Exit> {
    if args.program {
        return programs::run(args);
    }
    match args.on {
        On::Kvm => on_kvm(args),
        On::Model => on_model(args),
    }
}

/// One series for the kernel; `--host KERNEL,mode=off` gives the one without detection.
fn on_model(args: &SweepArgs) -> Result<Exit> {
    if args.guard != Reaction::Off {
        bail!("--guard needs a guest to guard: leave out --on model");
    }
    let is_plain = args.vcpus == 1 && args.neighbour.is_none() && args.offsets.is_none();
    if !is_plain {
        bail!("--on model sweeps one vCPU: for several, see `splitlock simulate`");
    }
    let lists = args.guest.iter();
    let guests: Vec<&str> = lists.flat_map(|list| guest_names(list)).collect();
    let is_unknown = |guest: &&&str| !["split", "aligned"].contains(*guest);
    if let Some(other) = guests.iter().find(is_unknown) {
        bail!("--on model knows the guests split and aligned, not `{other}`");
    }
    let (kernel, taken) = asked_or_of_this_host(args.host.kernel())?;
    let outputs = Outputs::prepare(args)?;
    let costs = HardwareCosts {
        split: args.split_cost,
        ..HardwareCosts::default()
    };
    let seed = seed(args.seed);
    let mut samples = modelled_sweep(&kernel, &args.timeouts.0, args.repeat, seed, costs)?;
    samples.retain(|sample| {
        sample.host == kernel.to_string() && guests.contains(&sample.guest.as_str())
    });
    write_modelled(outputs, samples, seed, taken.as_deref())
}

fn on_kvm(args: &SweepArgs) -> Result<Exit> {
    let mut plan = plan(args)?;
    let outputs = Outputs::prepare(args)?;
    let session = KvmSession::begin(&args.kvm)?;
    if args.settle.is_none() {
        plan.settle = session.settle();
    }
    session.warn_if_crowded(args.vcpus);
    if let Host::Kernel(_) = args.host {
        session.warn_if_punished_twice();
    }
    let sweep = session.measure("measuring", &plan, &mut say_where)?;
    write_measured(outputs, sweep, &session)
}

/// What was measured until the end, or until Ctrl-C.
fn write_measured(outputs: Outputs, sweep: Option<Sweep>, session: &Session) -> Result<Exit> {
    let Some(sweep) = sweep else {
        print_to_stderr("stopped before anything was measured");
        return Ok(Exit::Stopped);
    };
    outputs.write(&sweep)?;
    if session.was_stopped() {
        let done = sweep.samples.len();
        let planned = sweep.provenance.map_or(0, |from| from.planned_samples);
        print_to_stderr(&format!("stopped after {done} of {planned} samples"));
        return Ok(Exit::Stopped);
    }
    Ok(Exit::Fine)
}

/// What the model makes of it, and what kernel it took if none was given.
fn write_modelled(
    outputs: Outputs,
    samples: Vec<Sample>,
    seed: u64,
    taken: Option<&str>,
) -> Result<Exit> {
    outputs.write(&modelled(&Facts::live()?, seed, samples))?;
    if let Some(taken) = taken {
        print_note(taken);
    }
    Ok(Exit::Fine)
}

/// Once for each instruction.
fn say_where(guest: &str, stall: &Stall) {
    let Stall {
        instruction,
        response,
        ..
    } = stall;
    let done = guard_config::in_words(response);
    print_note(&format!("`{guest}` is held up at {instruction}; {done}"));
}

fn plan(args: &SweepArgs) -> Result<Plan> {
    let options = FileOptions {
        load_address: args.load_address,
        counter: args.counter,
    };
    let find = |name: &str| Guest::find(name, options);
    let neighbour = args.neighbour.as_deref().map(find).transpose()?;
    if args.offsets.is_some() && args.vcpus > 1 && neighbour.is_none() {
        bail!("--offsets on several vCPUs needs to know what the others run: add --neighbour");
    }
    if neighbour.is_some() && args.vcpus < 2 {
        bail!("--neighbour needs a vCPU to run on: add --vcpus 2 or more");
    }
    let mut scenarios = vec![];
    let mut names = vec![];
    for name in args.guest.iter().flat_map(|list| guest_names(list)) {
        for guest in at_offsets(find(name)?, args)? {
            names.push(guest.to_string());
            scenarios.extend(around(&guest, neighbour.as_ref(), args));
        }
    }
    names.sort();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!(
            "the guest `{}` is asked for twice: use --repeat for more runs",
            twice[0]
        );
    }
    let plan = Plan {
        scenarios,
        timeouts: args.timeouts.0.clone(),
        repeats: args.repeat,
        warm_up_runs: args.warm_up,
        settle: args.settle.unwrap_or_default(),
        seed: seed(args.seed),
    };
    plan.check()?;
    Ok(plan)
}

/// Names are separated by commas; a path may hold them.
fn guest_names(list: &str) -> impl Iterator<Item = &str> {
    let separator = if list.contains('/') { '\0' } else { ',' };
    list.split(separator)
}

/// The guest at each offset that was asked for, or as it is.
fn at_offsets(guest: Guest, args: &SweepArgs) -> Result<Vec<Guest>> {
    let Some(offsets) = &args.offsets else {
        return Ok(vec![guest]);
    };
    let Guest::BuiltIn(built_in) = &guest else {
        bail!("--offsets needs a built-in guest: the file fixes the operand address of {guest}");
    };
    let at = |&offset: &u8| Ok(BuiltIn::new(built_in.kind(), Some(offset))?.into());
    offsets.0.iter().map(at).collect()
}

/// One guest on all vCPUs; or, if there is a neighbour, the guest alone and then beside it.
fn around(guest: &Guest, neighbour: Option<&Guest>, args: &SweepArgs) -> Vec<Scenario> {
    let scenario = |guests| Scenario {
        guests,
        level: args.level,
        host: args.host.measured(),
        guard: guard_config::config(args.guard, args.host.kernel(), args.vcpus - 1),
    };
    let beside = |others: &Guest| {
        let mut guests = vec![others.clone(); args.vcpus as usize];
        guests[0] = guest.clone();
        scenario(guests)
    };
    match neighbour {
        Some(neighbour) => vec![scenario(vec![guest.clone()]), beside(neighbour)],
        None => vec![beside(guest)],
    }
}

struct Outputs {
    csv: Option<Output>,
    json: Option<Output>,
}

impl Outputs {
    fn prepare(args: &SweepArgs) -> Result<Self> {
        let prepare =
            |path: &Option<std::path::PathBuf>| path.as_deref().map(Output::prepare).transpose();
        let (csv, json) = (prepare(&args.csv)?, prepare(&args.json)?);
        if let (Some(csv), Some(json)) = (&csv, &json)
            && csv.is_same_place(json)
        {
            bail!("--csv and --json cannot go to the same place");
        }
        Ok(Outputs { csv, json })
    }

    /// A chart for whoever looks at the terminal, unless the results themselves go there.
    fn write(self, sweep: &Sweep) -> Result<()> {
        let standard = |output: &Option<Output>| matches!(output, Some(Output::Standard));
        let show_chart = !standard(&self.csv) && !standard(&self.json);
        if let Some(csv) = self.csv {
            csv.write(|out| sweep.write_csv(out))?;
        }
        if let Some(json) = self.json {
            json.write(|out| sweep.write_json(out))?;
        }
        if show_chart {
            let figure = Figure::for_sweeps(std::slice::from_ref(sweep))
                .context("the samples are written, but cannot be drawn")?;
            terminal::show(&figure)?;
        }
        Ok(())
    }
}
