//! `splitlock watch`

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use split_lock_host::{Facts, Root};
use split_lock_report::text;
use split_lock_repro::sweep::Stop;
use split_lock_watch::{
    MissingSource, Mitigation, Probing, Relief, ReliefBudget, Reliever, Session, Settings,
    Snapshot, SnapshotKind, StateReport, ThreadState, Watch,
};

use crate::args::watch::{FailOn, WatchArgs};
use crate::error::print_to_stderr;
use crate::exit::Exit;
use crate::measuring::allow_many_files;
use crate::{interrupt, stdout, terminal};

mod endpoint;
mod host;
mod json;
mod metrics;
mod screen;
mod table;

use endpoint::Endpoint;
use host::Host;
use screen::Screen;
use table::Room;

/// The kernel's rings are looked into at least as often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Whoever relieves wants to know sooner.
const LOOK_EVERY_TO_RELIEVE: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &WatchArgs) -> Result<Exit> {
    let endpoint = args.listen.map(Endpoint::at).transpose()?;
    // Each event takes one on each CPU.
    allow_many_files();
    // First of all: it puts right what a watch that was killed may have left.
    let mitigation = args.relieve.then(Mitigation::open).transpose()?;
    // What ends meanwhile would not be seen.
    let mut watch = Watch::open(&settings(args))?;
    let root = Root::live().context("cannot look at this machine")?;
    let mut host = Host::of(&Facts::read(&root));
    if let Some(hz) = host.hz {
        watch.set_tick_rate(hz);
    }
    let busy = mitigation.as_ref().map(Mitigation::busy);
    let stop = interrupt::stop_on_ctrl_c_and(move || {
        // Nobody leaves while the mitigation is switched off.
        std::mem::forget(busy.as_ref().map(|busy| busy.lock()));
        screen::leave_at_once();
    })?;
    let reliever = mitigation
        .map(|mitigation| reliever(mitigation, args, &mut host))
        .transpose()?;
    host.notes.extend(watch.missing().iter().map(without));
    let endpoint = endpoint.map(|(endpoint, address)| {
        let note = format!("metrics are at http://{address}/metrics");
        host.notes.push(note);
        endpoint
    });
    // On a terminal they would be hidden at once; there they stand below the table.
    host.notes.iter().for_each(|note| print_to_stderr(note));
    let out = Printer::new(args, host)?;
    if !out.start(&watch)? {
        return Ok(Exit::Fine);
    }
    let session = Session::new(watch, out.host.threshold, root);
    follow(session, reliever, args, &out, endpoint.as_ref(), &stop)
}

fn reliever(mitigation: Mitigation, args: &WatchArgs, host: &mut Host) -> Result<Reliever> {
    if mitigation.was_restored() {
        host.notes.push(
            "a watch that was killed had left kernel.split_lock_mitigate at 0: it is 1 again"
                .to_owned(),
        );
    }
    let release = host.kernel.as_deref().unwrap_or("this kernel");
    let what = format!(
        "on {release} threads that get past on two CPUs in one relief leave one of the CPUs without detection until its next window \
         ends (mended in 6.15, c929d08df8be)"
    );
    ensure!(
        !host.forgets_cpus || args.relieve_any_kernel,
        "will not relieve: {what}; --relieve-any-kernel does it all the same"
    );
    if host.forgets_cpus {
        host.notes.push(what);
    }
    let budget = ReliefBudget::new(args.relieve_budget);
    Ok(Reliever::new(mitigation, budget))
}

fn settings(args: &WatchArgs) -> Settings {
    Settings {
        probing: match args.no_probes {
            true => Probing::Never,
            false => Probing::WherePossible,
        },
        buffer_bytes: args.buffer_kib as usize * 1024,
    }
}

fn without(missing: &MissingSource) -> String {
    format!(
        "without {} ({}), {}",
        missing.what, missing.why, missing.consequence
    )
}

fn follow(
    mut session: Session,
    mut reliever: Option<Reliever>,
    args: &WatchArgs,
    out: &Printer,
    endpoint: Option<&Endpoint>,
    stop: &Stop,
) -> Result<Exit> {
    let wanted = args.fail_on.map(state_to_find);
    let is_found = |reports: &[StateReport]| {
        let mut changes = reports.iter().map(|report| report.change);
        changes.any(|change| Some(change.to) == wanted)
    };
    let look_every = match reliever {
        Some(_) => LOOK_EVERY_TO_RELIEVE,
        None => LOOK_EVERY,
    };
    let mut found = false;
    let mut next = Duration::ZERO;
    loop {
        let elapsed = session.elapsed();
        let is_over = args.duration.is_some_and(|duration| elapsed >= duration);
        if is_over || stop.is_requested() {
            break;
        }
        if elapsed >= next {
            next = elapsed + args.interval;
            if !show(&mut session, reliever.as_ref(), out, endpoint)? {
                return Ok(exit(args, found, stop));
            }
        }
        let end = args.duration.map_or(next, |duration| duration.min(next));
        let timeout = end.saturating_sub(session.elapsed()).min(look_every);
        let changes = session.listen(timeout)?;
        found |= is_found(&changes);
        let is_read = out.changes(&changes)?;
        let relief = reliever
            .as_mut()
            .map(|reliever| reliever.step(&mut session));
        let relief = relief.transpose()?.flatten();
        if !is_read || !out.relief(relief.as_ref())? {
            return Ok(exit(args, found, stop));
        }
    }
    let changes = session.finish()?;
    found |= is_found(&changes);
    if out.changes(&changes)? {
        let (mut snapshot, reports) = session.snapshot(SnapshotKind::End)?;
        snapshot.relief = reliever.map(|reliever| *reliever.totals());
        publish(endpoint, &snapshot);
        if out.changes(&reports)? {
            out.end(&snapshot)?;
        }
    }
    Ok(exit(args, found, stop))
}

fn state_to_find(what: FailOn) -> ThreadState {
    match what {
        FailOn::Livelock => ThreadState::Livelocked,
        FailOn::WindowsUnused => ThreadState::WindowsUnused,
    }
}

/// Shows and prints what there is now; whether somebody still reads.
fn show(
    session: &mut Session,
    reliever: Option<&Reliever>,
    out: &Printer,
    endpoint: Option<&Endpoint>,
) -> Result<bool> {
    let (mut snapshot, reports) = session.snapshot(SnapshotKind::Interval)?;
    snapshot.relief = reliever.map(|reliever| *reliever.totals());
    publish(endpoint, &snapshot);
    Ok(out.changes(&reports)? && out.sample(&snapshot)?)
}

fn publish(endpoint: Option<&Endpoint>, snapshot: &Snapshot) {
    if let Some(endpoint) = endpoint {
        endpoint.publish(metrics::of(snapshot));
    }
}

fn exit(args: &WatchArgs, found: bool, stop: &Stop) -> Exit {
    match args.fail_on {
        Some(_) if found => Exit::Found,
        // Without a time, Ctrl-C is how a watch ends.
        _ if stop.is_requested() && args.duration.is_some() => Exit::Stopped,
        _ => Exit::Fine,
    }
}

/// Prints what a watch finds, in one of three forms.
struct Printer {
    host: Host,
    form: Form,
}

enum Form {
    Json,
    /// Drawn again and again.
    Screen(Screen),
    /// Changes as they come, and a table at the end.
    Lines,
}

impl Printer {
    fn new(args: &WatchArgs, host: Host) -> Result<Self> {
        let form = match args.json {
            true => Form::Json,
            false => match Screen::enter() {
                Some(screen) => Form::Screen(screen.context(stdout::CANNOT_WRITE)?),
                None => Form::Lines,
            },
        };
        Ok(Self { host, form })
    }

    /// Each of these tells whether somebody still reads.
    fn start(&self, watch: &Watch) -> Result<bool> {
        match self.form {
            Form::Json => stdout::print_unless_closed(&json::start(watch, &self.host)?),
            Form::Screen(_) | Form::Lines => Ok(true),
        }
    }

    fn changes(&self, reports: &[StateReport]) -> Result<bool> {
        for report in reports {
            let is_read = match self.form {
                Form::Json => stdout::print_unless_closed(&json::change(report)?)?,
                Form::Lines => stdout::print_unless_closed(&self.line(report))?,
                Form::Screen(_) => true,
            };
            if !is_read {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn relief(&self, relief: Option<&Relief>) -> Result<bool> {
        match (relief, &self.form) {
            (Some(relief), Form::Json) => stdout::print_unless_closed(&json::relief(relief)?),
            // It is in the table, and everybody's state tells of it.
            _ => Ok(true),
        }
    }

    fn line(&self, StateReport { change, thread }: &StateReport) -> String {
        let word = match change.to {
            state if table::is_alarming(state) => {
                let alarm = table::alarm(thread, self.host.threshold);
                return format!("{}\n", text::plain(&alarm));
            }
            _ if thread.ended => "ended",
            state => table::word(state),
        };
        let name = text::plain(thread.identity.name());
        format!("{name} ({}): {word}\n", thread.tid)
    }

    fn sample(&self, snapshot: &Snapshot) -> Result<bool> {
        match &self.form {
            Form::Json => stdout::print_unless_closed(&json::snapshot("sample", snapshot)?),
            Form::Screen(screen) => {
                let table = table::render(snapshot, &self.host, screen.room());
                // A terminal that is closed ends the watch.
                Ok(screen.draw(&table).is_ok())
            }
            Form::Lines => Ok(true),
        }
    }

    fn end(&self, snapshot: &Snapshot) -> Result<()> {
        let room = Room {
            columns: terminal::width(),
            rows: None,
            has_colors: terminal::has_colors(),
        };
        let text = match self.form {
            Form::Json => json::snapshot("end", snapshot)?,
            Form::Screen(_) | Form::Lines => table::render(snapshot, &self.host, room),
        };
        screen::leave();
        stdout::print_plain(&text)
    }
}
