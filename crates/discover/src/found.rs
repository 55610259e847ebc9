//! What was found, and where it was seen.

use lifeboat_plan::{Span, StoreKind};
use std::fmt;
use std::path::PathBuf;

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What the system is called: as its folder.
    pub system: String,
    /// The host that was looked at.
    pub host: String,
    /// Datasets, also those that no driver of this release can protect.
    pub datasets: Vec<FoundDataset>,
    /// Services.
    pub services: Vec<FoundService>,
    /// What must survive too, and where a person has to decide or help.
    pub undone: Vec<Undone>,
    /// What was not looked at.
    pub passed_over: Vec<PassedOver>,
}

impl Found {
    /// Whether anything was found that a plan can speak of.
    pub fn is_empty(&self) -> bool {
        self.datasets.is_empty() && self.services.is_empty()
    }
}

/// The engine that holds a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
    /// A folder.
    Files,
    /// Redis or Valkey.
    Redis,
    /// Object storage.
    Bucket,
    /// A vault.
    Secrets,
    /// One that plans have no word for.
    Foreign(&'static str),
}

impl Engine {
    /// The kind of store, where plans have a word for it.
    pub const fn kind(self) -> Option<StoreKind> {
        match self {
            Self::Postgres => Some(StoreKind::Postgres),
            Self::Sqlite => Some(StoreKind::Sqlite),
            Self::Files => Some(StoreKind::Files),
            Self::Redis => Some(StoreKind::Redis),
            Self::Bucket => Some(StoreKind::Bucket),
            Self::Secrets => Some(StoreKind::Secrets),
            Self::Foreign(_) => None,
        }
    }

    /// Whether this release has a driver for it.
    pub const fn has_driver(self) -> bool {
        match self.kind() {
            Some(kind) => kind.has_driver(),
            None => false,
        }
    }

    /// Its name.
    pub const fn word(self) -> &'static str {
        match (self, self.kind()) {
            (Self::Foreign(word), _) => word,
            (_, Some(kind)) => kind.word(),
            (_, None) => "unknown",
        }
    }
}

/// A dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDataset {
    /// What it is called in the plan.
    pub name: String,
    /// What holds it.
    pub engine: Engine,
    /// As a plan writes it: a path, a URL without secrets, or `env:NAME`.
    pub store: String,
    /// What of a folder is a dataset of its own.
    pub exclude: Vec<String>,
    /// Other names that it goes by.
    pub names: Vec<String>,
    /// What a person should know of it.
    pub remarks: Vec<String>,
    /// Where it was seen.
    pub seen: Vec<Sight>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundService {
    /// What it is called in the plan.
    pub name: String,
    /// The datasets and services that it cannot be without.
    pub needs: Vec<String>,
    /// What it needs and no driver can protect.
    pub needs_unprotected: Vec<String>,
    /// Where it says whether it is ready.
    pub probe: Option<FoundProbe>,
    /// Ports that it listens on.
    pub ports: Vec<u16>,
    /// What a person should know of it.
    pub remarks: Vec<String>,
    /// Where it was seen.
    pub seen: Vec<Sight>,
}

/// Where a service says whether it is ready, and how often it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundProbe {
    /// An HTTP URL.
    pub url: String,
    /// Between two questions.
    pub interval: Option<Span>,
    /// An answer later than this is none.
    pub timeout: Option<Span>,
    /// So many failures in a row mean that it is down.
    pub failures: Option<u32>,
    /// So many successes in a row mean that it is up again.
    pub successes: Option<u32>,
    /// Failures count for nothing so long after a start.
    pub start_period: Option<Span>,
}

/// Something that was recognised, and that the plan cannot speak of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// What it is.
    pub what: String,
    /// Why it is not in the plan, or what to do.
    pub why: String,
    /// Where it was seen.
    pub seen: Vec<Sight>,
}

/// Something that was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The path, below the folder.
    pub path: String,
    /// Why.
    pub why: String,
    /// Whether it might have held something: an unreadable file does, a folder of tests does not.
    pub is_missed: bool,
}

/// Where something was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// A variable of the environment.
    Variable(String),
    /// A key of a file.
    Key {
        /// The file, below the folder.
        file: String,
        /// The key, as a path.
        key: String,
    },
    /// A file or a folder.
    Path(String),
}

impl Sight {
    pub(crate) fn key(file: &str, key: impl Into<String>) -> Self {
        Self::Key { file: file.to_owned(), key: key.into() }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "environment: {name}"),
            Self::Key { file, key } => write!(f, "{file}: {key}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// A path below the folder as a plan writes it.
pub(crate) fn written_path(path: &str) -> String {
    format!("./{path}")
}

/// A path as text, where it is text.
pub(crate) fn text_of(path: &std::path::Path) -> Option<String> {
    PathBuf::from(path).into_os_string().into_string().ok()
}

impl Undone {
    /// Backups that another tool takes.
    pub(crate) fn backups_of(name: &str, seen: Sight) -> Self {
        Self {
            what: format!("the backups that {name} takes"),
            why: "they are another tool's: `lifeboat import` takes them in".to_owned(),
            seen: vec![seen],
        }
    }
}
