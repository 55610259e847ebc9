//! From a piece of the document to a step by itself: its attributes read, held against each other, defaults filled
//! in. What it names is not looked up here: of other steps this knows only their names.

use crate::attributes::{Attributes, Bearer};
use crate::document::{Content, Piece};
use crate::fault::Found;
use crate::mark::LANGUAGES;
use crate::request;
use crate::step::{
    Action, Approval, Bound, Expectation, Fact, HttpRequest, Output, Passed, Phase, Relation, Retry, Source,
    StepId, Undo,
};
use crate::template;
use crate::values::{self, Repeatable};
use lifeboat_plan::Span;
use std::collections::BTreeSet;

/// A step is stopped after so long, unless it says otherwise.
const TIMEOUT: Span = Span::from_secs(10 * 60);
/// A person has so long.
const PERSON_TIMEOUT: Span = Span::from_secs(24 * 3600);
/// Between two tries.
const RETRY_EVERY: Span = Span::from_secs(5);
/// An approval is void after so long.
const EXPIRES: Span = Span::from_secs(3600);

/// A step before its names are looked up.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) id: StepId,
    pub(crate) line: u32,
    pub(crate) title: String,
    pub(crate) section: Vec<String>,
    pub(crate) bearer: Bearer,
    /// Nothing where it could not be read, which has been said.
    pub(crate) action: Option<Action>,
    /// Nothing for the step before it.
    pub(crate) needs: Option<Vec<StepId>>,
    pub(crate) timeout: Span,
    pub(crate) retry: Option<Retry>,
    pub(crate) repeat: Repeatable,
    pub(crate) probe: Option<StepId>,
    pub(crate) undo: Undo,
    pub(crate) approval: Option<Approval>,
    pub(crate) passed: Vec<Passed>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) expect: Option<Expectation>,
    pub(crate) phase: Phase,
    /// Attributes that only a step of the order may have, as far as this one has them.
    pub(crate) ordering: Vec<&'static str>,
}

/// Settles one piece under its name.
pub(crate) fn draft(piece: Piece, id: StepId, found: &mut Found) -> Draft {
    let bearer = match &piece.content {
        Content::Item { .. } => Bearer::Person,
        Content::Block { language, .. } if language == "check" => Bearer::Check,
        Content::Block { .. } => Bearer::Action,
    };
    piece.attributes.hold_against(bearer, found);
    let mut settle = Settle { attributes: &piece.attributes, line: piece.line, bearer, found };
    let passed = settle.read("pass", values::passed).unwrap_or_default();
    let action = settle.action(&piece.content);
    if let Some(action) = &action {
        settle.refers(action, &passed);
    }
    let repeat = settle.repeat();
    let default_phase = if bearer == Bearer::Check { Phase::Verify } else { Phase::Execute };
    let person = bearer == Bearer::Person;
    Draft {
        id,
        line: piece.line,
        title: settle.text("title").unwrap_or(piece.under),
        section: piece.section,
        bearer,
        needs: settle.needs(),
        timeout: settle.read("timeout", values::span).unwrap_or(if person {
            PERSON_TIMEOUT
        } else {
            TIMEOUT
        }),
        retry: settle.retry(repeat),
        repeat,
        probe: settle.probe(repeat),
        undo: settle.undo(),
        approval: settle.approval(),
        outputs: settle.outputs(action.as_ref()),
        expect: settle.expect(action.as_ref()),
        phase: settle.read("phase", values::phase).unwrap_or(default_phase),
        ordering: settle.ordering(),
        passed,
        action,
    }
}

struct Settle<'a> {
    attributes: &'a Attributes,
    line: u32,
    bearer: Bearer,
    found: &'a mut Found,
}

impl Settle<'_> {
    fn read<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.attributes.get(key)?;
        self.found.take(self.line, read(value).map_err(|what| format!("`{key}`: {what}")))
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.read(key, |text| match text.trim() {
            "" => Err("it says nothing".to_owned()),
            text => Ok(text.to_owned()),
        })
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.found.fault(self.line, what);
    }

    /// Says that one attribute is of no use without another.
    fn only_with(&mut self, key: &str, other: &str) {
        if self.attributes.has(key) {
            self.fault(format!("`{key}` says something only beside `{other}`"));
        }
    }

    fn ordering(&self) -> Vec<&'static str> {
        let only = ["needs", "approve", "undo", "phase", "repeat"];
        only.into_iter().filter(|key| self.attributes.has(key)).collect()
    }

    fn needs(&mut self) -> Option<Vec<StepId>> {
        if self.attributes.get("needs") == Some("none") {
            return Some(Vec::new());
        }
        self.read("needs", values::steps)
    }

    fn repeat(&mut self) -> Repeatable {
        let said = self.read("repeat", values::repeat);
        if self.bearer == Bearer::Check {
            if said.is_some_and(|said| said != Repeatable::Safe) {
                self.fault("a check changes nothing, so that it may always be repeated");
            }
            return Repeatable::Safe;
        }
        said.unwrap_or(Repeatable::Never)
    }

    fn probe(&mut self, repeat: Repeatable) -> Option<StepId> {
        let probe = self.read("probe", values::step);
        match (repeat, self.attributes.has("probe")) {
            (Repeatable::Check, false) => {
                let what = "`repeat=check` needs a check that says whether the step was carried out";
                self.found.hinted(self.line, what, "Name it: probe=NAME.");
            }
            (Repeatable::Safe | Repeatable::Never, true) => self.only_with("probe", "repeat=check"),
            _ => {}
        }
        probe
    }

    fn retry(&mut self, repeat: Repeatable) -> Option<Retry> {
        let every = self.read("retry_every", values::span);
        let times = self.read("retries", |text| {
            text.parse().map_err(|_| format!("{text:?} is no number of tries: 1 or more"))
        });
        if !self.attributes.has("retries") {
            self.only_with("retry_every", "retries");
        } else if repeat == Repeatable::Never && self.bearer == Bearer::Action {
            let what = "a step that may not be repeated is not tried again";
            self.found.hinted(self.line, what, "Say repeat=safe or repeat=check, if one of them is true.");
        }
        times.map(|times| Retry { times, every: every.unwrap_or(RETRY_EVERY) })
    }

    fn undo(&mut self) -> Undo {
        let why = self.text("why");
        let default = match self.bearer {
            Bearer::Action => Undo::Impossible { reason: None },
            Bearer::Check | Bearer::Person => Undo::Nothing,
        };
        match self.attributes.get("undo") {
            Some("none") => return Undo::Impossible { reason: why },
            Some(_) => self.only_with("why", "undo=none"),
            None => {
                self.only_with("why", "undo=none");
                return default;
            }
        }
        self.read("undo", values::step).map_or(default, Undo::By)
    }

    fn approval(&mut self) -> Option<Approval> {
        if !self.attributes.has("approve") {
            ["facts", "bounds", "expires"].into_iter().for_each(|key| self.only_with(key, "approve"));
            return None;
        }
        let facts = self.read("facts", |text| values::items(text)?.map(fact).collect()).unwrap_or_default();
        let bounds =
            self.read("bounds", |text| values::items(text)?.map(bound).collect()).unwrap_or_default();
        let expires = self.read("expires", values::span).unwrap_or(EXPIRES);
        let (quorum, role) = self.read("approve", values::approvers)?;
        let approval = Approval { role, quorum, facts, bounds, expires };
        self.bound_twice(&approval);
        Some(approval)
    }

    fn bound_twice(&mut self, approval: &Approval) {
        let facts = approval.facts.iter().chain(approval.bounds.iter().map(|bound| &bound.fact));
        let exact: BTreeSet<&str> = approval.facts.iter().map(|fact| fact.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        let twice: Vec<String> = facts
            .map(|fact| fact.name.as_str())
            .filter(|name| !seen.insert(*name) && exact.contains(name))
            .map(|name| format!("`{name}` is agreed to twice"))
            .collect();
        twice.into_iter().for_each(|what| self.fault(what));
    }

    fn action(&mut self, content: &Content) -> Option<Action> {
        match content {
            Content::Item { text, ticked } => {
                Some(Action::Person { text: text.clone(), role: self.text("by"), ticked: *ticked })
            }
            Content::Block { language, body } => {
                let language = self.language(language)?;
                self.on(language);
                if body.trim().is_empty() {
                    self.fault("the block is empty");
                    return None;
                }
                self.block(language, body)
            }
        }
    }

    /// What carries a block out.
    fn language<'l>(&mut self, language: &'l str) -> Option<&'l str> {
        let attributes = self.attributes;
        if language == "check" {
            let by = attributes.get("by").unwrap_or("bash");
            const BY: [&str; 4] = ["bash", "sql", "http", "lifeboat"];
            let known = BY.into_iter().find(|known| *known == by);
            if known.is_none() {
                let what = format!("a check is carried out by bash, sql, http or lifeboat, not by {by:?}");
                self.found.unknown(self.line, what, by, BY.into_iter());
            }
            return known;
        }
        if !LANGUAGES.contains(&language) {
            let what = format!("{language:?} is no language that can be carried out");
            let otherwise = format!("These can: {}.", LANGUAGES.join(", "));
            self.found.unknown_or(self.line, what, language, LANGUAGES.iter().copied(), otherwise);
            return None;
        }
        Some(language)
    }

    fn on(&mut self, language: &str) {
        match (language == "sql", self.attributes.get("on")) {
            (true, None) => {
                let what = "SQL needs a database";
                self.found.hinted(self.line, what, "Say on=env:DATABASE_URL, or on=${name} with pass=name.");
            }
            (false, Some(_)) => self.fault("`on` names the database of SQL, and this is none"),
            _ => {}
        }
    }

    fn block(&mut self, language: &str, body: &str) -> Option<Action> {
        let script = body.to_owned();
        match language {
            "sql" => Some(Action::Sql { on: self.text("on")?, script }),
            "http" => self.found.take(self.line, request::http(body)).map(|request| Action::Http { request }),
            "lifeboat" => {
                self.found.take(self.line, request::command(body)).map(|words| Action::Lifeboat { words })
            }
            _ => Some(Action::Bash { script }),
        }
    }

    /// Says which references are to values that are not passed.
    fn refers(&mut self, action: &Action, passed: &[Passed]) {
        let known: BTreeSet<&str> = passed.iter().map(|passed| passed.name.as_str()).collect();
        for name in names_in(action).iter().filter(|name| !known.contains(name.as_str())) {
            let what = format!("`{name}` is used here, and not passed");
            let otherwise = format!("Pass it: pass={name}, or pass={name}=STEP.OUTPUT.");
            self.found.unknown_or(self.line, what, name, known.iter().copied(), otherwise);
        }
        match action {
            Action::Sql { script, .. } => self.raw_sql(script, &known),
            Action::Http { request } if texts_of(request).any(template::is_open) => {
                self.fault("a ${ is not closed");
            }
            _ => {}
        }
    }

    /// `:name` without quotation marks is nothing here, where psql would paste the value in as it is.
    fn raw_sql(&mut self, script: &str, passed: &BTreeSet<&str>) {
        let bare = template::bare_sql(script);
        for (at, _) in bare.match_indices(':') {
            let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            let name = bare[at + 1..].split(end).next().unwrap_or_default();
            let is_cast = bare[..at].ends_with(':');
            if !is_cast && passed.contains(name) {
                self.fault(format!(
                    "`:{name}` is not filled in: write :'{name}' for a value, :\"{name}\" for a name"
                ));
            }
        }
    }

    fn outputs(&mut self, action: Option<&Action>) -> Vec<Output> {
        let outputs = self.read("outputs", values::outputs).unwrap_or_default();
        for output in &outputs {
            let name = &output.name;
            match (action, &output.pointer) {
                (Some(Action::Bash { .. } | Action::Sql { .. }), Some(_)) => {
                    self.fault(format!(
                        "output `{name}` has a pointer, and the step does not answer with JSON"
                    ));
                }
                (Some(Action::Http { .. }), None) if name != "status" => self.fault(format!(
                    "output `{name}` needs the place in the answer: {name}=/pointer, or it is `status`"
                )),
                (Some(Action::Lifeboat { .. }), None) => {
                    self.fault(format!("output `{name}` needs the place in the answer: {name}=/pointer"));
                }
                _ => {}
            }
        }
        outputs
    }

    fn expect(&mut self, action: Option<&Action>) -> Option<Expectation> {
        if matches!(action, Some(Action::Lifeboat { .. })) && self.attributes.has("expect") {
            self.fault(
                "a lifeboat block says by its exit code whether it is as it should be: it has no `expect`",
            );
            return None;
        }
        self.read("expect", values::expectation)
    }
}

fn fact(text: &str) -> Result<Fact, String> {
    let source = values::source(text)?;
    Ok(Fact { name: values::own_name(&source).to_owned(), source })
}

fn bound(text: &str) -> Result<Bound, String> {
    let (source, relation, limit): (Source, Relation, String) = values::bound(text)?;
    Ok(Bound { fact: Fact { name: values::own_name(&source).to_owned(), source }, relation, limit })
}

/// The names of values that an action refers to, each once.
fn names_in(action: &Action) -> Vec<String> {
    let mut names: Vec<String> = match action {
        Action::Person { .. } | Action::Bash { .. } => Vec::new(),
        Action::Sql { on, script } => {
            let inside = template::sql_references(script).into_iter();
            template::references(on).into_iter().chain(inside).map(|reference| reference.name).collect()
        }
        Action::Http { request } => texts_of(request).flat_map(references).collect(),
        Action::Lifeboat { words } => words.iter().flat_map(|word| references(word)).collect(),
    };
    names.sort();
    names.dedup();
    names
}

fn texts_of(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let headers = request.headers.iter().map(|(_, value)| value.as_str());
    [request.url.as_str()].into_iter().chain(headers).chain(request.body.as_deref())
}

fn references(text: &str) -> impl Iterator<Item = String> {
    template::references(text).into_iter().map(|reference| reference.name)
}
