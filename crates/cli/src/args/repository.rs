//! What is typed about the repository itself: keys, writers, copies, checks, retention.

use super::values::{duration, part};
use clap::{Args, Subcommand, ValueHint};
use lifeboat_repository::Share;
use std::fmt;
use std::path::PathBuf;

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
    pub(super) number: u32,
    pub(super) of: u32,
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
    /// Where its secret comes from: env:NAME, file:PATH, command:COMMAND or vault:PATH#FIELD
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
    /// By a passphrase from env:NAME, file:PATH, command:COMMAND or vault:PATH#FIELD
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
