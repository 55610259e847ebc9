//! Carrying out one block: the one trait behind which scripts, requests, SQL and Lifeboat's own commands stand.
//!
//! Scripts ([`Bash`]) and requests ([`Http`]) are carried out here; what speaks to a database or to the rest of the
//! house comes from whoever assembled it. Nothing here knows the journal.

mod bash;
mod capture;
mod group;
mod http;
mod mask;
mod programs;

pub use bash::Bash;
pub use capture::Capture;
pub use http::Http;
pub use mask::Masker;

use crate::event::{Act, Ended, Part};
use crate::ids::RunId;
use crate::resolve::Value;
use lifeboat_base::Secret;
use lifeboat_runbook::{Action, Output, StepId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Exactly what is to be carried out.
#[derive(Clone, Debug)]
pub struct Order {
    /// Of which run.
    pub run: RunId,
    /// For which step.
    pub step: StepId,
    /// Which block.
    pub block: StepId,
    /// Done or undone.
    pub act: Act,
    /// Itself or its probe.
    pub part: Part,
    /// Which attempt.
    pub attempt: u32,
    /// What is done.
    pub action: Action,
    /// Whether it asks a question: then the end says yes (done), no (failed) or that nobody can tell (unknown).
    pub asks: bool,
    /// What is passed to it.
    pub values: BTreeMap<String, Value>,
    /// What it is to leave.
    pub outputs: Vec<Output>,
    /// Whether the answer is compared with what the document expects: then any answer is one.
    pub expects: bool,
    /// Every secret of the run: none may show.
    pub secrets: Vec<Secret>,
    /// It is stopped after so long.
    pub timeout: Duration,
    /// Where its output is captured. Next to it there is room for what it needs meanwhile.
    pub capture: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// How it ended.
    pub ended: Ended,
    /// What it left, masked.
    pub outputs: BTreeMap<String, String>,
    /// What is compared with what the document expects: a script's standard output, a status, the first value of the
    /// last row.
    pub answer: Option<String>,
}

impl Carried {
    /// It ended without leaving anything.
    pub fn ended(ended: Ended) -> Self {
        Self { ended, outputs: BTreeMap::new(), answer: None }
    }

    /// It was certainly not begun.
    pub fn not_begun(why: impl Into<String>) -> Self {
        Self::ended(Ended::NotBegun { why: why.into() })
    }

    /// It failed.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::ended(Ended::Failed { why: why.into() })
    }

    /// Nobody can tell.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::ended(Ended::Unknown { why: why.into() })
    }
}

/// Says that something is not wanted any more. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Says so.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody said so.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Carries out blocks of one language.
pub trait Carry: Send + Sync {
    /// Carries it out to its end, its timeout or until it is to stop, and leaves nothing running behind in the last
    /// two cases. Where it cannot be told whether it happened, the end is unknown, never failed.
    fn carry(&self, order: &Order, stop: &Stop) -> Carried;

    /// What stands in the way of carrying it out here; nothing is done.
    fn look(&self, order: &Order) -> Vec<String>;

    /// Ends what an executor that is gone may have left running of this order.
    fn clear_up(&self, _order: &Order) {}
}

/// Who carries out which language.
#[derive(Clone, Default)]
pub struct Carriers {
    /// Scripts.
    pub bash: Option<Arc<dyn Carry>>,
    /// Statements.
    pub sql: Option<Arc<dyn Carry>>,
    /// Requests.
    pub http: Option<Arc<dyn Carry>>,
    /// Lifeboat's own commands.
    pub lifeboat: Option<Arc<dyn Carry>>,
}

impl Carriers {
    /// Scripts and requests, and nobody for the others.
    pub fn here() -> Self {
        Self { bash: Some(Arc::new(Bash::default())), http: Some(Arc::new(Http)), ..Self::default() }
    }

    /// Everything by one.
    pub fn all(carrier: Arc<dyn Carry>) -> Self {
        let one = Some(carrier);
        Self { bash: one.clone(), sql: one.clone(), http: one.clone(), lifeboat: one }
    }

    /// Who carries out an action.
    ///
    /// # Errors
    /// Where nobody does.
    pub(crate) fn of(&self, action: &Action) -> Result<&Arc<dyn Carry>, String> {
        let (carrier, language) = match action {
            Action::Bash { .. } => (&self.bash, "bash"),
            Action::Sql { .. } => (&self.sql, "sql"),
            Action::Http { .. } => (&self.http, "http"),
            Action::Lifeboat { .. } => (&self.lifeboat, "lifeboat"),
            Action::Person { .. } => return Err("a person does this".to_owned()),
        };
        carrier.as_ref().ok_or_else(|| format!("nobody here carries out {language} blocks"))
    }
}
