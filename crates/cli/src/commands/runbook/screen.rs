//! Where a run is, for a tired person: at most 80 columns, and nothing that only a colour says.

use super::page::{Page, Part, Room};
use crate::output::duration;
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::Span;
use lifeboat_run::event::{self, Act, Ended, Ending, Event, Outcome};
use lifeboat_run::status::RunStatus;
use lifeboat_run::{Irrevocable, Record, RunId, Standing, Telling, ToldOf, Waiting, What};
use lifeboat_runbook::Phase;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

const PHASES: [(Phase, &str); 6] = [
    (Phase::Detect, "detect"),
    (Phase::Decide, "decide"),
    (Phase::Approve, "approve"),
    (Phase::Execute, "execute"),
    (Phase::Verify, "verify"),
    (Phase::Traffic, "traffic"),
];

/// What is shown beside where we are.
pub(super) struct About<'a> {
    pub(super) run: &'a RunId,
    pub(super) title: &'a str,
    /// The newest things that happened, oldest first.
    pub(super) news: &'a [String],
}

/// The whole screen, as far as there is room.
pub(super) fn screen(about: &About<'_>, standing: &Standing, room: Room) -> String {
    let mut page = Page::new(room);
    page.line(about.title);
    page.line(&format!("run {}", about.run));
    page.line(&format!("{} · {} of {} steps over", status(standing.status), standing.over, standing.steps));
    page.about("clock", &clock(standing));
    page.about("", &parts(standing));
    if let Some(reason) = &standing.reason {
        page.about("because", reason);
    }
    page.gap();
    let doing = |act| if act == Act::Undo { "undo " } else { "" };
    let now = standing.current.iter();
    let now = now.map(|one| format!("{}{}: {}", doing(one.act), one.named.step, one.named.title));
    page.part(Part::Now).list("now", now);
    page.part(Part::Next)
        .list("next", standing.next.iter().map(|one| format!("{}: {}", one.step, one.title)));
    page.part(Part::Needed).list("needs you", standing.waiting.iter().map(waiting));
    page.part(Part::Told).list("told", standing.told.iter().map(|one| told_of(one, standing.now)));
    if let Some(why) = &standing.nobody_to_tell {
        page.about("told", &format!("NOBODY: {why}"));
    }
    page.part(Part::NoWayBack).list("no way back", standing.irrevocable.iter().map(irrevocable));
    if !about.news.is_empty() {
        page.part(Part::News).gap();
        about.news.iter().for_each(|line| page.line(line));
    }
    page.text(&format!("lifeboat runbook show {}", about.run))
}

pub(super) const fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::New => "not begun",
        RunStatus::Going => "going on",
        RunStatus::Paused { .. } => "PAUSED",
        RunStatus::Aborting => "BEING GIVEN UP",
        RunStatus::Undoing => "BEING UNDONE",
        RunStatus::Ended { how } => ending(how),
    }
}

pub(super) const fn ending(how: Ending) -> &'static str {
    match how {
        Ending::Done => "done",
        Ending::Aborted => "given up, nothing undone",
        Ending::Undone => "undone",
        Ending::UndoneInPart => "UNDONE IN PART",
    }
}

fn clock(standing: &Standing) -> String {
    let elapsed = duration(standing.elapsed);
    match (standing.rto, standing.left()) {
        (None, _) => format!("{elapsed} so far"),
        (Some(rto), Some(left)) => format!("{elapsed} of {rto}, {} left", duration(left)),
        (Some(rto), None) => {
            format!(
                "{elapsed} of {rto}: LATE by {}",
                duration(standing.elapsed.saturating_sub(rto.duration()))
            )
        }
    }
}

fn parts(standing: &Standing) -> String {
    let spent = PHASES.iter().map(|(phase, name)| (standing.times.of(*phase), name));
    let spent = spent.filter(|(time, _)| *time > Duration::ZERO);
    spent.map(|(time, name)| format!("{name} {}", duration(time))).collect::<Vec<_>>().join(" · ")
}

fn waiting(waiting: &Waiting) -> String {
    let because = |why: &Option<String>| why.as_ref().map_or(String::new(), |why| format!(": {why}"));
    match waiting {
        Waiting::Person { step, text, role } => {
            let role = role.as_ref().map_or(String::new(), |role| format!(" ({role})"));
            format!("do {step}{role}: {text}")
        }
        Waiting::Approval { statement, given } => {
            let mut line =
                format!("agree to {}: {} of role {}", statement.block, statement.quorum, statement.role);
            if !given.is_empty() {
                let _ = write!(line, ", so far {}", given.join(", "));
            }
            for (name, value) in &statement.facts {
                let _ = write!(line, "; {name} = {value}");
            }
            for bound in &statement.bounds {
                let _ = write!(line, "; {} = {} ({} {})", bound.fact, bound.shown, word(bound), bound.limit);
            }
            let _ = write!(line, "; until {}", time(statement.expires));
            line
        }
        Waiting::Failed { step, act, why } => {
            format!("{} FAILED{}", named(*act, step.as_str()), because(why))
        }
        Waiting::Unknown { step, act, why } => {
            format!("{}: NOBODY KNOWS whether it happened{}", named(*act, step.as_str()), because(why))
        }
    }
}

/// Who was told when, and who is next when.
fn told_of(told: &ToldOf, now: Timestamp) -> String {
    let mut line = format!("{}: {}", matter(&told.what), time(told.at));
    if !told.who.is_empty() {
        let _ = write!(line, " {}", list(told.who.iter().map(String::as_str)));
    }
    if !told.arrived.is_empty() {
        let arrived: Vec<String> = told.arrived.iter().map(ToString::to_string).collect();
        let _ = write!(line, ", arrived at {}", arrived.join(", "));
    }
    if !told.under_way.is_empty() {
        let under_way: Vec<String> = told.under_way.iter().map(ToString::to_string).collect();
        let _ = write!(line, ", on its way to {}", under_way.join(", "));
    }
    for failing in &told.failing {
        let again = if failing.is_tried_again { ", tried again" } else { "" };
        let _ = write!(line, "; NOT at {} ({}{again})", failing.to, failing.why);
    }
    if told.arrived.is_empty() && told.under_way.is_empty() && told.failing.is_empty() {
        line += ", and NOBODY IS REACHED that way";
    }
    if let Some(next) = told.next.as_ref().filter(|next| !next.who.is_empty()) {
        let left = Span::from_secs(next.at.since(now).as_secs());
        let verb = if next.who.len() == 1 { "is" } else { "are" };
        let who = list(next.who.iter().map(String::as_str));
        let _ = match next.at > now {
            true => write!(line, "; {}: {who} {verb} told in {left}", unless(&told.what)),
            false => write!(line, "; {who} {verb} told when somebody goes on with the run"),
        };
    }
    line
}

const fn unless(what: &What) -> &'static str {
    match what {
        What::Consent { .. } => "unless enough agree",
        What::Person { .. } => "unless it is done",
        What::Failed { .. } | What::Stopped => "unless somebody decides",
        What::Unknown { .. } => "unless somebody says what happened",
    }
}

fn word(bound: &lifeboat_run::ShownBound) -> &'static str {
    use lifeboat_runbook::Relation::{AtLeast, AtMost, Equal, Less, More};
    match bound.relation {
        Less => "<",
        AtMost => "<=",
        More => ">",
        AtLeast => ">=",
        Equal => "==",
    }
}

fn named(act: Act, step: &str) -> String {
    if act == Act::Undo { format!("the undo of {step}") } else { step.to_owned() }
}

fn irrevocable(one: &Irrevocable) -> String {
    match &one.reason {
        Some(reason) => format!("{}: {reason}", one.step),
        None => format!("{} cannot be undone", one.step),
    }
}

/// To the second, in UTC, as the journal has it.
pub(super) fn time(at: Timestamp) -> String {
    at.to_jiff().strftime("%H:%M:%SZ").to_string()
}

/// The day as well: what another machine says may be old.
pub(super) fn day_and_time(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// One thing that happened, in a line; `None` for what nobody needs to see pass by.
pub(super) fn news(record: &Record) -> Option<String> {
    let what = match &record.event {
        Event::Begun(begun) => format!("begun by {} on {}", begun.by, begun.host),
        Event::Intent(intent) if intent.part == event::Part::Probe => {
            format!("asking whether {} happened", intent.step)
        }
        Event::Intent(intent) if intent.act == Act::Undo => format!("undoing {}", intent.step),
        Event::Intent(intent) if intent.attempt > 1 => {
            format!("{} begins, attempt {}", intent.step, intent.attempt)
        }
        Event::Intent(intent) => format!("{} begins", intent.step),
        Event::Outcome(outcome) => came_of(outcome),
        Event::Skipped(said) => format!("{} is left out, says {}: {}", said.step, said.by, said.reason),
        Event::Again(said) => format!("{} once more, says {}: {}", said.step, said.by, said.reason),
        Event::Settled { step, done, by, reason, .. } => {
            let what = if *done { "happened" } else { "did not happen" };
            format!("{step} {what}, says {by}: {reason}")
        }
        Event::Measured { .. } => return None,
        Event::ApprovalAsked(statement) => {
            format!("{} needs {} of role {} to agree", statement.block, statement.quorum, statement.role)
        }
        Event::ApprovalGiven(signed) => format!("{} agrees to {}", signed.by, signed.block),
        Event::ApprovalVoid { block, why } => format!("what was agreed to of {block} is void: {why}"),
        Event::ApprovalExpired { block } => format!("the question about {block} has expired"),
        Event::Paused { by, reason } => match by {
            Some(by) => format!("paused by {by}: {reason}"),
            None => format!("paused by itself: {reason}"),
        },
        Event::Resumed { by } => format!("{by} lets it go on"),
        Event::AbortAsked { by, reason, undo } => {
            let then = if *undo { "and undone" } else { "and nothing undone" };
            format!("given up by {by}, {then}: {reason}")
        }
        Event::MirrorLeft { by, reason } => {
            format!("{by} lets it go on without its mirror: {reason}")
        }
        Event::TakenOver(taken) => format!("taken over by {} on {}", taken.by, taken.host),
        Event::Refused { by, what, why } => format!("{by} may not {what}: {why}"),
        Event::Noted { what } => what.clone(),
        Event::Telling(telling) => told(telling),
        Event::Told(told) => {
            let why = told.why.as_ref()?;
            let then = if told.over { "" } else { "; it is tried again" };
            format!("NOT TOLD: {}: {why}{then}", told.to)
        }
        Event::NobodyToTell { why } => format!("NOBODY IS TOLD: {why}"),
        Event::Ended { how } => format!("over: {}", ending(*how)),
    };
    // A line is a line, whatever somebody wrote or a step printed.
    let what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(format!("{}  {what}", time(record.at)))
}

/// Who is told what.
fn told(telling: &Telling) -> String {
    let about: Vec<String> = telling.about.iter().map(|about| matter(&about.what)).collect();
    let about = about.join(", ");
    let to: Vec<String> = telling.to.iter().map(ToString::to_string).collect();
    let who: BTreeSet<&str> = telling.about.iter().flat_map(|about| &about.who).map(String::as_str).collect();
    let who = if who.is_empty() { String::new() } else { format!(" for {}", list(who)) };
    match (telling.settled, to.is_empty()) {
        (true, _) => format!("told as settled: {about} ({})", to.join(", ")),
        (false, true) => format!("NOBODY IS REACHED{who}: {about}"),
        (false, false) => format!("told{who}: {about} ({})", to.join(", ")),
    }
}

fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// What is waited for, in two or three words.
fn matter(what: &What) -> String {
    match what {
        What::Consent { block } => format!("agree to {block}"),
        What::Person { step, act } => format!("do {}", named(*act, step.as_str())),
        What::Failed { step, act } => format!("{} FAILED", named(*act, step.as_str())),
        What::Unknown { step, act } => format!("find out about {}", named(*act, step.as_str())),
        What::Stopped => "the run stopped by itself".to_owned(),
    }
}

fn came_of(outcome: &Outcome) -> String {
    let took = match &outcome.by {
        Some(by) => format!("says {by}"),
        None => duration(Duration::from_millis(outcome.took_ms)),
    };
    let what = match (outcome.part, outcome.act) {
        (event::Part::Probe, _) => return format!("{} happened: {}", outcome.step, answer(&outcome.result)),
        (event::Part::Itself, act) => named(act, outcome.step.as_str()),
    };
    match &outcome.result {
        Ended::Done => format!("{what} is done ({took})"),
        Ended::Failed { why } => format!("{what} FAILED ({took}): {why}"),
        Ended::Unknown { why } => format!("{what}: NOBODY KNOWS ({took}): {why}"),
        Ended::NotBegun { why } => format!("{what} was not begun: {why}"),
    }
}

fn answer(result: &Ended) -> String {
    match result {
        Ended::Done => "yes".to_owned(),
        Ended::Failed { .. } => "no".to_owned(),
        Ended::Unknown { why } | Ended::NotBegun { why } => format!("nobody can tell ({why})"),
    }
}
