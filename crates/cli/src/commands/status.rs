//! `lifeboat status`: objectives against what is. The running service is asked; without one it is shown what the
//! repository and its copies say by themselves, and what only a service knows is unknown.

use crate::args::{Global, StatusArgs};
use crate::commands::follow::stop_on_signals;
use crate::context::{Context, plan_text};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, write_stdout};
use crate::secret::read_secret;
use lifeboat_base::clock::Clock;
use lifeboat_base::{Hint, Secret};
use lifeboat_daemon::ask::{AskError, status, url_of};
use lifeboat_daemon::report::{Here, Report, of_repositories};
use lifeboat_daemon::{LISTEN, Trouble};
use lifeboat_objects::location::Location;
use lifeboat_plan::{CopyPlan, ServePlan};
use lifeboat_repository::Repository;
use lifeboat_watch::render::render;
use serde::Serialize;
use std::cell::OnceCell;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const AGAIN: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its beginning (ECMA-48: ED 2, CUP).
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Who says so.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The running service.
    Service { url: String },
    /// The repository and its copies, since no service says so.
    Repository { why: String },
}

/// A status, and who says so.
#[derive(Debug, Serialize)]
struct Shown {
    source: Source,
    #[serde(flatten)]
    report: Report,
}

/// Whom to ask, and what to show of the repository where nobody answers.
struct Asking {
    output: Output,
    global: Global,
    /// What the plan says of the service, where that could be read alone.
    serve: Option<ServePlan>,
    /// The whole plan, once it was needed. Never taken apart: of a plan of ten thousand datasets that takes longer than
    /// to end.
    context: OnceCell<&'static Context>,
}

impl Asking {
    fn new(global: Global) -> Result<Self, Failure> {
        let output = Output { json: global.json, quiet: global.quiet };
        let serve = ServePlan::alone(&plan_text(global.plan.as_deref())?);
        Ok(Self { output, global, serve, context: OnceCell::new() })
    }

    fn context(&self) -> Result<&'static Context, Failure> {
        if let Some(context) = self.context.get() {
            return Ok(context);
        }
        let read: &'static Context = Box::leak(Box::new(Context::new(self.global.clone())?));
        Ok(self.context.get_or_init(|| read))
    }

    fn serve(&self) -> Result<Option<&ServePlan>, Failure> {
        match &self.serve {
            Some(serve) => Ok(Some(serve)),
            None => Ok(self.context()?.plan.serve.as_ref()),
        }
    }
}

pub(crate) fn run(global: Global, args: &StatusArgs) -> Result<Outcome, Failure> {
    let asking = Asking::new(global)?;
    if !args.watch {
        let shown = look(&asking, args)?;
        show(&asking, &shown, "")?;
        let outcome = outcome(&shown.report);
        // The process ends here: to take apart what it holds of ten thousand datasets would only take time.
        std::mem::forget(shown);
        return Ok(outcome);
    }
    let stop = stop_on_signals()?;
    let before = if std::io::stdout().is_terminal() && !asking.output.json { CLEAR } else { "" };
    loop {
        let shown = look(&asking, args)?;
        show(&asking, &shown, before)?;
        std::thread::sleep(AGAIN);
        if stop.load(Ordering::Relaxed) {
            return Ok(outcome(&shown.report));
        }
    }
}

fn outcome(report: &Report) -> Outcome {
    match report.exit_code() {
        0 => Outcome::Done,
        3 => Outcome::Missed,
        4 => Outcome::Inconclusive,
        _ => Outcome::Failed,
    }
}

fn look(asking: &Asking, args: &StatusArgs) -> Result<Shown, Failure> {
    let why = match asked(asking, args) {
        Ok(shown) => return Ok(shown),
        // Who names a service wants that one.
        Err(failure) if args.url.is_some() => return Err(failure),
        Err(failure) => failure.message,
    };
    let context = asking.context()?;
    if context.plan.datasets.is_empty() {
        return Err(Failure::usage(
            "there is nothing to show: the plan declares no dataset",
            "`lifeboat init` looks around and writes a lifeboat.toml; or ask a service with --url.",
        ));
    }
    let report = from_repositories(context, &why)?;
    Ok(Shown { source: Source::Repository { why }, report })
}

fn asked(asking: &Asking, args: &StatusArgs) -> Result<Shown, Failure> {
    let serve = asking.serve()?;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => planned_url(serve)?,
    };
    let report = status(&url, &token(serve)?).map_err(failed)?;
    Ok(Shown { source: Source::Service { url }, report })
}

fn failed(error: AskError) -> Failure {
    Failure { code: 1, message: lifeboat_base::report(&error), hint: error.hint() }
}

fn planned_url(serve: Option<&ServePlan>) -> Result<String, Failure> {
    let listen = serve.and_then(|serve| serve.listen.as_deref()).unwrap_or(LISTEN);
    let address = listen.parse().ok().and_then(url_of);
    address.ok_or_else(|| {
        Failure::usage(
            format!("the plan does not say where the service listens: serve.listen is {listen:?}"),
            "Say it with --url.",
        )
    })
}

fn token(serve: Option<&ServePlan>) -> Result<Secret, Failure> {
    let named = serve.and_then(|serve| serve.token.as_ref());
    let reference = named.ok_or_else(|| {
        Failure::usage(
            "the plan names no token in serve.token, so that no service says how things stand",
            "Write serve.token = \"env:NAME\" or \"file:PATH\" into the plan, and start `lifeboat serve` again.",
        )
    })?;
    read_secret(&reference.to_string())
}

fn from_repositories(context: &Context, why: &str) -> Result<Report, Failure> {
    let (state, host) = (context.state_dir()?, context.host());
    let here = Here { state: &state, host: &host, now: Clock::System.now() };
    let repository = context.open().map_err(trouble);
    Ok(of_repositories(&context.plan, repository, |copy| open_copy(context, copy), why, here))
}

fn trouble(failure: Failure) -> Trouble {
    Trouble { message: failure.message, hint: failure.hint }
}

fn open_copy(context: &Context, copy: &CopyPlan) -> Result<Arc<Repository>, Trouble> {
    let location = Location::parse(&copy.url).map_err(|error| Trouble::of(&error))?;
    let secret = match &copy.key {
        Some(reference) => read_secret(&reference.to_string()),
        None => context.secret(),
    };
    context.open_at(&location, &secret.map_err(trouble)?).map_err(trouble)
}

fn show(asking: &Asking, shown: &Shown, before: &str) -> Result<(), Failure> {
    if asking.output.json {
        let mut line = serde_json::to_vec(shown).map_err(std::io::Error::from)?;
        line.push(b'\n');
        return write_stdout(&line);
    }
    let stdout = std::io::stdout();
    let width = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    let width = width.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let text = render(&shown.report, width);
    write_stdout(format!("{before}{text}\n{}\n", said(&shown.source)).as_bytes())
}

/// One line on who says so.
fn said(source: &Source) -> String {
    match source {
        Source::Service { url } => format!("as the service at {url} sees it"),
        Source::Repository { why } => format!(
            "as the repository shows it, since no service says so ({why}): streams, jobs, proofs and stores are not seen"
        ),
    }
}
