//! The documents that are made of a status: JSON that reads back, text for a terminal, metrics that parse.

use crate::system::{NOW, ago, report};
use lifeboat_watch::health::Status;
use lifeboat_watch::metrics::{exposition, metrics};
use lifeboat_watch::observe::{Observations, Reach};
use lifeboat_watch::render::render;
use lifeboat_watch::report::{Report, judge};
use std::collections::{BTreeMap, BTreeSet};

fn broken(observed: &mut Observations) {
    observed.datasets[0].stream.as_mut().unwrap().heard = Some(ago(4));
    observed.datasets[1].restore.clear();
    observed.places[1].reach = Reach::Lost;
    observed.components[0].status = Status::Down;
}

#[test]
fn the_document_reads_back_equal() {
    for report in [report(|_| {}), report(broken), report(|observed| *observed = Observations::default())] {
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}

#[test]
fn field_names_carry_their_units_and_what_is_unknown_is_null() {
    let document = serde_json::to_value(report(broken)).unwrap();
    assert_eq!(document["at"], "2027-01-15T08:00:00Z");
    assert_eq!(document["state"], "breach");
    let users = &document["datasets"][0];
    assert_eq!(users["heartbeat_age_seconds"], 4.0);
    assert_eq!(users["exposures"][0]["exposure_seconds"], 1.0);
    assert_eq!(users["exposures"][0]["exposure_bytes"], 100);
    assert!(users["exposures"][0]["exposure_writes"].is_null());
    assert!(users["exposures"][2]["exposure_seconds"].is_null());
    assert_eq!(users["exposures"][2]["everything"], true);
    let part = &document["services"][0]["recovery"]["parts"][4];
    assert_eq!((&part["of"], &part["basis"]), (&"uploads".into(), &"unknown".into()));
    assert!(part["p90_seconds"].is_null());
}

#[test]
fn the_text_has_a_line_a_dataset_and_a_line_a_service_problems_first() {
    let well = render(&report(|_| {}), None);
    assert_eq!(
        well,
        "aragora at 2027-01-15T08:00:00Z: ok\n\
         \n\
         DATASET  STATE  HOST    REPOSITORY  REGION  RPO    WHY\n\
         uploads  ok     30m 0s  1h 30m      1h 30m  2h 0m\n\
         users    ok     1.0s    10m 0s      10m 0s  1m 0s\n\
         \n\
         SERVICE  STATE  BACK IN (P50)  (P90)   RTO    WHY\n\
         debates  ok     28m 0s         28m 0s  1h 0m\n"
    );
    let text = render(&report(broken), None);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[3].starts_with("users    breach  1.0s    all         all"), "{text}");
    assert!(lines[3].contains("the stream is stalled: silent for 4.0s"), "{text}");
    assert!(text.contains("≥ 18m 0s"), "{text}");
    assert!(text.contains("copy       west   at risk  west is lost"), "{text}");
}

#[test]
fn no_line_is_wider_than_the_terminal_and_none_holds_a_control_character() {
    let report = report(|observed| {
        broken(observed);
        observed.datasets[0].name = "evil\u{1b}[2J\nname".to_owned();
    });
    for width in [0, 1, 20, 40, 80] {
        let text = render(&report, Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width.max(1)), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    }
}

/// A sample: its metric, its labels, its figure.
type Parsed = (String, BTreeMap<String, String>, f64);

/// Reads the text format strictly, as its document says: a help and a type before the samples of each metric, all of
/// one metric together, no sample twice.
fn parse(text: &str) -> Vec<Parsed> {
    let mut found: Vec<Parsed> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(!words.is_empty() && seen.insert(name.to_owned()), "{line}");
            assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
            assert!(lines.peek().is_some_and(|next| next.starts_with(name)), "{name} has no sample");
            current = name.to_owned();
        } else {
            let sample = parse_sample(line);
            assert_eq!(sample.0, current, "{line}");
            assert!(found.iter().all(|other| (&other.0, &other.1) != (&sample.0, &sample.1)), "{line}");
            found.push(sample);
        }
    }
    found
}

fn parse_sample(line: &str) -> Parsed {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            let (value, after) = unescape(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').unwrap();
                    break;
                }
            }
        }
    }
    let figure = match rest.strip_prefix(' ').unwrap() {
        "+Inf" => f64::INFINITY,
        figure => figure.parse().unwrap(),
    };
    (name.to_owned(), labels, figure)
}

/// A label's value up to its closing quote, and what follows.
fn unescape(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                c => panic!("\\{c} is no escape"),
            },
            c => value.push(c),
        }
    }
    panic!("no closing quote: {text}")
}

fn figure(parsed: &[Parsed], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has = |sample: &&Parsed| {
        labels.iter().all(|(label, value)| sample.1.get(*label).is_some_and(|own| own == value))
    };
    let mut matching = parsed.iter().filter(|sample| sample.0 == name).filter(has);
    let first = matching.next().map(|sample| sample.2);
    assert!(matching.next().is_none(), "{name}{labels:?} is there twice");
    first
}

#[test]
fn metrics_say_what_the_report_says() {
    let report = report(broken);
    let parsed = parse(&exposition(&metrics(&report)));
    let dataset = |name, domain| figure(&parsed, name, &[("dataset", "users"), ("domain", domain)]);
    assert_eq!(dataset("lifeboat_dataset_exposure_seconds", "host"), Some(1.0));
    assert_eq!(dataset("lifeboat_dataset_exposure_seconds", "region"), Some(f64::INFINITY));
    assert_eq!(dataset("lifeboat_dataset_rpo_seconds", "host"), Some(60.0));
    let of = |name, label, value| figure(&parsed, name, &[(label, value)]);
    assert_eq!(of("lifeboat_stream_heartbeat_age_seconds", "dataset", "users"), Some(4.0));
    assert_eq!(of("lifeboat_stream_heartbeat_age_seconds", "dataset", "uploads"), None);
    assert_eq!(of("lifeboat_proof_age_seconds", "dataset", "users"), Some(36_000.0));
    assert_eq!(of("lifeboat_service_recovery_seconds", "percentile", "90"), Some(1080.0));
    assert_eq!(of("lifeboat_service_recovery_at_least", "service", "debates"), Some(1.0));
    assert_eq!(of("lifeboat_component_up", "component", "state"), Some(0.0));
    assert_eq!(of("lifeboat_place_reachable", "place", "west"), Some(0.0));
    assert_eq!(of("lifeboat_state", "state", "breach"), Some(1.0));
    assert_eq!(of("lifeboat_state", "state", "ok"), Some(0.0));
    let system = |name| figure(&parsed, name, &[]);
    assert_eq!((system("lifeboat_leader"), system("lifeboat_leader_generation")), (Some(1.0), Some(7.0)));
    assert_eq!(system("lifeboat_status_timestamp_seconds"), Some(NOW.as_secs() as f64));
}

#[test]
fn names_are_those_that_the_format_and_its_linter_want() {
    let report = report(broken);
    for metric in metrics(&report) {
        let name = metric.name;
        assert!(name.starts_with("lifeboat_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        for reserved in ["_total", "_count", "_sum", "_bucket", "_info", "_milliseconds", "_ms"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        for (label, _) in metric.samples.iter().flat_map(|sample| &sample.labels) {
            assert!(!matches!(*label, "quantile" | "le") && !label.starts_with("__"), "{name}: {label}");
        }
    }
}

#[test]
fn any_name_survives_the_text_format() {
    let name = "a \"quoted\" \\ back\nslash, {brace} = é";
    let report = report(|observed| observed.datasets[0].name = name.to_owned());
    let parsed = parse(&exposition(&metrics(&report)));
    let age = figure(&parsed, "lifeboat_stream_heartbeat_age_seconds", &[("dataset", name)]);
    assert_eq!(age, Some(1.0));
}

#[test]
fn a_report_of_nothing_still_says_when_it_is_of() {
    let report = judge(&Observations::default(), &lifeboat_watch::report::Limits::default(), NOW);
    let parsed = parse(&exposition(&metrics(&report)));
    assert!(figure(&parsed, "lifeboat_status_timestamp_seconds", &[]).is_some());
    assert_eq!(figure(&parsed, "lifeboat_leader", &[]), Some(0.0));
    assert_eq!(figure(&parsed, "lifeboat_leader_generation", &[]), None);
}
