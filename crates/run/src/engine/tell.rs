//! Telling people what the run waits for them for: what is due is recorded, handed to who sends it, and recorded again
//! when it arrived or did not. Nothing of the run waits for that.

use super::moves::{Move, next};
use super::{Executor, Observer, judge};
use crate::carry::Masker;
use crate::error::RunError;
use crate::escalation::{
    About, Awaited, Contact, Escalation, Letter, Notice, Recipient, Scene, Sender, Sent, Telling, Tells,
    Told, What, due, notice, settled,
};
use crate::event::{Act, Event};
use crate::status::{RunStatus, StepStatus};
use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_base::failpoint;
use lifeboat_runbook::{Action, Front, Step, StepId};
use std::collections::BTreeSet;
use std::time::Duration;

/// So much is waited for in few runs.
const MANY: usize = 50;

/// Who tells for an executor.
pub(super) struct Teller {
    escalation: Escalation,
    sender: Sender,
    /// The last record that it looked at.
    looked: u64,
    /// When something is due next.
    next: Option<Timestamp>,
    /// When it looked last, and how much was waited for then.
    last: (Stopwatch, usize),
}

impl Teller {
    pub(super) fn new(tells: &Tells, front: &Front) -> Self {
        let escalation = Escalation::of(&tells.plan, front);
        let sender = Sender::new(tells.messenger.clone(), tells.pace);
        Self { escalation, sender, looked: 0, next: None, last: (Stopwatch::start(), 0) }
    }

    /// Where very much is waited for it is not looked after each record.
    fn has_just_looked(&self) -> bool {
        self.last.1 > MANY && self.last.0.elapsed() < super::LOOK
    }

    fn recipients(&self, who: &BTreeSet<&String>) -> Vec<Recipient> {
        let contacts: Vec<&Contact> = who.iter().filter_map(|name| self.escalation.contact(name)).collect();
        self.sender.messenger().recipients(&contacts).into_iter().collect()
    }

    fn reaches_anybody(&self) -> bool {
        let everybody: Vec<&Contact> = self.escalation.contacts().collect();
        !self.sender.messenger().recipients(&everybody).is_empty()
    }
}

impl Executor {
    /// Tells what is due, and takes in what arrived.
    pub(super) fn tell(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        if self.teller.as_ref().is_some_and(Teller::has_just_looked) {
            return Ok(());
        }
        self.tell_within(Duration::ZERO, observer)
    }

    /// Waits until something is known of every message that is being sent, at most as long as the pace says. Whoever
    /// ends an executor calls it last: what is still due is told, also that the run is over.
    ///
    /// # Errors
    /// Where what became of a message cannot be recorded.
    pub fn finish_telling(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let Some(most) = self.teller.as_ref().map(|teller| teller.sender.pace().finish_within) else {
            return Ok(());
        };
        let watch = Stopwatch::start();
        self.tell_within(Duration::ZERO, observer)?;
        while self.teller.as_ref().is_some_and(|teller| !teller.sender.is_quiet()) && watch.elapsed() < most {
            self.tell_within(super::LOOK.min(most.saturating_sub(watch.elapsed())), observer)?;
        }
        self.sync(observer)
    }

    fn tell_within(&mut self, wait: Duration, observer: &mut dyn Observer) -> Result<(), RunError> {
        let Some(mut teller) = self.teller.take() else { return Ok(()) };
        let told = self.tell_by(&mut teller, wait, observer);
        self.teller = Some(teller);
        told
    }

    fn tell_by(
        &mut self,
        teller: &mut Teller,
        wait: Duration,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        for sent in teller.sender.sent(wait) {
            self.record_sent(sent, observer)?;
        }
        let now = self.time.now();
        if teller.looked == self.state.number && teller.next.is_none_or(|next| now < next) {
            return Ok(());
        }
        let awaited = self.awaited(now);
        let is_left = self.tell_settled(&awaited, observer)?;
        self.tell_needed(teller, &awaited, now, observer)?;
        if is_left {
            teller.next = Some(now);
        }
        self.withdraw(teller, &awaited, observer)?;
        self.hand_over(teller);
        (teller.looked, teller.last) = (self.state.number, (Stopwatch::start(), awaited.len()));
        Ok(())
    }

    fn record_sent(&mut self, sent: Sent, observer: &mut dyn Observer) -> Result<(), RunError> {
        let Sent { telling, to, attempts, why, over } = sent;
        if failpoint::reach("run::told").is_err() {
            return Ok(());
        }
        let why = why.map(|why| judge::bounded(&why));
        self.record(Event::Told(Told { telling, to, attempts, why, over }), observer)
    }

    /// What is settled is said to those who know of it; whether something is left for the next look.
    fn tell_settled(&mut self, awaited: &[Awaited], observer: &mut dyn Observer) -> Result<bool, RunError> {
        let due = settled(awaited, &self.state.tellings, |what| self.comes_back(what));
        let mut is_left = false;
        for (to, about) in due {
            let whole = Telling { about, settled: true, to: to.into_iter().collect() };
            let telling = whole.clone().bounded();
            is_left |= telling != whole;
            self.record(Event::Telling(telling), observer)?;
        }
        Ok(is_left)
    }

    fn tell_needed(
        &mut self,
        teller: &mut Teller,
        awaited: &[Awaited],
        now: Timestamp,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let (about, next) = due(&teller.escalation, awaited, &self.state.tellings, now);
        teller.next = next;
        if about.is_empty() {
            return Ok(());
        }
        if !teller.reaches_anybody() {
            return self.say_that_nobody(NOBODY, observer);
        }
        match self.state.tellings.may_tell(now) {
            Err(None) => self.say_that_nobody(ENOUGH, observer),
            Err(Some(later)) => {
                teller.next = next.into_iter().chain([later]).min();
                Ok(())
            }
            Ok(()) => {
                let things = about.len();
                let mut telling = Telling { about, settled: false, to: Vec::new() }.bounded();
                let who: BTreeSet<&String> = telling.about.iter().flat_map(|about| &about.who).collect();
                telling.to = teller.recipients(&who);
                let telling = telling.bounded();
                if telling.about.len() < things {
                    teller.next = Some(now);
                }
                self.record(Event::Telling(telling), observer)
            }
        }
    }

    fn say_that_nobody(&mut self, why: &str, observer: &mut dyn Observer) -> Result<(), RunError> {
        match self.state.tellings.nobody() {
            Some(said) if said == why => Ok(()),
            _ => self.record(Event::NobodyToTell { why: why.to_owned() }, observer),
        }
    }

    /// What says what is not so any more, or what a newer message says as well, is not sent any more.
    fn withdraw(
        &mut self,
        teller: &mut Teller,
        awaited: &[Awaited],
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let is_over = |about: &About| {
            awaited.iter().all(|one| one.record != about.record) && !self.comes_back(&about.what)
        };
        let pending: Vec<(u64, Recipient, &Telling)> = self
            .state
            .tellings
            .pending()
            .map(|(number, to, telling)| (number, to.clone(), telling))
            .collect();
        let is_newer = |number: u64, to: &Recipient, telling: &Telling| {
            pending.iter().any(|(newer, its, other)| {
                *newer > number && its == to && !other.settled && covers(other, telling)
            })
        };
        let mut unwanted = Vec::new();
        for (number, to, telling) in pending.iter().filter(|(_, _, telling)| !telling.settled) {
            if telling.about.iter().all(is_over) {
                unwanted.push((*number, to.clone(), SETTLED));
            } else if is_newer(*number, to, telling) {
                unwanted.push((*number, to.clone(), NEWER));
            }
        }
        for (telling, to, why) in unwanted {
            if teller.sender.holds(telling, &to) {
                teller.sender.withdraw(telling, &to, why);
                continue;
            }
            // Another executor was about to send it, or did.
            let why = Some(format!("its executor ended while it was sent, and {why}"));
            self.record(Event::Told(Told { telling, to, attempts: 1, why, over: true }), observer)?;
        }
        Ok(())
    }

    /// Hands over what is recorded and not being sent: what was just recorded, and what another executor left.
    fn hand_over(&mut self, teller: &mut Teller) {
        let now = self.time.now();
        let pending = self.state.tellings.pending();
        let left = pending.filter(|(number, to, _)| !teller.sender.holds(*number, to));
        let left: Vec<(u64, Recipient, Notice)> = left
            .map(|(number, to, telling)| (number, to.clone(), self.notice(teller, number, telling, to, now)))
            .collect();
        // Between the record and the sending: whoever goes on with the run sends it.
        if left.is_empty() || failpoint::reach("run::telling").is_err() {
            return;
        }
        for (telling, to, notice) in left {
            let reach = match &to {
                Recipient::Contact(name) => teller.escalation.contact(name),
                Recipient::Channel(_) => None,
            };
            let reach = reach.map_or(Vec::new(), |contact| contact.reach.clone());
            teller.sender.send(Letter { telling, to, reach, notice });
        }
    }

    fn notice(
        &self,
        teller: &Teller,
        number: u64,
        telling: &Telling,
        to: &Recipient,
        now: Timestamp,
    ) -> Notice {
        let (state, runbook) = (&self.state, self.graph.runbook());
        let (people, host) = (&self.house.people, self.house.host.as_str());
        let scene = Scene { state, runbook, escalation: &teller.escalation, people, host, now };
        let mut notice = notice(&scene, number, telling, to);
        // Whatever a step printed was masked already. What is sent elsewhere is masked once more.
        let secrets = self.with_lookup(|lookup| Ok(lookup.all_secrets())).unwrap_or_default();
        notice.headline = Masker::text(&secrets, &notice.headline);
        notice.text = Masker::text(&secrets, &notice.text);
        notice
    }

    /// What the run waits for people for.
    fn awaited(&self, now: Timestamp) -> Vec<Awaited> {
        let act = match self.state.status {
            RunStatus::Going => Act::Do,
            RunStatus::Undoing => Act::Undo,
            RunStatus::Paused { .. } => return self.stopped().into_iter().collect(),
            RunStatus::New | RunStatus::Aborting | RunStatus::Ended { .. } => return Vec::new(),
        };
        let consents = self.state.asked.keys().filter(|_| act == Act::Do);
        let consents = consents.filter_map(|block| self.consent_awaited(block, now));
        let steps: BTreeSet<&StepId> = self.state.stuck().chain(self.state.under_way()).collect();
        let steps = steps.into_iter().filter_map(|id| self.step_awaited(self.graph.by_id(id)?, act, now));
        consents.chain(steps).collect()
    }

    /// A run that somebody paused is in their hands; one that stopped by itself is in nobody's.
    fn stopped(&self) -> Option<Awaited> {
        let (record, since) = self.state.stopped_itself?;
        Some(Awaited { record, since, what: What::Stopped, role: None, until: None })
    }

    fn consent_awaited(&self, block: &StepId, now: Timestamp) -> Option<Awaited> {
        let asked = self.state.asked.get(block)?;
        let statement = &asked.statement;
        let is_open = self.state.status_of(&statement.step).may_begin(Act::Do)
            && now < statement.expires
            && statement.agreed(&asked.given, &self.house.people) < statement.quorum;
        is_open.then(|| Awaited {
            record: asked.record,
            since: statement.asked,
            what: What::Consent { block: block.clone() },
            role: Some(statement.role.clone()),
            until: Some(statement.expires),
        })
    }

    fn step_awaited(&self, step: &Step, act: Act, now: Timestamp) -> Option<Awaited> {
        let block = self.graph.block(step, act)?;
        let state = self.state.steps.get(&step.id)?;
        let id = step.id.clone();
        let role = match &block.action {
            Action::Person { role, .. } => role.clone(),
            _ => None,
        };
        let (what, until) =
            match (next(state, block, act, self.state.taken_over.is_some(), now), state.status) {
                (Move::Person, _) => {
                    (What::Person { step: id, act }, Some(state.since.plus(block.timeout.duration())))
                }
                (Move::Stuck, StepStatus::Failed { act: of, .. } | StepStatus::NotBegun { act: of })
                    if of == act =>
                {
                    (What::Failed { step: id, act }, None)
                }
                (Move::Stuck, StepStatus::Unknown { act: of, .. }) if of == act => {
                    (What::Unknown { step: id, act }, None)
                }
                _ => return None,
            };
        Some(Awaited { record: state.record, since: state.since, what, role, until })
    }

    /// Whether what is not waited for just now will be again, or has enough: nobody is told yet that it is settled.
    fn comes_back(&self, what: &What) -> bool {
        match (self.state.status, what) {
            (RunStatus::Paused { .. }, what) => *what != What::Stopped,
            // It expired or is void and is about to be asked for anew; or enough agreed, and the facts are looked at.
            (RunStatus::Going, What::Consent { block }) => self.state.status_of(block).may_begin(Act::Do),
            _ => false,
        }
    }
}

/// Whether a newer message says what an older one does.
fn covers(newer: &Telling, older: &Telling) -> bool {
    older.about.iter().all(|about| newer.about.iter().any(|other| other.record == about.record))
}

const NOBODY: &str = "no channel of the plan takes such messages";
const ENOUGH: &str = "this run has told people so often that it tells nobody any more";
const SETTLED: &str = "it was settled before it arrived";
const NEWER: &str = "a newer message says it as well";
