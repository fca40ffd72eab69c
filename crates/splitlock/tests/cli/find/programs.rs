//! What is found in one program.

use std::collections::BTreeSet;
use std::io::Read;

use rustix::process::Signal;
use serde_json::Value;

use super::super::{begun, signal};
use super::{find, found, needs_emulator, number, output, program, said, sites, text};

/// All twelve that split, and none of the near ones.
fn expect_all(found: &Value, count: u64, threads: u64) {
    let sites = sites(found);
    assert_eq!(sites.len(), 12, "{found}");
    assert_eq!(found["complete"], true);
    for site in sites {
        assert_eq!(
            (number(&site["count"]), number(&site["threads"])),
            (count, threads),
            "{site}"
        );
    }
    let name = |site: &Value| site["function"]["name"].as_str().map(str::to_owned);
    let named: BTreeSet<_> = sites.iter().filter_map(name).collect();
    assert_eq!(
        named.len(),
        11,
        "all but the code that was generated: {named:?}"
    );
    assert!(
        named.iter().all(|name| name.starts_with("split_")),
        "{named:?}"
    );
    let across: Vec<_> = sites
        .iter()
        .filter(|site| site["across_pages"] != 0)
        .collect();
    assert_eq!(across.len(), 1);
    assert_eq!(across[0]["function"]["name"], "split_page");
    assert_eq!(number(&across[0]["across_pages"]), count);
}

#[test]
fn every_kind_of_split_lock_is_found_and_counted_and_no_other() {
    needs_emulator!();
    let (found, code) = found(&[&program("sites"), "1000", "1"]);
    assert_eq!(code, Some(0));
    expect_all(&found, 1000, 1);
}

#[test]
fn counts_are_exact_with_many_threads() {
    needs_emulator!();
    let (result, _) = found(&[&program("sites"), "200", "8"]);
    expect_all(&result, 1600, 8);
}

#[test]
fn a_thousand_threads_are_counted() {
    needs_emulator!();
    let (result, _) = found(&[&program("sites"), "1", "1000"]);
    expect_all(&result, 1000, 1000);
}

#[test]
fn lines_modules_and_operands_are_named() {
    needs_emulator!();
    let (found, _) = found(&[&program("sites"), "3", "1"]);
    let site = |name: &str| {
        let mut all = sites(&found).iter();
        all.find(|site| site["function"]["name"] == name).unwrap()
    };
    let library = site("split_in_library");
    assert!(
        text(&library["module"]).ends_with("/libsites.so"),
        "{library}"
    );
    assert!(
        text(&library["source"][0]["file"]).ends_with("/library.c"),
        "{library}"
    );
    assert_eq!(library["source"][0]["line"], 4);
    let inc = site("split_inc");
    assert_eq!(inc["operand"]["variable"], "global");
    assert_eq!(
        (
            inc["operand"]["offset"].as_u64(),
            inc["operand"]["offset_in_line"].as_u64()
        ),
        (Some(62), Some(62))
    );
    assert_eq!(site("split_stack")["operand"]["kind"], "stack");
    assert_eq!(site("split_heap")["operand"]["kind"], "heap");
    assert_eq!(
        site("split_bts")["instruction"]["text"],
        "lock bts dword ptr [rdi],edx"
    );
    let generated = sites(&found)
        .iter()
        .find(|site| site["function"].is_null())
        .unwrap();
    assert_eq!(generated["module"], Value::Null);
    assert_eq!(generated["instruction"]["bytes"], "f0ff07");
}

#[test]
fn a_program_of_32_bits_has_its_own_emulator() {
    needs_emulator!();
    let (found, code) = found(&[&program("small32")]);
    assert_eq!(code, Some(7));
    let [site] = sites(&found) else {
        panic!("{found}")
    };
    assert_eq!(
        (site["count"].as_u64(), site["instruction"]["bits"].as_u64()),
        (Some(100), Some(32))
    );
}

#[test]
fn a_static_program_is_watched() {
    needs_emulator!();
    let (found, code) = found(&[&program("static"), "5"]);
    assert_eq!((sites(&found).len(), code), (1, Some(5)));
}

#[test]
fn nothing_is_lost_when_a_program_crashes_or_is_killed() {
    needs_emulator!();
    for (how, expected) in [("crash", 139), ("killed", 137)] {
        let (found, code) = found(&[&program("exec"), how]);
        assert_eq!(code, Some(expected), "{how}");
        assert_eq!(number(&sites(&found)[0]["count"]), 1, "{how}");
    }
}

#[test]
fn code_that_modifies_itself_is_two_instructions() {
    needs_emulator!();
    let (found, _) = found(&[&program("exec"), "modify"]);
    let mut of: Vec<_> = sites(&found)
        .iter()
        .map(|site| (text(&site["instruction"]["bytes"]), number(&site["count"])))
        .collect();
    of.sort_unstable();
    assert_eq!(
        of,
        [
            ("f00fff00".replace("0f", "").as_str(), 1),
            ("f0ff07", 3),
            ("f0ff0f", 5)
        ]
    );
}

#[test]
fn forks_count_together() {
    needs_emulator!();
    let (found, _) = found(&[&program("exec"), "fork"]);
    let [site] = sites(&found) else {
        panic!("{found}")
    };
    assert_eq!((number(&site["count"]), number(&site["threads"])), (3, 2));
}

#[test]
fn a_program_without_split_locks_has_none() {
    needs_emulator!();
    let output = output(&[], &["true"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        said(&output).starts_with("no instruction split a lock in 1 program\n"),
        "{}",
        said(&output)
    );
}

#[test]
fn ctrl_c_ends_the_program_and_tells_what_was_seen() {
    needs_emulator!();
    let mut child = begun(find(&[], &[&program("exec"), "forever"]));
    signal(&child, Signal::INT);
    let mut page = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut page)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        page.contains("1 instruction split locks, 1 time, in 1 program"),
        "{page}"
    );
}

#[test]
fn what_stays_the_same_is_printed_the_same() {
    needs_emulator!();
    let page = || said(&output(&[], &[&program("sites"), "5", "1"]));
    assert_eq!(page(), page());
}
