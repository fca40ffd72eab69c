//! Man pages: what `clap_mangen` makes of the command line, and sections of our own for examples and exit codes.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Generated;

/// One for the program, one for each command, and one for each of a command's own.
pub(super) fn pages(program: Command) -> io::Result<Vec<Generated>> {
    let mut program = program.disable_help_subcommand(true);
    // Gives the commands their whole names.
    program.build();
    let mut pages = vec![];
    add_pages(&program, &[], &mut pages)?;
    Ok(pages)
}

/// Each refers to what it is part of, if that is anything, and to its own parts.
fn add_pages(command: &Command, above: &[String], pages: &mut Vec<Generated>) -> io::Result<()> {
    let parts = command.get_subcommands().map(display_name);
    let related: Vec<String> = above.iter().cloned().chain(parts).collect();
    pages.push(page(command, &related)?);
    for part in command.get_subcommands() {
        add_pages(part, &[display_name(command)], pages)?;
    }
    Ok(())
}

fn display_name(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command, related: &[String]) -> io::Result<Generated> {
    let man = Man::new(command.clone());
    let mut content = title(&display_name(command)).into_bytes();
    man.render_name_section(&mut content)?;
    man.render_synopsis_section(&mut content)?;
    man.render_description_section(&mut content)?;
    man.render_options_section(&mut content)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut content)?;
    }
    let after = command.get_after_help().map(ToString::to_string);
    more_sections(&after.unwrap_or_default(), related).to_writer(&mut content)?;
    Ok(Generated {
        path: Path::new("man").join(man.get_filename()),
        content,
    })
}

/// Our own, because an empty date would lose its place. There is none: pages of the same version are the same.
fn title(name: &str) -> String {
    let (name, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    format!(".TH \"{name}\" \"1\" \"\" \"splitlock {version}\" \"Splitlock Manual\"\n")
}

/// Those that a command's help has after its options.
fn more_sections(after_help: &str, related: &[String]) -> Roff {
    let mut roff = Roff::new();
    for paragraph in after_help.split("\n\n") {
        let (title, text) = paragraph.split_once(':').unwrap_or(("Notes", paragraph));
        match title {
            "Example" | "Examples" => examples(&mut roff, text),
            "Exit codes" => {
                roff.control("SH", ["EXIT STATUS"])
                    .text([roman(text.trim())]);
            }
            _ if paragraph.trim().is_empty() => {}
            _ => {
                roff.control("SH", ["NOTES"])
                    .text([roman(paragraph.trim())]);
            }
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    let last = related.len().saturating_sub(1);
    for (number, name) in related.iter().enumerate() {
        let end = if number == last { "(1)" } else { "(1)," };
        roff.text([bold(name), roman(end)]);
    }
    roff
}

/// Line by line, as they are written.
fn examples(roff: &mut Roff, lines: &str) {
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}
