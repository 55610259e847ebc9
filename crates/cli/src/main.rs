//! The `lifeboat` program: parses, dispatches, prints.
//!
//! It owns the words that people type and read. What they do is on the floors below: it deliberately knows
//! no format, no protocol and no rule of retention or safety.

mod args;
mod commands;
mod context;
mod failure;
mod guard;
mod output;
mod point;
mod recording;
mod secret;
mod time;

use args::{Cli, Command};
use clap::Parser;
use context::Context;
use failure::{Failure, Outcome};
use output::Output;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    // Also where the command line cannot be read, a document may have been asked for.
    let json = std::env::args_os().any(|argument| argument == "--json");
    if let Err(failure) = guard::refuse_passwords(std::env::args_os()) {
        return failed(Output { json, quiet: false }, &failure);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if json && error.use_stderr() => {
            return failed(Output { json, quiet: false }, &misread(&error));
        }
        Err(error) => error.exit(),
    };
    let output = Output { json: cli.global.json, quiet: cli.global.quiet };
    match run(cli) {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(failure) => failed(output, &failure),
    }
}

fn failed(output: Output, failure: &Failure) -> ExitCode {
    output.failure(failure);
    ExitCode::from(failure.code)
}

/// What the reading of the command line says, in our own form.
fn misread(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Failure::usage(message, "`lifeboat help COMMAND` shows what a command takes.")
}

fn run(cli: Cli) -> Result<Outcome, Failure> {
    match cli.command {
        Command::Init(args) => commands::init::run(&cli.global, &args),
        Command::Lint(args) => commands::lint::run(&cli.global, &args),
        Command::Notify(command) => commands::notify::run(&Context::new(cli.global)?, &command),
        Command::Completions { shell } => commands::meta::completions(shell),
        Command::Man { into } => commands::meta::man(&into),
        Command::FollowWatchdog => commands::watchdog::run(),
        Command::RehearseWriter { database, log } => commands::rehearse::writer(&database, &log),
        Command::Status(args) => commands::status::run(cli.global, &args),
        Command::Serve(args) => commands::serve::run(&Arc::new(Context::new(cli.global)?), &args),
        command => dispatch(&Context::new(cli.global)?, command),
    }
}

fn dispatch(context: &Context, command: Command) -> Result<Outcome, Failure> {
    recording::recorded(context, recording::action_of(&command), || carry_out(context, command))
}

fn carry_out(context: &Context, command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Rehearse(args) => commands::rehearse::run(context, &args),
        Command::Backup(args) => commands::backup::run(context, &args),
        Command::Follow(args) => commands::follow::run(context, &args),
        Command::Points(args) => commands::points::run(context, &args),
        Command::Ls(args) => commands::look::ls(context, &args),
        Command::Diff(args) => commands::look::diff(context, &args),
        Command::Dump(args) => commands::look::dump(context, &args),
        Command::Restore(args) => commands::restore::run(context, &args),
        Command::Export(args) => commands::export::run(context, &args),
        Command::Import(args) => commands::import::run(context, &args),
        Command::Prove(args) => commands::prove::run(context, &args),
        Command::Check(args) => commands::keep::check(context, &args),
        Command::Prune(args) => commands::keep::prune(context, &args),
        Command::Forget(args) => commands::keep::forget(context, &args),
        Command::Hold(command) => commands::keep::hold(context, &command),
        Command::Copy(args) => commands::copy::run(context, &args),
        Command::Key(command) => commands::key::run(context, &command),
        Command::Repo(command) => commands::repo::run(context, &command),
        Command::Evidence(command) => commands::evidence::run(context, &command),
        Command::Runbook(command) => commands::runbook::run(context, &command),
        Command::Wal(command) => commands::wal::run(context, &command),
        Command::Init(_)
        | Command::Serve(_)
        | Command::Status(_)
        | Command::Lint(_)
        | Command::Notify(_)
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::FollowWatchdog
        | Command::RehearseWriter { .. } => Ok(Outcome::Done),
    }
}
