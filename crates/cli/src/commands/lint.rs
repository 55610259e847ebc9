//! `lifeboat lint`: what a plan contradicts, before the disaster does.

use crate::args::{Global, LintArgs};
use crate::context::{host_name, state_dir};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_plan::lint::{Finding, Known, KnownDataset, Measured, Report, Weight, lint};
use lifeboat_plan::{FILE_NAME, Lines, Plan, Span};
use lifeboat_recovery::samples::{Forecast, Occasion, Sample, Samples};
use lifeboat_repository::ids::DatasetName;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One plan, and what the lint says of it.
struct Linted {
    file: String,
    text: String,
    report: Report,
}

/// Another plan that cannot be read, or none, is no hindrance: only the plans that are named count.
pub(crate) fn run(global: &Global, args: &LintArgs) -> Result<Outcome, Failure> {
    let output = Output { json: global.json, quiet: global.quiet };
    let files = match args.files.as_slice() {
        [] => vec![global.plan.clone().unwrap_or_else(|| PathBuf::from(FILE_NAME))],
        files => files.to_vec(),
    };
    let state = state_dir(global).ok();
    let repositories = state.map_or(Vec::new(), |state| Samples::all(&state));
    let all = files.iter().map(|file| linted(file, &repositories, output)).collect::<Result<Vec<_>, _>>()?;
    output.result(
        || json!({ "plans": all.iter().map(document).collect::<Vec<_>>() }),
        |text| say_all(&all, text),
    )?;
    let is_missed = all.iter().any(|linted| linted.report.misses(args.strict));
    Ok(if is_missed { Outcome::Missed } else { Outcome::Done })
}

fn linted(file: &Path, repositories: &[Samples], output: Output) -> Result<Linted, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let hint = "Name the plan, or write one with `lifeboat init`.";
        Failure::usage(format!("read the plan {}: {error}", file.display()), hint)
    })?;
    let file = file.display().to_string();
    let plan = Plan::parse(&text, &file)?;
    let report = lint(&plan, &known(&plan, repositories, output));
    Ok(Linted { file, text, report })
}

/// What this machine has measured of the plan's datasets. Neither a repository nor the network is asked.
fn known(plan: &Plan, repositories: &[Samples], output: Output) -> Known {
    let now = Clock::System.now();
    let measured = plan.datasets.keys().filter_map(|name| {
        let known = measured(name, repositories, now, output)?;
        Some((name.clone(), known))
    });
    Known { datasets: measured.collect() }
}

fn measured(name: &str, repositories: &[Samples], now: Timestamp, output: Output) -> Option<KnownDataset> {
    let dataset = DatasetName::new(name).ok()?;
    let of = |samples: &Samples| samples.of(&dataset).ok().filter(|samples| !samples.is_empty());
    let found: Vec<Vec<Sample>> = repositories.iter().filter_map(of).collect();
    match found.as_slice() {
        [] => None,
        [samples] => Some(of_samples(samples, now)),
        // Which of them the plan means shows only when it is opened.
        several => {
            let several = several.len();
            output.note(&format!(
                "{name} was measured for {several} repositories; which of them the plan means is not known without opening it, so none counts"
            ));
            None
        }
    }
}

/// The last proof is no younger than the last sample of one; of a proof that failed none is kept.
fn of_samples(samples: &[Sample], now: Timestamp) -> KnownDataset {
    let proof = samples.iter().rev().find(|sample| sample.occasion == Occasion::Proof);
    KnownDataset {
        restore: restore(samples),
        proof_age: proof.map(|proof| Span::new(now.since(proof.at))),
        ..KnownDataset::default()
    }
}

/// What as much as was restored last would take, where it is slow.
fn restore(samples: &[Sample]) -> Option<Measured> {
    let newest = samples.last()?.measured;
    let forecast = Forecast::of(samples, &host_name(), newest.bytes, newest.log_bytes)?;
    // To the second above: what took some time did not take none.
    let seconds = forecast.slow.total().as_secs_f64().ceil() as u64;
    Some(Measured { p90: Span::from_secs(seconds), count: forecast.samples })
}

const GROUPS: [(Weight, &str, &str); 3] = [
    (Weight::Contradiction, "contradiction", "contradictions"),
    (Weight::Hazard, "hazard", "hazards"),
    (Weight::Unknown, "thing that cannot be computed", "things that cannot be computed"),
];

fn counted(report: &Report) -> String {
    let counts = GROUPS.map(|(weight, one, many)| match report.of(weight).count() {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    });
    counts.join(", ")
}

fn say_all(all: &[Linted], text: &mut Vec<u8>) -> io::Result<()> {
    for (place, linted) in all.iter().enumerate() {
        if place > 0 {
            writeln!(text)?;
        }
        say(linted, all.len() > 1, text)?;
    }
    Ok(())
}

fn say(linted: &Linted, names_file: bool, text: &mut Vec<u8>) -> io::Result<()> {
    let lines = Lines::of(&linted.text);
    for (weight, _, title) in GROUPS {
        if linted.report.of(weight).next().is_none() {
            continue;
        }
        writeln!(text, "{}", capitalised(title))?;
        for finding in linted.report.of(weight) {
            say_finding(finding, &linted.file, &lines, text)?;
        }
        writeln!(text)?;
    }
    let of = if names_file { format!("{}: ", linted.file) } else { String::new() };
    writeln!(text, "{of}{}", counted(&linted.report))
}

fn capitalised(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn say_finding(finding: &Finding, file: &str, lines: &Lines<'_>, text: &mut Vec<u8>) -> io::Result<()> {
    let line = lines.line_of(&finding.key).map_or(String::new(), |line| format!(":{line}"));
    writeln!(text, "  {file}{line}  {}  [{}]", finding.key, finding.rule)?;
    writeln!(text, "      {}", finding.what)?;
    match &finding.hint {
        Some(hint) => writeln!(text, "      hint: {hint}"),
        None => Ok(()),
    }
}

fn document(linted: &Linted) -> Value {
    let lines = Lines::of(&linted.text);
    let findings = linted.report.findings.iter().map(|finding| {
        json!({
            "rule": finding.rule,
            "weight": finding.weight,
            "key": finding.key,
            "line": lines.line_of(&finding.key),
            "what": finding.what,
            "sum": finding.sum.iter().map(term).collect::<Vec<_>>(),
            "hint": finding.hint,
        })
    });
    let count = |weight| linted.report.of(weight).count();
    json!({
        "file": linted.file,
        "contradictions": count(Weight::Contradiction),
        "hazards": count(Weight::Hazard),
        "unknown": count(Weight::Unknown),
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn term(term: &lifeboat_plan::lint::Term) -> Value {
    json!({
        "what": term.what,
        "span": term.span,
        "seconds": term.span.duration().as_secs_f64(),
        "source": term.source,
    })
}
