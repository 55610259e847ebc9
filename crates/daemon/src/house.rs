//! What every part of the daemon shares: the plan, the means, the state, and how things stand.

use crate::live::Live;
use crate::means::{Means, Trouble};
use crate::record::What;
use crate::state::{State, signs};
use crate::task::copy_name;
use lifeboat_base::clock::Clock;
use lifeboat_plan::{CopyPlan, Plan};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Published, Repository, Tips};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Told as it happens: a subject, a stable word, and more of it.
pub type Tell = Box<dyn Fn(&str, &str, &Value) + Send + Sync>;

/// What every part of the daemon shares.
pub struct House {
    /// The plan.
    pub plan: Plan,
    /// The plan as it was read.
    pub plan_text: String,
    /// What whoever started the daemon gave it.
    pub means: Box<dyn Means>,
    /// The controller's state.
    pub state: State,
    /// How things stand.
    pub live: Live,
    /// The time.
    pub clock: Clock,
    tell: Tell,
    open: Mutex<Open>,
    /// Held while the repository is opened.
    opening: Mutex<()>,
    /// The tips of the repository (under no name) and of the copies.
    tips: Mutex<BTreeMap<String, Tips>>,
}

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("House").field("plan", &self.plan.system).finish_non_exhaustive()
    }
}

/// Repositories that are open. One that went away stays: its store is asked anew with every call.
#[derive(Default)]
struct Open {
    repository: Option<Arc<Repository>>,
    copies: BTreeMap<String, Arc<Repository>>,
}

impl House {
    /// A house in which nothing is open yet.
    pub fn new(plan: Plan, plan_text: String, means: Box<dyn Means>, state: State, tell: Tell) -> Self {
        Self {
            plan,
            plan_text,
            means,
            state,
            live: Live::default(),
            clock: Clock::System,
            tell,
            open: Mutex::default(),
            opening: Mutex::default(),
            tips: Mutex::default(),
        }
    }

    /// The repository, opened when it is first asked for.
    ///
    /// # Errors
    /// Where it is away, or its secret does not open it.
    pub fn repository(&self) -> Result<Arc<Repository>, Trouble> {
        if let Some(open) = self.open_repository() {
            return Ok(open);
        }
        // Opening may take as long as a network does: who only looks whether it is open does not wait. Who needs it
        // waits for the one that opens it, since a passphrase costs its memory each time.
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open_repository() {
            return Ok(open);
        }
        let opened = self.means.repository()?;
        self.note_key(&opened);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(open.repository.get_or_insert(opened).clone())
    }

    /// Keeps with which key we sign there. A place that we may only read has none.
    fn note_key(&self, opened: &Repository) {
        let Ok(signer) = opened.writer() else { return };
        let (repository, writer) = (opened.id().to_string(), signer.id().to_string());
        let known = self.state.fact(&signs(&repository)).ok().flatten();
        if known.as_deref() != Some(writer.as_str()) {
            let kept = self.state.keep(self.clock.now(), What::Signs { repository, writer });
            if let Err(error) = kept {
                let error = lifeboat_base::report(&error);
                self.say("controller", "not-kept", serde_json::json!({ "error": error }));
            }
        }
    }

    /// The repository, where it is open already.
    pub fn open_repository(&self) -> Option<Arc<Repository>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).repository.clone()
    }

    /// A copy, where it is open already.
    pub fn open_copy(&self, name: &str) -> Option<Arc<Repository>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).copies.get(name).cloned()
    }

    /// A copy, opened when it is first asked for.
    ///
    /// # Errors
    /// As [`House::repository`], and where the plan has no such copy.
    pub fn copy(&self, name: &str) -> Result<Arc<Repository>, Trouble> {
        if let Some(open) = self.open.lock().unwrap_or_else(PoisonError::into_inner).copies.get(name) {
            return Ok(open.clone());
        }
        let planned = self.planned_copy(name).ok_or_else(|| {
            Trouble::new(
                format!("{name} is no copy of the plan"),
                "Start `lifeboat serve` again with the plan.",
            )
        })?;
        let opened = self.means.copy(planned)?;
        self.note_key(&opened);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(open.copies.entry(name.to_owned()).or_insert(opened).clone())
    }

    /// The newest snapshots of the repository, or of a copy, without reading again what was read before.
    ///
    /// # Errors
    /// Where it is away.
    pub fn newest(&self, copy: Option<&str>) -> Result<BTreeMap<DatasetName, Published>, Trouble> {
        let repository = copy.map_or_else(|| self.repository(), |name| self.copy(name))?;
        let name = copy.unwrap_or_default();
        // Not under the lock: a place that does not answer must not keep others from being asked.
        let taken = self.tips.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let mut tips = taken.unwrap_or_default();
        let newest = tips.newest(&repository, &mut Vec::new()).map_err(|error| Trouble::of(&error));
        self.tips.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), tips);
        newest
    }

    /// The copies of the plan, by name.
    pub fn copies(&self) -> impl Iterator<Item = (String, &CopyPlan)> {
        self.plan.copies.iter().enumerate().map(|(place, copy)| (copy_name(copy, place), copy))
    }

    /// A copy of the plan.
    pub fn planned_copy(&self, name: &str) -> Option<&CopyPlan> {
        self.copies().find(|(its, _)| its == name).map(|(_, copy)| copy)
    }

    /// Where proofs restore to.
    pub fn scratch_folder(&self) -> PathBuf {
        let planned = self.plan.serve.as_ref().and_then(|serve| serve.scratch.as_ref());
        planned.and_then(|scratch| scratch.path.as_ref()).map_or_else(std::env::temp_dir, PathBuf::from)
    }

    /// Tells something that is not worth a record.
    pub fn say(&self, subject: &str, event: &str, detail: Value) {
        (self.tell)(subject, event, &detail);
    }

    /// Keeps something that happened, and tells it. What cannot be kept is told nevertheless.
    pub fn note(&self, subject: &str, event: &str, detail: Value) {
        self.say(subject, event, detail.clone());
        let what = What::Noted { subject: subject.to_owned(), event: event.to_owned(), detail };
        if let Err(error) = self.state.keep(self.clock.now(), what) {
            let error = lifeboat_base::report(&error);
            self.say("controller", "not-kept", serde_json::json!({ "error": error }));
        }
    }
}
