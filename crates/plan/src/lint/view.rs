//! The plan as rules see it: what a statement means where it is left out and something else says it, and who
//! needs whom.

use super::known::Known;
use super::sum::{Source, Sum};
use crate::dataset::DatasetPlan;
use crate::protect::ProtectPlan;
use crate::schedule::{Schedule, When};
use crate::service::{ServicePlan, SystemPlan};
use crate::span::Span;
use crate::{Plan, part};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};

/// So many steps are taken along `needs` for all services together: a plan in which everything needs everything
/// would otherwise cost the square of its size.
const MOST_STEPS: usize = 500_000;
/// So many unknown names are compared with all known ones.
const MOST_SUGGESTIONS: u32 = 10;

/// An objective, and the key that states it.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    pub(super) span: Span,
    pub(super) key: String,
}

/// Everything that a service cannot be without, itself left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Needed<'a> {
    pub(super) services: Vec<&'a str>,
    pub(super) datasets: Vec<&'a str>,
}

/// The plan as rules see it.
pub(super) struct View<'a> {
    pub(super) plan: &'a Plan,
    pub(super) known: &'a Known,
    needed: HashMap<&'a str, Needed<'a>>,
    environment_rpo: HashMap<&'a str, Limit>,
    /// What each copy adds to an exposure, reckoned once for all datasets.
    pub(super) copies_by_lag: OnceCell<Vec<(usize, Sum)>>,
    /// Where copies are; of one that does not say it, nothing.
    copy_regions: HashSet<Option<&'a str>>,
    gaps: RefCell<HashMap<String, Span>>,
    suggestions_left: Cell<u32>,
}

impl<'a> View<'a> {
    pub(super) fn new(plan: &'a Plan, known: &'a Known) -> Self {
        let needed = needed(plan);
        Self {
            plan,
            known,
            environment_rpo: environment_rpo(plan, &needed),
            needed,
            copies_by_lag: OnceCell::new(),
            copy_regions: plan.copies.iter().map(|copy| copy.region.as_deref()).collect(),
            gaps: RefCell::default(),
            suggestions_left: Cell::new(MOST_SUGGESTIONS),
        }
    }

    pub(super) fn system(&self) -> Option<&'a SystemPlan> {
        self.plan.system.as_ref()
    }

    /// What a service needs, directly or through others; nothing where that is more than can be followed.
    pub(super) fn needed(&self, service: &str) -> Option<&Needed<'a>> {
        self.needed.get(service)
    }

    /// The longest time between two occurrences. Calendars that are written alike are gone through once.
    pub(super) fn gap(&self, schedule: &Schedule) -> Span {
        let When::Calendar(calendar) = &schedule.when else { return schedule.longest_gap() };
        let name = format!("{} {} {}", calendar.zone_name(), schedule.jitter, calendar.pattern());
        *self.gaps.borrow_mut().entry(name).or_insert_with(|| schedule.longest_gap())
    }

    /// A snapshot's gap as a term says it.
    pub(super) fn gap_term(&self, schedule: &Schedule) -> (String, Span) {
        let what = match &schedule.when {
            When::Every(_) if schedule.jitter == Span::default() => "every".to_owned(),
            When::Every(span) => format!("every {span} and up to {} later, so every", schedule.jitter),
            When::Calendar(_) => format!("{}, so at the longest every", schedule.describe()),
        };
        (what, self.gap(schedule))
    }

    /// How long a snapshot takes: measured, else stated.
    pub(super) fn takes(&self, dataset: &str, protect: &ProtectPlan) -> Option<(Span, Source)> {
        let measured = self.known.datasets.get(dataset).and_then(|known| known.snapshot);
        measured.map(|measured| measured.with_source()).or_else(|| Some((protect.takes?, Source::Stated)))
    }

    /// How long it takes from there to the repository: measured, else stated.
    pub(super) fn ships(&self, dataset: &str, protect: &ProtectPlan) -> Option<(Span, Source)> {
        let measured = self.known.datasets.get(dataset).and_then(|known| known.ships);
        measured.map(|measured| measured.with_source()).or_else(|| Some((protect.ships?, Source::Stated)))
    }

    /// How long getting a dataset back takes: measured, else stated.
    pub(super) fn restore(&self, dataset: &str) -> Option<(Span, Source)> {
        let measured = self.known.datasets.get(dataset).and_then(|known| known.restore);
        let stated = || self.plan.datasets.get(dataset)?.recover?.stated();
        measured.map(|measured| measured.with_source()).or_else(|| Some((stated()?, Source::Stated)))
    }

    /// The region where a dataset lives.
    pub(super) fn region_of(&self, dataset: &'a DatasetPlan) -> Option<&'a str> {
        let of_host = || self.plan.hosts.get(dataset.host.as_ref()?)?.region.as_deref();
        dataset.region.as_deref().or_else(of_host).or_else(|| self.home())
    }

    /// The region where a service runs.
    pub(super) fn region_of_service(&self, service: &'a ServicePlan) -> Option<&'a str> {
        service.region.as_deref().or_else(|| self.home())
    }

    /// The region where the repository is.
    pub(super) fn region_of_repository(&self) -> Option<&'a str> {
        let repository = self.plan.repository.as_ref()?;
        let of_host = || self.plan.hosts.get(repository.host.as_ref()?)?.region.as_deref();
        repository.region.as_deref().or_else(of_host)
    }

    /// Whether a copy is said to be in another region.
    pub(super) fn is_copied_away_from(&self, home: &str) -> bool {
        let others = self.copy_regions.len() - usize::from(self.copy_regions.contains(&Some(home)));
        others > usize::from(self.copy_regions.contains(&None))
    }

    /// Whether a copy does not say where it is.
    pub(super) fn has_copy_without_region(&self) -> bool {
        self.copy_regions.contains(&None)
    }

    fn home(&self) -> Option<&'a str> {
        self.system()?.region.as_deref()
    }

    /// Whether the repository is said to be on the host of a dataset.
    pub(super) fn is_beside(&self, dataset: &DatasetPlan) -> bool {
        let repository = self.plan.repository.as_ref().and_then(|repository| repository.host.as_ref());
        repository.is_some() && repository == dataset.host.as_ref()
    }

    /// How much of a dataset may be lost with its host, by itself or by the system.
    pub(super) fn own_rpo(&self, name: &str, dataset: &DatasetPlan) -> Option<Limit> {
        let own =
            dataset.rpo.map(|rpo| Limit { span: rpo.host, key: format!("datasets.{}.rpo", part(name)) });
        let of_system = || Some(Limit { span: self.system()?.rpo?, key: "system.rpo".to_owned() });
        own.or_else(of_system)
    }

    /// The shortest of all that is said of how much of a dataset may be lost with its host.
    pub(super) fn rpo(&self, name: &str, dataset: &DatasetPlan) -> Option<Limit> {
        let of_environment = self.environment_rpo.get(name).cloned();
        self.own_rpo(name, dataset).into_iter().chain(of_environment).min_by_key(|limit| limit.span)
    }

    /// How fast a service must be back, by itself or by its tier.
    pub(super) fn own_rto(&self, name: &str, service: &ServicePlan) -> Option<Limit> {
        let own = service.rto.map(|span| Limit { span, key: format!("services.{}.rto", part(name)) });
        let of_tier = || {
            let tier = service.tier.as_ref()?;
            Some(Limit { span: self.plan.tiers.get(tier)?.rto, key: format!("tiers.{}.rto", part(tier)) })
        };
        own.or_else(of_tier)
    }

    /// How fast a service must be back by its environment.
    pub(super) fn environment_rto(&self, service: &ServicePlan) -> Option<Limit> {
        let name = service.environment.as_ref()?;
        let rto = self.plan.environments.get(name)?.rto?;
        Some(Limit { span: rto.most, key: format!("environments.{}.rto", part(name)) })
    }

    /// How fast anything must be back.
    pub(super) fn system_rto(&self) -> Option<Limit> {
        Some(Limit { span: self.system()?.rto?, key: "system.rto".to_owned() })
    }

    /// The shortest of all that is said of how fast a service must be back.
    pub(super) fn rto(&self, name: &str, service: &ServicePlan) -> Option<Limit> {
        let all = [self.own_rto(name, service), self.environment_rto(service), self.system_rto()];
        all.into_iter().flatten().min_by_key(|limit| limit.span)
    }

    /// The known name that somebody probably meant, as long as not too many were asked for.
    pub(super) fn suggest<'n>(&self, unknown: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        let left = self.suggestions_left.get().checked_sub(1)?;
        self.suggestions_left.set(left);
        crate::nearest(unknown, known)
    }
}

/// The shortest RPO of the environments whose services need a dataset.
fn environment_rpo<'a>(plan: &'a Plan, needed: &HashMap<&'a str, Needed<'a>>) -> HashMap<&'a str, Limit> {
    let mut limits: HashMap<&str, Limit> = HashMap::new();
    for (name, service) in &plan.services {
        let environment = service.environment.as_ref();
        let rpo = environment.and_then(|name| Some((name, plan.environments.get(name)?.rpo?)));
        let (Some((environment, span)), Some(needed)) = (rpo, needed.get(name.as_str())) else { continue };
        let key = format!("environments.{}.rpo", part(environment));
        for dataset in &needed.datasets {
            let is_shortest = limits.get(dataset).is_none_or(|known| span < known.span);
            if is_shortest {
                limits.insert(dataset, Limit { span, key: key.clone() });
            }
        }
    }
    limits
}

/// Who needs what, for as many services as [`MOST_STEPS`] reach.
fn needed(plan: &Plan) -> HashMap<&str, Needed<'_>> {
    let mut steps = 0;
    let mut all = HashMap::new();
    for name in plan.services.keys() {
        let Some(needed) = needed_by(plan, name, &mut steps) else { break };
        all.insert(name.as_str(), needed);
    }
    all
}

fn needed_by<'a>(plan: &'a Plan, service: &'a str, steps: &mut usize) -> Option<Needed<'a>> {
    let mut needed = Needed::default();
    let mut seen: HashSet<&str> = HashSet::from([service]);
    let mut open = vec![service];
    while let Some(name) = open.pop() {
        let needs = plan.services.get(name).map_or(&[][..], |service| &service.needs);
        *steps += needs.len() + 1;
        if *steps > MOST_STEPS {
            return None;
        }
        for need in needs.iter().filter(|need| seen.insert(need)) {
            if plan.datasets.contains_key(need) {
                needed.datasets.push(need);
            }
            if plan.services.contains_key(need) {
                needed.services.push(need);
                open.push(need);
            }
        }
    }
    // In the order of the names, so that the same plan says the same.
    needed.services.sort_unstable();
    needed.datasets.sort_unstable();
    Some(needed)
}
