//! What is typed about the service, the plan and the evidence.

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

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
