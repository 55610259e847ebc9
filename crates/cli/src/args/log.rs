//! What is typed about logs: following, spooling, archiving.

use super::values::{duration, size};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

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
