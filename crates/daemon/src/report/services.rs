//! Services, as watch wants to see them: what is promised, what is needed, and what is stated of the way back.

use lifeboat_base::clock::Timestamp;
use lifeboat_plan::{Plan, ServicePlan, Span};
use lifeboat_watch::forecast::{Activity, Takes};
use lifeboat_watch::health::Status;
use lifeboat_watch::observe::Service;
use std::collections::BTreeMap;

pub(super) fn all(plan: &Plan, probes: &BTreeMap<String, (Status, Option<Timestamp>)>) -> Vec<Service> {
    let one = |(name, service): (&String, &ServicePlan)| {
        let probe = probes.get(name);
        Service {
            name: name.clone(),
            rto: rto(plan, service).map(Span::duration),
            needs: service.needs.clone(),
            // One that is to be probed and was not yet is unknown.
            probe: service.probe.as_ref().map(|_| probe.map_or(Status::Unknown, |(status, _)| *status)),
            down: probe.and_then(|(status, since)| since.filter(|_| *status == Status::Down)),
            before: before(plan, service),
            after: after(service),
        }
    };
    plan.services.iter().map(one).collect()
}

/// The shortest of all that is said of how fast a service must be back.
fn rto(plan: &Plan, service: &ServicePlan) -> Option<Span> {
    let of_tier = || Some(plan.tiers.get(service.tier.as_ref()?)?.rto);
    let own = service.rto.or_else(of_tier);
    let environment = service.environment.as_ref().and_then(|name| plan.environments.get(name)?.rto);
    let system = plan.system.as_ref().and_then(|system| system.rto);
    [own, environment.map(|rto| rto.most), system].into_iter().flatten().min()
}

/// Noticing and deciding, as far as the plan says how long they take.
fn before(plan: &Plan, service: &ServicePlan) -> Vec<Activity> {
    let by_probe = || service.probe.as_ref().map(lifeboat_plan::ProbePlan::detects_within);
    let escalation =
        || plan.escalation.iter().map(|step| step.after).filter(|after| *after > Span::default()).min();
    let stated = |span: Option<Span>| span.map_or(Takes::Unknown, |span| Takes::Stated(span.duration()));
    vec![
        Activity::new("detect", stated(service.detect.or_else(by_probe))),
        Activity::new("decide", stated(service.decide.or_else(escalation))),
    ]
}

/// What is done beside restoring. A service without steps is there when what it needs is: the plan says so.
fn after(service: &ServicePlan) -> Vec<Activity> {
    match service.steps.as_slice() {
        [] => vec![Activity::new("steps", Takes::Stated(std::time::Duration::ZERO))],
        steps => {
            let one = |step: &lifeboat_plan::StepPlan| {
                Activity::new(&step.name, Takes::Stated(step.takes.most.duration()))
            };
            steps.iter().map(one).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_shortest_promise_counts_and_what_is_stated_is_taken_over() {
        let plan = r#"
            [system]
            name = "x"
            rto = "4h"
            [tiers.critical]
            rto = "1h"
            [environments.production]
            rto = "30m..45m"
            [services.api]
            tier = "critical"
            environment = "production"
            needs = ["users"]
            detect = "2m"
            steps = [{ name = "start", takes = "1m..3m" }]
            [services.site]
            probe = "http://localhost:1/healthz"
        "#;
        let services = all(&Plan::parse(plan, "p.toml").unwrap(), &BTreeMap::new());
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!((services[0].rto, services[1].rto), (Some(minutes(45)), Some(minutes(240))));
        assert_eq!(services[0].before[0].takes, Takes::Stated(minutes(2)));
        assert_eq!((services[0].before[1].takes, services[0].probe), (Takes::Unknown, None));
        assert_eq!(services[0].after, [Activity::new("start", Takes::Stated(minutes(3)))]);
        assert_eq!(
            (services[1].before[0].takes, services[1].probe),
            (Takes::Stated(Duration::from_secs(35)), Some(Status::Unknown))
        );
    }
}
