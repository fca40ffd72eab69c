//! The scene in which people meet this: a guest with two tasks, of which one hangs.

use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;
use split_lock_assist::cpu::{Context, Registers};
use split_lock_assist::decode::{Decoded, decode};
use split_lock_report::figure::{Figure, TaskProgress};
use split_lock_report::html::{Section, Table};
use split_lock_report::number::{duration, grouped};
use split_lock_repro::cpu::Cpu;
use split_lock_repro::sweep::Host;
use split_lock_repro::two_tasks::{Moment, TaskState, TwoTasks};

use super::parts::how;
use crate::guard_config;
use crate::measuring::KvmSession;
use crate::output::OutputFolder;
use crate::picture_file::write_picture;

pub(super) const HEADING: &str = "A guest with two tasks, of which one splits locks";

/// The timer of the original report.
const QUANTUM: Duration = Duration::from_millis(1);

/// Enough for the guard to be busy with for a while, and nothing to a guest that is left alone.
const SPLIT_LOCKS: NonZeroU64 = NonZeroU64::new(100).unwrap();

/// Long enough to see who goes on.
const LENGTH: Duration = Duration::from_millis(400);

/// How long the guarded task may need to come to its end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The scene on this host as it is, where split locks are punished, and there with a guard.
pub(super) struct Tasks {
    plays: Vec<Play>,
    /// Where the guest is punished.
    punishing: Host,
}

struct Play {
    name: &'static str,
    series: String,
    moments: Vec<Moment>,
}

impl Tasks {
    /// Plays it, with punishment by `punishing`; `None` if somebody stops it.
    pub(super) fn play(session: &KvmSession, punishing: &Host) -> Result<Option<Self>> {
        let guard = Some(guard_config::within_deadlines());
        let guarded = "punished, with a guard that emulates";
        let mut plays = vec![
            ("punished", punishing.clone(), None),
            (guarded, punishing.clone(), guard),
        ];
        if *punishing != Host::Native {
            plays.insert(0, ("this host as it is", Host::Native, None));
        }
        let mut played = vec![];
        for (name, host, guard) in plays {
            let series = host.origin(Cpu::of_this_host()).to_string();
            let ends = guard.is_some();
            let scene = TwoTasks {
                split_locks: SPLIT_LOCKS,
                quantum: QUANTUM,
                length: if ends { PATIENCE } else { LENGTH },
                host,
                guard,
            };
            let mut moments = vec![];
            session.play(&scene, &mut |moment| {
                moments.push(moment.clone());
                let has_ended = moment.done_after.is_some() && moment.at >= LENGTH;
                match session.was_stopped() || has_ended {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            played.push(Play {
                name,
                series,
                moments,
            });
        }
        let punishing = punishing.clone();
        Ok((!session.was_stopped()).then_some(Tasks {
            plays: played,
            punishing,
        }))
    }

    pub(super) fn write(
        &self,
        folder: &OutputFolder,
        figure: &Figure,
        with_png: bool,
    ) -> Result<()> {
        write_picture(folder, "tasks", &figure.picture(), with_png)?;
        let table = self.csv();
        folder.write("tasks.csv", |out| out.write_all(table.as_bytes()))
    }

    pub(super) fn figure(&self, detection: String) -> Figure {
        let tasks = self.plays.iter().map(|play| TaskProgress {
            name: format!("{}, {}", play.name, play.series),
            series: play.series.clone(),
            points: play.moments.iter().map(point).collect(),
        });
        let tasks: Vec<TaskProgress> = tasks.collect();
        let notes = vec![format!(
            "A guest kernel shares one vCPU between two tasks; the VMM ends each run after {QUANTUM:?} \
             and injects the guest's timer interrupt. {SPLIT_LOCKS} split locks are to be done."
        )];
        Figure::tasks(&tasks, detection, notes)
    }

    pub(super) fn section(&self, figure: &Figure) -> Result<Section> {
        let section = Section::new(HEADING)
            .paragraph(
                "A guest kernel with a timer interrupt and two tasks: one splits locks, the other \
                 counts. Where split locks are punished and the timer always comes before the punishment \
                 is over, the first never gets past its instruction, while the guest's interrupts are taken and \
                 the second goes on: from outside, a machine that is alive, in which one program hangs.",
            )
            .paragraph(self.finding());
        Ok(section
            .picture(
                &figure.picture(),
                format!(
                    "To see: punished, the task that splits locks stays at none while the other counts on; with the guard it comes \
                     to its end. {}",
                    how(Some(&self.punishing))
                ),
            )?
            .table(self.table()))
    }

    /// Where the one task is stuck, and whether it came to its end with the guard.
    fn finding(&self) -> String {
        let [.., punished, guarded] = &self.plays[..] else {
            return String::new();
        };
        let mut said = String::new();
        if let Some(last) = punished.moments.last() {
            let task = &last.splitter;
            let _ = write!(
                said,
                "On {} with a timer of {QUANTUM:?} it had done {} split locks after {} timer \
                 interrupts, and was at {:#x}: {}, while the other had counted to {}. ",
                match &self.punishing {
                    Host::Native => "this host".to_owned(),
                    Host::Emulated(kernel) => format!("kernel {kernel}"),
                },
                task.progress,
                task.interrupts,
                task.rip,
                instruction(task),
                grouped(last.counter.progress as f64),
            );
        }
        match guarded.moments.last().and_then(|last| last.done_after) {
            Some(after) => {
                let _ = write!(
                    said,
                    "With the guard it had done all {SPLIT_LOCKS} of them after {}.",
                    duration(after.as_nanos() as f64)
                );
            }
            None => said.push_str("With the guard it was not done in the time there was."),
        }
        said
    }

    fn table(&self) -> Table {
        let row = |play: &Play| {
            let last = play.moments.last()?;
            let task = &last.splitter;
            Some(vec![
                play.name.to_owned(),
                play.series.clone(),
                format!("{:#x}: {}", task.rip, instruction(task)),
                grouped(task.progress as f64),
                grouped(last.emulated as f64),
                last.done_after
                    .map_or("not".into(), |after| duration(after.as_nanos() as f64)),
                grouped(task.interrupts as f64),
                grouped(last.counter.progress as f64),
                grouped(last.counter.interrupts as f64),
            ])
        };
        Table {
            caption: "Both tasks at the end.".into(),
            headings: &[
                "condition",
                "obtained",
                "next instruction of the splitting task",
                "split locks done",
                "emulated",
                "done after",
                "its interrupts",
                "the other counted to",
                "its interrupts",
            ],
            rows: self.plays.iter().filter_map(row).collect(),
            text_columns: 3,
        }
    }

    fn csv(&self) -> String {
        let mut text = String::from(
            "condition,series,at_ns,split_locks,splitter_interrupts,splitter_rip,counted_to,\
             counter_interrupts,emulated,done\n",
        );
        for play in &self.plays {
            for moment in &play.moments {
                let (splitter, counter) = (&moment.splitter, &moment.counter);
                let _ = writeln!(
                    text,
                    "\"{}\",\"{}\",{},{},{},{:#x},{},{},{},{}",
                    play.name,
                    play.series,
                    moment.at.as_nanos(),
                    splitter.progress,
                    splitter.interrupts,
                    splitter.rip,
                    counter.progress,
                    counter.interrupts,
                    moment.emulated,
                    moment.done_after.is_some(),
                );
            }
        }
        text
    }
}

fn point(moment: &Moment) -> (f64, [u64; 2]) {
    let at_ms = moment.at.as_secs_f64() * 1e3;
    (at_ms, [moment.splitter.progress, moment.counter.progress])
}

/// The instruction that a task is about to execute, with its bytes.
fn instruction(task: &TaskState) -> String {
    let registers = Registers {
        rip: task.rip,
        ..Registers::default()
    };
    let instruction = match decode(&task.instruction, &registers, &Context::long_mode(3)) {
        Decoded::Locked(access) => *access.instruction(),
        Decoded::NotLocked(instruction)
        | Decoded::ImplicitLock { instruction, .. }
        | Decoded::Faults { instruction, .. }
        | Decoded::CannotBeLocked(instruction) => instruction,
        Decoded::Invalid | Decoded::Incomplete { .. } => return "no instruction".into(),
    };
    let bytes = instruction.bytes().iter();
    let hex: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
    format!("{instruction} ({})", hex.join(" "))
}
