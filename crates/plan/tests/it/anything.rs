//! Plans that nobody would write: the lint reads whatever parses and panics at nothing.

use crate::faults::BASE;
use lifeboat_plan::Plan;
use lifeboat_plan::Span;
use lifeboat_plan::lint::{Known, KnownDataset, Measured, lint};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

const STATED: &str = include_str!("../../../../plans/aragora/as-stated.toml");

/// Values at the edges, which are put where other values were.
const EDGES: &[&str] = &[
    "\"0s\"",
    "\"1ms\"",
    "\"18446744073709551615ms\"",
    "\"213503982334d\"",
    "\"1s..213503982334d\"",
    "\"100%\"",
    "\"0.0001%\"",
    "\"1B\"",
    "\"9999999TiB\"",
    "\"1B/s\"",
    "\"\"",
    "\".\"",
    "\"/\"",
    "\"//\"",
    "\"[\"",
    "\"@\"",
    "\"postgres://[\"",
    "\"file:\"",
    "\"ä.ö\"",
    "\"system\"",
    "\"services.\"",
    "\"datasets.\\\"\"",
    "[]",
    "[\"\"]",
    "4294967295",
    "0",
    "{}",
    "\"continuous\"",
    "\"on-change\"",
    "{ cron = \"0 0 29 2 *\" }",
    "{ cron = \"0 0 31 2 *\" }",
    "{ every = \"1s\", jitter = \"213503982334d\" }",
];

#[derive(Clone, Debug)]
enum Edit {
    Drop(Index),
    Take(Index, Index),
    Edge(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        index().prop_map(Edit::Drop),
        (index(), index()).prop_map(|(at, from)| Edit::Take(at, from)),
        (index(), index()).prop_map(|(at, edge)| Edit::Edge(at, edge)),
    ]
}

/// A plan with lines dropped, and with values that were others'.
fn edited(text: &str, edits: &[Edit]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let value = |line: &str| line.split_once(" = ").map(|(_, value)| value.to_owned());
    let set = |line: &mut String, value: &str| {
        if let Some((key, _)) = line.clone().split_once(" = ") {
            *line = format!("{key} = {value}");
        }
    };
    for edit in edits {
        match edit {
            Edit::Drop(at) => _ = lines.remove(at.index(lines.len())),
            Edit::Take(at, from) => {
                let taken = value(&lines[from.index(lines.len())]);
                let at = at.index(lines.len());
                taken.iter().for_each(|taken| set(&mut lines[at], taken));
            }
            Edit::Edge(at, edge) => {
                let at = at.index(lines.len());
                set(&mut lines[at], EDGES[edge.index(EDGES.len())]);
            }
        }
    }
    lines.join("\n")
}

/// Something measured of everything, so that rules of measured values are reached as well.
fn known(plan: &Plan, p90: Span) -> Known {
    let measured = Some(Measured { p90, count: 1 });
    let of = KnownDataset { snapshot: measured, ships: measured, restore: measured, proof_age: Some(p90) };
    Known { datasets: plan.datasets.keys().map(|name| (name.clone(), of.clone())).collect() }
}

/// Enough that every kind of edit meets every kind of statement; so many of them must parse, or nothing was tried.
const CASES: u32 = 2_000;
const PARSED: u32 = CASES / 4;

#[test]
fn whatever_parses_is_linted() {
    let parsed = Cell::new(0_u32);
    let base = prop_oneof![Just(BASE), Just(STATED)];
    let cases = (base, prop::collection::vec(edit(), 1..5), any::<u64>());
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let ended = runner.run(&cases, |(base, edits, millis)| {
        let Ok(plan) = Plan::parse(&edited(base, &edits), "plan.toml") else { return Ok(()) };
        parsed.set(parsed.get() + 1);
        let p90 = Span::new(std::time::Duration::from_millis(millis));
        for known in [Known::default(), known(&plan, p90)] {
            for finding in lint(&plan, &known).findings {
                prop_assert!(!finding.what.is_empty() && !finding.key.is_empty());
            }
        }
        Ok(())
    });
    ended.unwrap();
    assert!(parsed.get() >= PARSED, "{} of {CASES} parsed", parsed.get());
}
