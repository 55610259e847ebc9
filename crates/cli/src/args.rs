//! What a person types: every command, argument and default, and nothing of what they do.

mod runbook;

pub(crate) use runbook::{About, ApproveArgs, Drive, OfRun, ResumeArgs, RunArgs, RunbookCommand, whole};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use lifeboat_postgres_wal::Lsn;
use lifeboat_repository::Share;
use lifeboat_repository::ids::WriterId;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

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
    /// Where the secret comes from: env:NAME, file:PATH or command:COMMAND [default: env:LIFEBOAT_PASSPHRASE]
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

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Ask the service there, and nobody else [default: where the plan says that it listens; else what the
    /// repository shows]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Show it again every second, until it is interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The address and port to listen on [default: what the plan says, else 127.0.0.1:8377]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// First bring a lost controller back on this empty machine, from the repository or a copy of it: needs an admin
    /// key, enrols this machine and revokes the lost one's key
    #[arg(long)]
    pub(crate) recover: bool,
    /// The host that was lost, where the repository knows several
    #[arg(long, value_name = "NAME", requires = "recover")]
    pub(crate) lost_host: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder to look at
    #[arg(default_value = ".", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// The file to write [default: what --plan names, else DIR/lifeboat.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    /// Replace the file, if it exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the plan and write nothing
    #[arg(long, conflicts_with_all = ["out", "force"])]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Plans, and runbooks (*.md) [default: what --plan names, else ./lifeboat.toml]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Exit with 3 also where something is only a hazard
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RehearseArgs {
    /// A folder, a SQLite database or postgres://…, which is only read; without one a demonstration is made
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) target: Option<PathBuf>,
    /// Keep the scratch folder, and say where it is
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where scratch folders are made [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) what: WhatArgs,
}

/// What of a target is taken.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhatArgs {
    /// Leave out what matches (globs: *, ?, […], **; a leading / anchors, a trailing / means folders, ! takes back)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Leave out folders that are tagged as caches (CACHEDIR.TAG)
    #[arg(long)]
    pub(crate) exclude_caches: bool,
    /// Stay on the file system of the folder
    #[arg(long)]
    pub(crate) one_file_system: bool,
    /// How long writers of a database in rollback mode may be kept waiting
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) max_stall: std::time::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Datasets of the plan, or folders, databases and postgres://…; none: every dataset of the plan
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) targets: Vec<String>,
    /// The dataset's name, for one folder, database, server or stream that is in no plan
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Take what comes on stdin
    #[arg(long, requires = "name", conflicts_with = "targets")]
    pub(crate) stdin: bool,
    /// Let this writer publish the dataset, if it is bound to others
    #[arg(long)]
    pub(crate) adopt: bool,
    #[command(flatten)]
    pub(crate) what: WhatArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PointsArgs {
    /// The dataset; none: all
    pub(crate) dataset: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// The dataset
    pub(crate) dataset: String,
    /// A folder within it
    pub(crate) path: Option<OsString>,
    /// latest, a time, or a snapshot
    #[arg(long, default_value = "latest")]
    pub(crate) at: String,
    /// Also everything below
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The dataset
    pub(crate) dataset: String,
    /// The older snapshot: a time or a snapshot
    pub(crate) from: String,
    /// The newer snapshot
    #[arg(default_value = "latest")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The dataset
    pub(crate) dataset: String,
    /// The file; may be left out where the snapshot holds only one
    pub(crate) path: Option<OsString>,
    /// latest, a time, or a snapshot
    #[arg(long, default_value = "latest")]
    pub(crate) at: String,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The dataset
    pub(crate) dataset: String,
    /// latest, a time (RFC 3339; without an offset it is local), or a snapshot; where a log is kept also
    /// lsn:POSITION, xid:TRANSACTION or name:RESTORE-POINT
    #[arg(long)]
    pub(crate) to: String,
    /// Where to: a folder that is empty or does not exist
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) into: PathBuf,
    #[command(flatten)]
    pub(crate) point: PointArgs,
    /// Where a tablespace goes, by its number or its old place [default: DIR.tablespaces/NUMBER]
    #[arg(long, value_name = "NAMED=DIR", value_parser = tablespace)]
    pub(crate) tablespace: Vec<(String, PathBuf)>,
    /// Leave the log in the repository: the PostgreSQL server fetches it while it replays, and needs what opens
    /// the repository in its environment
    #[arg(long)]
    pub(crate) fetch_log: bool,
    /// What the PostgreSQL server does when it has replayed up to the point
    #[arg(long, value_name = "ACTION", default_value = "promote")]
    pub(crate) at_point: AtPoint,
    /// Bring back only what matches
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,
    /// Restore into a folder that holds something; what exists is kept and reported
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The dataset
    pub(crate) dataset: String,
    /// As `lifeboat restore` has it; a server that is started there ends at this point [default: latest]
    #[arg(long, value_name = "POINT")]
    pub(crate) to: Option<String>,
    /// The form
    #[arg(long, default_value = "directory")]
    pub(crate) format: ExportFormat,
    /// Where to: a folder that is empty or does not exist
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) into: PathBuf,
    #[command(flatten)]
    pub(crate) point: PointArgs,
    /// For wal: from the segment that holds this position on [default: where the log begins that leads to the end]
    #[arg(long, value_name = "POSITION", value_parser = position)]
    pub(crate) from: Option<Lsn>,
    /// For wal: up to this position, or latest [default: latest]
    #[arg(long, value_name = "POSITION")]
    pub(crate) until: Option<String>,
    /// For a directory: where a tablespace goes, by its number or its old place [default: DIR.tablespaces/NUMBER]
    #[arg(long, value_name = "NAMED=DIR", value_parser = tablespace)]
    pub(crate) tablespace: Vec<(String, PathBuf)>,
    /// Export into a folder that holds something
    #[arg(long)]
    pub(crate) force: bool,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// A data directory, as `pg_basebackup` makes it
    Directory,
    /// base.tar, pg_wal.tar and one for each tablespace, as `pg_basebackup -Ft` makes them
    Tar,
    /// The write-ahead log in files, as `pg_receivewal` leaves it
    Wal,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What pg_dump or pg_dumpall made, also packed by gzip or zstd, or a folder `backup_YYYYMMDD_HHMMSS`
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// The dataset's name; the things of a folder get their own names behind it
    #[arg(long)]
    pub(crate) name: String,
    /// The database that it is of, where the dump does not say
    #[arg(long)]
    pub(crate) database: Option<String>,
    /// Of when it is [default: as the dump, its name or its file says, local times in this machine's zone]
    #[arg(long, value_name = "TIME")]
    pub(crate) taken: Option<String>,
    /// Keep what gzip or zstd packed without its packing: dumps of many days then share their content, and a
    /// restore gives the unpacked file
    #[arg(long)]
    pub(crate) unpack: bool,
    /// Let this writer publish the dataset, if it is bound to others
    #[arg(long)]
    pub(crate) adopt: bool,
}

/// Which point of a log is meant, where the point alone does not say it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PointArgs {
    /// The timeline that the point lies on [default: the newest one that is kept]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) timeline: Option<std::num::NonZeroU32>,
    /// Stop before the transaction, position or time that is named, and not behind it
    #[arg(long)]
    pub(crate) before: bool,
}

/// What a server does at the point that it is restored to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AtPoint {
    /// Begin a new timeline and take writes
    Promote,
    /// Wait, readable, until a person resumes or stops it
    Pause,
    /// Shut down
    Shutdown,
}

#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// Datasets of the plan, or the URL of a PostgreSQL server; none: every PostgreSQL dataset of the plan
    pub(crate) targets: Vec<String>,
    /// The dataset's name, for a server that is in no plan
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// How long a commit may wait for others to be published with it
    #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = duration)]
    pub(crate) gather: std::time::Duration,
    /// How often to say how far it is
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) say_every: std::time::Duration,
    /// Where the log must be durable before it is acknowledged to the server: in the repository, or in a synced
    /// file on this host, which must not be the server's [default: what the plan says, else repository]
    #[arg(long, value_enum)]
    pub(crate) ack: Option<AckArg>,
    #[command(flatten)]
    pub(crate) spool: SpoolArgs,
    /// Let commits wait until they are durable in the repository or the spool: nothing that was acknowledged is lost
    /// with the server. A watchdog sees to it that no commit waits longer than --max-wait
    #[arg(long)]
    pub(crate) synchronous: bool,
    /// The longest time that a commit may wait; then commits go on without us until we have caught up
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, requires = "synchronous")]
    pub(crate) max_wait: std::time::Duration,
    /// Take no snapshot where one is needed, only the log
    #[arg(long)]
    pub(crate) no_snapshot: bool,
}

/// Where the log must be durable before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckArg {
    /// In the repository.
    Repository,
    /// In the spool of this host.
    Spool,
}

/// Where the spool is.
#[derive(Clone, Debug, Args)]
pub(crate) struct SpoolArgs {
    /// The folder of spools; each dataset has its own in it [default: what the plan says]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) spool: Option<PathBuf>,
    /// How much of the disk a dataset's spool may take; while it is full nothing is acknowledged [default: 16GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) spool_limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// Datasets; none: all that have a snapshot
    pub(crate) datasets: Vec<String>,
    /// latest, a time, or a snapshot; where a log is kept also lsn:, xid: or name:
    #[arg(long, default_value = "latest")]
    pub(crate) at: String,
    #[command(flatten)]
    pub(crate) point: PointArgs,
    /// Where scratch folders are made [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scratch: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Read every pack and every chunk
    #[arg(long)]
    pub(crate) read_data: bool,
    /// Read only the Kth of N parts, by the names of the objects: all N of them are everything
    #[arg(long, value_name = "K/N", value_parser = part, requires = "read_data")]
    pub(crate) part: Option<Part>,
}

/// One of so many parts of what a repository holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    number: u32,
    of: u32,
    pub(crate) share: Share,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Only this dataset's retention is applied
    #[arg(long)]
    pub(crate) dataset: Option<String>,
    /// Keep the newest snapshot of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    pub(crate) hourly: Option<u32>,
    /// … of each of the last N days
    #[arg(long, value_name = "N")]
    pub(crate) daily: Option<u32>,
    /// … of each of the last N weeks
    #[arg(long, value_name = "N")]
    pub(crate) weekly: Option<u32>,
    /// … of each of the last N months
    #[arg(long, value_name = "N")]
    pub(crate) monthly: Option<u32>,
    /// … of each of the last N years
    #[arg(long, value_name = "N")]
    pub(crate) yearly: Option<u32>,
    /// Keep everything younger than N days
    #[arg(long, value_name = "N")]
    pub(crate) days: Option<u32>,
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    pub(crate) versions: Option<u32>,
    /// Keep every recovery point that is younger: snapshots, the one before them, and the log from there on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) window: Option<std::time::Duration>,
    /// Never keep fewer than the newest N
    #[arg(long, value_name = "N")]
    pub(crate) at_least: Option<std::num::NonZeroU32>,
    /// Only say what would be forgotten and freed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How much waste may stay, in percent of what is needed
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    pub(crate) max_unused: u64,
    /// How long to wait for writers and readers at work
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) wait: std::time::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The dataset
    pub(crate) dataset: String,
    /// The snapshots
    #[arg(required = true)]
    pub(crate) snapshots: Vec<String>,
    /// Why, for the record
    #[arg(long, default_value = "forgotten by name")]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Send a test message through channels of the plan, and say of each whether it arrived
    ///
    /// It needs the plan and its secrets, and neither a repository nor a running service. Exits with 1 if a channel
    /// did not take its message, or has a template that fails.
    Test {
        /// The channels, as the plan calls them [default: all of them]
        #[arg(value_name = "CHANNEL")]
        channels: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// List receipts
    List(EvidenceListArgs),
    /// Verify the receipts of the repository, or offline those of an export
    Verify {
        /// A file that `evidence export --format json` wrote
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// The public keys to verify by: what `repo writers list --json` printed on a machine that you trust
        /// [default: those of the repository; of an export, those in it]
        #[arg(long, value_name = "KEYS", value_hint = ValueHint::FilePath)]
        keys: Option<PathBuf>,
    },
    /// Write the receipts for auditors, failures first
    Export {
        /// The form: a page to read and print, or a document that can be verified
        #[arg(long, value_enum)]
        format: EvidenceFormat,
        /// The new file
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: PathBuf,
        /// Leave out what is before this
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Leave out what is after this
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EvidenceListArgs {
    /// Only those since then
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only those of this dataset
    #[arg(long)]
    pub(crate) dataset: Option<String>,
    /// Only those of this kind: backup, proof, restore, key-change, …
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
}

/// The form of an export of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvidenceFormat {
    /// A page to read and print.
    Html,
    /// A document that can be verified.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Make one file of pg_wal durable: archive_command = 'lifeboat wal push %p --dataset NAME'
    Push {
        /// The file: what the server puts for %p
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The dataset
        #[arg(long, value_name = "NAME")]
        dataset: String,
    },
    /// Put one file of the log where the server wants it: the restore_command of `restore --fetch-log`
    Fetch {
        /// The folder that `restore --fetch-log` made
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
        /// The file's name (%f)
        file: String,
        /// Where it goes (%p)
        destination: PathBuf,
    },
    /// Publish what a follower that was killed has left in its spool; no server is needed
    Drain {
        /// The dataset
        dataset: String,
        #[command(flatten)]
        spool: SpoolArgs,
    },
    /// Keep some files ready that the server will ask for; `wal fetch` starts it
    #[command(hide = true)]
    FetchAhead { folder: PathBuf },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// Hold a snapshot
    Add {
        /// The dataset
        dataset: String,
        /// latest, a time, or a snapshot
        snapshot: String,
        /// Why, for the record
        #[arg(long)]
        reason: String,
    },
    /// List the holds
    List,
    /// End a hold
    Release {
        /// The hold, or its first digits
        hold: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The repository to copy to, made with `lifeboat repo init --copy-of`
    #[arg(long, value_name = "LOCATION")]
    pub(crate) to: String,
    /// Where its secret comes from: env:NAME, file:PATH or command:COMMAND
    #[arg(long, value_name = "SOURCE", default_value = "env:LIFEBOAT_COPY_PASSPHRASE")]
    pub(crate) to_key: String,
    /// Datasets; none: all
    pub(crate) datasets: Vec<String>,
    /// Only the newest snapshot of each dataset
    #[arg(long)]
    pub(crate) latest: bool,
}

/// How a key slot is locked.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct LockArgs {
    /// By a passphrase from env:NAME, file:PATH or command:COMMAND
    #[arg(long, value_name = "SOURCE")]
    pub(crate) passphrase: Option<String>,
    /// By a new recovery key, which is printed once
    #[arg(long)]
    pub(crate) recovery: bool,
    /// To somebody's public key, as `lifeboat key pair` printed it
    #[arg(long, value_name = "HEX")]
    pub(crate) public_key: Option<String>,
    /// By what a command prints each time: at least 16 random bytes
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the key slots
    List,
    /// Add a key slot
    Add {
        #[command(flatten)]
        lock: LockArgs,
        /// It also holds the root key: it can add and retire keys and enrol writers
        #[arg(long)]
        admin: bool,
        /// A name for people
        #[arg(long, default_value = "")]
        label: String,
    },
    /// Replace the slot that opened the repository by a new one
    Rotate {
        #[command(flatten)]
        lock: LockArgs,
        /// A name for people
        #[arg(long, default_value = "")]
        label: String,
    },
    /// Retire a key slot
    Retire {
        /// The slot, or its first digits
        slot: String,
    },
    /// Make a key pair for a public-key slot: the private half goes into a new file, the public half is printed
    Pair {
        /// The new file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Make a repository
    Init {
        /// Do not make and print a recovery key
        #[arg(long)]
        no_recovery_key: bool,
        /// Make it a place that this repository can be copied to
        #[arg(long, value_name = "LOCATION")]
        copy_of: Option<String>,
        /// Where the secret of that repository comes from
        #[arg(long, value_name = "SOURCE", default_value = "env:LIFEBOAT_ORIGIN_PASSPHRASE")]
        origin_key: String,
        /// How long a writer's claim lasts without renewal
        #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
        lease: std::time::Duration,
        /// How old an object that nothing refers to must be before prune removes it
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        grace: std::time::Duration,
    },
    /// The writers that the repository trusts
    #[command(subcommand)]
    Writers(WritersCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WritersCommand {
    /// List them
    List,
    /// Enrol this machine, or the public key of another
    Enrol {
        /// The public key of another machine, in hexadecimal
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
        /// A name for people [default: this host's name]
        #[arg(long)]
        name: Option<String>,
        /// It may only publish: no forgetting, no pruning
        #[arg(long)]
        no_maintain: bool,
        /// It may publish only these datasets
        #[arg(long)]
        dataset: Vec<String>,
    },
    /// Revoke one: what the store has received from it so far still counts, nothing later
    Revoke {
        /// The writer, or its first digits
        writer: String,
    },
}

fn fingerprint(text: &str) -> Result<WriterId, String> {
    let digits = text.trim().to_ascii_lowercase();
    WriterId::from_hex(&digits).ok_or_else(|| "a root fingerprint has 32 hexadecimal digits".to_owned())
}

/// Reads `16400=/srv/fast`.
fn tablespace(text: &str) -> Result<(String, PathBuf), String> {
    let (named, place) = text.split_once('=').ok_or("write the tablespace and its place: 16400=/srv/fast")?;
    if named.is_empty() || place.is_empty() {
        return Err("write the tablespace and its place: 16400=/srv/fast".to_owned());
    }
    Ok((named.to_owned(), place.into()))
}

fn position(text: &str) -> Result<Lsn, String> {
    text.strip_prefix("lsn:").unwrap_or(text).parse().map_err(|error| format!("{error}"))
}

/// Reads `3/30`.
fn part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    let (number, of) = numbers.ok_or("write which part, and of how many: 3/30")?;
    let share = Share::part(number, of).ok_or("parts are counted from 1: 1/30 to 30/30")?;
    Ok(Part { number, of, share })
}

/// Reads `90s`, `15m`, `24h`, `7d`, `500ms`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 =
        number.parse().map_err(|_| "write a number and a unit: 90s, 15m, 24h, 7d".to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("the unit is one of ms, s, m, h, d".to_owned()),
    };
    number
        .checked_mul(millis)
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| "that is too long".to_owned())
}

/// A size with its unit, as a person writes it.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 =
        number.parse().map_err(|_| "write a number and a unit: 512MiB, 16GiB, 1TiB".to_owned())?;
    let bytes = match unit {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err("the unit is one of MiB, GiB, TiB, MB, GB, TB".to_owned()),
    };
    number.checked_mul(bytes).ok_or_else(|| "that is too much".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_printed() {
        let printed = "00ff00ff00ff00ff00ff00ff00ff00ff";
        assert_eq!(fingerprint(&format!(" {}\n", printed.to_uppercase())).unwrap().to_string(), printed);
        for bad in ["", "00ff", "zz"] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("16GiB"), Ok(16 << 30));
        assert_eq!(size("5MB"), Ok(5_000_000));
        for bad in ["", "MiB", "5", "5K", "-5MB", "99999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("90s"), Ok(std::time::Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(std::time::Duration::from_hours(168)));
        for bad in ["", "s", "5", "5x", "-5s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
