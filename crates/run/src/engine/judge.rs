//! From what was carried out to what is recorded of it.

use super::workers::{Finished, Key, Task};
use super::{Executor, Observer, graph};
use crate::carry::{Carried, Order, Stop};
use crate::compare::{Compared, unmet};
use crate::error::RunError;
use crate::event::{Act, Ended, Event, Outcome, Part};
use crate::resolve::Resolved;
use lifeboat_runbook::{Role, Step, StepId};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A reason is cut to so many bytes.
const MAX_WHY_BYTES: usize = 2000;
/// A step's outputs are at most so long together, as they are recorded: names, escapes and all. The same goes for the
/// facts that somebody agrees to.
pub(super) const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// A reason that is not too long.
pub(crate) fn bounded(why: &str) -> String {
    match why.char_indices().nth(MAX_WHY_BYTES / 4) {
        Some((end, _)) if why.len() > MAX_WHY_BYTES => format!("{}…", &why[..end]),
        _ => why.to_owned(),
    }
}

impl Executor {
    /// The task of an act.
    pub(super) fn task(
        &self,
        step: &Step,
        block: &Step,
        act: Act,
        part: Part,
        resolved: &Resolved,
    ) -> Result<Task, String> {
        let attempt = self.attempt(step, act, part);
        let mut order = self.order(&step.id, block, resolved)?;
        (order.act, order.part, order.attempt) = (act, part, attempt);
        // A probe answers for the step: what it leaves is the step's.
        if part == Part::Probe {
            order
                .outputs
                .extend(step.outputs.iter().filter(|output| !block.outputs.contains(output)).cloned());
        }
        order.capture = self.capture(&format!(
            "{}.{}{attempt}",
            block.id,
            if part == Part::Probe { "probe-" } else { "" }
        ));
        let carrier = self.house.carriers.of(&block.action)?.clone();
        let key = Key::Act { step: step.id.clone(), act, part, attempt };
        Ok(Task { key, orders: vec![(order, carrier)], stop: Stop::default() })
    }

    pub(super) fn order(&self, step: &StepId, block: &Step, resolved: &Resolved) -> Result<Order, String> {
        let begun = self.state.begun.as_ref().ok_or("the run was not begun")?;
        let secrets = self.with_lookup(|lookup| Ok(lookup.all_secrets()))?;
        Ok(Order {
            run: begun.run.clone(),
            step: step.clone(),
            block: block.id.clone(),
            act: Act::Do,
            part: Part::Itself,
            attempt: 0,
            action: block.action.clone(),
            asks: block.is_check || block.role == Role::Probe,
            values: resolved.values.clone(),
            outputs: block.outputs.clone(),
            expects: block.expect.is_some(),
            secrets,
            timeout: block.timeout.duration(),
            capture: self.capture(&format!("{}.asked", block.id)),
        })
    }

    fn capture(&self, name: &str) -> PathBuf {
        let folder = self.folder.as_ref().map(crate::folder::RunFolder::output).unwrap_or_default();
        folder.join(format!("{name}.log"))
    }

    /// Before something is begun again that a killed executor had begun: nothing of that is left running.
    pub(super) fn clear_up(&self, step: &Step, act: Act, part: Part, task: &Task) {
        let status = self.state.status_of(&step.id);
        if !status.is_under_way() {
            return;
        }
        for (order, carrier) in &task.orders {
            let mut order = order.clone();
            order.attempt = self.begun_attempt(step, act);
            carrier.clear_up(&order);
            // The probe looks at what the act itself left behind.
            if let (Part::Probe, Some(block)) = (part, self.graph.block(step, act)) {
                order.block = block.id.clone();
                carrier.clear_up(&order);
            }
        }
    }

    /// What nobody will begin again is ended as well, before anybody says what became of it.
    pub(super) fn clear_up_after(&self, step: &Step, act: Act) {
        let Some(block) = self.graph.block(step, act) else { return };
        let resolved = self.with_lookup(|lookup| lookup.resolve(block));
        // Without its values it cannot have been begun either.
        if let Ok(task) = resolved.and_then(|resolved| self.task(step, block, act, Part::Itself, &resolved)) {
            self.clear_up(step, act, Part::Itself, &task);
        }
    }

    /// Takes in what is finished.
    pub(super) fn finish(&mut self, finished: Finished, observer: &mut dyn Observer) -> Result<(), RunError> {
        self.running.remove(&finished.key);
        match finished.key.clone() {
            Key::Act { step, act, part, attempt } => {
                let took_ms = u64::try_from(finished.took.as_millis()).unwrap_or(u64::MAX).min(1 << 52);
                let carried = finished.carried.into_iter().next().map(|(_, carried)| carried);
                let carried = carried.unwrap_or_else(|| Carried::unknown("nobody says what came of it"));
                let Carried { ended: result, outputs, .. } = self.judge(&step, act, part, carried);
                let by = None;
                self.record(
                    Event::Outcome(Outcome { step, act, part, attempt, result, outputs, took_ms, by }),
                    observer,
                )
            }
            Key::Facts { block } => self.take_facts(&block, finished.carried, observer),
        }
    }

    fn judge(&self, step: &StepId, act: Act, part: Part, carried: Carried) -> Carried {
        let block = self.graph.by_id(step).and_then(|step| self.graph.part(step, act, part));
        match block {
            Some(block) => judge(block, part, carried),
            None => carried,
        }
    }
}

/// What came of a block, by what the document expects of it.
pub(super) fn judge(block: &Step, part: Part, mut carried: Carried) -> Carried {
    if carried.ended == Ended::Done {
        carried.ended = met(block, part, &carried);
    }
    carried.ended = match carried.ended {
        Ended::Done => Ended::Done,
        Ended::Failed { why } => Ended::Failed { why: bounded(&why) },
        Ended::Unknown { why } => Ended::Unknown { why: bounded(&why) },
        Ended::NotBegun { why } => Ended::NotBegun { why: bounded(&why) },
    };
    if carried.ended != Ended::Done {
        carried.outputs = BTreeMap::new();
    }
    carried
}

fn met(block: &Step, part: Part, carried: &Carried) -> Ended {
    if let Some((compared, why)) =
        block.expect.as_ref().and_then(|expect| unmet(carried.answer.as_deref(), expect))
    {
        let asks = block.is_check || part == Part::Probe;
        return match compared {
            Compared::Incomparable if asks => Ended::Unknown { why },
            _ => Ended::Failed { why },
        };
    }
    if recorded_bytes(&carried.outputs) > MAX_OUTPUT_BYTES {
        return Ended::Failed { why: format!("it left more than {MAX_OUTPUT_BYTES} bytes of outputs") };
    }
    match block.outputs.iter().find(|output| !carried.outputs.contains_key(&output.name)) {
        Some(missing) => Ended::Failed { why: format!("it ended well and left no {}", missing.name) },
        None => Ended::Done,
    }
}

/// How long values are in a record. A byte that JSON cannot hold takes six there.
pub(super) fn recorded_bytes(values: &BTreeMap<String, String>) -> usize {
    serde_json::to_string(values).map_or(usize::MAX, |text| text.len())
}

pub(super) fn is_person(step: &Step) -> bool {
    graph::is_person(step)
}
