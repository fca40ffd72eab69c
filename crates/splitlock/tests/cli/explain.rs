//! `splitlock explain`

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{fs, io, thread};

use serde_json::Value;
use tempfile::TempDir;

use super::fixture::{Elf, SPLIT, TEXT};
use super::{complaint, fail, put, run, splitlock, succeed};

/// lock bts [rsi],rdi
const BTS: &str = "f0 48 0f ab 3e";

fn explain(arguments: &[&str]) -> String {
    succeed(&[&["explain"], arguments].concat())
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&explain(&[arguments, &["--json"]].concat())).unwrap()
}

/// Its words, however the lines were broken.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn place(elf: &Elf) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("waits");
    put(&path, &elf.bytes());
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn hexadecimal(address: u64) -> String {
    format!("{address:#x}")
}

#[test]
fn a_split_lock_reads_well() {
    let text = explain(&[BTS, "--reg", "rsi=0x303c,rdi=0", "--host", "6.6,hz=1000"]);
    insta::assert_snapshot!(text);
}

#[test]
fn what_depends_on_registers_reads_well() {
    let (_folder, path) = place(&Elf::default());
    let address = hexadecimal(0x40_0000 + SPLIT);
    let text = explain(&[
        "--exe",
        text(&path),
        "--address",
        &address,
        "--host",
        "6.12",
    ]);
    let text = text.replace(path.parent().unwrap().to_str().unwrap(), "FOLDER");
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
    let words = flowing(&explain(&[BTS]));
    for part in [
        "Perhaps a split lock",
        "depends on rsi and rdi",
        "yes, by its LOCK prefix",
        "8 bytes at rsi + 8*floor(rdi/64)",
        "if its address mod 64 is 57..63",
        "if its address mod 4096 is 4089..4095",
        "--reg rsi=VALUE --reg rdi=VALUE",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    // lock xadd [rbx+1Eh],eax
    let words = flowing(&explain(&["f0 0f c1 43 1e"]));
    assert!(
        words.contains("is 61..63, which is if rbx mod 64 is 31..33"),
        "{words}"
    );
    // Aligned to its size, wherever RDI leads.
    let words = flowing(&explain(&[BTS, "--reg", "rsi=0x1000"]));
    assert!(words.starts_with("No split lock:"), "{words}");
    assert!(words.contains("whatever rdi may be"), "{words}");
}

#[test]
fn what_does_not_lock_is_told_from_what_must_not() {
    for (bytes, start, lock) in [
        (
            "48 89 3e",
            "No lock: `mov qword ptr [rsi],rdi` does not lock",
            "none",
        ),
        (
            "f0 48 89 3e",
            "No lock: `lock mov qword ptr [rsi],rdi` may not",
            "not-allowed",
        ),
        (
            "f0 48 0f c7 0e",
            "No split lock: `lock cmpxchg16b xmmword ptr [rsi]` faults unless",
            "prefix",
        ),
        (
            "48 87 3e",
            "Perhaps a split lock: `xchg qword ptr [rsi],rdi`",
            "xchg",
        ),
        (
            "8e d8",
            "Only in odd cases a split lock: `mov ds,eax`",
            "implicit",
        ),
        ("06 90", "No lock: that is no instruction", "no-instruction"),
    ] {
        let words = flowing(&explain(&[bytes]));
        assert!(words.starts_with(start), "{words}");
        assert_eq!(json(&[bytes])["lock"], lock);
    }
}

#[test]
fn a_kernels_code_line_can_be_piped_in() {
    let mut command = splitlock(&["explain", "-", "--reg", "rbx=0x100", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let line = "[ 1.5] Code: 55 48 89 e5 <f0> 0f c1 43 3e c3\n";
    child
        .stdin
        .take()
        .unwrap()
        .write_all(line.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["split"], "yes");
    assert_eq!(found["operand"]["first"], "0x13e");
    assert_eq!(found["operand"]["last"], "0x141");
    let around = found["around"].as_array().unwrap();
    let texts: Vec<_> = around.iter().map(|line| &line["text"]).collect();
    assert_eq!(
        texts,
        [
            "push rbp",
            "mov rbp,rsp",
            "lock xadd dword ptr [rbx+3Eh],eax",
            "ret"
        ]
    );
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
    let (_folder, path) = place(&Elf::default());
    let address = hexadecimal(0x40_0000 + SPLIT);
    let found = json(&[
        "--exe",
        text(&path),
        "--address",
        &address,
        "--reg",
        "rsi=0x3c,rdi=0",
    ]);
    assert_eq!(found["split"], "yes");
    let origin = &found["found_in"];
    assert_eq!(origin["symbol"]["name"], "split");
    assert_eq!(origin["symbol"]["offset"], 0);
    assert_eq!(origin["source"][0]["file"], "wait.s");
    assert_eq!(origin["source"][0]["line"], 20);
    assert_eq!(found["address"], address);
    let around = found["around"].as_array().unwrap();
    let here: Vec<_> = around.iter().filter(|line| line["here"] == true).collect();
    assert_eq!(here.len(), 1);
    assert_eq!(here[0]["bytes"], "f0480fab3e");
}

#[test]
fn a_program_of_32_bits_has_flat_segments() {
    let elf = Elf {
        is_64: false,
        ..Elf::default()
    };
    let (_folder, path) = place(&elf);
    let address = hexadecimal(0x40_0000 + SPLIT);
    let found = json(&[
        "--exe",
        text(&path),
        "--address",
        &address,
        "--reg",
        "esi=0x3e,edi=0",
    ]);
    assert_eq!(found["bits"], 32);
    assert_eq!(found["operand"]["sum"], "esi + 4*floor(edi/32)");
    assert_eq!(found["operand"]["first"], "0x3e");
    assert_eq!(found["split"], "yes");
}

#[test]
fn the_instruction_after_a_lock_leads_to_the_one_before() {
    let (_folder, path) = place(&Elf::default());
    // Bus locks are reported with the address of the next instruction.
    let next = hexadecimal(0x40_0000 + SPLIT + 5);
    let words = flowing(&explain(&["--exe", text(&path), "--address", &next]));
    assert!(words.starts_with("No lock: `ret` does not lock"), "{words}");
    assert!(words.contains("before it at 0x400109 locks"), "{words}");
    assert!(words.contains("took a bus_lock trap"), "{words}");
}

#[test]
fn an_address_after_loading_is_explained_with_what_is_assumed() {
    let elf = Elf {
        is_position_independent: true,
        base: 0,
        ..Elf::default()
    };
    let (_folder, path) = place(&elf);
    let at = |address: u64, more: &[&str]| {
        let address = hexadecimal(address);
        json(&[&["--exe", text(&path), "--address", &address], more].concat())
    };
    let guessed = at(0x7f12_3456_7000 + SPLIT, &[]);
    assert_eq!(guessed["found_in"]["address_in_file"], hexadecimal(SPLIT));
    assert!(
        guessed["assumed"][0]
            .as_str()
            .unwrap()
            .contains("the only one")
    );
    let told = at(0x7f12_3456_7000 + TEXT, &["--base", "0x7f1234567000"]);
    assert_eq!(told["found_in"]["address_in_file"], hexadecimal(TEXT));
    assert_eq!(told["assumed"].as_array().unwrap().len(), 0);
}

#[test]
fn names_cannot_steer_the_terminal() {
    let elf = Elf {
        symbols: vec![(b"\x1b[31mevil\n\xc2\x9b0m", SPLIT, 6)],
        ..Elf::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a\u{1b}[2Jb\nc");
    put(&path, &elf.bytes());
    let address = hexadecimal(0x40_0000 + SPLIT);
    let arguments = ["--exe", text(&path), "--address", &address];
    for more in [&[][..], &["--json"]] {
        let shown = explain(&[&arguments[..], more].concat());
        assert!(shown.contains("evil"), "{shown}");
        let hostile = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(hostile), "{shown:?}");
        assert!(
            !shown
                .lines()
                .any(|line| line.starts_with("c") && !line.contains(' '))
        );
    }
}

/// A program that waits, until it is dropped.
struct Waiting(Child);

impl Waiting {
    fn start(path: &Path) -> Self {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        loop {
            match Command::new(path).spawn() {
                Ok(child) => return Waiting(child),
                // Another test has started a program while this one was written.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn explain(&self, address: u64, more: &[&str]) -> Value {
        let (pid, address) = (self.0.id().to_string(), hexadecimal(address));
        json(&[&["--pid", &pid, "--address", &address], more].concat())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_address_in_a_process_is_explained_even_if_its_file_is_gone() {
    let (_folder, path) = place(&Elf::default());
    let process = Waiting::start(&path);
    let split = 0x40_0000 + SPLIT;
    let found = process.explain(split, &["--reg", "rsi=0x3c,rdi=0"]);
    assert_eq!(found["split"], "yes");
    assert_eq!(found["found_in"]["pid"], process.0.id());
    assert_eq!(found["found_in"]["file"], text(&path));
    assert_eq!(found["found_in"]["symbol"]["name"], "split");
    assert_eq!(
        found["around"].as_array().unwrap()[0]["text"],
        "lock bts qword ptr [rsi],rdi"
    );

    fs::remove_file(&path).unwrap();
    let found = process.explain(split, &[]);
    let gone = format!("{} (deleted)", text(&path));
    assert_eq!(found["found_in"]["file"], gone);
    assert_eq!(found["found_in"]["symbol"]["name"], "split");
    assert_eq!(found["split"], "depends");
}

#[test]
fn a_process_of_somebody_else_is_not_looked_at_and_who_may_is_said() {
    const SOMEBODY_ELSE: u32 = 65533;
    let (_folder, path) = place(&Elf::default());
    let process = Waiting::start(&path);
    let (pid, address) = (process.0.id().to_string(), hexadecimal(0x40_0000 + SPLIT));
    let mut command = splitlock(&["explain", "--pid", &pid, "--address", &address]);
    match command.uid(SOMEBODY_ELSE).output() {
        Ok(output) => {
            let sentence = complaint(&output);
            assert!(
                sentence.contains("one has to be root, or its user"),
                "{sentence}"
            );
            assert!(sentence.contains("ermission denied"), "{sentence}");
        }
        Err(error) => eprintln!("skipped: this test cannot be somebody else here: {error}"),
    }
}

#[test]
fn what_a_process_does_not_have_is_named() {
    let (_folder, path) = place(&Elf::default());
    let process = Waiting::start(&path);
    let pid = process.0.id().to_string();
    for (pid, address, part) in [
        (&pid[..], "0x10", "nothing mapped at 0x10"),
        ("4294967295", "0x10", "there is no process"),
    ] {
        let sentence = fail(&["explain", "--pid", pid, "--address", address]);
        assert!(sentence.contains(part), "{sentence}");
    }
}
