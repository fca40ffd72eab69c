//! `splitlock log`

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use split_lock_host::log::{Beginning, Records, Source, Tally};

use crate::args::log::{LogArgs, LogFormat};
use crate::error::report_error;
use crate::text::count;
use crate::{Exit, interrupt, stdout, terminal};

mod entry;
mod table;
mod words;

use entry::Entry;

pub(crate) fn run(args: &LogArgs) -> Result<Exit> {
    if args.files.iter().filter(|path| is_standard(path)).count() > 1 {
        bail!("standard input can be read once: give `-` once");
    }
    interrupt::leave_on_ctrl_c()?;
    let is_read = match args.format {
        LogFormat::Table => stdout::print_on(&table::heading())?,
        LogFormat::Csv => stdout::print_on(&entry::csv_heading()?)?,
        LogFormat::Json => true,
    };
    if !is_read {
        return Ok(Exit::Fine);
    }
    let mut read = Read::default();
    for path in &args.files {
        if !print_all(path, args, &mut read)? {
            return Ok(Exit::Fine);
        }
    }
    let summary = read.summary();
    match args.format {
        LogFormat::Table => stdout::print(&format!("\n{}", terminal::paragraphs(&summary)))?,
        // What is printed is for programs.
        LogFormat::Json | LogFormat::Csv => report_error(&summary),
    }
    Ok(Exit::Fine)
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Prints all that one file says, as soon as it says it; whether somebody still reads what is printed.
fn print_all(path: &Path, args: &LogArgs, read: &mut Read) -> Result<bool> {
    let name = if is_standard(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let source = open(path).with_context(|| format!("cannot read {name}"))?;
    let mut records = Records::new(source);
    for record in records.by_ref() {
        let record = record.with_context(|| format!("cannot read {name}"))?;
        let text = match args.format {
            LogFormat::Table => {
                let file = (args.files.len() > 1).then_some(&name[..]);
                table::row(file, &record)
            }
            LogFormat::Json => Entry::of(&name, &record).json()?,
            LogFormat::Csv => Entry::of(&name, &record).csv()?,
        };
        if !stdout::print_on(&text)? {
            return Ok(false);
        }
    }
    read.add(&records);
    Ok(true)
}

fn open(path: &Path) -> Result<Source> {
    if is_standard(path) {
        return Ok(Source::of(io::stdin())?);
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
struct Read {
    tally: Tally,
    foreign_lines: u64,
    beginnings: Vec<Beginning>,
}

impl Read {
    fn add(&mut self, records: &Records<Source>) {
        let (sum, more) = (&mut self.tally, records.tally());
        sum.traps += more.traps;
        sum.suppressed = sum.suppressed.saturating_add(more.suppressed);
        sum.boot_messages += more.boot_messages;
        sum.refused_writes += more.refused_writes;
        sum.starts += more.starts;
        sum.damaged += more.damaged;
        self.foreign_lines += records.foreign_lines();
        self.beginnings.push(records.beginning());
    }

    /// In one sentence.
    fn summary(&self) -> String {
        let tally = &self.tally;
        let mut parts = vec![count(tally.traps, "trap", "traps")];
        if tally.suppressed > 0 {
            parts.push(format!(
                "{} more that the kernel did not print",
                tally.suppressed
            ));
        }
        parts.push(count(tally.boot_messages, "message", "messages") + " about detection at boot");
        if tally.refused_writes > 0 {
            let refused = count(tally.refused_writes, "refused attempt", "refused attempts");
            parts.push(refused + " of the kernel to switch detection on or off");
        }
        if tally.damaged > 0 {
            parts.push(count(tally.damaged, "damaged message", "damaged messages"));
        }
        if self.foreign_lines > 0 {
            let lines = count(self.foreign_lines, "line", "lines");
            parts.push(format!("{lines} of programs that mention one"));
        }
        format!("{}.{}", parts.join(", "), self.beginning())
    }

    /// Whether the boot would be in it.
    fn beginning(&self) -> &'static str {
        match self.beginnings[..] {
            [Beginning::Boot] => " The log begins at boot.",
            [Beginning::Later] => {
                " The log begins later than the kernel: what was said at boot may be missing."
            }
            _ => "",
        }
    }
}
