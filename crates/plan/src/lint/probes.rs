//! What probes can notice, how soon, and where services listen.

use super::Found;
use super::finding::{Finding, Rule};
use super::sum::Sum;
use super::view::View;
use crate::part;
use crate::service::{ProbePlan, ServicePlan};
use crate::span::Span;
use std::collections::HashMap;

/// Paths that by convention answer as long as the process runs at all.
const LIVENESS: &[&str] = &["healthz", "livez", "live", "liveness", "alive", "ping"];

/// `detection`: what is stated or promised, against interval, failures and start period.
pub(super) fn detection(view: &View<'_>, found: &mut Found) {
    for (name, service) in &view.plan.services {
        let stated = service.detect.zip(service.probe.as_ref());
        let key = format!("services.{}.detect", part(name));
        found.extend(
            stated.and_then(|(detect, probe)| slower(name, "is stated", detect, while_running(probe), key)),
        );
    }
    for (place, promise) in view.plan.promises.iter().enumerate() {
        let service = promise.of.strip_prefix("services.").map(|name| name.trim_matches('"'));
        let service = service.and_then(|name| Some((name, view.plan.services.get(name)?.probe.as_ref()?)));
        if let (Some(detect), Some((name, probe))) = (promise.detect, service) {
            let says = format!("is promised by {}", promise.source);
            found.extend(slower(name, &says, detect, after_start(probe), format!("promises.{place}.detect")));
        }
    }
}

/// A probe that is refused fails at once: its timeout comes on top only where it hangs.
fn while_running(probe: &ProbePlan) -> Sum {
    Sum::default().stated(
        format!("{} intervals of {},", probe.failures, probe.interval),
        probe.interval.times(probe.failures),
    )
}

/// Failures count only after the start period.
fn after_start(probe: &ProbePlan) -> Sum {
    let running = while_running(probe);
    if probe.start_period == Span::default() {
        return running;
    }
    let mut sum = Sum::default().stated("start period", probe.start_period);
    sum.extend(running);
    sum
}

fn slower(name: &str, says: &str, detect: Span, sum: Sum, key: String) -> Option<Finding> {
    (sum.total() > detect).then(|| {
        let what =
            format!("that {name} is down {says} to be noticed within {detect}, and its probe needs {sum}");
        let hint = "Ask more often, let fewer failures count, or promise less.";
        Finding::contradiction(Rule::Detection, key, what).sum(sum).hint(hint)
    })
}

/// `probe-liveness`: a process that lives may still serve nobody.
pub(super) fn liveness(view: &View<'_>, found: &mut Found) {
    for (name, service) in &view.plan.services {
        let path = service.probe.as_ref().map(|probe| probe.url.trim_end_matches('/'));
        let Some(last) = path.and_then(|path| path.rsplit('/').next()).filter(|last| LIVENESS.contains(last))
        else {
            continue;
        };
        let what = format!(
            "the probe of {name} asks /{last}, which says that the process lives and not that it serves"
        );
        let hint = "Ask what says whether it is ready: /readyz, by convention.";
        found.push(
            Finding::hazard(Rule::ProbeLiveness, format!("services.{}.probe", part(name)), what).hint(hint),
        );
    }
}

/// `port-twice`: of two that listen on one port of one host the second does not start.
pub(super) fn ports(view: &View<'_>, found: &mut Found) {
    let mut taken: HashMap<(Option<&str>, u16), &str> = HashMap::new();
    for (name, service) in &view.plan.services {
        for port in &service.ports {
            match taken.get(&(service.host.as_deref(), *port)) {
                Some(other) => found.push(twice(name, other, service, *port)),
                None => _ = taken.insert((service.host.as_deref(), *port), name),
            }
        }
    }
}

fn twice(name: &str, other: &str, service: &ServicePlan, port: u16) -> Finding {
    let key = format!("services.{}.ports", part(name));
    match &service.host {
        Some(host) => {
            let what = format!("{other} and {name} both listen on port {port} of {host}");
            Finding::contradiction(Rule::PortTwice, key, what).hint("Give one of them another port.")
        }
        None => {
            let what =
                format!("{other} and {name} both listen on port {port}, and on which hosts is not said");
            let hint = "Give one of them another port, or state the `host` of each.";
            Finding::hazard(Rule::PortTwice, key, what).hint(hint)
        }
    }
}
