//! How long getting back takes, against how fast it must be: sums of a recovery and of a failover, promises of
//! services that need each other, budgets of availability.

use super::Found;
use super::finding::{Finding, Rule};
use super::sum::{Source, Sum};
use super::view::{Limit, View};
use crate::part;
use crate::service::{FailoverPlan, ServicePlan, StepPlan};
use crate::span::Span;
use std::collections::{BTreeMap, HashMap};

/// Availability is counted by the month.
const MONTH: Span = Span::from_secs(30 * 24 * 60 * 60);

/// `rto-sum` and `rto-missing`: to notice, to decide, to restore everything that is needed, and every step.
pub(super) fn service_sums(view: &View<'_>, found: &mut Found) {
    for (name, service) in &view.plan.services {
        let Some(limit) = view.rto(name, service) else {
            let key = format!("services.{}", part(name));
            let what =
                format!("how fast {name} must be back is said nowhere, so nothing can be held against it");
            let hint = format!("Give {name} a tier, or state `{key}.rto`.");
            found.push(Finding::unknown(Rule::RtoMissing, key, what).hint(hint));
            continue;
        };
        match sum_of(view, name, service) {
            Some(sum) => found.extend(judged(Rule::RtoSum, &format!("{name} must be back in"), &limit, sum)),
            None => {
                let what = format!("{name} and the services before it need more than can be followed");
                found.push(Finding::unknown(Rule::RtoSum, format!("services.{}.needs", part(name)), what));
            }
        }
    }
}

/// Restores of one host come one after the other, those of several hosts at once; steps come one after the other,
/// those of what is needed first.
fn sum_of(view: &View<'_>, name: &str, service: &ServicePlan) -> Option<Sum> {
    let needed = view.needed(name)?;
    let mut sum = Sum::default();
    let key = |last: &str| format!("services.{}.{last}", part(name));
    sum.push_or_miss("noticing", detection(service), key("detect"));
    sum.push_or_miss("deciding", decision(view, service.decide), key("decide"));
    sum.extend(restores(view, &needed.datasets));
    let before = needed.services.iter().filter_map(|name| Some((*name, view.plan.services.get(*name)?)));
    for (name, service) in before.chain([(name, service)]) {
        for step in &service.steps {
            sum.push(format!("{} ({name})", step.name), step.takes.most, Source::Stated);
        }
    }
    Some(sum)
}

fn detection(service: &ServicePlan) -> Option<(Span, Source)> {
    let by_probe = || service.probe.as_ref().map(|probe| probe.detects_within());
    Some((service.detect.or_else(by_probe)?, Source::Stated))
}

/// As stated; else when somebody is told who was not told at once, by the escalation.
fn decision(view: &View<'_>, stated: Option<Span>) -> Option<(Span, Source)> {
    let escalation =
        || view.plan.escalation.iter().map(|step| step.after).filter(|after| *after > Span::default()).min();
    Some((stated.or_else(escalation)?, Source::Stated))
}

/// The host whose restores take the longest; what is missing of any host is missing.
fn restores(view: &View<'_>, datasets: &[&str]) -> Sum {
    let mut by_host: BTreeMap<&str, Sum> = BTreeMap::new();
    for name in datasets {
        let Some(dataset) = view.plan.datasets.get(*name) else { continue };
        // Where no host is named each store is taken for one of its own.
        let place = dataset.host.as_deref().unwrap_or(&dataset.store);
        let key = format!("datasets.{}.recover.takes", part(name));
        by_host.entry(place).or_default().push_or_miss(format!("restoring {name}"), view.restore(name), key);
    }
    let mut hosts: Vec<Sum> = by_host.into_values().collect();
    let Some(longest) = (0..hosts.len()).max_by_key(|n| hosts[*n].total()) else { return Sum::default() };
    let mut sum = hosts.swap_remove(longest);
    for other in hosts {
        sum.miss(other);
    }
    sum
}

fn judged(rule: Rule, promise: &str, limit: &Limit, sum: Sum) -> Option<Finding> {
    let Limit { span, key } = limit;
    if sum.exceeds(*span) {
        let what = format!("{promise} {span}, and it can take {sum}");
        let hint = "Shorten what takes the longest, let it run by itself, or allow more.";
        return Some(Finding::contradiction(rule, key, what).sum(sum).hint(hint));
    }
    let missing = sum.missing().first()?;
    let what = format!("{promise} {span}; whether it can be cannot be computed: what is known takes {sum}");
    let hint = format!("State `{}`, or let it be measured.", missing.key);
    Some(Finding::unknown(rule, missing.key.clone(), what).sum(sum).hint(hint))
}

/// `rto-order`: what is part of something must not be allowed more than the whole.
pub(super) fn rto_order(view: &View<'_>, found: &mut Found) {
    let system = view.system_rto();
    for (name, tier) in &view.plan.tiers {
        let own = Limit { span: tier.rto, key: format!("tiers.{}.rto", part(name)) };
        found.extend(
            system.as_ref().and_then(|whole| longer(&format!("tier {name}"), &own, whole, "the system")),
        );
    }
    for (name, service) in &view.plan.services {
        let own = service.rto.map(|span| Limit { span, key: format!("services.{}.rto", part(name)) });
        let of_system = own.as_ref().zip(system.as_ref());
        found.extend(of_system.and_then(|(own, whole)| longer(name, own, whole, "the system")));
        let of_environment = view.own_rto(name, service).zip(view.environment_rto(service));
        found.extend(of_environment.and_then(|(own, whole)| {
            let environment = format!("environment {}", service.environment.as_deref().unwrap_or_default());
            longer(name, &own, &whole, &environment)
        }));
    }
}

fn longer(what: &str, own: &Limit, whole: &Limit, of: &str) -> Option<Finding> {
    (own.span > whole.span).then(|| {
        let says =
            format!("{what} may take {}, and {of} must be back in {} ({})", own.span, whole.span, whole.key);
        let hint = format!("Allow {what} no more than {of}, or say what of {of} the shorter one is about.");
        Finding::contradiction(Rule::RtoOrder, &own.key, says).hint(hint)
    })
}

/// `needs-lower-tier`: a service is back no sooner than what it needs.
pub(super) fn lower_tiers(view: &View<'_>, found: &mut Found) {
    for (name, service) in &view.plan.services {
        let Some(limit) = view.rto(name, service) else { continue };
        for need in &service.needs {
            let Some(lower) = allowed(view, need).filter(|lower| lower.span > limit.span) else { continue };
            let what = format!(
                "{name} must be back in {} ({}) and needs {need}, which may take {} ({})",
                limit.span, limit.key, lower.span, lower.key
            );
            let hint = format!("Put {need} into a tier that is as fast, or let {name} do without it.");
            found.push(
                Finding::contradiction(Rule::NeedsLowerTier, format!("services.{}.needs", part(name)), what)
                    .hint(hint),
            );
        }
    }
}

/// How long what has this name may take.
fn allowed(view: &View<'_>, name: &str) -> Option<Limit> {
    let of_service = view.plan.services.get(name).and_then(|service| view.rto(name, service));
    let of_dataset = || {
        let tier = view.plan.datasets.get(name)?.tier.as_ref()?;
        Some(Limit { span: view.plan.tiers.get(tier)?.rto, key: format!("datasets.{}.tier", part(name)) })
    };
    of_service.or_else(of_dataset)
}

/// `failover-sum`: to notice, to decide and every step, at the least and at the most.
pub(super) fn failovers(view: &View<'_>, found: &mut Found) {
    let noticed = noticed_by_region(view);
    for (name, failover) in &view.plan.failovers {
        let limit = Limit { span: failover.within, key: format!("failovers.{}.within", part(name)) };
        let detect = failover.detect.or_else(|| noticed.get(failover.from.as_str()).copied());
        let sum = failover_sum(view, name, failover, detect, |step| step.takes.most);
        let promise = format!("failover {name} from {} to {} may take", failover.from, failover.to);
        let least = failover_sum(view, name, failover, detect, |step| step.takes.least);
        let finding = judged(Rule::FailoverSum, &promise, &limit, sum);
        found.extend(finding.map(|mut finding| {
            if least.total() > limit.span {
                finding.what = format!("{}; at the least it takes {}", finding.what, least.total());
            }
            finding
        }));
    }
}

/// How long the slowest probe of a region takes: a region is lost when all of it is.
fn noticed_by_region<'a>(view: &View<'a>) -> HashMap<&'a str, Span> {
    let mut slowest = HashMap::new();
    for service in view.plan.services.values() {
        if let (Some(region), Some((span, _))) = (view.region_of_service(service), detection(service)) {
            let known: &mut Span = slowest.entry(region).or_default();
            *known = span.max(*known);
        }
    }
    slowest
}

fn failover_sum(
    view: &View<'_>,
    name: &str,
    failover: &FailoverPlan,
    detect: Option<Span>,
    takes: fn(&StepPlan) -> Span,
) -> Sum {
    let mut sum = Sum::default();
    let key = |last: &str| format!("failovers.{}.{last}", part(name));
    sum.push_or_miss("noticing", detect.map(|span| (span, Source::Stated)), key("detect"));
    sum.push_or_miss("deciding", decision(view, failover.decide), key("decide"));
    for step in &failover.steps {
        sum.push(step.name.as_str(), takes(step), Source::Stated);
    }
    sum
}

/// `availability-budget`: one recovery that takes what it may must not spend more than a month's budget.
pub(super) fn availability(view: &View<'_>, found: &mut Found) {
    for (name, service) in &view.plan.services {
        let tier = service.tier.as_ref().and_then(|tier| view.plan.tiers.get(tier)?.availability);
        let environment =
            service.environment.as_ref().and_then(|name| view.plan.environments.get(name)?.availability);
        let availability = service.availability.or(tier).or(environment);
        let key = format!("services.{}", part(name));
        found.extend(
            availability
                .zip(view.rto(name, service))
                .and_then(|(availability, rto)| spends(name, availability, &rto, key)),
        );
    }
    let system = view.system().and_then(|system| Some((system, system.availability?)));
    if let Some((system, availability)) = system {
        // Without an RTO of its own the system is back when its fastest tier is.
        let tiers = view
            .plan
            .tiers
            .iter()
            .map(|(name, tier)| Limit { span: tier.rto, key: format!("tiers.{}.rto", part(name)) });
        let rto = view.system_rto().or_else(|| tiers.min_by_key(|limit| limit.span));
        let key = "system.availability".to_owned();
        found.extend(rto.and_then(|rto| spends(&system.name, availability, &rto, key)));
    }
}

fn spends(
    name: &str,
    availability: crate::amount::Availability,
    rto: &Limit,
    key: String,
) -> Option<Finding> {
    let budget = availability.budget(MONTH);
    if rto.span <= budget {
        return None;
    }
    let spent = if budget == Span::default() {
        "and no budget is there for any".to_owned()
    } else {
        let tenths = rto.span.duration().as_millis() * 10 / budget.duration().as_millis();
        format!("and spends the budget of {}.{} months", tenths / 10, tenths % 10)
    };
    let what = format!(
        "{name} must work {availability} of the time, which leaves {budget} in 30 days; one recovery may take {} ({}), {spent}",
        rto.span, rto.key
    );
    let hint = format!("A recovery within {budget} would keep both; else promise less.");
    Some(Finding::hazard(Rule::AvailabilityBudget, key, what).hint(hint))
}

/// `mttr`: a mean is no more than the longest, and what is to be back the soonest must keep it.
pub(super) fn mttr(view: &View<'_>, found: &mut Found) {
    let Some(mttr) = view.system().and_then(|system| system.mttr) else { return };
    let key = "system.mttr";
    if let Some(rto) = view.system_rto().filter(|rto| mttr > rto.span) {
        let what = format!(
            "recoveries are promised to take {mttr} in the mean, and none may take more than {} ({})",
            rto.span, rto.key
        );
        found.push(Finding::contradiction(Rule::Mttr, key, what));
    }
    // A mean is over all: what it must hold for is what is to be back the soonest.
    let rto = |(name, service): (&String, &ServicePlan)| Some(view.rto(name, service)?.span);
    let soonest = view.plan.services.iter().filter_map(rto).min();
    let fastest = view.plan.services.iter().filter(|service| rto(*service) == soonest);
    let sums = fastest.filter_map(|(name, service)| Some((name, sum_of(view, name, service)?)));
    let Some((name, worst)) = sums.max_by_key(|(_, sum)| sum.total()).filter(|(_, sum)| sum.total() > mttr)
    else {
        return;
    };
    let what = format!(
        "recoveries are promised to take {mttr} in the mean, and that of {name}, which is to be back the soonest, can take {worst}"
    );
    let hint = "Shorten what takes the longest, or promise another mean.";
    found.push(Finding::hazard(Rule::Mttr, key, what).sum(worst).hint(hint));
}
