//! What people ask for, done or refused, and recorded in either case.

use super::{Executor, Observer};
use crate::approval::{NotTaken, Signed};
use crate::error::RunError;
use crate::event::{Act, Ended, Event, Heard, Outcome, Part, Said};
use crate::journal::JournalError;
use crate::requests::{Request, waiting};
use crate::status::{RunStatus, StepStatus};
use lifeboat_base::crashsafe;
use lifeboat_runbook::{Action, StepId};
use std::collections::BTreeMap;

/// Nobody's name is longer, in bytes.
const MAX_NAME_BYTES: usize = 200;

impl Executor {
    /// Takes what lies in the inbox, what threads of this process ask, and what lies in the mirror.
    pub(super) fn take_requests(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        while let Ok(request) = self.requests.try_recv() {
            self.take(&request, None, observer)?;
        }
        self.hear(observer)?;
        let Some(folder) = &self.folder else { return Ok(()) };
        for asked in waiting(&folder.inbox())? {
            match &asked.request {
                Ok(request) => match self.why_not_any_more(request, asked.seen) {
                    None => self.take(request, None, observer)?,
                    Some(why) => self.refuse(request.by(), &request.what(), &why, None, observer)?,
                },
                Err(why) => self.refuse("somebody", "something that cannot be read", why, None, observer)?,
            }
            self.sync(observer)?;
            // After the record: a crash in between asks twice, and what was done already is refused then.
            crashsafe::remove(&asked.path)
                .map_err(|error| JournalError::io("take a request from", &asked.path, error.source))?;
        }
        Ok(())
    }

    /// What was asked on this machine before the run went on elsewhere, of what has changed there. While it goes on
    /// here everybody sees what they speak of.
    fn why_not_any_more(&self, request: &Request, seen: u64) -> Option<String> {
        if self.state.taken <= seen {
            return None;
        }
        match request {
            Request::LeaveMirror { .. } => Some("the run has been taken over since".to_owned()),
            request => self.why_changed(request, seen),
        }
    }

    /// Does what is asked for, or refuses it. The first record of that names the request, if it is one of the mirror.
    pub(super) fn take(
        &mut self,
        request: &Request,
        heard: Option<&Heard>,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let wanted = self.wanted(request).and_then(|event| match self.state.check(&event) {
            Ok(()) => Ok(event),
            Err(illegal) => Err(illegal.to_string()),
        });
        match wanted {
            Ok(event) => self.record_answer(event, heard, observer)?,
            Err(why) => return self.refuse(request.by(), &request.what(), &why, heard, observer),
        }
        match request {
            Request::LeaveMirror { by, .. } if matches!(self.state.status, RunStatus::Paused { .. }) => {
                self.record(Event::Resumed { by: by.clone() }, observer)?;
                self.begin_again_what_was_not_begun(by, observer)
            }
            Request::LeaveMirror { by, .. } | Request::Resume { by } => {
                self.begin_again_what_was_not_begun(by, observer)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn refuse(
        &mut self,
        by: &str,
        what: &str,
        why: &str,
        heard: Option<&Heard>,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let bounded = |text: &str| super::judge::bounded(text);
        let (by, what, why) = (bounded(by), bounded(what), bounded(why));
        self.record_answer(Event::Refused { by, what, why }, heard, observer)
    }

    fn wanted(&mut self, request: &Request) -> Result<Event, String> {
        if request.by().trim().is_empty() {
            return Err("nobody says who asks".to_owned());
        }
        if request.by().len() > MAX_NAME_BYTES {
            return Err(format!("a name of more than {MAX_NAME_BYTES} bytes is nobody's"));
        }
        let bounded = super::judge::bounded;
        Ok(match request.clone() {
            Request::Approve(signed) => {
                self.judge_approval(&signed).map_err(|error| error.to_string())?;
                Event::ApprovalGiven(signed)
            }
            Request::Confirm { step, by, done, note } => self.confirmed(step, by, done, note)?,
            Request::Skip(said) => Event::Skipped(self.said(said)?),
            Request::Again(said) => Event::Again(self.said(said)?),
            Request::Settle { step, done, by, reason, outputs } => {
                let Said { step, by, reason } = self.said(Said { step, by, reason })?;
                self.check_outputs(&step, done, &outputs)?;
                Event::Settled { step, done, by, reason, outputs }
            }
            Request::Pause { by, reason } => Event::Paused { by: Some(by), reason: bounded(&reason) },
            Request::Resume { by } => Event::Resumed { by },
            Request::LeaveMirror { by, reason } => self.leave_mirror(by, &reason)?,
            Request::Abort { by, reason, undo } => Event::AbortAsked { by, reason: bounded(&reason), undo },
        })
    }

    fn leave_mirror(&self, by: String, reason: &str) -> Result<Event, String> {
        if !self.state.waits_for_mirror() {
            return Err("the run waits for no mirror".to_owned());
        }
        if reason.trim().is_empty() {
            return Err("nobody says how they know that it goes on nowhere else".to_owned());
        }
        Ok(Event::MirrorLeft { by, reason: super::judge::bounded(reason) })
    }

    /// What others go on with is what the step left: who says that it was carried out says what that is.
    fn check_outputs(
        &self,
        step: &StepId,
        done: bool,
        said: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let leaves = done && matches!(self.state.status_of(step), StepStatus::Unknown { act: Act::Do, .. });
        let declared: Vec<&str> =
            self.graph.by_id(step).filter(|_| leaves).map_or_else(Vec::new, |step| {
                step.outputs.iter().map(|output| output.name.as_str()).collect()
            });
        if let Some(other) = said.keys().find(|name| !declared.contains(&name.as_str())) {
            return Err(format!("{step} leaves no {other}"));
        }
        if super::judge::recorded_bytes(said) > super::judge::MAX_OUTPUT_BYTES {
            return Err(format!("what it left is more than {} bytes", super::judge::MAX_OUTPUT_BYTES));
        }
        let missing: Vec<&str> = declared.into_iter().filter(|name| !said.contains_key(*name)).collect();
        match missing.as_slice() {
            [] => Ok(()),
            names => Err(format!(
                "it leaves {}, and nobody says what that is (settle --done --output NAME=VALUE)",
                names.join(", ")
            )),
        }
    }

    /// What is said of a step has a reason, and the step is one of the runbook that nobody is carrying out.
    fn said(&self, said: Said) -> Result<Said, String> {
        match self.graph.by_id(&said.step) {
            None => Err(format!("the runbook has no step {}", said.step)),
            Some(_) if said.reason.trim().is_empty() => Err("there is no reason".to_owned()),
            Some(step) if step.role != lifeboat_runbook::Role::Forward => {
                Err(format!("{} is not carried out in order: say it of the step that it belongs to", step.id))
            }
            Some(step) if self.is_running(&step.id) => Err(format!("{} is being carried out", step.id)),
            Some(_) => Ok(Said { reason: super::judge::bounded(&said.reason), ..said }),
        }
    }

    fn judge_approval(&mut self, signed: &Signed) -> Result<(), NotTaken> {
        let now = self.time.now();
        let asked =
            self.state.asked.get(&signed.block).ok_or_else(|| NotTaken::NotAsked(signed.block.clone()))?;
        if now >= asked.statement.expires {
            return Err(NotTaken::Expired(asked.statement.expires));
        }
        asked.statement.judge(signed, &self.house.people)?;
        let same = |given: &&Signed| given.by == signed.by || given.key == signed.key;
        match asked.given.iter().find(same) {
            Some(given) => Err(NotTaken::Twice(given.by.clone())),
            None => Ok(()),
        }
    }

    fn confirmed(&self, step: StepId, by: String, done: bool, note: Option<String>) -> Result<Event, String> {
        let StepStatus::Open { act, .. } = self.state.status_of(&step) else {
            return Err(format!("{step} does not wait for anybody"));
        };
        let found = self.graph.by_id(&step).and_then(|found| self.graph.block(found, act));
        let role = match found.map(|found| &found.action) {
            Some(Action::Person { role, .. }) => role,
            _ => return Err(format!("{step} is not done by people")),
        };
        if let Some(role) = role.as_ref().filter(|role| !self.house.people.may(&by, role)) {
            return Err(format!("{by} is no {role}"));
        }
        let note = note.filter(|note| !note.trim().is_empty());
        let result = match (done, note) {
            (true, _) => Ended::Done,
            (false, Some(why)) => Ended::Failed { why: super::judge::bounded(&why) },
            (false, None) => return Err("there is no reason why it is not done".to_owned()),
        };
        let attempt = self.state.steps.get(&step).map_or(1, |state| match act {
            Act::Do => state.attempts,
            Act::Undo => state.undo_attempts,
        });
        let (part, outputs, took_ms) = (Part::Itself, BTreeMap::new(), 0);
        Ok(Event::Outcome(Outcome { step, act, part, attempt, result, outputs, took_ms, by: Some(by) }))
    }

    /// Who resumes wants that what could not be begun is begun.
    fn begin_again_what_was_not_begun(
        &mut self,
        by: &str,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let not_begun = |id: &&StepId| matches!(self.state.status_of(id), StepStatus::NotBegun { .. });
        let steps: Vec<StepId> = self.state.stuck().filter(not_begun).cloned().collect();
        for step in steps {
            let said = Said { step, by: by.to_owned(), reason: "resumed".to_owned() };
            self.record(Event::Again(said), observer)?;
        }
        Ok(())
    }
}
