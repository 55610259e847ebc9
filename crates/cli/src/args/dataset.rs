//! What is typed to protect datasets, to look at their points, to bring them back and to prove them.

use super::values::{duration, position, tablespace};
use clap::{Args, ValueHint};
use lifeboat_postgres_wal::Lsn;
use std::ffi::OsString;
use std::path::PathBuf;

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
