//! The plan: what is declared in `lifeboat.toml`.
//!
//! This release reads the repository and the datasets of it; the step that completes the plan adds tiers,
//! services, objectives and the lint. An unknown key is an error that names the nearest known one.
//!
//! The plan does no I/O and deliberately knows no repository and no store: a location, a secret's reference
//! and a dataset's store are text to it.

use lifeboat_base::Hint;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

mod protect;
mod prove;

pub use protect::{Ack, ProtectPlan};
pub use prove::{Expectation, ProvePlan, QueryPlan};

/// What a plan file is called, unless another is named.
pub const FILE_NAME: &str = "lifeboat.toml";

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where recovery points are kept.
    pub repository: Option<RepositoryPlan>,
    /// What must survive, by name.
    #[serde(default)]
    pub datasets: BTreeMap<String, DatasetPlan>,
}

/// Where recovery points are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryPlan {
    /// A path or URL without secrets.
    pub url: String,
    /// Where the secret comes from: `env:NAME`, `file:PATH` or `command:…`.
    pub key: Option<String>,
}

/// A dataset.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetPlan {
    /// What holds it: the path of a folder or of a database.
    pub store: String,
    /// Patterns of what is left out of a folder.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What is kept of its snapshots.
    pub retain: Option<Retain>,
    /// How its log is kept.
    pub protect: Option<ProtectPlan>,
    /// What a proof asks beside what is always asked.
    pub prove: Option<ProvePlan>,
}

/// What is kept of a dataset's snapshots: the newest of each of so many hours, days, weeks and months that
/// have one, and never fewer than `at_least` in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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
    /// The newest snapshots, whatever their age; one unless told otherwise.
    pub at_least: Option<NonZeroU32>,
}

/// A plan that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {file}, line {line}: {what}")]
pub struct PlanError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
    /// The known key that is nearest to an unknown one.
    pub nearest: Option<String>,
}

impl Hint for PlanError {
    fn hint(&self) -> Option<String> {
        self.nearest.as_ref().map(|nearest| format!("Did you mean `{nearest}`?"))
    }
}

impl Plan {
    /// Reads a plan from its text; `file` only names it in errors.
    ///
    /// # Errors
    /// With line, what is wrong, and the nearest known key.
    pub fn parse(text: &str, file: &str) -> Result<Self, PlanError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
            let what = error.message().to_owned();
            PlanError { file: file.to_owned(), line, nearest: nearest_key(&what), what }
        })
    }
}

/// From serde's message ``unknown field `x`, expected one of `a`, `b` ``, or the same of a variant.
fn nearest_key(message: &str) -> Option<String> {
    let unknown = ["unknown field ", "unknown variant "];
    let mut quoted =
        unknown.iter().find_map(|unknown| message.strip_prefix(unknown))?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let nearest = quoted.min_by_key(|known| distance(unknown, known))?;
    (distance(unknown, nearest) <= unknown.len().max(3) / 2).then(|| nearest.to_owned())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read() {
        let text = r#"
            [repository]
            url = "file:./repo"
            key = "env:LIFEBOAT_PASSPHRASE"
            [datasets.tree]
            store = "./tree"
            exclude = ["*.tmp"]
            retain = { hourly = 24, daily = 7, at_least = 3 }
        "#;
        let plan = Plan::parse(text, FILE_NAME).unwrap();
        assert_eq!(plan.repository.unwrap().url, "file:./repo");
        let retain = plan.datasets["tree"].retain.unwrap();
        assert_eq!((retain.hourly, retain.monthly, retain.at_least.unwrap().get()), (24, 0, 3));
    }

    #[test]
    fn a_plan_says_where_log_must_be_durable() {
        let protect = |text: &str| {
            let plan = Plan::parse(&format!("[datasets.x]\nstore = \"a\"\nprotect = {text}\n"), "p.toml")?;
            Ok::<_, PlanError>(plan.datasets["x"].protect.clone().unwrap())
        };
        assert_eq!(protect("{}").unwrap(), ProtectPlan::default());
        let spooled = protect(r#"{ ack = "spool", spool = "/var/spool/lifeboat", spool_limit = "2GiB" }"#);
        let spooled = spooled.unwrap();
        assert_eq!((spooled.ack, spooled.spool.as_deref()), (Ack::Spool, Some("/var/spool/lifeboat")));
        let hint = |text: &str| protect(text).unwrap_err().hint();
        assert_eq!(hint("{ acks = \"spool\" }").as_deref(), Some("Did you mean `ack`?"));
        assert_eq!(hint("{ ack = \"spol\" }").as_deref(), Some("Did you mean `spool`?"));
        assert!(protect("{ ack = 7 }").is_err());
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one_and_the_line() {
        let error = Plan::parse("[datasets.x]\nstore = \"a\"\nexcludes = []\n", "p.toml").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert_eq!(error.hint().as_deref(), Some("Did you mean `exclude`?"));
        let error = Plan::parse("[repository]\nurl = 7\n", "p.toml").unwrap_err();
        assert_eq!((error.line, error.hint()), (2, None));
        assert!(Plan::parse("[datasets.x]\nstore=\"a\"\nretain = { at_least = 0 }\n", "p").is_err());
    }
}
