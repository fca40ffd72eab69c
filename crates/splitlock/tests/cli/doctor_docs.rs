//! docs/doctor.md and contrib/ against what `splitlock doctor` really says, of all captured machines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{names_in, run};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap()
}

/// What is said of each fixture, and the exit code.
fn of_all(format: &str) -> Vec<(String, i32)> {
    let fixtures = project().join("fixtures");
    let folders = names_in(&fixtures)
        .into_iter()
        .filter(|name| name != "pasted" && name != "sent");
    let folders = folders
        .map(|name| fixtures.join(name))
        .filter(|path| path.is_dir());
    let output = folders.map(|path| {
        let root = path.to_str().unwrap();
        let output = run(&["doctor", "--root", root, "--format", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.code().unwrap())
    });
    output.collect()
}

fn json_of_all() -> Vec<(Value, i32)> {
    let texts = of_all("json").into_iter();
    texts
        .map(|(text, code)| (serde_json::from_str(&text).unwrap(), code))
        .collect()
}

/// The rows below a heading of the page, without the table's own head, as cells.
fn table(path: &str, heading: &str) -> Vec<Vec<String>> {
    let page = read(path);
    let (_, section) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.skip(1)
        .map(|row| row.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// What stands between backticks.
fn code_in(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Names of metrics, and of their labels.
type Metrics = BTreeMap<String, BTreeSet<String>>;

fn metrics_of_all() -> Metrics {
    let mut metrics = Metrics::new();
    for (text, _) in of_all("prometheus") {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split("\",");
            let names = labels.filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()));
            metrics.entry(name.to_owned()).or_default().extend(names);
        }
    }
    metrics
}

#[test]
fn every_metric_is_documented_and_there_is_no_other() {
    let heading = "## `splitlock doctor --format prometheus`";
    let rows = table("contrib/prometheus/README.md", heading).into_iter();
    let documented: Metrics = rows
        .map(|row| {
            let [name] = &code_in(&row[0])[..] else {
                panic!("{row:?}")
            };
            (name.clone(), code_in(&row[1]).into_iter().collect())
        })
        .collect();
    assert_eq!(metrics_of_all(), documented);
}

#[test]
fn every_condition_is_documented_with_its_exit_code() {
    let rows = table("docs/doctor.md", "## Verdicts").into_iter();
    let documented: BTreeSet<(Vec<String>, i32)> = rows
        .map(|row| (code_in(&row[0]), row[1].parse().unwrap()))
        .collect();
    let mut met = BTreeSet::new();
    // Machines that are there, and one of which there is only a log.
    let log = project().join("fixtures/sent/dmesg-coffee-lake.txt");
    let output = run(&["doctor", "--from", log.to_str().unwrap(), "--json"]);
    let of_log = serde_json::from_slice(&output.stdout).unwrap();
    let all = json_of_all().into_iter();
    for (found, code) in all.chain([(of_log, output.status.code().unwrap())]) {
        let condition = &found["verdict"]["condition"];
        let words = [&condition["is"], &condition["because"]].into_iter();
        let words: Vec<String> = words
            .filter_map(|word| Some(word.as_str()?.to_owned()))
            .collect();
        met.insert((words, code));
    }
    assert_eq!(met, documented);
}

#[test]
fn every_basis_is_documented_and_there_is_no_other() {
    let rows = table("docs/doctor.md", "## How sure").into_iter();
    let documented: BTreeSet<String> = rows.flat_map(|row| code_in(&row[0])).collect();
    let found = json_of_all().into_iter();
    let met = found.map(|(found, _)| found["verdict"]["basis"].as_str().unwrap().to_owned());
    assert_eq!(met.collect::<BTreeSet<_>>(), documented);
}

#[test]
fn every_answer_is_documented_with_its_exit_code() {
    let rows = table("docs/doctor.md", "## Exit codes").into_iter();
    let documented: BTreeSet<(String, String)> = rows
        .filter_map(|row| Some((code_in(&row[1]).first()?.clone(), row[0].clone())))
        .collect();
    let found = json_of_all().into_iter();
    let met = found.map(|(found, code)| {
        let answer = found["answer"].as_str().unwrap();
        (answer.to_owned(), code.to_string())
    });
    assert_eq!(met.collect::<BTreeSet<_>>(), documented);
}

#[test]
fn the_fields_of_the_json_are_documented() {
    let rows = table("docs/doctor.md", "## JSON");
    let documented: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| row.iter().flat_map(|cell| code_in(cell)))
        .collect();
    for (found, _) in json_of_all() {
        let facts = &found["facts"];
        for part in [
            &found,
            facts,
            &facts["kvm"],
            &found["verdict"],
            &found["who"],
        ] {
            for field in part.as_object().unwrap().keys() {
                assert!(documented.contains(field), "{field}");
            }
        }
        for fix in found["verdict"]["fixes"].as_array().unwrap() {
            for field in fix.as_object().unwrap().keys() {
                assert!(documented.contains(field), "{field}");
            }
        }
    }
}

/// The page that is shown is the one that is printed.
#[test]
fn the_example_is_real() {
    let page = read("docs/doctor.md");
    let (_, example) = page.split_once("```text\n$ splitlock ").unwrap();
    let (command, expected) = example.split_once('\n').unwrap();
    let expected = expected.split("```").next().unwrap();
    let command = command.replace("fixtures/", &format!("{}/fixtures/", project().display()));
    let arguments: Vec<&str> = command.split(' ').collect();
    let printed = String::from_utf8(run(&arguments).stdout).unwrap();
    assert!(printed.starts_with(expected), "{printed}");
}

/// Everything in a text that looks like one of our metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("splitlock_"))
        .map(str::to_owned)
        .collect()
}

/// As its page names them, which is held to what it serves by a test of its own.
fn metrics_of_watch() -> BTreeSet<String> {
    let page = read("contrib/prometheus/README.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("splitlock_watch_"))
        .collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let mut emitted: BTreeSet<String> = metrics_of_all().into_keys().collect();
    emitted.extend(metrics_of_watch());
    for path in [
        "contrib/prometheus/splitlock.rules.yml",
        "contrib/prometheus/splitlock.rules.test.yml",
        "contrib/grafana/splitlock.json",
    ] {
        let asked = metrics_in(&read(path));
        assert!(!asked.is_empty(), "{path}");
        let unknown: Vec<_> = asked.difference(&emitted).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}

#[test]
fn the_dashboard_shows_every_metric_in_panels_of_their_own() {
    let text = read("contrib/grafana/splitlock.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len());
    let mut shown = BTreeSet::new();
    for panel in panels {
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string(), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            shown.extend(metrics_in(target["expr"].as_str().unwrap()));
        }
    }
    let mut expected: BTreeSet<String> = metrics_of_all().into_keys().collect();
    // That is whether the counts are of the whole time, and on nobody's mind for long.
    expected.remove("splitlock_log_complete");
    // Of the watch it shows a choice.
    let of_watch = metrics_of_watch();
    assert!(!shown.is_disjoint(&of_watch));
    assert_eq!(&shown - &of_watch, expected);
}

/// The command of the unit is one that works, and none of its answers is a failure.
#[test]
fn the_unit_runs_a_command_that_there_is() {
    let unit = read("contrib/systemd/splitlock-doctor.service");
    let setting = |name: &str| {
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        unit.lines().find_map(value).unwrap()
    };
    let command = setting("ExecStart");
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("splitlock"));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("splitlock.prom");
    let mut arguments: Vec<&str> = words.collect();
    let place = arguments.last_mut().unwrap();
    assert!(place.starts_with(&setting("ReadWritePaths")), "{place}");
    *place = out.to_str().unwrap();
    let good = setting("SuccessExitStatus");
    let good: BTreeSet<i32> = good.split(' ').map(|code| code.parse().unwrap()).collect();
    assert_eq!(good, [1, 3].into());
    for fixture in ["zen-2", "tiger-lake-6.6", "guest"] {
        let root = project().join("fixtures").join(fixture);
        let output = run(&[&arguments[..], &["--root", root.to_str().unwrap()]].concat());
        let code = output.status.code().unwrap();
        assert!(code == 0 || good.contains(&code), "{output:?}");
        let text = fs::read_to_string(&out).unwrap();
        assert!(text.contains(&format!("splitlock_verdict_exit_code {code}\n")));
    }
}

/// Whatever is wrong with arguments is said before help that is asked for behind them.
#[test]
fn commands_of_units_and_of_the_daemon_set_are_understood() {
    let mut commands = Vec::new();
    for unit in ["splitlock-doctor", "splitlock-relieve"] {
        let unit = read(&format!("contrib/systemd/{unit}.service"));
        let lines = unit.lines().filter(|line| line.starts_with("Exec"));
        let values = lines.filter_map(|line| line.split_once('='));
        commands.extend(values.map(|(_, command)| command.trim_start_matches('-').to_owned()));
    }
    let set = read("contrib/kubernetes/daemonset.yml");
    let (_, list) = set.split_once("command: [splitlock, ").unwrap();
    let list = list.split_once(']').unwrap().0;
    commands.push(format!("splitlock {}", list.replace([',', '"'], "")));
    let (_, doctor) = set.split_once("do splitlock doctor").unwrap();
    commands.push(format!(
        "splitlock doctor{}",
        doctor.split_once(';').unwrap().0
    ));
    assert_eq!(commands.len(), 5, "{commands:?}");
    for command in commands {
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("splitlock"));
        let arguments: Vec<&str> = words.chain(["--help"]).collect();
        let output = run(&arguments);
        assert!(output.status.success(), "{command}: {output:?}");
    }
}
