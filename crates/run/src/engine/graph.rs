//! The steps of a runbook by their numbers: who needs whom, and which block stands for which act.

use crate::event::{Act, Again, Part};
use lifeboat_runbook::{Action, Repeat, Role, Runbook, Step, StepId, Undo};
use std::collections::{BTreeSet, HashMap};

/// A runbook, indexed.
#[derive(Debug)]
pub(crate) struct Graph {
    runbook: Runbook,
    places: HashMap<StepId, usize>,
    needs: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
}

impl Graph {
    pub(crate) fn of(runbook: Runbook) -> Self {
        let places: HashMap<StepId, usize> =
            runbook.steps.iter().enumerate().map(|(place, step)| (step.id.clone(), place)).collect();
        let of = |ids: &[StepId]| ids.iter().filter_map(|id| places.get(id).copied()).collect();
        let needs: Vec<Vec<usize>> = runbook.steps.iter().map(|step| of(&step.needs)).collect();
        let mut dependents = vec![Vec::new(); needs.len()];
        for (place, needed) in needs.iter().enumerate() {
            needed.iter().for_each(|needed: &usize| dependents[*needed].push(place));
        }
        Self { runbook, places, needs, dependents }
    }

    pub(crate) fn runbook(&self) -> &Runbook {
        &self.runbook
    }

    pub(crate) fn place(&self, id: &StepId) -> Option<usize> {
        self.places.get(id).copied()
    }

    pub(crate) fn step(&self, place: usize) -> &Step {
        &self.runbook.steps[place]
    }

    pub(crate) fn by_id(&self, id: &StepId) -> Option<&Step> {
        self.place(id).map(|place| self.step(place))
    }

    pub(crate) fn needs(&self, place: usize) -> &[usize] {
        &self.needs[place]
    }

    pub(crate) fn dependents(&self, place: usize) -> &[usize] {
        &self.dependents[place]
    }

    pub(crate) fn forward(&self) -> impl Iterator<Item = usize> {
        (0..self.runbook.steps.len()).filter(|place| self.step(*place).role == Role::Forward)
    }

    /// Everything that a step stands on, directly or not.
    pub(crate) fn stands_on(&self, place: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut left = vec![place];
        while let Some(place) = left.pop() {
            left.extend(self.needs[place].iter().filter(|needed| found.insert(**needed)));
        }
        found
    }

    /// The block that does or undoes a step.
    pub(crate) fn block(&self, step: &Step, act: Act) -> Option<&Step> {
        match act {
            Act::Do => self.by_id(&step.id),
            Act::Undo => match &step.undo {
                Undo::By(block) => self.by_id(block),
                Undo::Nothing | Undo::Impossible { .. } => None,
            },
        }
    }

    /// The block of an act, or of the probe that says whether it happened.
    pub(crate) fn part(&self, step: &Step, act: Act, part: Part) -> Option<&Step> {
        let block = self.block(step, act)?;
        match (part, &block.repeat) {
            (Part::Itself, _) => Some(block),
            (Part::Probe, Repeat::Check(probe)) => self.by_id(probe),
            (Part::Probe, _) => None,
        }
    }
}

/// What a crash in the middle of a block means. What only looks may look again, and a person is still there.
pub(crate) fn repeat(block: &Step) -> Again {
    match (&block.repeat, &block.action) {
        (_, Action::Person { .. }) => Again::Safe,
        _ if block.is_check => Again::Safe,
        (Repeat::Safe, _) => Again::Safe,
        (Repeat::Check(_), _) => Again::Check,
        (Repeat::Never, _) => Again::Never,
    }
}

pub(crate) fn is_person(step: &Step) -> bool {
    matches!(step.action, Action::Person { .. })
}
