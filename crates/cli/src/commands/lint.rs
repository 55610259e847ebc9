//! `lifeboat lint`: what a plan contradicts and what a runbook hides, before the disaster shows it.

use crate::args::{Global, LintArgs};
use crate::context::{host_name, state_dir};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_plan::lint::{Known, KnownDataset, Measured, Weight, lint};
use lifeboat_plan::{FILE_NAME, Lines, Plan, Span};
use lifeboat_recovery::samples::{Forecast, Occasion, Sample, Samples};
use lifeboat_repository::ids::DatasetName;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file, and what the lint says of it.
struct Linted {
    file: String,
    is_runbook: bool,
    findings: Vec<Found>,
}

/// A finding, whatever it is about.
struct Found {
    rule: String,
    weight: Weight,
    /// The key of a plan, the step of a runbook.
    about: Option<String>,
    line: Option<usize>,
    what: String,
    sum: Vec<Value>,
    hint: Option<String>,
}

impl Linted {
    fn of(&self, weight: Weight) -> impl Iterator<Item = &Found> {
        self.findings.iter().filter(move |found| found.weight == weight)
    }

    /// Whether it cannot be met; where that is asked for also whether something is a hazard.
    fn misses(&self, strict: bool) -> bool {
        self.of(Weight::Contradiction).next().is_some() || strict && self.of(Weight::Hazard).next().is_some()
    }
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
    let of_kind = |is_runbook| all.iter().filter(move |linted| linted.is_runbook == is_runbook).map(document);
    output.result(
        || json!({ "plans": of_kind(false).collect::<Vec<_>>(), "runbooks": of_kind(true).collect::<Vec<_>>() }),
        |text| say_all(&all, text),
    )?;
    let is_missed = all.iter().any(|linted| linted.misses(args.strict));
    Ok(if is_missed { Outcome::Missed } else { Outcome::Done })
}

fn linted(file: &Path, repositories: &[Samples], output: Output) -> Result<Linted, Failure> {
    let is_runbook = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md"));
    let findings = if is_runbook { of_runbook(file, output)? } else { of_plan(file, repositories, output)? };
    Ok(Linted { file: file.display().to_string(), is_runbook, findings })
}

fn of_plan(file: &Path, repositories: &[Samples], output: Output) -> Result<Vec<Found>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let hint = "Name the plan, or write one with `lifeboat init`.";
        Failure::usage(format!("read the plan {}: {error}", file.display()), hint)
    })?;
    let plan = Plan::parse(&text, &file.display().to_string())?;
    let report = lint(&plan, &known(&plan, repositories, output));
    let lines = Lines::of(&text);
    let found = report.findings.into_iter().map(|finding| Found {
        rule: finding.rule.to_string(),
        weight: finding.weight,
        line: lines.line_of(&finding.key),
        about: Some(finding.key),
        what: finding.what,
        sum: finding.sum.iter().map(term).collect(),
        hint: finding.hint,
    });
    Ok(found.collect())
}

fn of_runbook(file: &Path, output: Output) -> Result<Vec<Found>, Failure> {
    let (text, runbook) = super::runbook::read(output, file)?;
    let today = Clock::System.now().to_jiff().to_zoned(jiff::tz::TimeZone::system()).date();
    let found = lifeboat_runbook::lint::lint(&runbook, &text, today).into_iter().map(|finding| Found {
        rule: finding.rule.to_string(),
        weight: finding.weight,
        about: finding.step.map(|step| step.to_string()),
        line: usize::try_from(finding.line).ok(),
        what: finding.what,
        sum: Vec::new(),
        hint: finding.hint,
    });
    Ok(found.collect())
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

fn counted(linted: &Linted) -> String {
    let counts = GROUPS.map(|(weight, one, many)| match linted.of(weight).count() {
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
    for (weight, _, title) in GROUPS {
        if linted.of(weight).next().is_none() {
            continue;
        }
        writeln!(text, "{}", capitalised(title))?;
        for found in linted.of(weight) {
            say_found(found, &linted.file, text)?;
        }
        writeln!(text)?;
    }
    let of = if names_file { format!("{}: ", linted.file) } else { String::new() };
    writeln!(text, "{of}{}", counted(linted))
}

fn capitalised(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn say_found(found: &Found, file: &str, text: &mut Vec<u8>) -> io::Result<()> {
    let line = found.line.map_or(String::new(), |line| format!(":{line}"));
    let about = found.about.as_ref().map_or(String::new(), |about| format!("  {about}"));
    writeln!(text, "  {file}{line}{about}  [{}]", found.rule)?;
    writeln!(text, "      {}", found.what)?;
    match &found.hint {
        Some(hint) => writeln!(text, "      hint: {hint}"),
        None => Ok(()),
    }
}

fn document(linted: &Linted) -> Value {
    let about = if linted.is_runbook { "step" } else { "key" };
    let findings = linted.findings.iter().map(|found| {
        let mut finding = json!({
            "rule": found.rule,
            "weight": found.weight,
            about: found.about,
            "line": found.line,
            "what": found.what,
            "hint": found.hint,
        });
        if !linted.is_runbook {
            finding["sum"] = json!(found.sum);
        }
        finding
    });
    let count = |weight| linted.of(weight).count();
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
