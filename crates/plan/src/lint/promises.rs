//! One thing promised twice: what documents say of the same thing, against each other and against the plan.

use super::Found;
use super::finding::{Finding, Rule};
use super::paths::plain;
use super::view::View;
use crate::dataset::{DatasetPlan, Retain};
use crate::people::PromisePlan;
use crate::span::Span;
use crate::{Plan, part};
use std::collections::{BTreeMap, HashMap};

/// What a promise is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of<'a> {
    System,
    Review,
    /// Every failover.
    Failovers,
    Failover(&'a str),
    Service(&'a str),
    Dataset(&'a str),
    Tier(&'a str),
    Environment(&'a str),
}

impl<'a> Of<'a> {
    /// Reads `system`, `services.NAME` and so on.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (table, name) = text.split_once('.').unwrap_or((text, ""));
        let name = name.trim_matches('"');
        match (table, name.is_empty()) {
            ("system", true) => Some(Self::System),
            ("review", true) => Some(Self::Review),
            ("failover", true) => Some(Self::Failovers),
            ("failovers", false) => Some(Self::Failover(name)),
            ("services", false) => Some(Self::Service(name)),
            ("datasets", false) => Some(Self::Dataset(name)),
            ("tiers", false) => Some(Self::Tier(name)),
            ("environments", false) => Some(Self::Environment(name)),
            _ => None,
        }
    }
}

/// One value that is said of something, and by whom.
struct Said {
    value: String,
    by: String,
    key: String,
}

/// What can be promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Rto,
    Rpo,
    Every,
    Kept,
    Window,
    Availability,
    Mttr,
    Failover,
    Detect,
    Lag,
    Meeting,
    Shared,
    Called,
    At,
}

impl Field {
    const ALL: [Self; 14] = [
        Self::Rto,
        Self::Rpo,
        Self::Every,
        Self::Kept,
        Self::Window,
        Self::Availability,
        Self::Mttr,
        Self::Failover,
        Self::Detect,
        Self::Lag,
        Self::Meeting,
        Self::Shared,
        Self::Called,
        Self::At,
    ];

    fn of(self, promise: &PromisePlan) -> Option<String> {
        let span = match self {
            Self::Availability => return promise.availability.map(|value| value.to_string()),
            Self::Called => return promise.called.clone(),
            Self::At => return promise.at.clone(),
            Self::Rto => promise.rto,
            Self::Rpo => promise.rpo,
            Self::Every => promise.every,
            Self::Kept => promise.kept,
            Self::Window => promise.window,
            Self::Mttr => promise.mttr,
            Self::Failover => promise.failover,
            Self::Detect => promise.detect,
            Self::Lag => promise.lag,
            Self::Meeting => promise.meeting,
            Self::Shared => promise.shared,
        };
        span.map(|span| span.to_string())
    }

    /// As a sentence has it.
    const fn says(self) -> &'static str {
        match self {
            Self::Rto => "must be back in",
            Self::Rpo => "may lose",
            Self::Every => "has a new snapshot every",
            Self::Kept => "has its snapshots kept for",
            Self::Window => "has its log kept for",
            Self::Availability => "must work",
            Self::Mttr => "takes in the mean to recover",
            Self::Failover => "may take to fail over",
            Self::Detect => "is noticed to be down within",
            Self::Lag => "has a replica that may be behind by",
            Self::Meeting => "meets after",
            Self::Shared => "is shared after",
            Self::Called => "is called",
            Self::At => "is at",
        }
    }

    /// Whether it is a name or a place, of which there may be several that are known.
    const fn is_name(self) -> bool {
        matches!(self, Self::Called | Self::At)
    }
}

/// `promised-twice` and, of names and places, `named-twice`.
pub(super) fn twice(view: &View<'_>, found: &mut Found) {
    let mut said: BTreeMap<(&str, Field), Vec<Said>> = BTreeMap::new();
    for (place, promise) in view.plan.promises.iter().enumerate() {
        for field in Field::ALL {
            let Some(value) = field.of(promise) else { continue };
            let key = format!("promises.{place}");
            said.entry((&promise.of, field)).or_default().push(Said {
                value,
                by: promise.source.clone(),
                key,
            });
        }
    }
    for ((of, field), mut promises) in said {
        let mut own = Of::read(of).map(|of| by_the_plan(view, of, field)).unwrap_or_default();
        if field.is_name() && !own.is_empty() {
            promises.retain(|said| !is_among(&own, &said.value));
            own.truncate(1);
        }
        found.extend(differ(of, field, own, promises));
    }
}

fn is_among(known: &[Said], value: &str) -> bool {
    let is_same = |said: &Said| plain(&said.value) == plain(value) || is_path_of(&said.value, value);
    known.iter().any(is_same)
}

/// `/readyz` is at `http://localhost:8080/readyz`.
fn is_path_of(url: &str, path: &str) -> bool {
    path.starts_with('/') && url.contains("://") && url.ends_with(path)
}

/// The values in the order in which they are said, each with all who say it.
fn differ(of: &str, field: Field, own: Vec<Said>, promises: Vec<Said>) -> Option<Finding> {
    let key = promises.first()?.key.clone();
    let mut values: Vec<(String, Vec<String>)> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    for Said { value, by, .. } in own.into_iter().chain(promises) {
        let at = *place.entry(value.clone()).or_insert(values.len());
        match values.get_mut(at) {
            Some((_, sources)) => sources.push(by),
            None => values.push((value, vec![by])),
        }
    }
    if values.len() < 2 {
        return None;
    }
    let said: Vec<String> = values.iter().map(|(value, by)| format!("{value} ({})", by.join("; "))).collect();
    let (rule, hint) = match field.is_name() {
        true => {
            (Rule::NamedTwice, "Choose one, correct the others, and list what people still say in `names`.")
        }
        false => (
            Rule::PromisedTwice,
            "Decide which holds, correct the others, and take their promises out of the plan.",
        ),
    };
    let what = format!("{of} {} {}", field.says(), said.join(", "));
    Some(Finding::contradiction(rule, key, what).hint(hint))
}

/// What the plan itself says of it.
fn by_the_plan(view: &View<'_>, of: Of<'_>, field: Field) -> Vec<Said> {
    let plan = view.plan;
    let values = match of {
        Of::System => of_system(plan, field),
        Of::Review => of_review(plan, field),
        Of::Failovers => plan.failovers.keys().filter_map(|name| of_failover(plan, name, field)).collect(),
        Of::Failover(name) => of_failover(plan, name, field).into_iter().collect(),
        Of::Service(name) => of_service(view, name, field),
        Of::Dataset(name) => of_dataset(view, name, field),
        Of::Tier(name) => of_tier(plan, name, field),
        Of::Environment(name) => of_environment(plan, name, field),
    };
    values.into_iter().map(|(key, value)| Said { value, by: format!("here, {key}"), key }).collect()
}

type Values = Vec<(String, String)>;

fn one(key: String, value: Option<impl ToString>) -> Values {
    value.map(|value| (key, value.to_string())).into_iter().collect()
}

fn of_system(plan: &Plan, field: Field) -> Values {
    let Some(system) = &plan.system else { return Vec::new() };
    let key = |last: &str| format!("system.{last}");
    match field {
        Field::Rto => one(key("rto"), system.rto),
        Field::Rpo => one(key("rpo"), system.rpo),
        Field::Availability => one(key("availability"), system.availability),
        Field::Mttr => one(key("mttr"), system.mttr),
        Field::Called => one(key("name"), Some(&system.name)),
        _ => Vec::new(),
    }
}

fn of_review(plan: &Plan, field: Field) -> Values {
    let Some(review) = &plan.review else { return Vec::new() };
    match field {
        Field::Meeting => one("review.meeting".to_owned(), review.meeting),
        Field::Shared => one("review.shared".to_owned(), review.shared),
        _ => Vec::new(),
    }
}

fn of_failover(plan: &Plan, name: &str, field: Field) -> Option<(String, String)> {
    let failover = plan.failovers.get(name).filter(|_| field == Field::Failover)?;
    Some((format!("failovers.{}.within", part(name)), failover.within.to_string()))
}

fn of_service(view: &View<'_>, name: &str, field: Field) -> Values {
    let Some(service) = view.plan.services.get(name) else { return Vec::new() };
    let key = |last: &str| format!("services.{}.{last}", part(name));
    match field {
        Field::Rto => {
            view.own_rto(name, service).map(|limit| (limit.key, limit.span.to_string())).into_iter().collect()
        }
        Field::Availability => one(key("availability"), service.availability),
        Field::At => one(key("probe"), service.probe.as_ref().map(|probe| &probe.url)),
        Field::Called => names(name, &service.names, "services"),
        _ => Vec::new(),
    }
}

fn of_dataset(view: &View<'_>, name: &str, field: Field) -> Values {
    let Some(dataset) = view.plan.datasets.get(name) else { return Vec::new() };
    let key = |last: &str| format!("datasets.{}.{last}", part(name));
    let snapshots = || dataset.protect.as_ref()?.snapshots.as_ref();
    match field {
        Field::Rpo => {
            view.own_rpo(name, dataset).map(|limit| (limit.key, limit.span.to_string())).into_iter().collect()
        }
        Field::Every => one(key("protect"), snapshots().map(|schedule| view.gap(schedule))),
        Field::Kept => one(key("retain"), kept(dataset)),
        Field::Window => one(key("retain.window"), dataset.retain.and_then(|retain| retain.window)),
        Field::Lag => one(key("replica.lag"), dataset.replica.as_ref().map(|replica| replica.lag)),
        Field::At => {
            let mut all = one(key("store"), Some(&dataset.store));
            all.extend(dataset.names.iter().map(|name| (key("names"), name.clone())));
            all
        }
        Field::Called => names(name, &dataset.names, "datasets"),
        _ => Vec::new(),
    }
}

/// How far back snapshots reach, where their rules say it in time.
fn kept(dataset: &DatasetPlan) -> Option<Span> {
    let retain = Retain { window: None, ..dataset.retain? };
    Some(retain.reach()).filter(|reach| *reach > Span::default())
}

fn of_tier(plan: &Plan, name: &str, field: Field) -> Values {
    let Some(tier) = plan.tiers.get(name) else { return Vec::new() };
    let key = |last: &str| format!("tiers.{}.{last}", part(name));
    match field {
        Field::Rto => one(key("rto"), Some(tier.rto)),
        Field::Availability => one(key("availability"), tier.availability),
        _ => Vec::new(),
    }
}

fn of_environment(plan: &Plan, name: &str, field: Field) -> Values {
    let Some(environment) = plan.environments.get(name) else { return Vec::new() };
    let key = |last: &str| format!("environments.{}.{last}", part(name));
    match field {
        Field::Rto => one(key("rto"), environment.rto.map(|rto| rto.most)),
        Field::Rpo => one(key("rpo"), environment.rpo),
        Field::Availability => one(key("availability"), environment.availability),
        _ => Vec::new(),
    }
}

/// Its own name, and those that it goes by.
fn names(name: &str, others: &[String], table: &str) -> Values {
    let own = (format!("{table}.{}", part(name)), name.to_owned());
    let others = others.iter().map(|other| (format!("{table}.{}.names", part(name)), other.clone()));
    std::iter::once(own).chain(others).collect()
}
