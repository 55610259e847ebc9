//! How the log of a dataset is kept.

use serde::Deserialize;

/// How the log of a dataset is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectPlan {
    /// Where log must be durable before it is acknowledged to the server.
    #[serde(default)]
    pub ack: Ack,
    /// The folder of spools, on another host than the server.
    pub spool: Option<String>,
    /// How much a spool may take, with a unit.
    pub spool_limit: Option<String>,
}

/// Where log must be durable before it is acknowledged to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// In the repository.
    #[default]
    Repository,
    /// In the spool of the host that follows.
    Spool,
}
