//! `lifeboat serve`: the plan, kept.

use crate::args::ServeArgs;
use crate::commands::backup::store_of;
use crate::commands::follow::stop_on_signals;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, write_stdout};
use crate::secret::read_secret;
use lifeboat_base::Secret;
use lifeboat_base::clock::Clock;
use lifeboat_daemon::recover::{Recovered, recover};
use lifeboat_daemon::state::State;
use lifeboat_daemon::{House, LISTEN, Means, Outside, Service, Tell, Trouble};
use lifeboat_objects::location::Location;
use lifeboat_plan::{CopyPlan, FILE_NAME, Plan, SecretRef};
use lifeboat_repository::Repository;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Below the state directory.
const STATE: &str = "controller";

pub(crate) fn run(context: &Arc<Context>, args: &ServeArgs) -> Result<Outcome, Failure> {
    let (plan, plan_text) = if args.recover {
        bring_back(context, args)?
    } else {
        (context.plan.clone(), context.plan_text.clone())
    };
    if plan.datasets.is_empty() {
        return Err(Failure::usage(
            "there is nothing to keep: the plan declares no dataset",
            "`lifeboat init` looks around and writes a lifeboat.toml; or name one with --plan.",
        ));
    }
    let folder = context.state_dir()?.join(STATE);
    let state = State::open(&folder).map_err(|error| failure(&Trouble::of(&error)))?;
    let stop = stop_on_signals()?;
    let means = Box::new(CliMeans { context: context.clone(), state: context.state_dir()? });
    let house = Arc::new(House::new(plan, plan_text, means, state, tell(context.output)));
    let address = address(args, &house.plan)?;
    let service = Arc::new(Service::new(house).map_err(|error| failure(&Trouble::of(&error)))?);
    let _outside = Outside::start(&service, address).map_err(|trouble| failure(&trouble))?;
    service.run(&stop).map_err(|error| failure(&Trouble::of(&error)))?;
    Ok(Outcome::Done)
}

/// Where to listen: as typed, else as the plan says.
fn address(args: &ServeArgs, plan: &Plan) -> Result<SocketAddr, Failure> {
    if let Some(address) = args.listen {
        return Ok(address);
    }
    let planned = plan.serve.as_ref().and_then(|serve| serve.listen.as_deref()).unwrap_or(LISTEN);
    planned.parse().map_err(|_| {
        Failure::usage(
            format!("serve.listen is {planned:?}, which is no address with a port"),
            "Write an IP address and a port: serve.listen = \"127.0.0.1:8377\", or \"[::]:8377\" for every address.",
        )
    })
}

fn failure(trouble: &Trouble) -> Failure {
    Failure { code: 1, message: trouble.message.clone(), hint: trouble.hint.clone() }
}

/// An event a line: for people, or as JSON.
fn tell(output: Output) -> Tell {
    Box::new(move |subject, event, detail| {
        let at = Clock::System.now();
        if output.json {
            let line = json!({ "at": at.to_string(), "subject": subject, "event": event, "detail": detail });
            // Nobody reads any more: serving goes on all the same.
            let _ = write_stdout(format!("{line}\n").as_bytes());
        } else {
            output.note(&format!("{at} {subject}: {event}{}", in_words(detail)));
        }
    })
}

/// What a person wants to know of an event, on its line.
fn in_words(detail: &Value) -> String {
    let Some(fields) = detail.as_object() else { return String::new() };
    let said = fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    let said = said.collect::<Vec<_>>().join(", ");
    if said.is_empty() { said } else { format!(" ({said})") }
}

/// Brings a lost controller back, and its plan with it.
fn bring_back(context: &Context, args: &ServeArgs) -> Result<(Plan, String), Failure> {
    let repository = context.open()?;
    let folder = context.state_dir()?.join(STATE);
    let recovered =
        recover(&repository, &folder, args.lost_host.as_deref()).map_err(|trouble| failure(&trouble))?;
    let written = write_plan(context, &recovered.plan)?;
    say_recovered(context.output, &recovered, written.as_deref())?;
    // A plan that was given knows better than the one that came back.
    if context.plan_text.is_empty() {
        Ok((Plan::parse(&recovered.plan, FILE_NAME)?, recovered.plan))
    } else {
        Ok((context.plan.clone(), context.plan_text.clone()))
    }
}

/// Writes the plan that came back where there is none.
fn write_plan(context: &Context, plan: &str) -> Result<Option<PathBuf>, Failure> {
    let path = Path::new(FILE_NAME);
    if !context.plan_text.is_empty() || path.exists() {
        return Ok(None);
    }
    lifeboat_base::crashsafe::create(path, plan.as_bytes())
        .map_err(|error| Failure::failed(format!("write the plan: {}", lifeboat_base::report(&error))))?;
    Ok(Some(path.to_owned()))
}

fn say_recovered(output: Output, recovered: &Recovered, written: Option<&Path>) -> Result<(), Failure> {
    let until = recovered.until.map(|until| until.to_string());
    if output.json {
        let line = json!({
            "at": Clock::System.now().to_string(), "subject": "controller", "event": "recovered",
            "detail": {
                "lost_host": recovered.host, "records": recovered.records, "until": until,
                "writer": recovered.writer.to_string(),
                "revoked": recovered.revoked.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "adopted": recovered.adopted.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "plan_written": written,
            }
        });
        return write_stdout(format!("{line}\n").as_bytes());
    }
    let mut text = Vec::new();
    let until = until.unwrap_or_default();
    writeln!(
        text,
        "the controller of {} is back: {} records, the last of {until}",
        recovered.host, recovered.records
    )?;
    for writer in &recovered.revoked {
        writeln!(
            text,
            "the lost host's key {writer} is revoked; this machine signs with {}",
            recovered.writer
        )?;
    }
    if let Some(path) = written {
        writeln!(text, "its plan is written to {}: check where it says that things are", path.display())?;
    }
    write_stdout(&text)
}

/// What the command line can do for the daemon.
struct CliMeans {
    context: Arc<Context>,
    state: PathBuf,
}

fn trouble(failure: Failure) -> Trouble {
    Trouble { message: failure.message, hint: failure.hint }
}

impl Means for CliMeans {
    fn repository(&self) -> Result<Arc<Repository>, Trouble> {
        self.context.open().map_err(trouble)
    }

    fn copy(&self, copy: &CopyPlan) -> Result<Arc<Repository>, Trouble> {
        let location = Location::parse(&copy.url).map_err(|error| Trouble::of(&error))?;
        let secret = match &copy.key {
            Some(reference) => self.secret(reference)?,
            None => self.context.secret().map_err(trouble)?,
        };
        self.context.open_at(&location, &secret).map_err(trouble)
    }

    fn store(&self, store: &str) -> Result<OsString, Trouble> {
        store_of(store).map_err(trouble)
    }

    fn secret(&self, reference: &SecretRef) -> Result<Secret, Trouble> {
        read_secret(&reference.to_string()).map_err(trouble)
    }

    fn watchdog(&self) -> Result<Arc<dyn Fn() -> Command + Send + Sync>, Trouble> {
        let program = std::env::current_exe().map_err(|error| {
            Trouble::new(format!("find this program: {error}"), "Start it by its full path.")
        })?;
        Ok(Arc::new(move || {
            let mut command = Command::new(&program);
            command.arg("follow-watchdog");
            command
        }))
    }

    fn own_folders(&self) -> Vec<PathBuf> {
        self.context.own_folders()
    }

    fn state_folder(&self) -> PathBuf {
        self.state.clone()
    }

    fn host(&self) -> String {
        self.context.host()
    }
}
