//! What is advised where.

use super::*;
use crate::Root;

/// As root. What can be done without is first.
fn first_fix_as_root(release: &str, cpus: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("proc/sys/kernel/osrelease", release),
        ("proc/sys/kernel/split_lock_mitigate", "1\n"),
        ("proc/cpuinfo", cpus),
    ] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(path, text).unwrap();
    }
    let facts = Facts::read(&Root::open(root.path()).unwrap());
    let fixes = fixes(Condition::Livelock, &facts, None);
    assert!(fixes[0].steps[0].command.starts_with("splitlock run"));
    fixes[1].steps[0].command.clone()
}

#[test]
fn relief_comes_first_where_no_cpu_can_be_forgotten() {
    let (relief, off) = (
        "sudo splitlock watch --relieve",
        "sudo sysctl kernel.split_lock_mitigate=0",
    );
    let two = "processor : 0\nprocessor : 1\n";
    assert_eq!(first_fix_as_root("7.3.4", two), relief);
    assert_eq!(first_fix_as_root("6.12.50", "processor : 0\n"), relief);
    assert_eq!(first_fix_as_root("6.12.50", two), off);
}
