//! What `splitlock find` costs. `cargo bench -p splitlock`
//!
//! CPU time of each program natively, in the bare emulator and with `splitlock find`, in turn, so that a machine that is
//! busy or changes its clock disturbs all three alike. Prints medians, and medians and extremes of the ratios within a
//! round; asserts nothing. `splitlock find` is measured as it is installed: in its checkout each start also asks Cargo
//! whether the plugin is up to date.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tempfile::TempDir;

const ROUNDS: usize = 5;

/// Locked instructions that do not split, and little else.
const LOCKS: &str = "
#include <stdlib.h>
int main(int count, char **arguments)
{
    static _Alignas(64) long counter;
    for (long turns = atol(arguments[1]); turns > 0; turns--)
        __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
    return counter == 0;
}
";
const LOCK_TURNS: &str = "300000000";

/// Something to compile.
const SOURCE: &str =
    "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n";

struct Case {
    name: String,
    program: Vec<String>,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    if !std::env::args().any(|it| it == "--bench") {
        // `cargo test` runs benchmarks to see that they start.
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    eprintln!("building the plugin");
    let splitlock = installed(folder.path())?;
    println!(
        "CPU time, medians of {ROUNDS} rounds, in turn; ratios within a round (smallest .. largest)\n"
    );
    println!("| program | native | bare emulator | find | emulator to native | find to emulator |");
    println!("|---|---|---|---|---|---|");
    for case in cases(&folder)? {
        eprintln!("{}", case.name);
        println!("{}", case.measure(&splitlock)?);
    }
    Ok(())
}

fn cases(folder: &TempDir) -> Result<[Case; 4]> {
    let locks = compiled(folder.path(), "locks", LOCKS)?;
    let source = folder.path().join("source.i");
    let functions = (0..30).map(|n| {
        format!("double f{n}(const char *s) {{ return strlen(s) > {n} ? sqrt(strtod(s, 0)) : sin({n}); }}\n")
    });
    let text = SOURCE.to_owned() + &functions.collect::<String>();
    // The compiler itself, not the driver that executes it: the bare emulator follows nothing. Only the driver knows
    // where headers are.
    write(&source, &preprocessed(folder.path(), &text)?)?;
    let compiler = output(Command::new("cc").arg("-print-prog-name=cc1"))?;
    let words = |words: &[&str]| words.iter().map(|&it| it.to_owned()).collect();
    let case = |name: &str, program: &[&str]| Case {
        name: name.to_owned(),
        program: words(program),
    };
    Ok([
        case("`true`", &["/bin/true"]),
        case(
            "`python3 -c 'import json, http.client, email'`",
            &["/usr/bin/python3", "-c", "import json, http.client, email"],
        ),
        case(
            "a compile of 30 functions (`cc1 -O1`)",
            &[
                compiler.trim(),
                "-quiet",
                "-fpreprocessed",
                "-O1",
                path(&source)?,
                "-o",
                "/dev/null",
            ],
        ),
        case(
            &format!("{LOCK_TURNS} uncontended `lock add`"),
            &[&locks, LOCK_TURNS],
        ),
    ])
}

impl Case {
    fn measure(&self, splitlock: &str) -> Result<String> {
        let starters: [&[&str]; 3] = [&[], &["qemu-x86_64"], &[splitlock, "find", "--"]];
        let mut rounds = vec![];
        // The first one fills caches.
        for round in 0..=ROUNDS {
            let mut times = [Duration::ZERO; 3];
            for (time, starter) in times.iter_mut().zip(starters) {
                *time = self.time(starter)?;
            }
            if round > 0 {
                rounds.push(times);
            }
        }
        let [native, bare, find] =
            [0, 1, 2].map(|n| median(rounds.iter().map(|it| it[n].as_secs_f64())));
        let ratio = |of: usize, to: usize| {
            let ratios = rounds
                .iter()
                .map(|it| it[of].as_secs_f64() / it[to].as_secs_f64());
            let smallest = ratios.clone().fold(f64::INFINITY, f64::min);
            let largest = ratios.clone().fold(0.0, f64::max);
            format!("{:.2} ({smallest:.2} .. {largest:.2})", median(ratios))
        };
        Ok(format!(
            "| {} | {native:.3} s | {bare:.3} s | {find:.3} s | {} | {} |",
            self.name,
            ratio(1, 0),
            ratio(2, 1)
        ))
    }

    fn time(&self, starter: &[&str]) -> Result<Duration> {
        let mut words = starter
            .iter()
            .copied()
            .chain(self.program.iter().map(String::as_str));
        let mut command = Command::new(words.next().ok_or("no program")?);
        command
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let before = cpu_time()?;
        output(&mut command)?;
        Ok(cpu_time()? - before)
    }
}

/// Of all programs that have ended.
fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(time.num_microseconds().try_into()?))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The program and its plugin outside of the checkout.
fn installed(folder: &Path) -> Result<String> {
    let built = Path::new(env!("CARGO_BIN_EXE_splitlock"));
    // Builds the plugin beside the program.
    output(Command::new(built).args(["find", "--", "/bin/true"]))?;
    for name in ["splitlock", "libsplit_lock_plugin.so"] {
        std::fs::copy(built.with_file_name(name), folder.join(name))?;
    }
    Ok(path(&folder.join("splitlock"))?.to_owned())
}

fn compiled(folder: &Path, name: &str, text: &str) -> Result<String> {
    let (source, program) = (folder.join(format!("{name}.c")), folder.join(name));
    write(&source, text)?;
    output(
        Command::new("cc")
            .arg("-O1")
            .arg(&source)
            .arg("-o")
            .arg(&program),
    )?;
    Ok(path(&program)?.to_owned())
}

fn preprocessed(folder: &Path, text: &str) -> Result<String> {
    let source = folder.join("source.c");
    write(&source, text)?;
    output(Command::new("cc").arg("-E").arg(&source))
}

/// What a program prints that ends well.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {said}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark's own file")]
fn write(path: &Path, text: &str) -> Result<()> {
    Ok(std::fs::write(path, text)?)
}

fn path(path: &Path) -> Result<&str> {
    Ok(path
        .to_str()
        .ok_or("the folder for temporary files is no text")?)
}
