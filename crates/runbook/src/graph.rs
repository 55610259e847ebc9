//! The graph: which step comes before which, which only undo or look, and whether all of that can be. Knows nothing
//! of what a step does.

use crate::attributes::Bearer;
use crate::fault::Found;
use crate::front::Front;
use crate::settle::Draft;
use crate::step::{Role, Source, StepId, Undo};
use crate::values;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// So many needs may all steps have together.
const MAX_NEEDS: usize = 200_000;

/// Where each step stands, by its name.
pub(crate) type Places<'d> = HashMap<&'d str, usize>;

/// What is known of the steps together.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) roles: Vec<Role>,
    /// What each needs, by place.
    pub(crate) needs: Vec<Vec<usize>>,
    /// All of them, in the document's order as far as that is possible.
    pub(crate) order: Vec<usize>,
}

/// Holds all steps together.
pub(crate) fn graph(drafts: &[Draft], front: &Front, found: &mut Found) -> Graph {
    let places: Places<'_> = drafts.iter().enumerate().map(|(at, draft)| (draft.id.as_str(), at)).collect();
    let mut weave = Weave { drafts, places, front, servants: vec![Servant::default(); drafts.len()], found };
    weave.find_servants();
    let roles: Vec<Role> = weave.servants.iter().map(Servant::role).collect();
    let mut needs = weave.needs(&roles);
    weave.too_many(&mut needs);
    weave.values(&roles, &mut needs);
    let order = weave.order(&needs);
    Graph { roles, needs, order }
}

/// Whom a step serves, where it is not carried out in its order.
#[derive(Clone, Debug, Default)]
struct Servant {
    undoes: Option<usize>,
    probes: Vec<usize>,
}

impl Servant {
    const fn role(&self) -> Role {
        match (self.undoes.is_some(), self.probes.is_empty()) {
            (true, _) => Role::Undo,
            (false, false) => Role::Probe,
            (false, true) => Role::Forward,
        }
    }
}

struct Weave<'a> {
    drafts: &'a [Draft],
    places: Places<'a>,
    front: &'a Front,
    servants: Vec<Servant>,
    found: &'a mut Found,
}

impl<'a> Weave<'a> {
    /// The place of a step that another one names.
    fn place(&mut self, by: usize, key: &str, name: &StepId) -> Option<usize> {
        let place = self.places.get(name.as_str()).copied();
        let line = self.drafts[by].line;
        match place {
            None => {
                let known = self.drafts.iter().map(|draft| draft.id.as_str());
                self.found.unknown(
                    line,
                    format!("`{key}`: no step is called `{name}`"),
                    name.as_str(),
                    known,
                );
                None
            }
            Some(place) if place == by => {
                self.found.fault(line, format!("`{key}`: `{name}` names itself"));
                None
            }
            Some(place) => Some(place),
        }
    }

    fn fault(&mut self, at: usize, what: String) {
        self.found.fault(self.drafts[at].line, what);
    }

    /// Finds which steps undo or probe others, and what such a step cannot have.
    fn find_servants(&mut self) {
        let drafts = self.drafts;
        for (at, draft) in drafts.iter().enumerate() {
            if let Undo::By(name) = &draft.undo
                && let Some(undo) = self.place(at, "undo", name)
            {
                self.undoes(at, undo);
            }
            if let Some(name) = &draft.probe
                && let Some(probe) = self.place(at, "probe", name)
            {
                if self.drafts[probe].bearer != Bearer::Check {
                    self.fault(at, format!("`probe`: `{name}` is no check block"));
                }
                self.servants[probe].probes.push(at);
            }
        }
        for at in 0..drafts.len() {
            self.unfit(at);
        }
    }

    fn undoes(&mut self, at: usize, undo: usize) {
        let (name, drafts) = (&self.drafts[undo].id, self.drafts);
        if drafts[undo].bearer == Bearer::Check {
            self.fault(at, format!("`undo`: `{name}` is a check, and changes nothing"));
        }
        if let Some(other) = self.servants[undo].undoes {
            self.fault(at, format!("`undo`: `{name}` undoes `{}` already", drafts[other].id));
        }
        self.servants[undo].undoes = Some(at);
    }

    /// Says what a step that serves another has and cannot have.
    fn unfit(&mut self, at: usize) {
        let servant = &self.servants[at];
        let (draft, role) = (&self.drafts[at], servant.role());
        let id = &draft.id;
        if servant.undoes.is_some() && !servant.probes.is_empty() {
            self.fault(at, format!("`{id}` undoes one step and probes another: it can only be one of both"));
        }
        let does = match role {
            Role::Forward => return,
            Role::Undo => "undoes another step, and is carried out where that is undone",
            Role::Probe => "is asked whether another step was carried out, and only then",
        };
        for key in draft.ordering.iter().filter(|key| **key != "repeat") {
            self.fault(at, format!("`{id}` {does}: it has no `{key}`"));
        }
        if draft.probe.is_some() {
            self.fault(at, format!("`{id}` {does}: it has no `probe`"));
        }
    }

    /// What each step needs: what it says, else the forward step before it.
    fn needs(&mut self, roles: &[Role]) -> Vec<Vec<usize>> {
        let drafts = self.drafts;
        let mut before = None;
        let mut all = Vec::with_capacity(drafts.len());
        for (at, draft) in drafts.iter().enumerate() {
            if roles[at] != Role::Forward {
                all.push(Vec::new());
                continue;
            }
            all.push(match &draft.needs {
                Some(names) => names.iter().filter_map(|name| self.need(at, name, roles)).collect(),
                None => before.into_iter().collect(),
            });
            before = Some(at);
        }
        all
    }

    /// Says where all steps together need more than can be followed for each of them.
    fn too_many(&mut self, needs: &mut [Vec<usize>]) {
        let mut count = 0;
        let last = needs.iter().position(|needs| {
            count += needs.len();
            count > MAX_NEEDS
        });
        if let Some(last) = last {
            self.fault(last, format!("together the steps need more than {MAX_NEEDS} others"));
            needs[last..].iter_mut().for_each(Vec::clear);
        }
    }

    fn need(&mut self, at: usize, name: &StepId, roles: &[Role]) -> Option<usize> {
        let place = self.place(at, "needs", name)?;
        let does = match roles[place] {
            Role::Forward => return Some(place),
            Role::Undo => "only undoes another step",
            Role::Probe => "only says whether another step was carried out",
        };
        self.fault(at, format!("`needs`: `{name}` {does}, and is not carried out in order"));
        None
    }

    /// Looks up where values are from. A step needs those that it takes values from.
    fn values(&mut self, roles: &[Role], needs: &mut [Vec<usize>]) {
        let drafts = self.drafts;
        for (at, draft) in drafts.iter().enumerate() {
            let passed = draft.passed.iter().map(|passed| ("pass", &passed.source));
            let approval = draft.approval.iter();
            let facts = approval.flat_map(|approval| {
                let facts = approval.facts.iter().map(|fact| ("facts", &fact.source));
                facts.chain(approval.bounds.iter().map(|bound| ("bounds", &bound.fact.source)))
            });
            for (key, source) in passed.chain(facts) {
                let Some(from) = self.from(at, key, source, roles) else { continue };
                if roles[at] == Role::Forward && !needs[at].contains(&from) {
                    needs[at].push(from);
                }
            }
        }
        self.later_values(roles, needs);
    }

    /// The step that a value is from, where it is there and is from a step.
    fn from(&mut self, at: usize, key: &str, source: &Source, roles: &[Role]) -> Option<usize> {
        let line = self.drafts[at].line;
        let (step, name) = match source {
            Source::Input(name) => {
                self.input(line, key, name);
                return None;
            }
            Source::Output { step, name } => (step, name),
        };
        let place = self.place(at, key, step)?;
        let outputs = || self.drafts[place].outputs.iter().map(|output| output.name.as_str());
        if !outputs().any(|output| output == name) {
            let what = format!("`{key}`: `{step}` leaves nothing that is called `{name}`");
            self.found.unknown(line, what, name, outputs());
            return None;
        }
        if roles[place] != Role::Forward {
            self.fault(at, format!("`{key}`: `{step}` is not carried out in order, and has nothing to pass"));
            return None;
        }
        Some(place)
    }

    fn input(&mut self, line: u32, key: &str, name: &str) {
        if !self.front.inputs.contains_key(name) {
            let what = format!("`{key}`: there is no input `{name}`");
            self.found.unknown(line, what, name, self.front.inputs.keys().map(String::as_str));
        }
    }

    /// What undoes or probes a step may take values only from what was carried out by then.
    fn later_values(&mut self, roles: &[Role], needs: &[Vec<usize>]) {
        let drafts = self.drafts;
        for (at, draft) in drafts.iter().enumerate().filter(|(at, _)| roles[*at] != Role::Forward) {
            let sources = draft.passed.iter().filter_map(|passed| match &passed.source {
                Source::Output { step, .. } => self.places.get(step.as_str()).copied(),
                Source::Input(_) => None,
            });
            let sources: Vec<usize> = sources.filter(|from| roles[*from] == Role::Forward).collect();
            if sources.is_empty() {
                continue;
            }
            let servant = self.servants[at].clone();
            for served in servant.undoes.iter().chain(&servant.probes) {
                let mut there = ancestors(*served, needs);
                there[*served] = servant.undoes.is_some();
                for from in sources.iter().filter(|from| !there[**from]) {
                    let (from, served) = (&drafts[*from].id, &drafts[*served].id);
                    let what = format!(
                        "`pass`: nothing says that `{from}` comes before `{served}`, which this is for"
                    );
                    self.fault(at, what);
                }
            }
        }
    }

    /// All steps, each behind what it needs, and otherwise as they stand. What cannot be ordered is said.
    fn order(&mut self, needs: &[Vec<usize>]) -> Vec<usize> {
        let mut waits: Vec<usize> = needs.iter().map(Vec::len).collect();
        let mut needed_by = vec![Vec::new(); needs.len()];
        for (at, needs) in needs.iter().enumerate() {
            needs.iter().for_each(|need| needed_by[*need].push(at));
        }
        let ready = waits.iter().enumerate().filter(|(_, waits)| **waits == 0).map(|(at, _)| Reverse(at));
        let mut ready: BinaryHeap<Reverse<usize>> = ready.collect();
        let mut order = Vec::with_capacity(needs.len());
        while let Some(Reverse(at)) = ready.pop() {
            order.push(at);
            for later in &needed_by[at] {
                waits[*later] -= 1;
                if waits[*later] == 0 {
                    ready.push(Reverse(*later));
                }
            }
        }
        if order.len() < needs.len() {
            self.cycles(needs, &waits);
        }
        order
    }

    /// Names the cycles among the steps that still wait. Each of those waits for another one, so that following
    /// them leads into a cycle.
    fn cycles(&mut self, needs: &[Vec<usize>], waits: &[usize]) {
        let mut seen_from = vec![None; needs.len()];
        for start in (0..needs.len()).filter(|at| waits[*at] > 0) {
            let (mut at, mut path) = (start, Vec::new());
            while seen_from[at].is_none() {
                seen_from[at] = Some(start);
                path.push(at);
                let Some(next) = needs[at].iter().find(|need| waits[**need] > 0) else { break };
                at = *next;
            }
            if seen_from[at] == Some(start)
                && let Some(begin) = path.iter().position(|own| *own == at)
            {
                self.cycle(&path[begin..]);
            }
        }
    }

    fn cycle(&mut self, path: &[usize]) {
        const SAID: usize = 8;
        let Some((&first, rest)) = path.split_first() else { return };
        let mut what = format!("`{}` needs ", self.drafts[first].id);
        for at in rest.iter().take(SAID) {
            what += &format!("`{}`, which needs ", self.drafts[*at].id);
        }
        if rest.len() > SAID {
            what += &format!("{} more, the last of which needs ", rest.len() - SAID);
        }
        what += &format!("`{}`: none of them can be the first", self.drafts[first].id);
        let silent = path.iter().find(|at| self.drafts[**at].needs.is_none());
        let line = self.drafts[first].line;
        match silent.map(|at| &self.drafts[*at].id) {
            Some(id) => {
                let hint = format!(
                    "`{id}` says nothing of what it needs, so it needs the step before it; say needs=…."
                );
                self.found.hinted(line, what, hint);
            }
            None => self.found.fault(line, what),
        }
    }
}

/// Which steps come before one.
fn ancestors(of: usize, needs: &[Vec<usize>]) -> Vec<bool> {
    let mut there = vec![false; needs.len()];
    let mut open = vec![of];
    while let Some(at) = open.pop() {
        for need in &needs[at] {
            if !std::mem::replace(&mut there[*need], true) {
                open.push(*need);
            }
        }
    }
    there
}

/// Gives facts that are named as a passed value is the source of that value.
pub(crate) fn facts_by_passed_names(draft: &mut Draft) {
    let Some(approval) = &mut draft.approval else { return };
    let facts = approval.facts.iter_mut().chain(approval.bounds.iter_mut().map(|bound| &mut bound.fact));
    for fact in facts {
        let passed = draft.passed.iter().find(|passed| passed.name == fact.name);
        if let (Source::Input(_), Some(passed)) = (&fact.source, passed) {
            fact.source = passed.source.clone();
        }
    }
}

/// Which bounds are on inputs that are no measure.
pub(crate) fn unmeasured<'d>(draft: &'d Draft, front: &Front) -> Option<&'d str> {
    let bounds = draft.approval.as_ref()?.bounds.iter();
    bounds.map(|bound| &bound.fact).find_map(|fact| match &fact.source {
        Source::Input(name) => {
            let is_measured = front.inputs.get(name).is_none_or(|input| values::is_measured(input.kind));
            (!is_measured).then_some(fact.name.as_str())
        }
        Source::Output { .. } => None,
    })
}
