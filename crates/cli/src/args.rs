//! What a person types: every command, argument and default, and nothing of what they do.

mod dataset;
mod log;
mod repository;
mod runbook;
mod service;
mod values;

pub(crate) use dataset::{
    AtPoint, BackupArgs, DiffArgs, DumpArgs, ExportArgs, ExportFormat, ImportArgs, LsArgs, PointArgs,
    PointsArgs, ProveArgs, RehearseArgs, RestoreArgs, WhatArgs,
};
pub(crate) use log::{AckArg, FollowArgs, SpoolArgs, WalCommand};
pub(crate) use repository::{
    CheckArgs, CopyArgs, ForgetArgs, HoldCommand, KeyCommand, LockArgs, PruneArgs, RepoCommand,
    WritersCommand,
};
pub(crate) use runbook::{About, ApproveArgs, Drive, OfRun, ResumeArgs, RunArgs, RunbookCommand};
pub(crate) use service::{
    EvidenceCommand, EvidenceFormat, EvidenceListArgs, InitArgs, LintArgs, NotifyCommand, ServeArgs,
    StatusArgs,
};

use clap::{Args, Parser, Subcommand, ValueHint};
use lifeboat_repository::ids::WriterId;
use std::path::PathBuf;
use values::fingerprint;

/// Disaster recovery that is really restored.
///
/// Lifeboat keeps datasets recoverable in one encrypted, deduplicated repository and proves it by restoring.
/// Start with `lifeboat rehearse`: it needs nothing and shows the whole way.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done · 1 failed · 2 usage or plan error · 3 an objective is missed · 4 inconclusive · 5 done, but some items were left out"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Where recovery points are kept: a path, file:PATH or s3://bucket/prefix?region=…&endpoint=…
    #[arg(
        short,
        long,
        global = true,
        env = "LIFEBOAT_REPOSITORY",
        hide_env_values = true,
        value_name = "LOCATION"
    )]
    pub(crate) repository: Option<String>,
    /// Where the secret comes from: env:NAME, file:PATH, command:COMMAND or vault:PATH#FIELD [default: env:LIFEBOAT_PASSPHRASE]
    #[arg(short, long, global = true, env = "LIFEBOAT_KEY", hide_env_values = true, value_name = "SOURCE")]
    pub(crate) key: Option<String>,
    /// The root fingerprint that the repository must have, as `repo init` printed it; a key pair needs it once
    #[arg(long, global = true, env = "LIFEBOAT_ROOT", value_name = "FINGERPRINT", value_parser = fingerprint)]
    pub(crate) root: Option<WriterId>,
    /// The plan [default: ./lifeboat.toml, if there is one]
    #[arg(long, global = true, env = "LIFEBOAT_PLAN", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) plan: Option<PathBuf>,
    /// Where this machine remembers its writer's key and what it has seen [default: $XDG_STATE_HOME/lifeboat]
    #[arg(long, global = true, env = "LIFEBOAT_STATE", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
    /// The writer's private key, if it lies elsewhere than in the state directory
    #[arg(long, global = true, env = "LIFEBOAT_WRITER_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) writer_key: Option<PathBuf>,
    /// What the plan calls this machine [default: its host name]
    #[arg(long = "this-host", global = true, env = "LIFEBOAT_HOST", value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// One JSON document on stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress, only results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Protect, restore into scratch, prove, and print what was measured
    Rehearse(RehearseArgs),
    /// Look around, and write a plan
    Init(InitArgs),
    /// Find what a plan contradicts, what a runbook hides, and what will hurt
    Lint(LintArgs),
    /// Objectives against what is: a line a dataset and a line a service, problems first
    Status(StatusArgs),
    /// Take a snapshot now
    Backup(BackupArgs),
    /// Keep the log of a database, continuously, in the foreground
    Follow(FollowArgs),
    /// List what can be restored
    Points(PointsArgs),
    /// List what a snapshot holds
    Ls(LsArgs),
    /// Compare two snapshots
    Diff(DiffArgs),
    /// Write one file of a snapshot to stdout
    Dump(DumpArgs),
    /// Put a snapshot back
    Restore(RestoreArgs),
    /// Write a PostgreSQL cluster, or its log, in PostgreSQL's own plain forms
    Export(ExportArgs),
    /// Take in a backup that another tool made
    Import(ImportArgs),
    /// Restore into scratch and ask the data whether it is whole
    Prove(ProveArgs),
    /// Check the repository
    Check(CheckArgs),
    /// Forget by retention and give back the space of what nobody needs
    Prune(PruneArgs),
    /// Forget named snapshots
    Forget(ForgetArgs),
    /// Hold snapshots, so that nothing forgets them
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Copy snapshots to another repository
    Copy(CopyArgs),
    /// Key slots: what opens the repository
    #[command(subcommand)]
    Key(KeyCommand),
    /// Runbooks: shown, carried out, gone on with
    #[command(subcommand)]
    Runbook(RunbookCommand),
    /// The repository itself
    #[command(subcommand)]
    Repo(RepoCommand),
    /// Receipts: what was done and seen, signed and chained
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// What PostgreSQL servers call
    #[command(subcommand)]
    Wal(WalCommand),
    /// Keep the plan: snapshots, streams, proofs, copies and retention when they are due
    Serve(ServeArgs),
    /// Whom the plan tells
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// The folder to write them to
        #[arg(value_hint = ValueHint::DirPath)]
        into: PathBuf,
    },
    /// The watchdog that `follow --synchronous` starts
    #[command(hide = true)]
    FollowWatchdog,
    /// The writer of the demonstration that `rehearse` starts
    #[command(hide = true)]
    RehearseWriter { database: PathBuf, log: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
