//! What people say about a run that another process executes: left in its inbox, or in the repository where another
//! machine executes it, and taken from there by whoever executes the run now or next.

use super::begin::is_mirrored;
use super::meant::{Elsewhere, Meant, To, View, meant};
use super::page::visible;
use super::{failed, person};
use crate::args::{About, ApproveArgs, OfRun, RunbookCommand};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::secret::read_secret;
use lifeboat_base::clock::Clock;
use lifeboat_base::crashsafe::{self, Creation};
use lifeboat_carriers::ApproverKey;
use lifeboat_evidence::Sign;
use lifeboat_run::mirror::LeftRequest;
use lifeboat_run::{Request, RequestId, RunFolder, RunStatus, Said, Standing, Statement, Waiting};
use serde_json::json;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

pub(super) fn run(context: &Context, command: &RunbookCommand) -> Result<Outcome, Failure> {
    if let RunbookCommand::Approve(args) = command {
        return approve(context, args);
    }
    let Some((run, request)) = request(command)? else { return Ok(Outcome::Done) };
    leave(context, &asked_of(context, run)?, &request)
}

fn asked_of(context: &Context, run: &OfRun) -> Result<Meant, Failure> {
    meant(context, &run.run, run.mirrored, To::Ask)
}

/// What a command asks for, and of which run.
fn request(command: &RunbookCommand) -> Result<Option<(&OfRun, Request)>, Failure> {
    let by = |run: &OfRun| person(run.by.as_deref());
    let said = |about: &About, reason: &str| {
        Ok::<_, Failure>(Said { step: about.step.clone(), by: by(&about.run)?, reason: reason.to_owned() })
    };
    Ok(Some(match command {
        RunbookCommand::Confirm { about, failed, note } => {
            let (step, note) = (about.step.clone(), note.clone());
            (&about.run, Request::Confirm { step, by: by(&about.run)?, done: !failed, note })
        }
        RunbookCommand::Skip { about, reason } => (&about.run, Request::Skip(said(about, reason)?)),
        RunbookCommand::Again { about, reason } => (&about.run, Request::Again(said(about, reason)?)),
        RunbookCommand::Settle { about, done, reason, outputs, .. } => {
            let Said { step, by, reason } = said(about, reason)?;
            let outputs = outputs.iter().cloned().collect();
            (&about.run, Request::Settle { step, done: *done, by, reason, outputs })
        }
        RunbookCommand::Pause { run, reason } => {
            (run, Request::Pause { by: by(run)?, reason: reason.clone() })
        }
        RunbookCommand::Continue { run, without_mirror: None } => (run, Request::Resume { by: by(run)? }),
        RunbookCommand::Continue { run, without_mirror: Some(reason) } => {
            (run, Request::LeaveMirror { by: by(run)?, reason: reason.clone() })
        }
        RunbookCommand::Abort { run, reason, keep } => {
            (run, Request::Abort { by: by(run)?, reason: reason.clone(), undo: !keep })
        }
        _ => return Ok(None),
    }))
}

fn leave(context: &Context, meant: &Meant, request: &Request) -> Result<Outcome, Failure> {
    match meant {
        Meant::Here(folder) => leave_here(context, folder, request),
        Meant::Elsewhere(there) => leave_there(context, there, request),
    }
}

fn leave_here(context: &Context, folder: &RunFolder, request: &Request) -> Result<Outcome, Failure> {
    folder.ask(request, Clock::System.now()).map_err(|error| failed(&error))?;
    let run = folder.run();
    if is_mirrored(folder).unwrap_or(false) {
        context.output.hint("Where another machine has taken the run over, say it with --mirrored.");
    }
    context.output.result(
        || json!({ "run": run, "asked": request }),
        |text| {
            writeln!(
                text,
                "left for whoever executes run {run}; `lifeboat runbook show {run}` says what became of it"
            )
        },
    )?;
    Ok(Outcome::Done)
}

/// Through the repository, with how far the run was there when it was asked.
fn leave_there(context: &Context, there: &Elsewhere, request: &Request) -> Result<Outcome, Failure> {
    let (seen, run) = (&there.seen, &there.seen.begun.run);
    if matches!(seen.state.status, RunStatus::Ended { .. }) {
        let hint = "`lifeboat runbook show RUN` says how it ended.";
        return Err(Failure::usage(format!("run {run} is over"), hint));
    }
    if matches!(request, Request::LeaveMirror { .. }) {
        return Err(Failure::usage(
            format!("run {run} is asked through its mirror, which answers: it need not be left behind"),
            "Where its executor does not reach the mirror, say it on the machine that executes the run.",
        ));
    }
    let id = RequestId::new(Clock::System.now());
    let left = LeftRequest { run: run.clone(), seen: seen.state.number, request: request.clone() };
    left.leave(&*there.mirror, &id).map_err(|error| failed(&error))?;
    let by = seen.executed_by();
    context.output.result(
        || json!({ "run": run, "asked": request, "request": id, "mirrored": there.document() }),
        |text| {
            writeln!(text, "left in the repository for whoever executes run {run}:")?;
            writeln!(text, "{} on {}, as of {}", by.by, by.host, there.last())?;
            writeln!(text, "`lifeboat runbook show --mirrored {run}` says what became of it")
        },
    )?;
    Ok(Outcome::Done)
}

fn approve(context: &Context, args: &ApproveArgs) -> Result<Outcome, Failure> {
    let by = person(args.about.run.by.as_deref())?;
    let meant = asked_of(context, &args.about.run)?;
    let statement = asked(&meant.view()?, args.about.step.as_str())?;
    let key = ApproverKey::read(&read_secret(&args.with)?).map_err(|error| {
        Failure::usage(
            error.to_string(),
            "`lifeboat runbook key FILE` makes one; its public half goes into the plan.",
        )
    })?;
    may(context, &statement, &by, &key)?;
    // Who is asked whether they agree sees to what, however quiet the rest is.
    Output { quiet: context.output.quiet && args.yes, ..context.output }.note(&shown(&statement));
    if !args.yes && !means_it(&by)? {
        return Err(Failure::failed("nothing was agreed to".to_owned()));
    }
    leave(context, &meant, &Request::Approve(statement.sign(&by, &key)))
}

/// What is asked for now.
fn asked(view: &View, step: &str) -> Result<Statement, Failure> {
    let waiting = Standing::of(&view.state, &view.runbook, Clock::System.now()).waiting;
    // What a mirror shows is somebody else's word: consent to another run is not asked for here.
    let statements = waiting.into_iter().filter_map(|one| match one {
        Waiting::Approval { statement, .. } if statement.run == view.run => Some(statement),
        _ => None,
    });
    let found = statements.into_iter().find(|one| one.block.as_str() == step || one.step.as_str() == step);
    found.ok_or_else(|| {
        Failure::usage(
            format!("run {} asks nobody to agree to {step} now", view.run),
            "`lifeboat runbook show RUN` says what it waits for.",
        )
    })
}

/// A signature that nobody will count is not given.
fn may(context: &Context, statement: &Statement, by: &str, key: &ApproverKey) -> Result<(), Failure> {
    let public = key.public_key();
    let Some(person) = context.plan.people.get(by) else {
        return Err(Failure::usage(
            format!("the plan has nobody called {by:?}"),
            format!(
                "Say who you are with --by; the plan lists people as [people.NAME] with roles and keys ({public})."
            ),
        ));
    };
    if !person.roles.contains(&statement.role) {
        return Err(Failure::usage(
            format!("{by} is no {}", statement.role),
            format!("Somebody of that role agrees; {by} has these roles: {}.", person.roles.join(", ")),
        ));
    }
    if person.keys.iter().all(|known| known.0 != public.0) {
        return Err(Failure::usage(
            format!("the plan lists another key for {by}"),
            format!("The key given has this public half: {public}."),
        ));
    }
    Ok(())
}

/// Exactly what is agreed to.
fn shown(statement: &Statement) -> String {
    let mut text = format!(
        "run {}, step {}: {} (text {})\n",
        statement.run, statement.step, statement.block, statement.text
    );
    for (name, value) in &statement.facts {
        text += &format!("  {name} is {}\n", visible(value));
    }
    for bound in &statement.bounds {
        let (shown, limit) = (visible(&bound.shown), visible(&bound.limit));
        text += &format!("  {} is {shown}, and may go as far as {limit}\n", bound.fact);
    }
    text + &format!("  it counts until {}", statement.expires)
}

fn means_it(by: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "nobody is there to be asked whether they mean it",
            "Give --yes where what is agreed to has been read.",
        ));
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{by}, do you agree to exactly this? Type yes: ");
    let _ = stderr.flush();
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

pub(super) fn key(context: &Context, file: &Path) -> Result<Outcome, Failure> {
    let (key, text) = ApproverKey::generate();
    // Its mode is 0600 from the beginning.
    let created = crashsafe::create(file, text.expose())
        .map_err(|error| Failure::failed(lifeboat_base::report(&error)))?;
    if created == Creation::Existed {
        return Err(Failure::usage(
            format!("{} is there already", file.display()),
            "Choose another file: a key that is lost cannot be made again.",
        ));
    }
    let public = key.public_key().to_string();
    context.output.result(
        || json!({ "file": file, "public_key": public }),
        |text| {
            writeln!(text, "{public}")?;
            writeln!(
                text,
                "This is the public half: it goes into the plan, as people.NAME.keys = [\"{public}\"]."
            )
        },
    )?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_base::clock::Timestamp;
    use lifeboat_evidence::Digest;
    use lifeboat_run::ShownBound;
    use lifeboat_runbook::{Relation, StepId};

    /// A step printed it, or somebody wrote it into the repository.
    #[test]
    fn no_value_hides_what_is_agreed_to() {
        let step = StepId::new("switch").unwrap();
        let hidden = "db-2\r\u{1b}[2K  target is db-1\n\u{202e}x";
        let bound = ShownBound {
            fact: "loss".to_owned(),
            relation: Relation::AtMost,
            limit: "5 s".to_owned(),
            shown: "1 s\u{7}".to_owned(),
        };
        let statement = Statement {
            run: "r".parse().unwrap(),
            block: step.clone(),
            step,
            text: Digest([0; 32]),
            role: "commander".to_owned(),
            quorum: 1,
            facts: [("target".to_owned(), hidden.to_owned())].into(),
            bounds: vec![bound],
            asked: Timestamp::from_secs(0),
            expires: Timestamp::from_secs(1),
        };
        let text = shown(&statement);
        assert_eq!(text.lines().count(), 4, "{text}");
        let line = text.lines().nth(1).unwrap();
        assert_eq!(line, "  target is db-2\\u{d}\\u{1b}[2K  target is db-1\\u{a}\\u{202e}x");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
