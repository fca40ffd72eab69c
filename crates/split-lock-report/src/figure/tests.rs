//! What every picture must hold to, whatever it shows.

use super::fixtures::{self, every_figure};
use super::font;
use super::scene::{Align, Scene, Shape};
use super::*;
use split_lock_model::machine::{CpuId, Topology};
use split_lock_model::policy::{Alternative, Comparison};
use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec};
use split_lock_model::time::Nanos;

fn words(svg: &str) -> String {
    let document = roxmltree::Document::parse(svg).expect("well-formed");
    let texts = document
        .descendants()
        .filter(|node| node.has_tag_name("text"));
    texts
        .filter_map(|node| node.text())
        .flat_map(str::split_whitespace)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn an_svg_says_all_that_its_figure_says() {
    for (name, figure) in every_figure() {
        let words = words(&figure.picture().svg().unwrap());
        let curves = figure.curves().map(|curve| &curve.name);
        let labels = figure.panels.iter().map(|panel| &panel.y.label);
        let all = figure
            .detection
            .iter()
            .chain(&figure.notes)
            .chain([&figure.title, &figure.x.label])
            .chain(labels)
            .chain(curves);
        // A word too long for its line is broken; the letters are all there.
        let letters = words.replace(' ', "");
        for text in all {
            assert!(letters.contains(&text.replace(' ', "")), "{name}: {text}");
        }
    }
}

#[test]
fn axes_have_units() {
    let label = |figure: &Figure| (figure.x.label.clone(), figure.panels[0].y.label.clone());
    let (x, y) = label(&Figure::progress(&[fixtures::native()]).unwrap());
    assert_eq!((&*x, &*y), ("pending timeout (ms)", "turns per run"));
    let (x, y) = label(&Figure::offsets(&fixtures::offsets()).unwrap());
    assert!(x.ends_with("(bytes)") && y.starts_with("turns per second"));
    let tiny = Figure::progress(&[fixtures::lonely()]).unwrap();
    assert_eq!(tiny.x.label, "pending timeout (µs)");
}

#[test]
fn no_rate_is_claimed_of_a_guest_whose_turns_do_not_depend_on_the_timeout() {
    let granted = [795_211, 795_304, 794_877, 795_190, 795_002];
    let samples = (1..)
        .zip(granted)
        .map(|(ms, turns)| fixtures::sample(fixtures::NATIVE, "split", ms * 1_000_000, 0, turns));
    let figure = Figure::progress(&[fixtures::sweep(samples.collect())]).unwrap();
    let curve = figure.curves().next().unwrap();
    assert_eq!(curve.facts, "independent of the timeout");
    assert_eq!(curve.line, None);
    assert!(figure.notes[0].contains("Independent of the timeout: "));
    let steady = Figure::progress(&[fixtures::native()]).unwrap();
    assert!(!steady.notes[0].contains("Independent"));
}

#[test]
fn an_svg_names_only_a_generic_font_and_no_other_document() {
    for (name, figure) in every_figure() {
        let svg = figure.picture().svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        for node in document.descendants() {
            if let Some(family) = node.attribute("font-family") {
                assert_eq!(family, "sans-serif", "{name}");
            }
            assert!(node.attribute("href").is_none(), "{name}");
        }
    }
}

/// Left, top, right, bottom.
type Area = [f64; 4];

fn text_areas(scene: &Scene) -> Vec<(Area, &str)> {
    let texts = scene.shapes.iter().filter_map(|shape| match shape {
        Shape::Text(text) => Some(text),
        _ => None,
    });
    texts
        .map(|text| {
            let width = font::width(&text.text, text.size);
            let left = match text.align {
                Align::Left => text.at.0,
                Align::Center => text.at.0 - width / 2.0,
                Align::Right => text.at.0 - width,
            };
            let half = text.size * 0.55;
            let area = [left, text.at.1 - half, left + width, text.at.1 + half];
            (area, text.text.as_str())
        })
        .collect()
}

fn every_picture() -> Vec<(String, Picture)> {
    let scenario = |ms, threads| {
        let guest = Program::split_loop(Nanos(1_000)).unwrap();
        let budget = Budget::Relative(Nanos::from_micros(ms));
        let task = |cpu| {
            TaskSpec::vcpu(guest, budget)
                .named(format!("vCPU {cpu}"))
                .on(CpuId(cpu))
        };
        let machine = Topology::new(threads, 1).unwrap();
        let mut scenario = Scenario::new(machine, (0..threads).map(task).collect());
        scenario.horizon = Nanos::from_secs(1);
        scenario
    };
    let timelines = [
        ("6.6,hz=1000", vec![scenario(1_000, 1), scenario(15_000, 1)]),
        (
            "6.12,hz=250",
            vec![scenario(20, 2), scenario(30_000_000, 9)],
        ),
        ("6.12,hz=100,mitigate=0", vec![scenario(700, 1)]),
        ("6.6,hz=300,mode=fatal", vec![scenario(9_000, 3)]),
    ];
    let mut pictures = vec![];
    for (kernel, scenarios) in timelines {
        let picture = livelock_timeline(&kernel.parse().unwrap(), &scenarios).unwrap();
        pictures.push((kernel.to_owned(), picture));
    }
    let plan = Comparison {
        timeouts: vec![Nanos::from_millis(1), Nanos::from_millis(20)],
        attack_timers: vec![Nanos::from_micros(100)],
        horizon: Nanos::from_millis(200),
        phases: 1,
        ..Comparison::default()
    };
    let kernel = "6.15,hz=250".parse().unwrap();
    let assess = |policy| plan.assess(policy, &kernel).unwrap();
    let found = Alternative::ALL.map(assess);
    let picture = policies(&kernel, &plan, &found);
    pictures.push(("policies".into(), picture));
    pictures
}

#[test]
fn no_text_overlaps_another_or_leaves_the_picture() {
    let figures = every_figure().into_iter();
    let figures = figures.map(|(name, figure)| (name.to_owned(), figure.picture().0));
    let pictures = every_picture().into_iter();
    let pictures = pictures.map(|(name, picture)| (name, picture.0));
    for (name, scene) in figures.chain(pictures) {
        let areas = text_areas(&scene);
        for (index, (a, text)) in areas.iter().enumerate() {
            let inside = a[0] >= 0.0 && a[1] >= 0.0 && a[2] <= scene.width && a[3] <= scene.height;
            assert!(inside, "{name}: {text:?} at {a:?}");
            for (b, other) in &areas[..index] {
                let apart = a[0] >= b[2] || b[0] >= a[2] || a[1] >= b[3] || b[1] >= a[3];
                assert!(apart, "{name}: {text:?} and {other:?}");
            }
        }
    }
}

#[test]
fn only_annotations_are_written_among_the_curves() {
    for (name, figure) in every_figure() {
        let annotations: Vec<&str> = figure
            .panels
            .iter()
            .flat_map(|panel| &panel.annotations)
            .flat_map(|annotation| annotation.lines.iter().map(String::as_str))
            .collect();
        let scene = figure.picture().0;
        let marks = scene.shapes.iter().filter_map(|shape| match shape {
            Shape::Disc { center, radius, .. } if *radius < 4.0 => Some(*center),
            _ => None,
        });
        let marks: Vec<_> = marks.collect();
        for ((area, text), mark) in text_areas(&scene)
            .into_iter()
            .flat_map(|text| marks.iter().map(move |mark| (text, mark)))
        {
            let inside =
                (area[0]..area[2]).contains(&mark.0) && (area[1]..area[3]).contains(&mark.1);
            assert!(!inside || annotations.contains(&text), "{name}: {text:?}");
        }
    }
}

#[test]
fn a_fast_and_a_slow_guest_each_use_their_panel() {
    let figure = Figure::progress(&[fixtures::native()]).unwrap();
    assert_eq!(figure.panels.len(), 2);
    for panel in &figure.panels {
        for curve in &panel.curves {
            let last = curve.marks.last().unwrap();
            assert!(panel.y.position(last.y.median) > 0.5, "{}", curve.name);
            let [first, half] = [0, 23].map(|index| panel.y.position(curve.marks[index].y.median));
            assert!(half > 2.0 * first, "{}", curve.name);
        }
    }
    assert!(figure.panels[1].y.label.contains("magnified"));
}

#[test]
fn zero_turns_are_drawn_inside_the_frame_and_said() {
    let figure = Figure::progress(&[fixtures::with_warn()]).unwrap();
    let still: Vec<_> = figure
        .curves()
        .filter(|curve| curve.facts.starts_with("no turn at timeouts up to 11 ms"))
        .collect();
    assert_eq!(still.len(), 1);
    assert!(figure.panels[1].y.position(0.0) > 0.02);

    let mut holes = fixtures::native();
    for sample in &mut holes.samples {
        if sample.guest == "split" && [3, 7].contains(&(sample.timeout_ns / 1_000_000)) {
            sample.turns = 0;
        }
    }
    let figure = Figure::progress(&[holes]).unwrap();
    let facts = &figure.panels[1].curves[0].facts;
    assert!(
        facts.starts_with("no turn at 2 of 49 timeouts; "),
        "{facts}"
    );

    let dead = fixtures::sweep(fixtures::curve(fixtures::NATIVE, "split", 9, |_| 0.0));
    let figure = Figure::progress(&[dead]).unwrap();
    assert_eq!(figure.panels[0].curves[0].facts, "no turn at any timeout");
    figure.picture().svg().unwrap();
}

#[test]
fn a_guest_that_stands_still_stays_on_a_logarithmic_axis() {
    let mut sweep = fixtures::offsets();
    for sample in &mut sweep.samples {
        if sample.guest == "split@60" {
            sample.turns = 0;
        }
    }
    let figure = Figure::offsets(&sweep).unwrap();
    assert_eq!(figure.panels[0].y.ticks[0].text, "0");
    assert!(figure.panels[0].y.broken_at().is_some());
    figure.picture().svg().unwrap();
}

#[test]
fn the_offset_curve_gives_the_factor_between_its_plateaus() {
    let figure = Figure::offsets(&fixtures::offsets()).unwrap();
    let facts = &figure.panels[0].curves[0].facts;
    let factor: f64 = facts.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((430.0..460.0).contains(&factor), "{facts}");
}

#[test]
fn the_bystander_is_compared_with_itself_alone() {
    let figure = Figure::bystander(&fixtures::bystander()).unwrap();
    assert_eq!(figure.panels.len(), 3);
    assert_eq!(figure.panels[0].annotations[1].lines[1], "42 % of alone");
}

#[test]
fn a_bystander_far_below_and_one_at_zero_are_both_seen() {
    let figure = Figure::bystander(&fixtures::neighbours()).unwrap();
    let panel = &figure.panels[0];
    let heights: Vec<_> = panel.curves[0]
        .marks
        .iter()
        .map(|mark| panel.y.position(mark.y.median))
        .collect();
    let [alone, one, two, still] = heights[..] else {
        panic!("{heights:?}");
    };
    assert!(alone > one && one > two + 0.1 && two > still + 0.05 && still > 0.0);
}

#[test]
fn a_table_gets_the_figure_that_it_was_measured_for() {
    let title = |sweep| Figure::for_sweeps(&[sweep]).unwrap().title;
    assert!(title(fixtures::offsets()).contains("offset"));
    assert!(title(fixtures::bystander()).contains("bystander"));
    assert!(title(fixtures::native()).contains("timeout"));
}

#[test]
fn curves_of_several_sweeps_keep_their_names_apart() {
    let figure = Figure::progress(&[fixtures::native(), fixtures::native()]).unwrap();
    let mut names: Vec<_> = figure.curves().map(|curve| &curve.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
}

#[test]
fn what_two_hosts_do_about_split_locks_tells_their_curves_apart() {
    let on = |detection: &str| {
        let mut sweep =
            fixtures::sweep(fixtures::curve(fixtures::EMULATED_CPU, "split", 3, |ms| ms));
        let provenance = sweep.provenance.as_mut().unwrap();
        provenance.host.detection = format!("split-lock detection: {detection}");
        sweep
    };
    let mut guarded = on("on (warn)");
    for sample in &mut guarded.samples {
        sample.series += "; guard auto";
    }
    let figure = Figure::progress(&[on("off"), on("on (warn)"), guarded]).unwrap();
    let mut names: Vec<_> = figure.curves().map(|curve| &*curve.name).collect();
    names.sort_unstable();
    let expected = [
        "split, measured (CPU emulated), split-lock detection: off",
        "split, measured (CPU emulated), split-lock detection: on (warn)",
        "split, measured (CPU emulated); guard auto",
    ];
    assert_eq!(names, expected);
    let states = ["off", "on (warn)"].map(|state| format!("split-lock detection: {state}"));
    assert_eq!(figure.detection, states);
}

#[test]
fn nothing_to_draw_is_an_error_that_says_so() {
    let empty = fixtures::sweep(vec![]);
    let message = |result: Result<Figure, FigureError>| result.unwrap_err().to_string();
    assert!(message(Figure::progress(&[])).contains("no samples"));
    assert!(message(Figure::progress(std::slice::from_ref(&empty))).contains("no samples"));
    assert!(message(Figure::offsets(&fixtures::native())).contains("split@57"));
    assert!(message(Figure::bystander(&fixtures::native())).contains("alone"));
}

#[test]
fn an_early_stop_and_a_missing_origin_are_said() {
    let mut sweep = fixtures::native();
    sweep.samples.truncate(900);
    let figure = Figure::progress(std::slice::from_ref(&sweep)).unwrap();
    assert_eq!(
        figure.notes[1],
        "Stopped early: 900 of 980 planned samples."
    );
    sweep.provenance = None;
    let figure = Figure::progress(&[sweep]).unwrap();
    assert!(figure.detection[0].contains("not recorded"));
}

fn decoded(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    (frame.width, frame.height, pixels)
}

#[test]
fn a_png_has_the_asked_width_and_the_color_of_every_curve() {
    let figure = Figure::progress(&[fixtures::native()]).unwrap();
    let (width, height, pixels) = decoded(&figure.picture().png(480).unwrap());
    assert_eq!(width, 480);
    assert!(height > 200);
    for curve in figure.curves() {
        let color = curve.style.color.light();
        let drawn = pixels
            .chunks_exact(3)
            .filter(|pixel| **pixel == color)
            .count();
        assert!(drawn > 20, "{}: {drawn}", curve.name);
    }
}

#[test]
fn a_png_of_absurd_width_is_refused() {
    let figure = Figure::progress(&[fixtures::lonely()]).unwrap();
    for width in [0, 199, 4001, u32::MAX] {
        let error = figure.picture().png(width).unwrap_err().to_string();
        assert!(error.contains(&width.to_string()), "{error}");
    }
}
