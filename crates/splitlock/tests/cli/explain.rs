//! `splitlock explain`

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use super::fixture::{BASE, Elf, SPLIT, TEXT, Waiting};
use super::{complaint, fail, run, splitlock, succeed};

/// lock bts [rsi],rdi
const BTS: &str = "f0 48 0f ab 3e";

fn explain(arguments: &[&str]) -> String {
    succeed(&[&["explain"], arguments].concat())
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&explain(&[arguments, &["--json"]].concat())).unwrap()
}

/// What is said of the bytes, however the lines were broken.
fn words(arguments: &[&str]) -> String {
    let text = explain(arguments);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hexadecimal(address: u64) -> String {
    format!("{address:#x}")
}

/// A program of which an address is explained.
struct Program {
    path: PathBuf,
    folder: TempDir,
}

impl Program {
    fn new(elf: &Elf) -> Self {
        Self::named("waits", elf)
    }

    fn named(name: &str, elf: &Elf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        elf.write(&path);
        Self { path, folder }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn start(&self) -> Waiting {
        Waiting::start(&Elf::default(), &self.path)
    }

    /// What `say` says of an address in it.
    fn at<T>(&self, address: u64, more: &[&str], say: impl Fn(&[&str]) -> T) -> T {
        let address = hexadecimal(address);
        say(&[&["--exe", self.path(), "--address", &address], more].concat())
    }
}

#[test]
fn a_split_lock_reads_well() {
    let text = explain(&[BTS, "--reg", "rsi=0x303c,rdi=0", "--host", "6.6,hz=1000"]);
    insta::assert_snapshot!(text);
}

#[test]
fn what_depends_on_registers_reads_well() {
    let program = Program::new(&Elf::default());
    let text = program.at(BASE + SPLIT, &["--host", "6.12"], explain);
    let text = text.replace(program.folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(text);
}

#[test]
fn only_a_certain_split_lock_fails_and_only_if_asked_to() {
    for (registers, split, code) in [
        (&["--reg", "rsi=0x303c", "--reg", "rdi=0"][..], "yes", 1),
        (&["--reg", "rsi=0x3038", "--reg", "rdi=0"], "no", 0),
        (&["--reg", "rsi=0x303c"], "depends", 0),
    ] {
        let arguments = [&["explain", BTS][..], registers].concat();
        assert_eq!(json(&arguments[1..])["split"], split);
        assert_eq!(run(&arguments).status.code(), Some(0));
        let output = run(&[&arguments[..], &["--fail-on", "split"]].concat());
        assert_eq!(output.status.code(), Some(code), "{registers:?}");
    }
}

#[test]
fn what_is_unknown_is_named_and_everything_else_is_said() {
    let said = words(&[BTS]);
    for part in [
        "Perhaps a split lock",
        "depends on rsi and rdi",
        "yes, by its LOCK prefix",
        "8 bytes at rsi + 8*floor(rdi/64)",
        "if its address mod 64 is 57..63",
        "if its address mod 4096 is 4089..4095",
        "--reg rsi=VALUE --reg rdi=VALUE",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // lock xadd [rbx+1Eh],eax
    let said = words(&["f0 0f c1 43 1e"]);
    assert!(
        said.contains("is 61..63, which is if rbx mod 64 is 31..33"),
        "{said}"
    );
    // Aligned to its size, wherever RDI leads.
    let said = words(&[BTS, "--reg", "rsi=0x1000"]);
    assert!(said.starts_with("No split lock:"), "{said}");
    assert!(said.contains("whatever rdi may be"), "{said}");
}

#[test]
fn what_does_not_lock_is_told_from_what_must_not() {
    for (lock, bytes, start) in [
        (
            "none",
            "48 89 3e",
            "No lock: `mov qword ptr [rsi],rdi` does not lock",
        ),
        (
            "not-allowed",
            "f0 48 89 3e",
            "No lock: `lock mov qword ptr [rsi],rdi` may not",
        ),
        (
            "prefix",
            "f0 48 0f c7 0e",
            "No split lock: `lock cmpxchg16b xmmword ptr [rsi]` faults unless",
        ),
        (
            "xchg",
            "48 87 3e",
            "Perhaps a split lock: `xchg qword ptr [rsi],rdi`",
        ),
        (
            "implicit",
            "8e d8",
            "Only in odd cases a split lock: `mov ds,eax`",
        ),
        ("no-instruction", "06 90", "No lock: that is no instruction"),
    ] {
        let said = words(&[bytes]);
        assert!(said.starts_with(start), "{said}");
        assert_eq!(json(&[bytes])["lock"], lock);
    }
}

#[test]
fn a_kernels_code_line_can_be_piped_in() {
    let mut command = splitlock(&["explain", "-", "--reg", "rbx=0x100", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let line = b"[ 1.5] Code: 55 48 89 e5 <f0> 0f c1 43 3e c3\n";
    child.stdin.take().unwrap().write_all(line).unwrap();
    let output = child.wait_with_output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["split"], "yes");
    assert_eq!(found["operand"]["first"], "0x13e");
    assert_eq!(found["operand"]["last"], "0x141");
    let around = found["around"].as_array().unwrap();
    let texts = around.iter().map(|line| line["text"].as_str().unwrap());
    let texts = texts.collect::<Vec<_>>().join("; ");
    let expected = "push rbp; mov rbp,rsp; lock xadd dword ptr [rbx+3Eh],eax; ret";
    assert_eq!(texts, expected);
}

#[test]
fn standard_input_is_not_read_for_ever() {
    let mut command = splitlock(&["explain", "-"]);
    command.stdin(fs::File::open("/dev/zero").unwrap());
    let sentence = complaint(&command.output().unwrap());
    assert!(sentence.contains("standard input"), "{sentence}");
}

#[test]
fn an_address_in_a_file_is_explained_with_what_is_around_it() {
    let program = Program::new(&Elf::default());
    let found = program.at(BASE + SPLIT, &["--reg", "rsi=0x3c,rdi=0"], json);
    assert_eq!(found["split"], "yes");
    let origin = &found["found_in"];
    assert_eq!(origin["symbol"]["name"], "split");
    assert_eq!(origin["symbol"]["offset"], 0);
    assert_eq!(origin["source"][0]["file"], "wait.s");
    assert_eq!(origin["source"][0]["line"], 20);
    assert_eq!(found["address"], hexadecimal(BASE + SPLIT));
    let around = found["around"].as_array().unwrap();
    let here: Vec<_> = around.iter().filter(|line| line["here"] == true).collect();
    assert_eq!(here.len(), 1);
    assert_eq!(here[0]["bytes"], "f0480fab3e");
}

#[test]
fn a_program_of_32_bits_has_flat_segments() {
    let program = Program::new(&Elf {
        is_64: false,
        ..Elf::default()
    });
    let found = program.at(BASE + SPLIT, &["--reg", "esi=0x3e,edi=0"], json);
    assert_eq!(found["bits"], 32);
    assert_eq!(found["operand"]["sum"], "esi + 4*floor(edi/32)");
    assert_eq!(found["operand"]["first"], "0x3e");
    assert_eq!(found["split"], "yes");
}

#[test]
fn the_instruction_after_a_lock_leads_to_the_one_before() {
    // Bus locks are reported with the address of the next instruction.
    let said = Program::new(&Elf::default()).at(BASE + SPLIT + 5, &[], words);
    assert!(said.starts_with("No lock: `ret` does not lock"), "{said}");
    assert!(said.contains("before it at 0x400109 locks"), "{said}");
    assert!(said.contains("took a bus_lock trap"), "{said}");
}

#[test]
fn an_address_after_loading_is_explained_with_what_is_assumed() {
    let program = Program::new(&Elf {
        is_position_independent: true,
        base: 0,
        ..Elf::default()
    });
    let guessed = program.at(0x7f12_3456_7000 + SPLIT, &[], json);
    assert_eq!(guessed["found_in"]["address_in_file"], hexadecimal(SPLIT));
    let assumed = guessed["assumed"][0].as_str().unwrap();
    assert!(assumed.contains("the only one"), "{assumed}");
    let base = ["--base", "0x7f1234567000"];
    let told = program.at(0x7f12_3456_7000 + TEXT, &base, json);
    assert_eq!(told["found_in"]["address_in_file"], hexadecimal(TEXT));
    assert_eq!(told["assumed"].as_array().unwrap().len(), 0);
}

#[test]
fn a_complaint_names_the_option_that_helps() {
    let program = Program::new(&Elf {
        is_position_independent: true,
        base: 0,
        ..Elf::default()
    });
    let at = |address, more: &[&str]| {
        program.at(address, more, |arguments| {
            fail(&[&["explain"], arguments].concat())
        })
    };
    for (said, part) in [
        (
            at(0x7f12_3456_7ff0, &[]),
            "its pages; --base says where it was loaded",
        ),
        (
            at(0x2000, &["--base", "0x1234"]),
            "--base 0x1234 is not the address of a page",
        ),
    ] {
        assert!(said.contains("cannot explain 0x"), "{said}");
        assert!(said.contains(part), "{said}");
    }
    let said = fail(&["explain", ""]);
    assert!(said.contains("there are no bytes to explain"), "{said}");
}

#[test]
fn names_cannot_steer_the_terminal() {
    let elf = Elf {
        symbols: vec![(b"\x1b[31mevil\n\xc2\x9b0m", SPLIT, 6)],
        ..Elf::default()
    };
    let program = Program::named("a\u{1b}[2Jb\nc", &elf);
    for more in [&[][..], &["--json"]] {
        let shown = program.at(BASE + SPLIT, more, explain);
        assert!(shown.contains("evil"), "{shown}");
        let hostile = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(hostile), "{shown:?}");
        let is_rest_of_name = |line: &str| line.starts_with("c") && !line.contains(' ');
        assert!(!shown.lines().any(is_rest_of_name), "{shown:?}");
    }
}

#[test]
fn an_address_in_a_process_is_explained_even_if_its_file_is_gone() {
    let program = Program::new(&Elf::default());
    let process = program.start();
    let (pid, address) = (process.pid().to_string(), hexadecimal(BASE + SPLIT));
    let arguments = ["--pid", &pid, "--address", &address];
    let found = json(&[&arguments[..], &["--reg", "rsi=0x3c,rdi=0"]].concat());
    assert_eq!(found["split"], "yes");
    assert_eq!(found["found_in"]["pid"], process.pid());
    assert_eq!(found["found_in"]["file"], program.path());
    assert_eq!(found["found_in"]["symbol"]["name"], "split");
    assert_eq!(found["around"][0]["text"], "lock bts qword ptr [rsi],rdi");

    fs::remove_file(&program.path).unwrap();
    let found = json(&arguments);
    let gone = format!("{} (deleted)", program.path());
    assert_eq!(found["found_in"]["file"], gone);
    assert_eq!(found["found_in"]["symbol"]["name"], "split");
    assert_eq!(found["split"], "depends");
}

#[test]
fn a_process_of_somebody_else_is_not_looked_at_and_who_may_is_said() {
    const SOMEBODY_ELSE: u32 = 65533;
    let process = Program::new(&Elf::default()).start();
    let (pid, address) = (process.pid().to_string(), hexadecimal(BASE + SPLIT));
    let mut command = splitlock(&["explain", "--pid", &pid, "--address", &address]);
    match command.uid(SOMEBODY_ELSE).output() {
        Ok(output) => {
            let said = complaint(&output);
            assert!(said.contains("one has to be root, or its user"), "{said}");
            assert!(said.contains("ermission denied"), "{said}");
        }
        Err(error) => eprintln!("skipped: this test cannot be somebody else here: {error}"),
    }
}

#[test]
fn what_a_process_does_not_have_is_named() {
    let process = Program::new(&Elf::default()).start();
    let pid = process.pid().to_string();
    for (pid, part) in [
        (&pid[..], "nothing mapped at 0x10"),
        ("4294967295", "there is no process"),
    ] {
        let said = fail(&["explain", "--pid", pid, "--address", "0x10"]);
        assert!(said.contains(part), "{said}");
    }
}
