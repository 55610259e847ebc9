//! What keeps the plan: repositories, copies, the service itself, and whom it tells.

use crate::amount::Size;
use crate::dataset::Retain;
use crate::schedule::Schedule;
use crate::secret::SecretRef;
use crate::span::Span;
use serde::Deserialize;

/// Where recovery points are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryPlan {
    /// A path or URL without secrets.
    pub url: String,
    /// Where the secret comes from: `env:NAME`, `file:PATH` or `command:…`.
    pub key: Option<String>,
    /// The host that it lies on, where it is a folder of one.
    pub host: Option<String>,
    /// The region where it is.
    pub region: Option<String>,
    /// When what retention gives up is forgotten, and its space freed.
    pub prune: Option<Schedule>,
    /// How long everything in it takes to be read and checked once, bit by bit.
    pub check_within: Option<Span>,
}

/// A repository that holds what another one holds, elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyPlan {
    /// What it is called; its place in the list, if left out.
    pub name: Option<String>,
    /// A path or URL without secrets.
    pub url: String,
    /// Where its own secret comes from.
    pub key: Option<SecretRef>,
    /// The region where it is.
    pub region: Option<String>,
    /// When it is brought up to date; a minute after anything new, if left out.
    pub schedule: Option<Schedule>,
    /// How long that takes, where it is stated and not yet measured.
    pub takes: Option<Span>,
    /// What is kept in it, of every dataset; as in the repository, if left out.
    pub retain: Option<Retain>,
}

/// The service that keeps the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServePlan {
    /// The address and port that it listens on; 127.0.0.1:8377, if left out.
    pub listen: Option<String>,
    /// Where the token is that readers of the status must show.
    pub token: Option<SecretRef>,
    /// How long a leader may be silent before another host leads; 6s, if left out.
    pub leader_silence: Option<Span>,
    /// How many jobs run at once on a host; 2, if left out.
    pub jobs: Option<u32>,
    /// Where proofs restore to, and how much they may take there.
    pub scratch: Option<ScratchPlan>,
    /// How long receipts are kept; 2555d, if left out.
    pub evidence: Option<Span>,
    /// How often what is not a stream is looked at; 30s, if left out.
    pub check_every: Option<Span>,
}

impl ServePlan {
    /// Reads of a plan's text what it says of the service and nothing else: a plan of ten thousand datasets need not
    /// be read to know whom to ask. `None` where that cannot be told for sure without reading all of it.
    pub fn alone(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Alone {
            serve: ServePlan,
        }
        // Within a string of several lines a line may look like a header.
        if text.contains("\"\"\"") || text.contains("'''") {
            return None;
        }
        let mut tables = String::new();
        let mut is_ours = false;
        for line in text.lines() {
            if let Some(header) = line.trim_start().strip_prefix('[') {
                is_ours = header.starts_with("serve]") || header.starts_with("serve.");
            }
            if is_ours {
                tables.push_str(line);
                tables.push('\n');
            }
        }
        toml::from_str(&tables).ok().map(|Alone { serve }| serve)
    }
}

/// A bounded place for proofs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScratchPlan {
    /// The folder; the one for temporary files, if left out.
    pub path: Option<String>,
    /// No proof is begun that would take more.
    pub limit: Option<Size>,
}

/// Whom the service tells, and what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyPlan {
    /// An HTTPS address that messages are posted to.
    pub webhook: Option<String>,
    /// Where the secret is that they are signed with.
    pub secret: Option<SecretRef>,
    /// A mail server: `smtp://host:port` with STARTTLS, or `smtps://host:port`.
    pub smtp: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// Where its password is.
    pub password: Option<SecretRef>,
    /// Who mails.
    pub from: Option<String>,
    /// Who is mailed.
    #[serde(default)]
    pub to: Vec<String>,
    /// What is told; everything, if left out.
    #[serde(default)]
    pub on: Vec<Event>,
    /// Told again every so long while it lasts; 4h, if left out.
    pub remind: Option<Span>,
    /// A sign of life every so long, so that silence is noticed.
    pub heartbeat: Option<Span>,
    /// The first line, as a template.
    pub subject: Option<String>,
    /// The text, as a template.
    pub body: Option<String>,
}

/// What somebody can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// An objective is missed.
    Breach,
    /// An objective may be missed.
    AtRisk,
    /// A stream stands still.
    Stall,
    /// A proof failed or could not tell.
    ProofFailed,
    /// A job failed.
    JobFailed,
    /// A copy is behind.
    CopyBehind,
    /// Another host leads.
    LeaderChanged,
    /// A run waits for people.
    PeopleNeeded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_read_alone_as_it_is_read_with_everything() {
        let sound = [
            "[serve]\nlisten = \"127.0.0.1:1\"\n[datasets.x]\nstore = \"a\"\n",
            "[datasets.x]\nstore = \"a\"\n  [serve] # ours\ntoken = \"env:T\"\n[serve.scratch]\npath = \"/s\"\n[hosts.h]\n",
            "[serve]\n",
        ];
        for text in sound {
            let whole = crate::Plan::parse(text, "p.toml").unwrap();
            assert_eq!(ServePlan::alone(text), whole.serve, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_for_sure_is_not_told() {
        let unsure = [
            "",
            "serve = { listen = \"127.0.0.1:1\" }\n",
            "serve.listen = \"127.0.0.1:1\"\n",
            "[ serve ]\nlisten = \"127.0.0.1:1\"\n",
            "[system]\nname = \"\"\"\n[serve]\nlisten = \\\"x\\\"\n\"\"\"\n",
            "[serve]\nlisten = 7\n",
            "[serve]\nlistens = \"x\"\n",
        ];
        for text in unsure {
            assert_eq!(ServePlan::alone(text), None, "{text}");
        }
    }
}
