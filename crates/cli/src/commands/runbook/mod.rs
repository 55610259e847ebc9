//! `lifeboat runbook`: runbooks shown, carried out, gone on with, and what people say about their runs.

mod ask;
mod begin;
mod drive;
mod meant;
mod mirror;
mod page;
mod screen;
mod show;
mod tell;

use meant::find;
use mirror::{mirror, mirror_in_time};

use crate::args::RunbookCommand;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::secret::Anywhere;
use lifeboat_base::Hint;
use lifeboat_carriers::{Lifeboat, Sql};
use lifeboat_evidence::PublicKey;
use lifeboat_run::{Carriers, House, People, Person, RunError, Runs};
use lifeboat_runbook::{Runbook, compile};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn run(context: &Context, command: &RunbookCommand) -> Result<Outcome, Failure> {
    match command {
        RunbookCommand::List { mirrored } => show::list(context, *mirrored),
        RunbookCommand::Show { what, mirrored } => show::show(context, what, *mirrored),
        RunbookCommand::Run(args) => begin::run(context, args),
        RunbookCommand::Resume(args) => begin::resume(context, args),
        RunbookCommand::Key { file } => ask::key(context, file),
        command => ask::run(context, command),
    }
}

/// Who speaks: whom they name, else who is logged in.
fn person(named: Option<&str>) -> Result<String, Failure> {
    let logged_in = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let name = named.map(str::to_owned).or_else(logged_in).filter(|name| !name.trim().is_empty());
    name.ok_or_else(|| {
        Failure::usage(
            "nobody is named who does this",
            "Say who you are with --by NAME, or set LIFEBOAT_PERSON.",
        )
    })
}

fn runs(context: &Context) -> Result<Runs, Failure> {
    Ok(Runs::within(&context.state_dir()?))
}

fn failed(error: &(impl Hint + 'static)) -> Failure {
    Failure { code: 1, message: lifeboat_base::report(error), hint: error.hint() }
}

fn of_run(error: &RunError) -> Failure {
    failed(error)
}

/// Compiles what a run is pinned to.
fn pinned(document: &[u8]) -> Result<Runbook, Box<dyn Error + Send + Sync>> {
    Ok(compile(std::str::from_utf8(document)?)?)
}

/// Reads and compiles a document; everything that is wrong with it is said at once.
pub(crate) fn read(output: Output, file: &Path) -> Result<(String, Runbook), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("read the runbook {}: {error}", file.display()), "Check the path.")
    })?;
    match compile(&text) {
        Ok(runbook) => Ok((text, runbook)),
        Err(faults) => {
            for fault in &faults {
                output.fault(file, fault.line, &fault.what, fault.hint.as_deref());
            }
            let count = faults.iter().count();
            let plural = if count == 1 { "fault" } else { "faults" };
            Err(Failure::usage(
                format!("{} is no runbook that can run: {count} {plural}", file.display()),
                "docs/runbook.md says how its blocks and their attributes are written.",
            ))
        }
    }
}

/// Everything that carries runs out here.
fn house(context: &Context, who: &str, width: u16) -> Result<House, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("find this very program: {error}")))?;
    let before = context.same_arguments().into_iter().map(|word| {
        word.into_string().map_err(|_| Failure::failed("an option of this command is no UTF-8".to_owned()))
    });
    let lifeboat = Lifeboat::new(program, before.collect::<Result<_, _>>()?);
    let carriers = Carriers {
        sql: Some(Arc::new(Sql::with_secrets(Arc::new(Anywhere)))),
        lifeboat: Some(Arc::new(lifeboat)),
        ..Carriers::here()
    };
    Ok(House {
        carriers,
        secrets: Arc::new(Anywhere),
        people: people(context),
        width: usize::from(width),
        ..House::new(who, &context.host())
    })
}

fn people(context: &Context) -> People {
    let mut people = People::default();
    for (name, planned) in &context.plan.people {
        let roles = planned.roles.iter().cloned().collect();
        let keys = planned.keys.iter().map(|key| PublicKey(key.0)).collect();
        people.add(name, Person { roles, keys });
    }
    people
}
