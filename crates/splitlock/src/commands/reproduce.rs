//! `splitlock reproduce`: the phenomenon on this host, as figures, data and one page.

use std::time::Duration;

use anyhow::Result;
use split_lock_repro::guest::{BuiltIn, Guest, Kind};
use split_lock_repro::results::Sweep;
use split_lock_repro::sweep::{Plan, Scenario};
use split_lock_repro::vm::Level;

use crate::args::ReproduceArgs;
use crate::figure::{self, Figure};
use crate::measuring::{Session, seed, usable_cpus};
use crate::output::OutputFolder;
use crate::report::{self, NamedSweep, Report, Section};
use crate::{Exit, complaint, finding, terminal};

const PNG_WIDTH: u32 = 1600;

/// Everything that a report consists of, and nothing else may be lost when it is replaced.
const FILES: &[&str] = &[
    "report.html",
    "progress.csv",
    "progress.json",
    "progress.png",
    "progress.svg",
    "offsets.csv",
    "offsets.json",
    "offsets.png",
    "offsets.svg",
    "neighbours.csv",
    "neighbours.json",
    "neighbours.png",
    "neighbours.svg",
];

/// A sweep of the report, with the words around it.
struct Part {
    /// The name of its files.
    name: &'static str,
    heading: &'static str,
    what: &'static str,
    intro: &'static str,
    plan: Plan,
    figure: fn(&Sweep) -> Result<Figure, figure::FigureError>,
    table: fn(&Sweep) -> report::Table,
}

pub(crate) fn run(args: &ReproduceArgs) -> Result<Exit> {
    let folder = OutputFolder::prepare(&args.out, FILES)?;
    let session = Session::begin(&args.kvm)?;
    let seed = seed(args.seed);
    let mut parts = vec![progress(args.repeat, seed), offsets(seed)];
    if usable_cpus() > 1 {
        parts.push(neighbours(seed));
    }
    for part in &parts {
        part.plan.check()?;
    }
    let mut measured = vec![];
    let mut missing = vec![];
    for part in parts {
        let sweep = if session.was_stopped() {
            None
        } else {
            session.measure(part.what, &part.plan)?
        };
        match sweep {
            Some(sweep) => measured.push(Measured::new(part, sweep)?),
            None => missing.push(part.heading),
        }
    }
    if !measured.is_empty() {
        write(folder, &measured, &missing)?;
    }
    if session.was_stopped() {
        complaint::say("stopped before everything was measured");
        return Ok(Exit::Stopped);
    }
    Ok(Exit::Fine)
}

/// A part with its numbers.
struct Measured {
    part: Part,
    sweep: Sweep,
    /// `None` if the sweep was stopped before there was anything to compare.
    figure: Option<Figure>,
}

impl Measured {
    fn new(part: Part, sweep: Sweep) -> Result<Self> {
        let figure = match (part.figure)(&sweep) {
            Ok(figure) => Some(figure),
            Err(_) if sweep.stopped_early() == Some(true) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Measured {
            part,
            sweep,
            figure,
        })
    }

    /// Writes its own files.
    fn write(&self, folder: &OutputFolder) -> Result<()> {
        let name = |extension| format!("{}.{extension}", self.part.name);
        if let Some(figure) = &self.figure {
            let svg = figure::render_svg(figure)?;
            let png = figure::render_png(figure, PNG_WIDTH)?;
            folder.write(&name("svg"), |out| out.write_all(svg.as_bytes()))?;
            folder.write(&name("png"), |out| out.write_all(&png))?;
        }
        folder.write(&name("csv"), |out| self.sweep.write_csv(out))?;
        folder.write(&name("json"), |out| self.sweep.write_json(out))
    }

    fn section(&self) -> Result<Section> {
        let mut section = Section::new(self.part.heading).paragraph(self.part.intro);
        if let Some(remark) = finding::of_overlap(&self.sweep) {
            section = section.paragraph(remark);
        }
        if let Some(figure) = &self.figure {
            section = section.figure(figure, "Measured on this host as it is.")?;
        }
        Ok(section.table((self.part.table)(&self.sweep)))
    }
}

fn write(folder: OutputFolder, measured: &[Measured], missing: &[&str]) -> Result<()> {
    let finding = finding::of_progress(&measured[0].sweep);
    let mut sections = vec![];
    for measured in measured {
        measured.write(&folder)?;
        sections.push(measured.section()?);
    }
    if !missing.is_empty() {
        let stopped = format!(
            "Stopped before these were measured: {}.",
            missing.join(", ")
        );
        sections.push(Section::new("What is missing").paragraph(stopped));
    }
    let named = |measured: &Measured| NamedSweep {
        name: measured.part.name.into(),
        sweep: measured.sweep.clone(),
    };
    let page = report::render(&Report {
        title: "Split locks on this host".into(),
        finding: finding.clone(),
        sections,
        sweeps: measured.iter().map(named).collect(),
    })?;
    folder.write("report.html", |out| out.write_all(page.as_bytes()))?;
    let path = folder.finish()?;
    for figure in measured
        .iter()
        .filter_map(|measured| measured.figure.as_ref())
    {
        terminal::show(figure)?;
        terminal::print("\n")?;
    }
    let page = path.join("report.html");
    terminal::print(&format!("{finding}\n\nThe report is {}\n", page.display()))
}

fn built_in(kind: Kind, offset: Option<u8>) -> Guest {
    BuiltIn::new(kind, offset)
        .expect("these kinds take these offsets")
        .into()
}

fn scenario(kinds: &[Kind]) -> Scenario {
    Scenario {
        guests: kinds.iter().map(|&kind| built_in(kind, None)).collect(),
        level: Level::Cpl3,
    }
}

fn progress(repeats: u32, seed: u64) -> Part {
    Part {
        name: "progress",
        heading: "Progress against the pending timeout",
        what: "progress",
        intro: "Each run is one bounded run of the vCPU: it starts at the guest's first \
                  instruction and ends when the pending timeout expires.",
        plan: Plan {
            scenarios: vec![scenario(&[Kind::Split]), scenario(&[Kind::Aligned])],
            timeouts: (1..=49).map(Duration::from_millis).collect(),
            repeats,
            warm_up_runs: 3,
            seed,
        },
        figure: |sweep| Figure::progress(std::slice::from_ref(sweep)),
        table: report::timeouts_table,
    }
}

fn offsets(seed: u64) -> Part {
    let at = |offset| Scenario {
        guests: vec![built_in(Kind::Split, Some(offset))],
        level: Level::Cpl3,
    };
    Part {
        name: "offsets",
        heading: "Where the split begins",
        what: "offsets of the operand",
        intro: "The same loop with its 8-byte operand at every offset of a 64-byte cache line. From \
                  offset 57 on the operand lies in two lines, and the CPU locks the bus.",
        plan: Plan {
            scenarios: (0..64).map(at).collect(),
            timeouts: vec![Duration::from_millis(10)],
            repeats: 5,
            warm_up_runs: 1,
            seed,
        },
        figure: Figure::offsets,
        table: report::offsets_table,
    }
}

/// Each bystander alone, beside a neighbour that locks without splitting, which costs what any busy
/// neighbour costs, and beside one that splits.
fn neighbours(seed: u64) -> Part {
    let bystanders = [Kind::Aligned, Kind::None];
    let conditions = |kind: Kind| {
        [
            scenario(&[kind]),
            scenario(&[kind, Kind::Aligned]),
            scenario(&[kind, Kind::Split]),
        ]
    };
    Part {
        name: "neighbours",
        heading: "What a neighbour loses",
        what: "neighbours",
        intro: "A bystander on another vCPU, which touches no memory of the splitting guest: alone, \
                  beside a guest that locks without splitting, and beside one that splits. What it \
                  loses beside the first is the price of any busy neighbour here (a shared core, a \
                  shared clock); what it loses beyond that is the price of bus locks. Progress is counted per second \
                  of CPU time, so that other work on this machine does not count.",
        plan: Plan {
            scenarios: bystanders.into_iter().flat_map(conditions).collect(),
            timeouts: vec![Duration::from_millis(20)],
            repeats: 25,
            warm_up_runs: 3,
            seed,
        },
        figure: Figure::bystander,
        table: report::timeouts_table,
    }
}
