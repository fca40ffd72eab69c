//! Man pages: what `clap_mangen` makes of the command line, and sections of our own for examples and exit codes.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Generated;

/// One for the program, and one for each command.
pub(super) fn pages(program: Command) -> io::Result<Vec<Generated>> {
    let mut program = program.disable_help_subcommand(true);
    // Gives the commands their whole names.
    program.build();
    let names: Vec<String> = program.get_subcommands().map(display_name).collect();
    let mut pages = vec![page(&program, &names)?];
    for command in program.get_subcommands() {
        pages.push(page(command, &[display_name(&program)])?);
    }
    Ok(pages)
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
