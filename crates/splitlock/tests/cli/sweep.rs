//! `splitlock sweep`

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use split_lock_repro::results::{CSV_COLUMNS, Sweep};
use split_lock_repro::summary::curves;

use super::{fail, names_in, needs_kvm, put, read_csv, signal, splitlock, succeed};

/// What a sweep with these options measures.
fn swept(options: &str) -> Sweep {
    let command = format!("sweep {options} --csv -");
    let csv = succeed(&command.split(' ').collect::<Vec<_>>());
    Sweep::read_csv(csv.as_bytes()).unwrap()
}

fn guests(sweep: &Sweep) -> Vec<String> {
    let curves = curves(sweep).into_iter();
    curves.map(|curve| curve.guest).collect()
}

/// What a sweep says that Ctrl-C has ended after a second.
fn interrupted(options: &str, csv: &Path) -> String {
    let command = format!("sweep --guest aligned {options} --csv");
    let child = splitlock(&command.split(' ').collect::<Vec<_>>())
        .arg(csv)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    signal(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_sweep_is_written_as_table_and_as_json_and_drawn() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let (csv, json) = (folder.path().join("a.csv"), folder.path().join("a.json"));
    let options = "sweep --guest none,aligned --timeouts 1ms..3ms/1ms --repeat 2 --seed 7";
    let mut arguments: Vec<&str> = options.split(' ').collect();
    arguments.extend(["--csv", csv.to_str().unwrap()]);
    arguments.extend(["--json", json.to_str().unwrap()]);
    let chart = succeed(&arguments);
    assert!(chart.contains("pending timeout (ms)"), "{chart}");

    let text = std::fs::read_to_string(&csv).unwrap();
    let header = text.lines().find(|line| !line.starts_with('#')).unwrap();
    assert_eq!(header, CSV_COLUMNS.join(","));
    assert_eq!(
        header,
        "series,guest,host,vcpu,timeout_ns,run,turns,elapsed_ns,cpu_ns,exits,outcome"
    );

    let sweep = read_csv(&csv);
    assert_eq!(sweep.samples.len(), 2 * 3 * 2);
    let provenance = sweep.provenance.as_ref().unwrap();
    assert_eq!(provenance.seed, 7);
    assert_eq!(provenance.command[1..], arguments);
    let detection = &provenance.host.detection;
    assert!(detection.starts_with("split-lock detection: "));
    assert_eq!(sweep.stopped_early(), Some(false));
    let from_json = Sweep::read_json(std::fs::File::open(&json).unwrap()).unwrap();
    assert_eq!(from_json, sweep);
}

#[test]
fn the_same_seed_gives_the_same_order() {
    needs_kvm!();
    let order = |seed: &str| {
        let sweep = swept(&format!(
            "--guest none --timeouts 1ms..9ms/1ms --seed {seed}"
        ));
        let samples = sweep.samples.into_iter();
        samples.map(|s| (s.timeout_ns, s.run)).collect::<Vec<_>>()
    };
    assert_eq!(order("1"), order("1"));
    assert_ne!(order("1"), order("2"));
}

/// Several hundred times on hardware without detection; with detection split is slower still.
#[test]
fn the_aligned_guest_is_many_times_faster() {
    needs_kvm!();
    let sweep = swept("--guest split,aligned --timeouts 10ms..40ms/10ms");
    let curves = curves(&sweep);
    let turns = |guest: &str| {
        let curve = curves.iter().find(|curve| curve.guest == guest).unwrap();
        let points = curve.points.iter();
        points.map(|point| point.turns.median).sum::<f64>()
    };
    assert!(turns("aligned") > 50.0 * turns("split"), "{curves:?}");
}

#[test]
fn offsets_and_neighbours_become_series() {
    needs_kvm!();
    let sweep = swept("--offsets 56,57 --timeouts 5ms");
    assert_eq!(guests(&sweep), ["split@56", "split@57"]);

    let sweep = swept("--guest none --vcpus 2 --neighbour aligned --timeouts 5ms");
    let series: Vec<_> = curves(&sweep)
        .into_iter()
        .map(|curve| (curve.series, curve.guest, curve.vcpu))
        .collect();
    let measured = |condition: &str| format!("measured (native){condition}");
    assert_eq!(
        series,
        [
            (measured(""), "none".into(), 0),
            (measured("; beside 1 x aligned"), "none".into(), 0),
            (measured("; beside 1 x none"), "aligned".into(), 1),
        ]
    );
}

#[test]
fn sparse_guests_are_swept_with_their_work_in_their_names() {
    needs_kvm!();
    let sweep = swept("--guest sparse:100us --offsets 0,60 --timeouts 20ms");
    assert_eq!(guests(&sweep), ["sparse:100us@0", "sparse:100us@60"]);
    let provenance = sweep.provenance.as_ref().unwrap();
    assert!(provenance.work_turns_per_second["cpl3"] > 0, "{sweep:?}");
    let unsplit = sweep.samples.iter().filter(|s| s.guest.ends_with("@0"));
    let turns: u64 = unsplit.map(|sample| sample.turns).sum();
    assert!(turns > 0, "{sweep:?}");
}

#[test]
fn vcpus_that_contend_are_swept_together() {
    needs_kvm!();
    let sweep = swept("--guest contend --vcpus 2 --timeouts 20ms");
    let vcpus: Vec<_> = curves(&sweep)
        .into_iter()
        .map(|curve| (curve.series, curve.vcpu))
        .collect();
    let series = "measured (native); beside 1 x contend";
    assert_eq!(vcpus, [(series.into(), 0), (series.into(), 1)]);
}

#[test]
fn ctrl_c_leaves_complete_files_of_what_was_measured() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("a.csv");
    let stderr = interrupted("--timeouts 10ms --repeat 100000", &csv);
    let last = stderr.lines().last().unwrap();
    assert!(last.contains("stopped after"), "{last}");
    let sweep = read_csv(&csv);
    assert!(!sweep.samples.is_empty());
    assert_eq!(sweep.stopped_early(), Some(true));
}

#[test]
fn ctrl_c_before_anything_was_measured_leaves_nothing_and_what_was_there() {
    needs_kvm!();
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("a.csv");
    put(&csv, b"precious");
    interrupted("--timeouts 600s", &csv);
    assert_eq!(std::fs::read(&csv).unwrap(), b"precious");
    assert_eq!(names_in(folder.path()), ["a.csv"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    needs_kvm!();
    let options = "sweep --guest none --timeouts 1us --repeat 20000 --csv -";
    let mut child = splitlock(&options.split(' ').collect::<Vec<_>>())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.starts_with("# splitlock-sweep"), "{first}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_model_is_swept_like_a_host_and_named() {
    let sweep = swept("--on model --host 6.6,hz=1000 --timeouts 5ms,40ms");
    for sample in &sweep.samples {
        assert_eq!(sample.series, "modelled (6.6,hz=1000)");
        assert_eq!(sample.host, "6.6,hz=1000");
        let is_short = sample.timeout_ns < 10_000_000;
        assert_eq!(sample.turns == 0, is_short, "{sample:?}");
    }
}

#[test]
fn a_real_guest_meets_another_kernels_detection() {
    needs_kvm!();
    let sweep = swept("--host 6.6,hz=250 --timeouts 1ms,60ms --repeat 2");
    assert_eq!(sweep.samples.len(), 4);
    for sample in &sweep.samples {
        assert_eq!(sample.series, "measured (trap emulated: 6.6,hz=250)");
        assert_eq!(sample.host, "6.6,hz=250");
        // On a busy machine the run of 1 ms may have been longer than the kernel's sleep.
        let enough = sample.elapsed_ns > 12_000_000;
        assert!(enough || sample.turns == 0, "{sample:?}");
    }
}

#[test]
fn program_is_measured_with_each_timer_without_kvm() {
    let sweep = swept(
        "--program --timer thread-cpu,itimer-real --host 6.12,hz=250 --timeouts 2ms,20ms --repeat 1 \
         --length 60ms --seed 1",
    );
    let guests = guests(&sweep);
    assert_eq!(sweep.samples.len(), 4);
    for timer in ["program:itimer-real", "program:thread-cpu"] {
        assert!(guests.iter().any(|guest| guest == timer), "{guests:?}");
    }
    for sample in &sweep.samples {
        assert!(sample.elapsed_ns >= 60_000_000, "{sample:?}");
        assert!(sample.series.contains("trap emulated: 6.12,hz=250"));
    }
}

#[test]
fn program_on_the_model_stands_still_under_a_timer_on_time_only() {
    let sweep = swept(
        "--program --on model --timer itimer-real,monotonic,process-cpu,thread-cpu,none \
         --host 6.12,hz=250 --timeouts 2ms --seed 1",
    );
    assert_eq!(sweep.samples.len(), 25);
    for sample in &sweep.samples {
        let stands_still = ["program:itimer-real", "program:monotonic"].contains(&&*sample.guest);
        assert_eq!(sample.turns == 0, stands_still, "{sample:?}");
    }
}

#[test]
fn program_that_cannot_be_measured_is_refused_with_the_reason() {
    for (options, reason) in [
        ("--program --guest split", "--guest"),
        ("--program --vcpus 2", "--vcpus"),
        ("--timer none", "--program"),
        ("--length 1s", "--program"),
        ("--program --timer soon", "there is no timer `soon`"),
        ("--program --length 0ms", "more than nothing"),
        (
            "--program --length 1ms --timeouts 2ms",
            "make the runs longer",
        ),
        ("--program --length 9000s --timeouts 1ms", "too long"),
        (
            "--program --timer itimer-real --timeouts 500ns",
            "setitimer counts whole microseconds",
        ),
        ("--program --timeouts 0us", "a duration of zero"),
        (
            "--program --host 6.12,mode=fatal --timeouts 1ms --repeat 1",
            "SIGBUS",
        ),
        (
            "--program --on model --host 6.12,mode=fatal --timeouts 1ms",
            "SIGBUS",
        ),
    ] {
        let command = format!("sweep {options}");
        let said = fail(&command.split(' ').collect::<Vec<_>>());
        assert!(said.contains(reason), "{options}: {said}");
    }
}
