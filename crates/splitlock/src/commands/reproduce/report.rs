//! The report's files: figures, data and the page around them.

use anyhow::Result;
use split_lock_report::figure::Figure;
use split_lock_report::html::{self, NamedSweep, Report, Section};
use split_lock_repro::results::Sweep;

use super::kernel::Kernel;
use super::parts::{Part, PartPlan};
use super::tasks::Tasks;
use crate::output::OutputFolder;
use crate::picture_file::write_picture;
use crate::{stdout, terminal};

/// A part of the report with its numbers.
pub(super) struct Chapter {
    part: Part,
    /// What was measured, and perhaps what the model says, which the same figure shows.
    pub(super) sweeps: Vec<Sweep>,
    /// `None` if the sweep was stopped before there was anything to compare.
    figure: Option<Figure>,
}

impl Chapter {
    pub(super) fn new(part: Part, sweep: Sweep) -> Result<Self> {
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

    pub(super) fn add_modelled(&mut self, modelled: Sweep) -> Result<()> {
        self.sweeps.push(modelled);
        self.figure = Some((self.part.figure)(&self.sweeps)?);
        Ok(())
    }

    pub(super) fn plan(&self) -> &PartPlan {
        &self.part.plan
    }

    /// The sweeps, by the names of their files.
    fn named_sweeps(&self) -> impl Iterator<Item = NamedSweep<'_>> {
        let names = [self.part.name, self.part.modelled].into_iter();
        let named = names.zip(&self.sweeps);
        named.map(|(name, sweep)| NamedSweep { name, sweep })
    }

    fn write(&self, folder: &OutputFolder, with_png: bool) -> Result<()> {
        for NamedSweep { name, sweep } in self.named_sweeps() {
            folder.write(&format!("{name}.csv"), |out| sweep.write_csv(out))?;
            folder.write(&format!("{name}.json"), |out| sweep.write_json(out))?;
        }
        if let Some(figure) = &self.figure {
            write_picture(folder, self.part.name, &figure.picture(), with_png)?;
        }
        Ok(())
    }

    fn section(&self) -> Result<Section> {
        let mut section = Section::new(self.part.heading).paragraph(self.part.intro);
        if let Some(remark) = (self.part.finding)(&self.sweeps[0]) {
            section = section.paragraph(remark);
        }
        if let Some(figure) = &self.figure {
            let modelled = match self.sweeps.len() {
                1 => "",
                _ => " What is called modelled is not measured.",
            };
            let caption = format!("{} {}{modelled}", self.part.see, self.part.how);
            section = section.picture(&figure.picture(), &caption)?;
        }
        let tables = self.sweeps.iter().map(self.part.table);
        Ok(tables.fold(section, Section::table))
    }
}

pub(super) struct Found<'a> {
    pub(super) findings: Vec<String>,
    pub(super) chapters: &'a [Chapter],
    pub(super) kernel: Option<&'a Kernel>,
    pub(super) tasks: Option<(&'a Tasks, Figure)>,
    /// What is not in it, and why.
    pub(super) missing: &'a [String],
    pub(super) with_png: bool,
}

pub(super) fn write(folder: OutputFolder, found: &Found<'_>) -> Result<()> {
    let sections = write_sections(&folder, found)?;
    let thresholds = found.kernel.and_then(Kernel::finding);
    let findings: Vec<String> = found.findings.iter().cloned().chain(thresholds).collect();
    let summary = findings.join(" ");
    let page = html::render(&Report {
        title: "Split locks on this host".into(),
        findings,
        sections,
        sweeps: found
            .chapters
            .iter()
            .flat_map(Chapter::named_sweeps)
            .collect(),
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
    stdout::print(&format!("{summary}\n\nThe report is {}\n", page.display()))
}

/// First how far the guest gets and why, then the rest.
fn write_sections(folder: &OutputFolder, found: &Found<'_>) -> Result<Vec<Section>> {
    let mut sections = vec![];
    for (place, chapter) in found.chapters.iter().enumerate() {
        chapter.write(folder, found.with_png)?;
        sections.push(chapter.section()?);
        if place > 0 {
            continue;
        }
        if let Some((tasks, figure)) = &found.tasks {
            tasks.write(folder, figure, found.with_png)?;
            sections.push(tasks.section(figure)?);
        }
        if let Some(kernel) = found.kernel {
            sections.push(write_kernel(folder, kernel, found.with_png)?);
        }
    }
    if !found.missing.is_empty() {
        let section = Section::new("What is missing");
        let lines = found.missing.iter();
        sections.push(lines.fold(section, Section::paragraph));
    }
    Ok(sections)
}

fn write_kernel(folder: &OutputFolder, kernel: &Kernel, with_png: bool) -> Result<Section> {
    let picture = kernel.timeline()?;
    if let Some(picture) = &picture {
        write_picture(folder, "timeline", picture, with_png)?;
    }
    kernel.section(picture.as_ref())
}
