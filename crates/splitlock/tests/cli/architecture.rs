//! docs/architecture.md says which crate depends on which; so does cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What each crate of the workspace depends on among the others.
type Arrows = BTreeMap<String, BTreeSet<String>>;

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn page() -> String {
    std::fs::read_to_string(workspace().join("docs/architecture.md")).unwrap()
}

/// The lines `crate -> crate, crate` of the page's first block of code.
fn arrows_on_the_page() -> Arrows {
    let page = page();
    let block = page.split("```").nth(1).expect("a block of code");
    let arrows = block.lines().filter_map(|line| line.split_once("->"));
    arrows
        .map(|(from, to)| {
            let to = to.split(',').map(str::trim).filter(|name| !name.is_empty());
            (from.trim().to_owned(), to.map(str::to_owned).collect())
        })
        .collect()
}

/// Dependencies of tests and benchmarks are no arrows: nobody who uses a crate gets them.
fn arrows_of_cargo() -> Arrows {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        let normal = all.filter(|dependency| dependency["kind"].is_null());
        normal
            .map(name)
            .filter(|name| ours.contains(name))
            .collect()
    };
    let arrows = packages
        .iter()
        .map(|package| (name(package), dependencies(package)));
    arrows.collect()
}

#[test]
fn the_arrows_of_the_page_are_those_of_the_workspace() {
    assert_eq!(arrows_on_the_page(), arrows_of_cargo());
}

#[test]
fn every_crate_has_a_row_in_the_table() {
    let page = page();
    for name in arrows_of_cargo().keys() {
        let row = format!("\n| `{name}` |");
        assert_eq!(page.matches(&row).count(), 1, "{name}");
    }
}

/// A page that names a file which was moved misleads.
#[test]
fn every_path_on_the_page_exists() {
    let page = page();
    let names = page.split('`').skip(1).step_by(2);
    let paths = names.filter(|name| name.contains('/') && !name.contains(char::is_whitespace));
    let mut count = 0;
    for path in paths.filter(|path| !path.starts_with('/')) {
        assert!(workspace().join(path).exists(), "{path}");
        count += 1;
    }
    assert!(count > 0, "no path was found");
}
