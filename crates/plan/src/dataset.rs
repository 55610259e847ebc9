//! Datasets: what must survive, how much of it may be lost, and how that is kept.

use crate::amount::{Rate, Size};
use crate::protect::ProtectPlan;
use crate::prove::ProvePlan;
use crate::span::Span;
use crate::text::{schema_as, text_or_table};
use serde::Deserialize;
use std::num::NonZeroU32;

/// A dataset.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetPlan {
    /// What holds it: the path of a folder or of a database, a URL without secrets, or `env:NAME`.
    pub store: String,
    /// The kind of store, where `store` does not say it by itself.
    pub kind: Option<StoreKind>,
    /// What it is, for people.
    pub description: Option<String>,
    /// The host where it can be read; any, if left out and the store is on the network.
    pub host: Option<String>,
    /// The region where it lives; that of its host, or of the system, if left out.
    pub region: Option<String>,
    /// The tier by whose order it is restored, where it has one of its own.
    pub tier: Option<String>,
    /// How much of it may be lost.
    pub rpo: Option<RpoPlan>,
    /// A replica of it that the store's own engine keeps.
    pub replica: Option<ReplicaPlan>,
    /// Patterns of what is left out of a folder.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How it is protected.
    pub protect: Option<ProtectPlan>,
    /// What is kept of it.
    pub retain: Option<Retain>,
    /// How it is proven.
    pub prove: Option<ProvePlan>,
    /// What is stated of getting it back, until it is measured.
    pub recover: Option<RecoverPlan>,
    /// A snapshot older than this is reported.
    pub stale_after: Option<Span>,
    /// Other names that it goes by.
    #[serde(default)]
    pub names: Vec<String>,
}

impl DatasetPlan {
    /// The kind of store, as far as the plan says it: by `kind`, else by how `store` is written.
    pub fn store_kind(&self) -> Option<StoreKind> {
        self.kind.or_else(|| StoreKind::of(&self.store))
    }
}

/// The engine that holds a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// PostgreSQL.
    Postgres,
    /// A SQLite database.
    Sqlite,
    /// Redis.
    Redis,
    /// Files and folders.
    Files,
    /// Object storage.
    Bucket,
    /// Manifests and secrets as a Kubernetes API server has them.
    Kubernetes,
    /// Secrets as a vault has them.
    Secrets,
}

impl StoreKind {
    /// By how a store is written; of a path, only an ending says that it is a database.
    pub fn of(store: &str) -> Option<Self> {
        let Some((scheme, _)) = store.split_once(':').filter(|(scheme, _)| scheme.len() > 1) else {
            return Some(Self::of_path(store));
        };
        match scheme {
            "postgres" | "postgresql" => Some(Self::Postgres),
            "sqlite" => Some(Self::Sqlite),
            "redis" | "rediss" | "valkey" => Some(Self::Redis),
            "file" => Some(Self::of_path(store)),
            "s3" | "gs" => Some(Self::Bucket),
            "kubernetes" => Some(Self::Kubernetes),
            "vault" => Some(Self::Secrets),
            _ => None,
        }
    }

    fn of_path(path: &str) -> Self {
        let is_database = [".db", ".sqlite", ".sqlite3"].iter().any(|ending| path.ends_with(ending));
        if is_database { Self::Sqlite } else { Self::Files }
    }

    /// Whether it can be read from anywhere on the network.
    pub const fn is_on_the_network(self) -> bool {
        !matches!(self, Self::Sqlite | Self::Files)
    }

    /// Whether this release has a driver for it.
    pub const fn has_driver(self) -> bool {
        matches!(self, Self::Postgres | Self::Sqlite | Self::Files)
    }

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::Files => "files",
            Self::Bucket => "bucket",
            Self::Kubernetes => "kubernetes",
            Self::Secrets => "secrets",
        }
    }
}

/// How much may be lost when a host, the repository or a whole region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawRpo")]
pub struct RpoPlan {
    /// When the host is lost.
    pub host: Span,
    /// When the repository is lost with it.
    pub repository: Option<Span>,
    /// When everything in the region is lost.
    pub region: Option<Span>,
}

/// As it is written.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
enum RawRpo {
    Text(Span),
    Table(RawRpoTable),
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRpoTable {
    /// When the host is lost.
    host: Span,
    /// When the repository is lost with it.
    repository: Option<Span>,
    /// When everything in the region is lost.
    region: Option<Span>,
}

impl From<RawRpo> for RpoPlan {
    fn from(raw: RawRpo) -> Self {
        match raw {
            RawRpo::Text(host) => Self { host, repository: None, region: None },
            RawRpo::Table(RawRpoTable { host, repository, region }) => Self { host, repository, region },
        }
    }
}

text_or_table!(RawRpo, Text, Table, "a length of time, or a table with host, repository and region");
schema_as!(RpoPlan, RawRpo);

/// A replica that the store's own engine keeps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplicaPlan {
    /// Where it is.
    pub region: String,
    /// How far behind it may be.
    pub lag: Span,
}

/// What is stated of getting a dataset back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoverPlan {
    /// How much it is.
    pub size: Option<Size>,
    /// How fast it comes back.
    pub rate: Option<Rate>,
    /// How long it takes in all, instead of size and rate.
    pub takes: Option<Span>,
}

impl RecoverPlan {
    /// How long getting it back is stated to take.
    pub fn stated(&self) -> Option<Span> {
        self.takes.or_else(|| Some(self.rate?.time_for(self.size?)))
    }
}

/// What is kept of a dataset: everything younger than `days`, the newest `versions`, the newest of each of so
/// many hours, days, weeks, months and years that have one, and never fewer than `at_least` in all; and of a
/// followed one the log of `window`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retain {
    /// Hours.
    #[serde(default)]
    pub hourly: u32,
    /// Days.
    #[serde(default)]
    pub daily: u32,
    /// Weeks, from Monday.
    #[serde(default)]
    pub weekly: u32,
    /// Months.
    #[serde(default)]
    pub monthly: u32,
    /// Years.
    #[serde(default)]
    pub yearly: u32,
    /// Everything of the last so many days.
    #[serde(default)]
    pub days: u32,
    /// The newest so many.
    #[serde(default)]
    pub versions: u32,
    /// The newest snapshots, whatever their age; one unless told otherwise.
    pub at_least: Option<NonZeroU32>,
    /// The time within which every recovery point is kept: the log, and the snapshot that it starts from.
    pub window: Option<Span>,
}

impl Retain {
    /// How far back it reaches by its rules, for a dataset that has a snapshot in each of the periods.
    pub fn reach(&self) -> Span {
        const HOUR: u64 = 60 * 60;
        let of = |count: u32, seconds: u64| Span::from_secs(u64::from(count) * seconds);
        let calendar = [
            of(self.hourly, HOUR),
            of(self.daily, 24 * HOUR),
            of(self.weekly, 7 * 24 * HOUR),
            of(self.monthly, 30 * 24 * HOUR),
            of(self.yearly, 365 * 24 * HOUR),
            of(self.days, 24 * HOUR),
        ];
        let longest = calendar.into_iter().max().unwrap_or_default();
        longest.max(self.window.unwrap_or_default())
    }
}
