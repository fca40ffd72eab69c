//! `splitlock reproduce`: the phenomenon on this host, as figures, data and one page.

use anyhow::Result;
use split_lock_host::Facts;
use split_lock_model::kernel::Profile;
use split_lock_report::figure::{Figure, Picture};
use split_lock_report::finding;
use split_lock_report::html::{self, NamedSweep, Report, Section};
use split_lock_repro::results::Sweep;
use split_lock_repro::vm::VmError;

use crate::args::measure::ReproduceArgs;
use crate::error::{error_chain, report_error};
use crate::measuring::{KvmSession, seed, usable_cpus};
use crate::output::OutputFolder;
use crate::{Exit, stdout, terminal};

mod kernel;
mod parts;
mod tasks;

use kernel::Kernel;
use parts::{Part, neighbours, offsets, progress, sparse};
use tasks::Tasks;

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
    "modelled.csv",
    "modelled.json",
    "sparse.csv",
    "sparse.json",
    "sparse.png",
    "sparse.svg",
    "tasks.csv",
    "tasks.png",
    "tasks.svg",
    "timeline.png",
    "timeline.svg",
];

pub(crate) fn run(args: &ReproduceArgs) -> Result<Exit> {
    let folder = OutputFolder::prepare(&args.out, FILES)?;
    let seed = seed(args.seed);
    match KvmSession::begin(&args.kvm) {
        Ok(session) => measured(folder, &session, args.repeat, seed),
        Err(error) if is_without_kvm(&error) => {
            let why = error_chain(&error);
            report_error(&format!("note: {why}; everything here is modelled"));
            modelled_only(folder, args.repeat, seed)
        }
        Err(error) => Err(error),
    }
}

fn is_without_kvm(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(VmError::Open(_)))
}

/// What this host does, and beside it what its kernel would do.
fn measured(folder: OutputFolder, session: &KvmSession, repeats: u32, seed: u64) -> Result<Exit> {
    let emulated = Kernel::to_emulate(&session.facts);
    let mut parts = vec![progress(repeats, seed, emulated.as_ref())];
    parts.extend(
        emulated
            .as_ref()
            .map(|kernel| sparse(repeats, seed, kernel)),
    );
    parts.push(offsets(seed));
    if usable_cpus() > 1 {
        parts.push(neighbours(seed));
    }
    for part in &mut parts {
        part.plan.settle = session.settle();
        part.plan.check()?;
    }
    let (mut chapters, mut missing) = measure(session, parts)?;
    if let Some(first) = chapters.first_mut() {
        // A kernel that the model cannot place has no other side to show.
        let kernel = Kernel::of_this_host(&session.facts, Some(&first.sweeps[0])).ok();
        if let Some(kernel) = &kernel {
            first.add_modelled(kernel.other_side(&session.facts, repeats, seed)?)?;
        }
        let finding = finding::of_progress(&first.sweeps[0]);
        let tasks = emulated.and_then(|kernel| play(session, &kernel, &mut missing));
        let found = Found {
            finding,
            chapters: &chapters,
            kernel: kernel.as_ref(),
            tasks: tasks.as_ref().map(|tasks| {
                let detection = session.facts.detection().to_string();
                (tasks, tasks.figure(detection))
            }),
            missing: &missing,
        };
        write(folder, &found)?;
    }
    if session.was_stopped() {
        report_error("stopped before everything was measured");
        return Ok(Exit::Stopped);
    }
    Ok(Exit::Fine)
}

/// Everything that can be measured. What fails after the first part is missing then, and no reason to
/// throw away what there is.
fn measure(session: &KvmSession, parts: Vec<Part>) -> Result<(Vec<Chapter>, Vec<String>)> {
    let mut chapters: Vec<Chapter> = vec![];
    let mut missing = vec![];
    for part in parts {
        if session.was_stopped() {
            missing.push(stopped_before(part.heading));
            continue;
        }
        match session.measure(part.what, &part.plan, &mut |_, _| {}) {
            Ok(Some(sweep)) => chapters.push(Chapter::new(part, sweep)?),
            Ok(None) => missing.push(stopped_before(part.heading)),
            Err(error) if !chapters.is_empty() => missing.push(failed(part.heading, &error)),
            Err(error) => return Err(error),
        }
    }
    Ok((chapters, missing))
}

fn play(session: &KvmSession, kernel: &Profile, missing: &mut Vec<String>) -> Option<Tasks> {
    if session.was_stopped() {
        missing.push(stopped_before(tasks::HEADING));
        return None;
    }
    let played = Tasks::play(session, kernel);
    match &played {
        Ok(Some(_)) => {}
        Ok(None) => missing.push(stopped_before(tasks::HEADING)),
        Err(error) => missing.push(failed(tasks::HEADING, error)),
    }
    played.ok().flatten()
}

fn stopped_before(heading: &str) -> String {
    format!("{heading}: stopped before this was measured.")
}

/// Said at once, and in the report.
fn failed(heading: &str, error: &anyhow::Error) -> String {
    let why = format!("{heading}: {}.", error_chain(error));
    report_error(&format!("note: {why}"));
    why
}

fn modelled_only(folder: OutputFolder, repeats: u32, seed: u64) -> Result<Exit> {
    let facts = Facts::live()?;
    let kernel = Kernel::of_this_host(&facts, None)?;
    let part = Part {
        intro: "No guest has run: every number follows from the kernel's rules and from stated \
                costs of the hardware.",
        how: "Modelled.",
        ..progress(repeats, seed, None)
    };
    let chapter = Chapter::new(part, kernel.both_sides(&facts, repeats, seed)?)?;
    let finding = "Nothing was measured: there is no KVM to be used here.";
    let found = Found {
        finding: finding.into(),
        chapters: &[chapter],
        kernel: Some(&kernel),
        tasks: None,
        missing: &[],
    };
    write(folder, &found)?;
    Ok(Exit::Fine)
}

/// A part of the report with its numbers.
struct Chapter {
    part: Part,
    /// What was measured, and perhaps what the model says, which the same figure shows.
    sweeps: Vec<Sweep>,
    /// `None` if the sweep was stopped before there was anything to compare.
    figure: Option<Figure>,
}

impl Chapter {
    fn new(part: Part, sweep: Sweep) -> Result<Self> {
        let sweeps = vec![sweep];
        let figure = match (part.figure)(&sweeps) {
            Ok(figure) => Some(figure),
            Err(_) if sweeps[0].stopped_early() == Some(true) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Chapter {
            part,
            sweeps,
            figure,
        })
    }

    fn add_modelled(&mut self, modelled: Sweep) -> Result<()> {
        self.sweeps.push(modelled);
        self.figure = Some((self.part.figure)(&self.sweeps)?);
        Ok(())
    }

    /// The sweeps, by the names of their files.
    fn sweeps(&self) -> impl Iterator<Item = NamedSweep<'_>> {
        let names = [self.part.name, "modelled"].into_iter();
        let named = names.zip(&self.sweeps);
        named.map(|(name, sweep)| NamedSweep { name, sweep })
    }

    fn write(&self, folder: &OutputFolder) -> Result<()> {
        for NamedSweep { name, sweep } in self.sweeps() {
            folder.write(&format!("{name}.csv"), |out| sweep.write_csv(out))?;
            folder.write(&format!("{name}.json"), |out| sweep.write_json(out))?;
        }
        if let Some(figure) = &self.figure {
            write_picture(folder, self.part.name, &figure.picture())?;
        }
        Ok(())
    }

    fn section(&self) -> Result<Section> {
        let mut section = Section::new(self.part.heading).paragraph(self.part.intro);
        if let Some(remark) = finding::of_overlap(&self.sweeps[0]) {
            section = section.paragraph(remark);
        }
        if let Some(figure) = &self.figure {
            let how = match self.sweeps.len() {
                1 => self.part.how.to_owned(),
                _ => format!("{} What is called modelled is not measured.", self.part.how),
            };
            section = section.picture(&figure.picture(), &how)?;
        }
        let tables = self.sweeps.iter().map(self.part.table);
        Ok(tables.fold(section, Section::table))
    }
}

/// Everything that a report is made of.
struct Found<'a> {
    finding: String,
    chapters: &'a [Chapter],
    kernel: Option<&'a Kernel>,
    tasks: Option<(&'a Tasks, Figure)>,
    /// What is not in it, and why.
    missing: &'a [String],
}

fn write(folder: OutputFolder, found: &Found<'_>) -> Result<()> {
    let sections = write_sections(&folder, found)?;
    let thresholds = found.kernel.and_then(Kernel::finding);
    let finding = std::iter::once(found.finding.clone()).chain(thresholds);
    let finding = finding.collect::<Vec<_>>().join(" ");
    let page = html::render(&Report {
        title: "Split locks on this host".into(),
        finding: finding.clone(),
        sections,
        sweeps: found.chapters.iter().flat_map(Chapter::sweeps).collect(),
    })?;
    folder.write("report.html", |out| out.write_all(page.as_bytes()))?;
    let path = folder.finish()?;
    let tasks = found.tasks.as_ref().map(|(_, figure)| figure);
    let measured = found.chapters.iter().filter_map(|c| c.figure.as_ref());
    for figure in measured.chain(tasks) {
        terminal::show(figure)?;
        stdout::print("\n")?;
    }
    let page = path.join("report.html");
    stdout::print(&format!("{finding}\n\nThe report is {}\n", page.display()))
}

/// First how far the guest gets and why, then the rest.
fn write_sections(folder: &OutputFolder, found: &Found<'_>) -> Result<Vec<Section>> {
    let mut sections = vec![];
    for (place, chapter) in found.chapters.iter().enumerate() {
        chapter.write(folder)?;
        sections.push(chapter.section()?);
        if place > 0 {
            continue;
        }
        if let Some((tasks, figure)) = &found.tasks {
            tasks.write(folder, figure)?;
            sections.push(tasks.section(figure)?);
        }
        if let Some(kernel) = found.kernel {
            sections.push(write_kernel(folder, kernel)?);
        }
    }
    if !found.missing.is_empty() {
        let section = Section::new("What is missing");
        let lines = found.missing.iter();
        sections.push(lines.fold(section, Section::paragraph));
    }
    Ok(sections)
}

fn write_kernel(folder: &OutputFolder, kernel: &Kernel) -> Result<Section> {
    let picture = kernel.timeline()?;
    if let Some(picture) = &picture {
        write_picture(folder, "timeline", picture)?;
    }
    kernel.section(picture.as_ref())
}

fn write_picture(folder: &OutputFolder, name: &str, picture: &Picture) -> Result<()> {
    let (svg, png) = (picture.svg()?, picture.png(PNG_WIDTH)?);
    folder.write(&format!("{name}.svg"), |out| out.write_all(svg.as_bytes()))?;
    folder.write(&format!("{name}.png"), |out| out.write_all(&png))
}
