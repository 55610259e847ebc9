//! Times Lifeboat beside restic, borg and rustic, and beside floors: loops that do what must be done and
//! nothing else. Docs: `docs/benchmarks.md`. It deliberately knows nothing of how Lifeboat works inside, but
//! for the packs that the floors of restore and check read.
//!
//! `lifeboat-bench files` builds a tree of some 2 GB, runs every tool on it in turn, several times, and
//! prints a table, the ratios and the objectives. The floors are subcommands of this same program, run as
//! child processes, so that they are measured exactly like the others. So is everything here that needs
//! memory: a child's peak can only be told apart while its parent stays small (see [`measure`]).
//!
//! It runs the program as a person would; only [`disaster`], which counts what PostgreSQL had acknowledged, calls
//! the library. Of how Lifeboat works inside it knows only what the floors need that read Lifeboat's own packs
//! ([`floor::planner`]), and what objects are called ([`torture`]). It
//! judges no machine either: absolute times are printed beside what they were measured on, and only ratios
//! within one run are held against the objectives.

mod churn;
mod data;
mod disaster;
mod draw;
mod error;
mod files;
mod floor;
mod lifeboat;
mod measure;
mod objectives;
mod options;
mod postgres;
mod report;
mod stats;
mod tools;
mod torture;
mod tree;

use error::BenchError;
use lifeboat_base::{Hint, report as say};
use options::Task;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match options::parse(&arguments).and_then(run) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "lifeboat-bench: {}", say(&error));
            if let Some(hint) = error.hint() {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::from(if error.is_usage() { 2 } else { 1 })
        }
    }
}

/// Carries out one task and answers the exit code: 0 done, 3 an objective is missed, 4 one could not be
/// measured.
fn run(task: Task) -> Result<u8, BenchError> {
    match task {
        Task::Help => print(options::HELP).map(|()| 0),
        Task::Files(files) => files::run(&files),
        Task::Churn(churn) => churn::run(&churn),
        Task::Torture(torture) => torture::run(&torture),
        Task::Disaster(disaster) => disaster::run(&disaster),
        Task::DisasterFollow(task) => disaster::follow(&task).map(|()| 0),
        Task::DisasterLedger(task) => disaster::ledger(&task).map(|()| 0),
        Task::Postgres(postgres) => postgres::run(&postgres),
        Task::PostgresLedger(task) => postgres::ledger(&task).map(|()| 0),
        Task::TouchMemory => measure::touch_memory().map(|()| 0),
        Task::FloorBackup(backup) => {
            floor::backup::run(&backup).and_then(|totals| print(&totals.to_string())).map(|()| 0)
        }
        Task::FloorRestore { packs, target } => {
            rustix::process::umask(rustix::fs::Mode::empty());
            floor::restore::run(&packs, &target).and_then(|totals| print(&totals.to_string())).map(|()| 0)
        }
        Task::FloorCheck { packs } => {
            floor::check::run(&packs).and_then(|seen| print(&seen.to_string())).map(|()| 0)
        }
        Task::FloorPlan { repository, plan } => {
            floor::planner::run(&repository, &plan).and_then(|totals| print(&totals.to_string())).map(|()| 0)
        }
        Task::FloorRestorePacks { plan, target } => {
            rustix::process::umask(rustix::fs::Mode::empty());
            floor::same::restore(&plan, &target).and_then(|totals| print(&totals.to_string())).map(|()| 0)
        }
        Task::FloorCheckPacks { plan } => floor::same::check(&plan)
            .and_then(|seen| print(&format!("{} chunks, {} bytes", seen.files, seen.bytes)))
            .map(|()| 0),
        Task::BuildTree { dir } => data::build(&dir).map(|()| 0),
        Task::ChangeTree { tree, undo, seed } => data::change(&tree, &undo, seed).map(|()| 0),
        Task::RevertTree { tree, undo } => data::revert(&tree, &undo).map(|()| 0),
        Task::Compare { left, right } => tree::compare(&left, &right).map(|()| 0),
    }
}

fn print(text: &str) -> Result<(), BenchError> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end()).map_err(|e| BenchError::io("write to", "standard output", e))
}
