//! `splitlock log`

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use split_lock_log::{Event, LogStart, MessageCounts, Records, Source, for_each_log};
use split_lock_report::text::count;

use crate::args::log::{LogArgs, LogFormat};
use crate::error::{error_chain, print_to_stderr};
use crate::exit::Exit;
use crate::stdout::is_standard;
use crate::{interrupt, stdout, terminal};

mod data;
mod table;

pub(crate) fn run(args: &LogArgs) -> Result<Exit> {
    if args.files.iter().filter(|path| is_standard(path)).count() > 1 {
        bail!("standard input can be read once: give `-` once");
    }
    interrupt::leave_on_ctrl_c()?;
    let is_read = match args.format() {
        LogFormat::Table => stdout::print_unless_closed(&table::heading())?,
        LogFormat::Csv => stdout::print_unless_closed(&data::csv_heading()?)?,
        LogFormat::Json => true,
    };
    if !is_read {
        return Ok(Exit::Fine);
    }
    let mut totals = Totals::default();
    for path in &args.files {
        let before = totals.unreadable;
        match print_all(path, args, &mut totals) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return Ok(Exit::Fine),
            // The others are read all the same.
            Err(error) => {
                // Where a member is cut off, its archive is, too: that is one log.
                totals.unreadable = totals.unreadable.max(before + 1);
                totals.keep_error(error);
            }
        }
    }
    let summary = totals.summary();
    match args.format() {
        LogFormat::Table => stdout::print(&format!("\n{}", terminal::paragraphs(&summary)))?,
        // What is printed is for programs.
        LogFormat::Json | LogFormat::Csv => print_to_stderr(&summary),
    }
    totals.into_exit()
}

/// Prints all that one file says, as soon as it says it; stops if nobody reads any more what is printed.
fn print_all(path: &Path, args: &LogArgs, totals: &mut Totals) -> Result<ControlFlow<()>> {
    let name = match is_standard(path) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let mut flow = ControlFlow::Continue(());
    let mut failed = None;
    let mut visit = |member: Option<&str>, log: &mut dyn Read| {
        let name = member.map_or_else(|| name.clone(), |member| format!("{name}:{member}"));
        match print_log(&name, log, args, totals) {
            Ok(now) => flow = now,
            Err(error) => {
                failed = Some(error);
                flow = ControlFlow::Break(());
            }
        }
        Ok(flow)
    };
    let cannot = || format!("cannot read {name}");
    let left_out = if is_standard(path) {
        Source::for_each(io::stdin(), &mut visit).with_context(cannot)?
    } else {
        match for_each_log(path, &mut visit) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let instead =
                    "try it as root, or give what `sudo dmesg` prints to `splitlock log -`";
                return Err(error).context(instead).with_context(cannot);
            }
            read => read.with_context(cannot)?,
        }
    };
    failed.map_or(Ok(()), Err)?;
    totals.left_out += left_out.members;
    totals.first_left_out = totals.first_left_out.take().or(left_out.first);
    Ok(flow)
}

fn print_log(
    name: &str,
    log: &mut dyn Read,
    args: &LogArgs,
    totals: &mut Totals,
) -> Result<ControlFlow<()>> {
    let with_file = args.files.len() > 1 || totals.is_several(name);
    let mut records = Records::new(log);
    for record in records.by_ref() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                // It is the last; the other logs are read all the same.
                let error = anyhow::Error::new(error);
                totals.unreadable += 1;
                totals.keep_error(error.context(format!("cannot read {name} to its end")));
                break;
            }
        };
        let event = Event::new(name, &record);
        let text = match args.format() {
            LogFormat::Table => table::row(&event, with_file),
            LogFormat::Json => data::json(&event)?,
            LogFormat::Csv => data::csv(&event)?,
        };
        if !stdout::print_unless_closed(&text)? {
            return Ok(ControlFlow::Break(()));
        }
    }
    totals.counts += records.counts();
    totals.log_starts.push(records.log_start());
    Ok(ControlFlow::Continue(()))
}

/// So many errors have lines of their own: an archive may hold any number of damaged logs.
const MOST_ERRORS: usize = 20;

#[derive(Debug, Default)]
struct Totals {
    counts: MessageCounts,
    log_starts: Vec<LogStart>,
    /// Files in archives that are no logs.
    left_out: u64,
    first_left_out: Option<String>,
    /// Logs that could not be read, or not to their end.
    unreadable: u64,
    /// Why, of the first of these.
    errors: Vec<anyhow::Error>,
    last_name: Option<String>,
}

impl Totals {
    /// Whether this is another log than the one before, so that rows have to say which.
    fn is_several(&mut self, name: &str) -> bool {
        let is_member = name.contains(':') && self.last_name.is_some();
        self.last_name = Some(name.to_owned());
        is_member
    }

    fn keep_error(&mut self, error: anyhow::Error) {
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(error);
        }
    }

    /// The last error ends the program; the others are told before.
    fn into_exit(mut self) -> Result<Exit> {
        let last = self.errors.pop();
        for error in self.errors {
            print_to_stderr(&error_chain(&error));
        }
        last.map_or(Ok(Exit::Fine), Err)
    }

    fn summary(&self) -> String {
        let counts = &self.counts;
        let mut parts = vec![count(counts.traps, "trap", "traps")];
        if counts.suppressed > 0 {
            let more = counts.suppressed;
            parts.push(format!("{more} more that the kernel did not print"));
        }
        parts.push(count(counts.boot_messages, "message", "messages") + " about detection at boot");
        if counts.refused_writes > 0 {
            let refused = count(counts.refused_writes, "refused attempt", "refused attempts");
            parts.push(refused + " of the kernel to switch detection on or off");
        }
        for (number, one, many) in [
            (
                counts.kernel_split_locks,
                "split lock of the kernel itself",
                "split locks of the kernel itself",
            ),
            (
                counts.alignment_signals,
                "SIGBUS for a misaligned access",
                "SIGBUS for misaligned accesses",
            ),
            (counts.damaged, "damaged message", "damaged messages"),
        ] {
            if number > 0 {
                parts.push(count(number, one, many));
            }
        }
        if counts.foreign_lines > 0 {
            let lines = count(counts.foreign_lines, "line", "lines");
            parts.push(format!("{lines} of programs that mention one"));
        }
        if let Some(first) = &self.first_left_out {
            let files = count(self.left_out, "file", "files");
            parts.push(format!("{files} of an archive left out ({first})"));
        }
        if self.unreadable > 0 {
            let logs = count(self.unreadable, "log", "logs");
            parts.push(format!("{logs} that could not be read"));
        }
        format!("{}.{}", parts.join(", "), self.log_start())
    }

    /// Whether the boot would be in it.
    fn log_start(&self) -> &'static str {
        match self.log_starts[..] {
            [LogStart::Boot] => " The log begins at boot.",
            [LogStart::Later] => {
                " The log begins later than the kernel: what was said at boot may be missing."
            }
            _ => "",
        }
    }
}
