//! Before a block that needs consent: the facts are measured and shown, people agree, and right before the intent the
//! facts are measured again. Between that and the intent nothing else happens.

use super::workers::{Key, Task};
use super::{Executor, Observer, judge};
use crate::approval::{Asking, Statement};
use crate::carry::{Carried, Stop};
use crate::error::RunError;
use crate::event::{Act, Ended, Event, Part};
use lifeboat_base::clock::Timestamp;
use lifeboat_runbook::{Approval, Fact, Source, Step, StepId};
use std::collections::BTreeMap;

type Facts = BTreeMap<String, String>;

impl Executor {
    /// One step further towards beginning a block that needs consent; when it expires, where people are waited for.
    pub(super) fn begin_with_consent(
        &mut self,
        step: &Step,
        observer: &mut dyn Observer,
    ) -> Result<Option<Timestamp>, RunError> {
        let key = Key::Facts { block: step.id.clone() };
        if self.running.contains_key(&key) {
            return Ok(None);
        }
        let now = self.time.now();
        if let Some(asked) = self.state.asked.get(&step.id) {
            let statement = &asked.statement;
            if now >= statement.expires {
                self.record(Event::ApprovalExpired { block: step.id.clone() }, observer)?;
                return Ok(None);
            }
            if statement.agreed(&asked.given, &self.house.people) < statement.quorum {
                return Ok(None);
            }
        }
        if !self.has_room() {
            return Ok(None);
        }
        match self.facts_task(step, key) {
            Ok(task) if task.orders.is_empty() => self.take_facts(&step.id, Vec::new(), observer)?,
            Ok(task) => match self.start(task) {
                Ok(()) => {}
                Err(error) => self.cannot_ask(step, &error.to_string(), observer)?,
            },
            Err(why) => self.cannot_ask(step, &why, observer)?,
        }
        Ok(None)
    }

    /// The checks that the facts of a step are from, asked again.
    fn facts_task(&self, step: &Step, key: Key) -> Result<Task, String> {
        let mut orders = Vec::new();
        for check in self.checks(step) {
            let resolved = self.with_lookup(|lookup| lookup.resolve(check))?;
            let order = self.order(&step.id, check, &resolved)?;
            orders.push((order, self.house.carriers.of(&check.action)?.clone()));
        }
        Ok(Task { key, orders, stop: Stop::default() })
    }

    fn checks(&self, of: &Step) -> Vec<&Step> {
        let mut checks: Vec<&Step> = Vec::new();
        for fact in of.approval.iter().flat_map(facts) {
            let Source::Output { step, .. } = &fact.source else { continue };
            let check = self.graph.by_id(step).filter(|step| step.is_check);
            checks.extend(check.filter(|check| checks.iter().all(|known| known.id != check.id)));
        }
        checks
    }

    /// Goes on when the facts of a block are known: asks people, or begins.
    pub(super) fn take_facts(
        &mut self,
        block: &StepId,
        carried: Vec<(StepId, Carried)>,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        // What undoes needs no consent: who gave the run up wants all of it undone.
        let Some(step) = self.graph.by_id(block).cloned() else { return Ok(()) };
        if !self.state.status.may_do(Act::Do) || !self.state.status_of(&step.id).may_begin(Act::Do) {
            return Ok(());
        }
        match self.facts(&step, &carried) {
            Ok(facts) => {
                if !carried.is_empty() {
                    self.record(Event::Measured { block: step.id.clone(), facts: facts.clone() }, observer)?;
                }
                self.ask_or_begin(&step, &facts, observer)
            }
            Err(why) if self.state.asked.contains_key(&step.id) => self.void(&step, why, observer),
            Err(why) => self.cannot_ask(&step, &why, observer),
        }
    }

    /// The facts: what checks say now, and what is recorded of everything else.
    fn facts(&self, block: &Step, carried: &[(StepId, Carried)]) -> Result<Facts, String> {
        let mut measured = BTreeMap::new();
        for (id, carried) in carried {
            let check = self.graph.by_id(id).ok_or_else(|| format!("there is no check {id}"))?;
            let judged = judge::judge(check, Part::Itself, carried.clone());
            match judged.ended {
                Ended::Done => drop(measured.insert(id.clone(), judged.outputs)),
                ended => return Err(format!("{id}: {}", ended.why().unwrap_or_default())),
            }
        }
        let mut values = Facts::new();
        for fact in block.approval.iter().flat_map(facts) {
            let value = match &fact.source {
                Source::Output { step, name } if measured.contains_key(step) => {
                    let again = measured.get(step).and_then(|outputs| outputs.get(name)).cloned();
                    again.ok_or_else(|| format!("{step} left no {name}"))?
                }
                source => self.with_lookup(|lookup| lookup.plain(source))?,
            };
            values.insert(fact.name.clone(), value);
        }
        // Nobody reads so much, and no record holds it.
        match judge::recorded_bytes(&values) {
            0..=judge::MAX_OUTPUT_BYTES => Ok(values),
            bytes => Err(format!("its facts are {bytes} bytes, and may be {}", judge::MAX_OUTPUT_BYTES)),
        }
    }

    fn ask_or_begin(
        &mut self,
        step: &Step,
        facts: &Facts,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let now = self.time.now();
        match self.weigh(step, facts, now) {
            Ok(Weighed::Ask(statement)) => self.record(Event::ApprovalAsked(statement), observer),
            Ok(Weighed::Begin) => self.begin(step, Act::Do, Part::Itself, observer),
            Ok(Weighed::Wait) => Ok(()),
            Ok(Weighed::Expired) => self.record(Event::ApprovalExpired { block: step.id.clone() }, observer),
            Ok(Weighed::Void(why)) => self.void(step, why, observer),
            Err(why) => self.cannot_ask(step, &why, observer),
        }
    }

    fn weigh(&self, step: &Step, facts: &Facts, now: Timestamp) -> Result<Weighed, String> {
        let begun = self.state.begun.as_ref().ok_or("the run was not begun")?;
        let approval = step.approval.as_ref().ok_or("it needs no consent")?;
        let resolved = &self.with_lookup(|lookup| lookup.resolve(step))?;
        let asking = Asking { run: &begun.run, step: &step.id, approval, resolved, facts };
        if let Some(asked) = self.state.asked.get(&step.id) {
            let statement = &asked.statement;
            return Ok(match statement.changed(&asking) {
                _ if now >= statement.expires => Weighed::Expired,
                Some(why) => Weighed::Void(why),
                None if statement.agreed(&asked.given, &self.house.people) < statement.quorum => {
                    Weighed::Wait
                }
                None => Weighed::Begin,
            });
        }
        let statement = Statement::of(&asking, now)?;
        match statement.passed_bound() {
            Some(why) => Err(why),
            None => Ok(Weighed::Ask(statement)),
        }
    }

    fn void(&mut self, block: &Step, why: String, observer: &mut dyn Observer) -> Result<(), RunError> {
        let why = judge::bounded(&why);
        self.record(Event::ApprovalVoid { block: block.id.clone(), why }, observer)
    }

    /// Without its facts nobody can agree: the run stops and says so.
    fn cannot_ask(&mut self, block: &Step, why: &str, observer: &mut dyn Observer) -> Result<(), RunError> {
        let reason = judge::bounded(&format!("consent to {} cannot be asked for: {why}", block.id));
        self.record(Event::Paused { by: None, reason }, observer)
    }
}

/// What follows from facts.
enum Weighed {
    Ask(Statement),
    Begin,
    /// Too few agree yet.
    Wait,
    Expired,
    Void(String),
}

fn facts(approval: &Approval) -> impl Iterator<Item = &Fact> {
    approval.facts.iter().chain(approval.bounds.iter().map(|bound| &bound.fact))
}
