//! `splitlock log`

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use split_lock_log::{Event, LogStart, MessageCounts, Records, Source};
use split_lock_report::text::count;

use crate::args::log::{LogArgs, LogFormat};
use crate::error::print_to_stderr;
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
    let is_read = match args.format {
        LogFormat::Table => stdout::print_unless_closed(&table::heading())?,
        LogFormat::Csv => stdout::print_unless_closed(&data::csv_heading()?)?,
        LogFormat::Json => true,
    };
    if !is_read {
        return Ok(Exit::Fine);
    }
    let mut totals = Totals::default();
    for path in &args.files {
        if !print_all(path, args, &mut totals)? {
            return Ok(Exit::Fine);
        }
    }
    let summary = totals.summary();
    match args.format {
        LogFormat::Table => stdout::print(&format!("\n{}", terminal::paragraphs(&summary)))?,
        // What is printed is for programs.
        LogFormat::Json | LogFormat::Csv => print_to_stderr(&summary),
    }
    Ok(Exit::Fine)
}

/// Prints all that one file says, as soon as it says it; whether somebody still reads what is printed.
fn print_all(path: &Path, args: &LogArgs, totals: &mut Totals) -> Result<bool> {
    let name = if is_standard(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let source = open(path).with_context(|| format!("cannot read {name}"))?;
    let mut records = Records::new(source);
    for record in records.by_ref() {
        let record = record.with_context(|| format!("cannot read {name}"))?;
        let event = Event::new(&name, &record);
        let text = match args.format {
            LogFormat::Table => table::row(&event, args.files.len() > 1),
            LogFormat::Json => data::json(&event)?,
            LogFormat::Csv => data::csv(&event)?,
        };
        if !stdout::print_unless_closed(&text)? {
            return Ok(false);
        }
    }
    totals.counts += records.counts();
    totals.log_starts.push(records.log_start());
    Ok(true)
}

fn open(path: &Path) -> Result<Source> {
    if is_standard(path) {
        return Ok(Source::from_reader(io::stdin())?);
    }
    let source = Source::open(path);
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if source.as_ref().is_err_and(refused) {
        return source
            .context("try it as root, or give what `sudo dmesg` prints to `splitlock log -`");
    }
    Ok(source?)
}

/// What there was in all files together.
#[derive(Debug, Default)]
struct Totals {
    counts: MessageCounts,
    log_starts: Vec<LogStart>,
}

impl Totals {
    /// In one sentence.
    fn summary(&self) -> String {
        let counts = &self.counts;
        let mut parts = vec![count(counts.traps, "trap", "traps")];
        if counts.suppressed > 0 {
            parts.push(format!(
                "{} more that the kernel did not print",
                counts.suppressed
            ));
        }
        parts.push(count(counts.boot_messages, "message", "messages") + " about detection at boot");
        if counts.refused_writes > 0 {
            let refused = count(counts.refused_writes, "refused attempt", "refused attempts");
            parts.push(refused + " of the kernel to switch detection on or off");
        }
        if counts.damaged > 0 {
            parts.push(count(counts.damaged, "damaged message", "damaged messages"));
        }
        if counts.foreign_lines > 0 {
            let lines = count(counts.foreign_lines, "line", "lines");
            parts.push(format!("{lines} of programs that mention one"));
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
