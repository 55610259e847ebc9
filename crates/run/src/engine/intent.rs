//! From the decision to the deed: what is about to be done is resolved, announced, confirmed where it may be done once,
//! and only then handed to who carries it out.

use super::workers::Task;
use super::{Executor, Observer, graph, judge};
use crate::error::RunError;
use crate::event::{Act, Again, Ended, Event, Intent, Outcome, Part};
use crate::mirror::ship::Confirmed;
use lifeboat_evidence::Digest;
use lifeboat_runbook::Step;
use std::collections::BTreeMap;

impl Executor {
    /// Announces an act and begins it.
    pub(super) fn begin(
        &mut self,
        step: &Step,
        act: Act,
        part: Part,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let Some(block) = self.graph.part(step, act, part).cloned() else {
            return self.not_begun(step, act, part, "the document has no block for it", observer);
        };
        let resolved = match self.with_lookup(|lookup| lookup.resolve(&block)) {
            Ok(resolved) => resolved,
            Err(why) => return self.not_begun(step, act, part, &why, observer),
        };
        if graph::is_person(&block) {
            return self.announce(step, &block, act, part, resolved.hash, observer);
        }
        let task = match self.task(step, &block, act, part, &resolved) {
            Ok(task) => task,
            Err(why) => return self.not_begun(step, act, part, &why, observer),
        };
        self.clear_up(step, act, part, &task);
        self.announce(step, &block, act, part, resolved.hash, observer)?;
        if !self.is_confirmed(step, &block, act, part, observer)? {
            return Ok(());
        }
        if let Err(error) = self.start(task) {
            return self.not_begun(step, act, part, &format!("start a thread: {error}"), observer);
        }
        Ok(())
    }

    fn announce(
        &mut self,
        step: &Step,
        block: &Step,
        act: Act,
        part: Part,
        text: Digest,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let attempt = self.attempt(step, act, part);
        let (repeat, phase) = (graph::repeat(block), block.phase);
        let (step, block) = (step.id.clone(), block.id.clone());
        self.record(Event::Intent(Intent { step, act, part, block, attempt, repeat, phase, text }), observer)
    }

    /// The attempt that an intent now is.
    pub(super) fn attempt(&self, step: &Step, act: Act, part: Part) -> u32 {
        let begun = self.begun_attempt(step, act);
        if part == Part::Probe { begun } else { begun + 1 }
    }

    pub(super) fn begun_attempt(&self, step: &Step, act: Act) -> u32 {
        self.state.steps.get(&step.id).map_or(0, |state| match act {
            Act::Do => state.attempts,
            Act::Undo => state.undo_attempts,
        })
    }

    /// In a mirrored run, what may be done once waits for the mirror; and the run stops and asks where that is silent.
    fn is_confirmed(
        &mut self,
        step: &Step,
        block: &Step,
        act: Act,
        part: Part,
        observer: &mut dyn Observer,
    ) -> Result<bool, RunError> {
        let Some(shipper) = &self.shipper else { return Ok(true) };
        if graph::repeat(block) != Again::Never || !self.state.waits_for_mirror() {
            return Ok(true);
        }
        let why = match shipper.confirm(self.state.number, self.house.confirm_within) {
            Confirmed::Yes => return Ok(true),
            Confirmed::Taken => return self.look_for_takeover().map(|()| false),
            Confirmed::NotInTime(why) => {
                format!("the mirror does not confirm that {} begins: {why}", step.id)
            }
        };
        self.not_begun(step, act, part, &why, observer)?;
        self.record(Event::Paused { by: None, reason: why }, observer)?;
        Ok(false)
    }

    pub(super) fn not_begun(
        &mut self,
        step: &Step,
        act: Act,
        part: Part,
        why: &str,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let result = Ended::NotBegun { why: judge::bounded(why) };
        self.outcome(step, act, part, result, None, observer)
    }

    /// Records an outcome that nobody carried out anything for.
    pub(super) fn outcome(
        &mut self,
        step: &Step,
        act: Act,
        part: Part,
        result: Ended,
        by: Option<String>,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let attempt = self.begun_attempt(step, act);
        let (step, outputs) = (step.id.clone(), BTreeMap::new());
        self.record(
            Event::Outcome(Outcome { step, act, part, attempt, result, outputs, took_ms: 0, by }),
            observer,
        )
    }

    pub(super) fn start(&mut self, task: Task) -> std::io::Result<()> {
        let (key, stop) = (task.key.clone(), task.stop.clone());
        self.workers.start(task)?;
        self.running.insert(key, stop);
        Ok(())
    }
}
