//! Looking ahead: whether every block, value and permission that a run would need is there, with nothing done.

use crate::carry::Order;
use crate::engine::House;
use crate::engine::graph::is_person;
use crate::event::{Act, Given, Part};
use crate::ids::RunId;
use crate::resolve::Value;
use lifeboat_runbook::{Action, Runbook, Source, Step, StepId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a run would need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DryRun {
    /// What stands in the way.
    pub findings: Vec<Finding>,
    /// How many blocks were looked at.
    pub blocks: usize,
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The block.
    pub block: StepId,
    /// The line of the document.
    pub line: u32,
    /// What.
    #[serde(flatten)]
    pub obstacle: Obstacle,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "is", content = "what", rename_all = "kebab-case")]
pub enum Obstacle {
    /// A value is not there.
    Value(String),
    /// It cannot be carried out here.
    Carrying(String),
    /// Too few people can agree.
    Consent(String),
    /// Nobody has the role that does it.
    Person(String),
}

/// Looks at a runbook with these inputs, in this house.
pub fn dry_run(runbook: &Runbook, inputs: &BTreeMap<String, Given>, house: &House) -> DryRun {
    let looked = runbook.steps.iter().flat_map(|block| {
        let found = Look { runbook, inputs, house }.block(block);
        found.into_iter().map(|obstacle| Finding { block: block.id.clone(), line: block.line, obstacle })
    });
    DryRun { findings: looked.collect(), blocks: runbook.steps.len() }
}

struct Look<'a> {
    runbook: &'a Runbook,
    inputs: &'a BTreeMap<String, Given>,
    house: &'a House,
}

impl Look<'_> {
    fn block(&self, block: &Step) -> Vec<Obstacle> {
        let mut found = Vec::new();
        let values = self.values(block, &mut found);
        self.carrying(block, values, &mut found);
        self.consent(block, &mut found);
        self.person(block, &mut found);
        found
    }

    /// The values of a block; an output that is not there yet stands as its name.
    fn values(&self, block: &Step, found: &mut Vec<Obstacle>) -> BTreeMap<String, Value> {
        let mut values = BTreeMap::new();
        for passed in &block.passed {
            match self.value(&passed.source) {
                Ok(value) => drop(values.insert(passed.name.clone(), value)),
                Err(why) => found.push(Obstacle::Value(why)),
            }
        }
        let facts = block.approval.iter().flat_map(|approval| {
            approval.facts.iter().chain(approval.bounds.iter().map(|bound| &bound.fact))
        });
        for fact in facts {
            match self.value(&fact.source) {
                Ok(Value::Plain(_)) => {}
                Ok(Value::Secret { reference, .. }) => {
                    found.push(Obstacle::Value(format!(
                        "{reference} is a secret, which nobody can be shown to agree to"
                    )));
                }
                Err(why) => found.push(Obstacle::Value(why)),
            }
        }
        values
    }

    fn value(&self, source: &Source) -> Result<Value, String> {
        match source {
            Source::Input(name) => match self.inputs.get(name) {
                Some(Given::Value(text)) => Ok(Value::Plain(text.clone())),
                Some(Given::Secret(reference)) => {
                    let secret = self.house.secrets.get(reference);
                    let secret = secret.map_err(|why| format!("read the secret {reference}: {why}"))?;
                    Ok(Value::Secret { reference: reference.clone(), secret })
                }
                None => Err(format!("there is no input {name}")),
            },
            Source::Output { step, name } => {
                let declared = self
                    .runbook
                    .step(step)
                    .is_some_and(|step| step.outputs.iter().any(|output| output.name == *name));
                match declared {
                    true => Ok(Value::Plain(name.clone())),
                    false => Err(format!("{step} leaves no {name}")),
                }
            }
        }
    }

    fn carrying(&self, block: &Step, values: BTreeMap<String, Value>, found: &mut Vec<Obstacle>) {
        if is_person(block) || values.len() < block.passed.len() {
            return;
        }
        match self.house.carriers.of(&block.action) {
            Err(why) => found.push(Obstacle::Carrying(why)),
            Ok(carrier) => {
                let looked = carrier.look(&self.order(block, values));
                found.extend(looked.into_iter().map(Obstacle::Carrying));
            }
        }
    }

    fn order(&self, block: &Step, values: BTreeMap<String, Value>) -> Order {
        Order {
            run: RunId::new(self.house.clock.now()),
            step: block.id.clone(),
            block: block.id.clone(),
            act: Act::Do,
            part: Part::Itself,
            attempt: 0,
            action: block.action.clone(),
            asks: block.is_check,
            values,
            outputs: block.outputs.clone(),
            expects: block.expect.is_some(),
            secrets: Vec::new(),
            timeout: block.timeout.duration(),
            capture: PathBuf::new(),
        }
    }

    fn consent(&self, block: &Step, found: &mut Vec<Obstacle>) {
        let Some(approval) = &block.approval else { return };
        let able = self.house.people.who_can_sign(&approval.role).len();
        let needed = usize::try_from(approval.quorum.get()).unwrap_or(usize::MAX);
        if able < needed {
            let role = &approval.role;
            let what = format!("{needed} of {role} must agree, and the plan lists {able} of them with a key");
            found.push(Obstacle::Consent(what));
        }
    }

    fn person(&self, block: &Step, found: &mut Vec<Obstacle>) {
        if let Action::Person { role: Some(role), .. } = &block.action
            && !self.house.people.has_role(role)
        {
            found.push(Obstacle::Person(format!(
                "the plan names nobody as {role}: whoever says so may confirm it"
            )));
        }
    }
}
