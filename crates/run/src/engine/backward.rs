//! Going backward: what was done, or possibly done, is undone, the last first. A failed undo stays, and what the step
//! stands on is not undone under it; what has nothing to do with it is.

use super::forward::earliest;
use super::moves::{Move, next};
use super::{Executor, Observer};
use crate::carry::Stop;
use crate::error::RunError;
use crate::event::Act;
use crate::status::StepStatus;
use lifeboat_base::clock::Timestamp;
use lifeboat_runbook::{Step, Undo};
use std::collections::BTreeSet;

impl Executor {
    /// What is under way is stopped, and what a killed executor left open is given up.
    pub(super) fn give_up(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        self.running.values().for_each(Stop::stop);
        if !self.running.is_empty() {
            return Ok(());
        }
        for id in self.state.under_way().cloned().collect::<Vec<_>>() {
            if let Some(step) = self.graph.by_id(&id).cloned() {
                self.give_up_one(&step, observer)?;
            }
        }
        Ok(())
    }

    /// Undoes the next; when the next thing is due.
    pub(super) fn go_backward(&mut self, observer: &mut dyn Observer) -> Result<Option<Timestamp>, RunError> {
        if self.is_undoing_now() {
            return Ok(None);
        }
        if !self.running.is_empty() || self.has_open_forward() {
            return self.give_up_forward(observer).map(|()| None);
        }
        let (mut due, mut blocked) = (None, BTreeSet::new());
        for place in self.to_undo() {
            if blocked.contains(&place) {
                continue;
            }
            let step = self.graph.step(place).clone();
            match self.next_undo(&step) {
                Move::Over => continue,
                Move::Stuck => {}
                Move::At(at) => due = earliest(due, Some(at)),
                _ => return self.advance(&step, Act::Undo, observer).map(|at| earliest(due, at)),
            }
            blocked.extend(self.graph.stands_on(place));
        }
        Ok(due)
    }

    fn next_undo(&mut self, step: &Step) -> Move {
        let Some(block) = self.graph.block(step, Act::Undo) else { return Move::Over };
        let now = self.time.now();
        let state = self.state.steps.get(&step.id).cloned().unwrap_or_default();
        next(&state, block, Act::Undo, false, now)
    }

    fn is_undoing_now(&self) -> bool {
        self.running.keys().any(|key| matches!(key, super::Key::Act { act: Act::Undo, .. }))
    }

    fn has_open_forward(&self) -> bool {
        self.state.under_way().any(|id| {
            matches!(
                self.state.status_of(id),
                StepStatus::Open { act: Act::Do, .. } | StepStatus::Probing { act: Act::Do }
            )
        })
    }

    fn give_up_forward(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        self.running.values().for_each(Stop::stop);
        if !self.running.is_empty() {
            return Ok(());
        }
        let open: Vec<_> = self.state.under_way().cloned().collect();
        for step in open.iter().filter_map(|id| self.graph.by_id(id)).cloned().collect::<Vec<_>>() {
            if !matches!(self.state.status_of(&step.id), StepStatus::Open { act: Act::Undo, .. }) {
                self.give_up_one(&step, observer)?;
            }
        }
        Ok(())
    }

    /// What is to be undone, the last first.
    fn to_undo(&self) -> Vec<usize> {
        let possibly = self.state.steps.iter().filter(|(_, state)| state.possibly_done);
        let mut found: Vec<(u64, usize)> = possibly
            .filter_map(|(id, state)| Some((state.finished, self.graph.place(id)?)))
            .filter(|(_, place)| matches!(self.graph.step(*place).undo, Undo::By(_)))
            .collect();
        found.sort_unstable_by_key(|(finished, _)| std::cmp::Reverse(*finished));
        found.into_iter().map(|(_, place)| place).collect()
    }

    /// Whether all that can be undone is.
    pub(super) fn is_undone(&self) -> bool {
        self.state.under_way().next().is_none() && self.to_undo().is_empty()
    }
}
