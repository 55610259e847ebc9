//! The status as text for a terminal: a line a dataset, a line a service, problems first.
//!
//! Colour is the caller's; a state is always a word. Names and reasons may come from elsewhere, so nothing in them
//! reaches the terminal as a control character.

use crate::exposure::Domain;
use crate::reason::{Reason, State};
use crate::report::{DatasetReport, Report, ServiceReport};
use crate::time::words_of;
use std::cmp::Reverse;
use std::fmt::Write;

/// What a table has where nothing is known or promised.
const NOTHING: &str = "-";

/// A status as lines of at most `width` characters, if one is given.
pub fn render(report: &Report, width: Option<usize>) -> String {
    let mut text = String::new();
    let head = format!("{} at {}: {}", report.system, report.at, report.state.words());
    push_line(&mut text, &head, width);
    for reason in &report.reasons {
        push_line(&mut text, &format!("  {reason}"), width);
    }
    push_table(&mut text, &dataset_rows(report), width);
    push_table(&mut text, &service_rows(report), width);
    push_table(&mut text, &other_rows(report), width);
    text
}

type Row = Vec<String>;

fn row<const N: usize>(cells: [&str; N]) -> Row {
    cells.map(str::to_owned).into()
}

fn dataset_rows(report: &Report) -> Vec<Row> {
    let mut sorted: Vec<&DatasetReport> = report.datasets.iter().collect();
    sorted.sort_by_key(|dataset| (Reverse(dataset.state), dataset.name.as_str()));
    let mut rows = vec![row(["DATASET", "STATE", "HOST", "REPOSITORY", "REGION", "RPO", "WHY"])];
    rows.extend(sorted.into_iter().map(dataset_row));
    rows
}

fn dataset_row(dataset: &DatasetReport) -> Row {
    let exposure = |domain: Domain| {
        let found = dataset.exposures.iter().find(|exposure| exposure.domain == domain);
        found.map_or_else(
            || NOTHING.to_owned(),
            |exposure| match exposure.exposure_seconds {
                Some(seconds) => words_of(seconds),
                None if exposure.everything => "all".to_owned(),
                None => "?".to_owned(),
            },
        )
    };
    let rpo = dataset.exposures.iter().find_map(|exposure| exposure.rpo_seconds);
    vec![
        dataset.name.clone(),
        dataset.state.words().to_owned(),
        exposure(Domain::Host),
        exposure(Domain::Repository),
        exposure(Domain::Region),
        rpo.map_or_else(|| NOTHING.to_owned(), words_of),
        why(&dataset.reasons),
    ]
}

fn service_rows(report: &Report) -> Vec<Row> {
    let mut sorted: Vec<&ServiceReport> = report.services.iter().collect();
    sorted.sort_by_key(|service| (Reverse(service.state), service.name.as_str()));
    let mut rows = vec![row(["SERVICE", "STATE", "BACK IN (P50)", "(P90)", "RTO", "WHY"])];
    rows.extend(sorted.into_iter().map(service_row));
    rows
}

fn service_row(service: &ServiceReport) -> Row {
    let (p50, p90) = match &service.recovery {
        Some(recovery) => {
            let bound = if recovery.at_least { "≥ " } else { "" };
            let words = |seconds| format!("{bound}{}", words_of(seconds));
            (words(recovery.p50_seconds), words(recovery.p90_seconds))
        }
        None => ("?".to_owned(), "?".to_owned()),
    };
    vec![
        service.name.clone(),
        service.state.words().to_owned(),
        p50,
        p90,
        service.rto_seconds.map_or_else(|| NOTHING.to_owned(), words_of),
        why(&service.reasons),
    ]
}

/// Places, jobs, components and channels are named only where something is wrong with them.
fn other_rows(report: &Report) -> Vec<Row> {
    let places = report.places.iter().map(|each| (each.role.as_str(), &each.name, each.state, &each.reasons));
    let jobs = report.jobs.iter().map(|each| ("job", &each.name, each.state, &each.reasons));
    let components =
        report.components.iter().map(|each| ("component", &each.name, each.state, &each.reasons));
    let channels = report.channels.iter().map(|each| ("channel", &each.name, each.state, &each.reasons));
    let mut others: Vec<_> = places.chain(jobs).chain(components).chain(channels).collect();
    others.retain(|(_, _, state, _)| *state != State::Ok);
    others.sort_by_key(|(_, _, state, _)| Reverse(*state));
    let mut rows = vec![row(["OTHER", "NAME", "STATE", "WHY"])];
    rows.extend(others.into_iter().map(|(kind, name, state, reasons)| {
        vec![kind.to_owned(), name.clone(), state.words().to_owned(), why(reasons)]
    }));
    rows
}

/// The reasons, the worst first.
fn why(reasons: &[Reason]) -> String {
    let mut sorted: Vec<&Reason> = reasons.iter().collect();
    sorted.sort_by_key(|reason| Reverse(reason.state()));
    let clauses: Vec<String> = sorted.iter().map(ToString::to_string).collect();
    clauses.join("; ")
}

/// A table with columns as wide as they need to be, the last one ragged. One without lines is left out.
fn push_table(text: &mut String, rows: &[Row], width: Option<usize>) {
    let [head, _, ..] = rows else { return };
    let columns = 0..head.len().saturating_sub(1);
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = columns.map(widest).collect();
    text.push('\n');
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing into a string cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.push_str(row.last().map_or("", String::as_str));
        push_line(text, line.trim_end(), width);
    }
}

fn push_line(text: &mut String, line: &str, width: Option<usize>) {
    let is_too_long = width.is_some_and(|width| line.chars().nth(width).is_some());
    let shown = if is_too_long { width.map_or(0, |width| width.saturating_sub(1)) } else { usize::MAX };
    text.extend(line.chars().take(shown).map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    text.push_str(if is_too_long { "…\n" } else { "\n" });
}
