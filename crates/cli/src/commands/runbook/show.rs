//! Looking: at runs, and at what a runbook does. Nothing is changed.

use super::meant::{Meant, To, meant};
use super::page::Room;
use super::screen::{About, screen, status};
use super::{failed, mirror, read, runs};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_run::{RunFolder, RunState, Standing};
use lifeboat_runbook::lint::{Finding, lint};
use lifeboat_runbook::{Action, Repeat, Role, Runbook, Step, Undo};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

/// A run in the list.
struct Listed {
    run: String,
    title: Option<String>,
    status: Option<String>,
    begun: Option<Timestamp>,
    is_here: bool,
}

impl Listed {
    /// By which the list is sorted: the second that is in the name, the instant where it is known, the rest of the name.
    fn age(&self) -> (&str, Option<Timestamp>, &str) {
        let (second, rest) = self.run.split_once('-').unwrap_or((&self.run, ""));
        (second, self.begun, rest)
    }
}

pub(super) fn list(context: &Context, mirrored: bool) -> Result<Outcome, Failure> {
    let runs = runs(context)?;
    let here = runs.list().map_err(|error| failed(&error))?;
    let mut all: Vec<Listed> = here.iter().map(|run| listed(&runs.open(run), run.as_str())).collect();
    if mirrored {
        let known: BTreeSet<&str> = here.iter().map(lifeboat_run::RunId::as_str).collect();
        let there = mirror::to_look_at(context)?.runs().map_err(|error| failed(&error))?;
        let only_there = there.iter().filter(|run| !known.contains(run.as_str()));
        all.extend(only_there.map(|run| Listed {
            run: run.to_string(),
            title: None,
            status: None,
            begun: None,
            is_here: false,
        }));
    }
    all.sort_by(|a, b| b.age().cmp(&a.age()));
    context.output.result(|| json!(all.iter().map(document).collect::<Vec<_>>()), |text| say(&all, text))?;
    Ok(Outcome::Done)
}

fn listed(folder: &Result<RunFolder, lifeboat_run::FolderError>, run: &str) -> Listed {
    let state = folder.as_ref().ok().and_then(|folder| state(folder).ok());
    Listed {
        run: run.to_owned(),
        begun: state.as_ref().map(|state| state.begun_at),
        title: state.as_ref().and_then(|state| state.begun.as_ref()).map(|begun| begun.title.clone()),
        status: Some(state.map_or("its journal cannot be read", |state| status(state.status)).to_owned()),
        is_here: true,
    }
}

fn document(listed: &Listed) -> Value {
    json!({ "run": listed.run, "title": listed.title, "status": listed.status, "here": listed.is_here })
}

fn say(all: &[Listed], text: &mut Vec<u8>) -> io::Result<()> {
    if all.is_empty() {
        return writeln!(text, "no runs; `lifeboat runbook run FILE` begins one");
    }
    for listed in all {
        let status = listed.status.as_deref().unwrap_or("only in the repository");
        writeln!(text, "{:<26}  {:<26}  {}", listed.run, status, listed.title.as_deref().unwrap_or(""))?;
    }
    Ok(())
}

pub(super) fn show(context: &Context, what: &str, mirrored: bool) -> Result<Outcome, Failure> {
    let path = Path::new(what);
    if path.is_file() && !mirrored {
        return show_runbook(context, path);
    }
    show_run(context, &meant(context, what, mirrored, To::Look)?)
}

fn state(folder: &RunFolder) -> Result<RunState, Failure> {
    let story = folder.story().map_err(|error| failed(&error))?;
    RunState::of(story.records.iter().map(|(record, _)| record))
        .map_err(|error| Failure::failed(lifeboat_base::report(&error)))
}

fn show_run(context: &Context, meant: &Meant) -> Result<Outcome, Failure> {
    let (view, folder) = (meant.view()?, meant.folder());
    let standing = Standing::of(&view.state, &view.runbook, Clock::System.now());
    let there = match meant {
        Meant::Here(_) => None,
        Meant::Elsewhere(there) => Some(there),
    };
    let json = || {
        json!({
            "run": view.run,
            "folder": folder.as_ref().map(|(folder, _)| folder),
            "mirrored": there.map(|there| there.document()),
            "standing": standing,
            "records": view.records,
            "void": view.void,
        })
    };
    let lines = view.news();
    context.output.result(json, |text| {
        let about = About { run: &view.run, title: &view.runbook.title, news: &lines };
        text.write_all(screen(&about, &standing, Room::without_end()).as_bytes())?;
        writeln!(text)?;
        match (&folder, there) {
            (Some((_, output)), _) => writeln!(text, "what steps printed lies in {}", output.display()),
            (None, Some(there)) => there.say(text),
            (None, None) => Ok(()),
        }
    })?;
    Ok(Outcome::Done)
}

fn show_runbook(context: &Context, file: &Path) -> Result<Outcome, Failure> {
    let (text, runbook) = read(context.output, file)?;
    let today = Clock::System.now().to_jiff().to_zoned(jiff::tz::TimeZone::system()).date();
    let findings = lint(&runbook, &text, today);
    context.output.result(
        || json!({ "runbook": runbook, "findings": findings }),
        |text| say_runbook(&runbook, &findings, text),
    )?;
    Ok(Outcome::Done)
}

fn say_runbook(runbook: &Runbook, findings: &[Finding], text: &mut Vec<u8>) -> io::Result<()> {
    writeln!(text, "{}", runbook.title)?;
    for (name, input) in &runbook.front.inputs {
        let default =
            input.default.as_ref().map_or("must be told".to_owned(), |value| format!("default {value}"));
        let description = input.description.as_deref().unwrap_or("");
        writeln!(text, "  input {name}: {}, {default}  {description}", kind(input.kind))?;
    }
    writeln!(text)?;
    for step in runbook.steps.iter().filter(|step| step.role == Role::Forward) {
        say_step(step, text)?;
    }
    let aside = runbook.steps.iter().filter(|step| step.role != Role::Forward);
    for step in aside {
        let role = if step.role == Role::Undo { "undo" } else { "probe" };
        writeln!(text, "  {role:<6} {:<20} {}", step.id.as_str(), step.title)?;
    }
    for finding in findings {
        writeln!(text, "line {:>3}  {}  [{}]", finding.line, finding.what, finding.rule)?;
        if let Some(hint) = &finding.hint {
            writeln!(text, "          {hint}")?;
        }
    }
    Ok(())
}

fn kind(kind: lifeboat_runbook::InputKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn say_step(step: &Step, text: &mut Vec<u8>) -> io::Result<()> {
    let by = match &step.action {
        Action::Person { .. } => "person",
        _ if step.is_check => "check",
        Action::Bash { .. } => "bash",
        Action::Sql { .. } => "sql",
        Action::Http { .. } => "http",
        Action::Lifeboat { .. } => "lifeboat",
    };
    writeln!(text, "  {by:<8} {:<20} {}", step.id.as_str(), step.title)?;
    let mut notes = Vec::new();
    if !step.needs.is_empty() {
        let needs: Vec<&str> = step.needs.iter().map(lifeboat_runbook::StepId::as_str).collect();
        notes.push(format!("after {}", needs.join(", ")));
    }
    if let Some(approval) = &step.approval {
        notes.push(format!("{} of role {} must agree", approval.quorum, approval.role));
    }
    notes.extend(match (&step.undo, &step.repeat) {
        (Undo::By(block), _) => Some(format!("undone by {block}")),
        (Undo::Impossible { .. }, Repeat::Never) => Some("NO WAY BACK, and never twice".to_owned()),
        (Undo::Impossible { .. }, _) => Some("no way back".to_owned()),
        (Undo::Nothing, _) => None,
    });
    if notes.is_empty() { Ok(()) } else { writeln!(text, "           {:<20} {}", "", notes.join("; ")) }
}
