//! What the page must hold to.

use roxmltree::{Document, ParsingOptions};
use split_lock_repro::results::Sweep;

use super::*;
use crate::figure::{Figure, fixtures};

fn sweeps() -> [Sweep; 3] {
    [fixtures::native(), fixtures::offsets(), fixtures::crowded()]
}

fn report(sweeps: &[Sweep; 3]) -> Report<'_> {
    let [progress, offsets, crowded] = sweeps;
    let bystander = fixtures::bystander();
    let drawn = |section: Section, figure: &Figure| {
        section
            .picture(&figure.picture(), "Measured natively.")
            .unwrap()
    };
    Report {
        title: "Split locks on this host".into(),
        findings: vec![
            "Guests make progress in proportion to time: 900 k turns/s & no <livelock>.".into(),
        ],
        sections: vec![
            drawn(
                Section::new("Progress against the pending timeout"),
                &Figure::progress(std::slice::from_ref(progress)).unwrap(),
            )
            .table(timeouts_table(progress)),
            drawn(
                Section::new("Where the split begins"),
                &Figure::offsets(offsets).unwrap(),
            )
            .table(offsets_table(offsets)),
            drawn(
                Section::new("Beside a neighbour"),
                &Figure::bystander(&bystander).unwrap(),
            )
            .table(timeouts_table(&bystander)),
            drawn(
                Section::new("Many <guests>"),
                &Figure::progress(std::slice::from_ref(crowded)).unwrap(),
            )
            .paragraph("A closing remark & more."),
        ],
        sweeps: ["progress", "offsets", "crowded"]
            .into_iter()
            .zip(sweeps)
            .map(|(name, sweep)| NamedSweep { name, sweep })
            .collect(),
    }
}

fn parsed(html: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(html, options).expect("well-formed")
}

#[test]
fn the_page_loads_nothing() {
    let html = render(&report(&sweeps())).unwrap();
    let page = parsed(&html);
    for node in page.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe", "base"].contains(&name),
            "{name}"
        );
        for attribute in node.attributes() {
            let value = attribute.value();
            assert!(!attribute.name().starts_with("on"), "{name}");
            assert!(attribute.name() != "src", "{name}");
            let stays = value.starts_with("data:") || value.starts_with('#');
            assert!(attribute.name() != "href" || stays);
            assert!(
                !value.contains("http:") && !value.contains("https:"),
                "{value}"
            );
        }
    }
    assert!(!html.contains("url(") && !html.contains("@import"));
}

#[test]
fn finding_and_detection_come_first() {
    let html = render(&report(&sweeps())).unwrap();
    let page = parsed(&html);
    let header = page
        .descendants()
        .find(|n| n.has_tag_name("header"))
        .unwrap();
    let text: String = header.descendants().filter_map(|n| n.text()).collect();
    assert!(text.contains("900 k turns/s & no <livelock>."));
    assert!(text.contains("split-lock detection: not supported by this CPU"));
    assert!(text.contains("split-lock detection: on, mode warn"));
}

#[test]
fn hostile_names_stay_text() {
    let hostile = r#"<script>&"'"#;
    let mut sweeps = sweeps();
    let sweep = &mut sweeps[0];
    sweep.samples[0].guest = hostile.into();
    sweep
        .provenance
        .as_mut()
        .unwrap()
        .command
        .push(hostile.into());
    let figure = Figure::progress(std::slice::from_ref(sweep)).unwrap();
    let table = timeouts_table(sweep);
    let mut report = report(&sweeps);
    report.sections = vec![
        Section::new(hostile)
            .picture(&figure.picture(), hostile)
            .unwrap()
            .table(table),
    ];
    let html = render(&report).unwrap();
    let page = parsed(&html);
    assert!(page.descendants().all(|n| !n.has_tag_name("script")));
    let cells = page.descendants().filter(|n| n.has_tag_name("td"));
    assert_eq!(cells.filter(|n| n.text() == Some(hostile)).count(), 1);
    let headings = page.descendants().filter(|n| n.has_tag_name("h2"));
    assert_eq!(headings.filter(|n| n.text() == Some(hostile)).count(), 1);
}

#[test]
fn the_data_inside_is_the_data() {
    let sweeps = sweeps();
    let html = render(&report(&sweeps)).unwrap();
    let page = parsed(&html);
    let bytes = |name: &str| {
        let link = page
            .descendants()
            .find(|n| n.attribute("download") == Some(name));
        let (_, base64) = link
            .unwrap()
            .attribute("href")
            .unwrap()
            .split_once(',')
            .unwrap();
        BASE64_STANDARD.decode(base64).unwrap()
    };
    let csv = Sweep::read_csv(bytes("offsets.csv").as_slice()).unwrap();
    let json = Sweep::read_json(bytes("offsets.json").as_slice()).unwrap();
    assert_eq!((&csv, &json), (&sweeps[1], &sweeps[1]));
}

#[test]
fn tables_have_a_cell_for_every_heading() {
    let timeouts = timeouts_table(&fixtures::native());
    let offsets = offsets_table(&fixtures::offsets());
    assert_eq!((timeouts.rows.len(), offsets.rows.len()), (98, 64));
    for table in [timeouts, offsets] {
        assert!(
            table
                .rows
                .iter()
                .all(|row| row.len() == table.headings.len())
        );
    }
}

#[test]
fn a_sweep_without_origin_says_so() {
    let mut sweeps = sweeps();
    sweeps[0].provenance = None;
    let html = render(&report(&sweeps)).unwrap();
    assert!(html.contains("not recorded in the table"));
    assert!(html.contains("carries no origin"));
}
