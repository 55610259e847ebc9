//! What the document says of itself, held against itself: undo, reviews, the RTO, inputs, ticks.

use super::finding::{Finding, Rule};
use super::{Found, View};
use crate::step::{Action, Phase, Repeat, Source, Step, Undo};
use lifeboat_plan::Span;
use lifeboat_plan::lint::Weight;
use std::collections::{BTreeMap, BTreeSet};

/// What may be done once only says how it is undone, or why it cannot be.
pub(super) fn undo(view: &View<'_>, found: &mut Found) {
    for (_, step) in view.forward() {
        let is_once = step.repeat == Repeat::Never && !matches!(step.action, Action::Person { .. });
        if is_once && step.undo == (Undo::Impossible { reason: None }) {
            let what = "may be done once only, and nothing says how it is undone, or why it cannot be";
            let hint = "Name the block that does: undo=NAME; or say undo=none why=\"…\"; or repeat=safe, if that is true.";
            found.push(Finding::of(Rule::UndoMissing, step, what, hint));
        }
    }
}

/// Nothing is done before a run begins.
pub(super) fn ticked(view: &View<'_>, found: &mut Found) {
    for step in &view.runbook.steps {
        if matches!(step.action, Action::Person { ticked: true, .. }) {
            let what = "is ticked before anybody began";
            let hint = "Write it as `- [ ]`; what was done in a run, its journal says.";
            found.push(Finding::of(Rule::Ticked, step, what, hint));
        }
    }
}

/// Whoever starts a run is asked only for what a step takes.
pub(super) fn inputs(view: &View<'_>, found: &mut Found) {
    let taken: BTreeSet<&str> = view.runbook.steps.iter().flat_map(sources).filter_map(input).collect();
    let unused = view.runbook.front.inputs.keys().filter(|name| !taken.contains(name.as_str()));
    let unused: Vec<&String> = unused.collect();
    if unused.is_empty() {
        return;
    }
    let lines = lines_of_keys(view.text);
    for name in unused {
        let line = lines.get(name.as_str()).copied().unwrap_or(1);
        let what = format!("input `{name}` is asked for, and no step takes it");
        let hint = format!("Pass it where it belongs (pass={name}), or leave it out.");
        found.push(Finding::at(Rule::InputUnused, Weight::Hazard, line, what, hint));
    }
}

fn sources(step: &Step) -> impl Iterator<Item = &Source> {
    let approval = step.approval.iter();
    let facts = approval.flat_map(|approval| {
        approval.facts.iter().chain(approval.bounds.iter().map(|bound| &bound.fact)).map(|fact| &fact.source)
    });
    step.passed.iter().map(|passed| &passed.source).chain(facts)
}

fn input(source: &Source) -> Option<&str> {
    match source {
        Source::Input(name) => Some(name),
        Source::Output { .. } => None,
    }
}

/// The first line that begins with each key.
fn lines_of_keys(text: &str) -> BTreeMap<&str, u32> {
    let mut lines = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        if let Some((key, _)) = text.split_once(':') {
            lines.entry(key.trim()).or_insert(line);
        }
    }
    lines
}

fn line_of(view: &View<'_>, key: &str) -> u32 {
    lines_of_keys(view.text).get(key).copied().unwrap_or(1)
}

/// The runbook was looked at as often as it says that it is.
pub(super) fn review(view: &View<'_>, found: &mut Found) {
    let front = &view.runbook.front;
    let Some(every) = front.review_every else { return };
    let line = line_of(view, "review_every");
    let Some(reviewed) = front.reviewed else {
        let what = format!("it is reviewed every {every}, and when it was the last time is not said");
        found.push(Finding::at(Rule::ReviewOverdue, Weight::Unknown, line, what, "Write reviewed: DATE."));
        return;
    };
    let due = reviewed.checked_add(every.duration()).ok();
    if let Some(due) = due.filter(|due| *due < view.today) {
        let what = format!("it is reviewed every {every}, the last time on {reviewed}: it was due on {due}");
        let hint = "Read it against what is, practise it, and write the day into `reviewed`.";
        found.push(Finding::at(Rule::ReviewOverdue, Weight::Hazard, line, what, hint));
    }
}

/// What the steps may take at the most, one after the other where one needs the other, fits into the RTO.
pub(super) fn recovery_time(view: &View<'_>, found: &mut Found) {
    let Some(rto) = view.runbook.front.objectives.rto else { return };
    let mut ends: Vec<(Span, Option<usize>)> = Vec::with_capacity(view.runbook.steps.len());
    for step in &view.runbook.steps {
        let needs = step.needs.iter().filter_map(|need| view.places.get(need).copied());
        // Steps stand behind what they need.
        let last = needs.filter(|need| *need < ends.len()).max_by_key(|need| ends[*need].0);
        let begin = last.map_or(Span::default(), |last| ends[last].0);
        ends.push((begin.plus(at_most(step)), last));
    }
    // Users are served again at the end of that phase; what comes behind it is no part of the recovery.
    let serves = |at: &usize| view.runbook.steps[*at].phase == Phase::Traffic;
    let has_end = (0..ends.len()).any(|at| serves(&at));
    let last = (0..ends.len()).filter(|at| !has_end || serves(at)).max_by_key(|at| ends[*at].0);
    let Some(last) = last.filter(|at| ends[*at].0 > rto) else { return };
    let path = longest(view, &ends, last);
    let what = format!("it must be done in {rto}, and its steps may take {}: {path}", ends[last].0);
    let hint =
        "Give each step on the way the `timeout` that it needs; a person has a day unless it says otherwise.";
    let line = line_of(view, "objectives");
    found.push(Finding::at(Rule::RunSum, Weight::Contradiction, line, what, hint));
}

/// The longest that a step may take, with its retries. Waiting for consent is not in it.
fn at_most(step: &Step) -> Span {
    let retry =
        step.retry.map_or(Span::default(), |retry| step.timeout.plus(retry.every).times(retry.times.get()));
    step.timeout.plus(retry)
}

/// What takes the most of the longest way, in its order.
fn longest(view: &View<'_>, ends: &[(Span, Option<usize>)], last: usize) -> String {
    const SAID: usize = 4;
    let mut path: Vec<usize> = std::iter::successors(Some(last), |at| ends[*at].1).collect();
    let steps = path.len();
    path.reverse();
    path.sort_by_key(|at| std::cmp::Reverse(at_most(&view.runbook.steps[*at])));
    path.truncate(SAID);
    path.sort_unstable();
    let said = path.iter().map(|at| {
        let step = &view.runbook.steps[*at];
        format!("{} {}", step.id, at_most(step))
    });
    let mut said = said.collect::<Vec<_>>().join(" + ");
    if steps > SAID {
        said += &format!(" and {} more", steps - SAID);
    }
    said
}
