//! The pages as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page below a folder, but for what was built.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && !path.is_symlink() && name != "target" && name != ".git" {
            pages(&path, found);
        } else if name.ends_with(".md") && !path.is_symlink() {
            found.push(path);
        }
    }
}

fn words(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().split_whitespace().count()
}

/// As a code host makes them of headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let texts = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    texts
        .map(|text| text.chars().filter_map(kept).collect())
        .collect()
}

/// What stands behind `](`, outside of code.
fn links(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    let parts = prose.flat_map(|text| text.split("](").skip(1));
    parts
        .filter_map(|part| part.split_once(')'))
        .map(|(link, _)| link)
        .collect()
}

#[test]
fn a_stranger_gets_the_point_from_one_page_and_all_from_fourteen_thousand_words() {
    assert!(words(&root().join("README.md")) <= 900);
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let total: usize = docs.map(|path| words(&path)).sum();
    assert!(total <= 14_000, "{total}");
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = Vec::new();
    pages(&root(), &mut found);
    assert!(found.len() > 20);
    let mut count = 0;
    for path in found {
        let page = fs::read_to_string(&path).unwrap();
        for link in links(&page).into_iter().filter(|link| !link.contains(':')) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let page = fs::read_to_string(&target).unwrap();
                assert!(
                    anchors(&page).contains(anchor),
                    "{}: {link}",
                    path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 50);
}
