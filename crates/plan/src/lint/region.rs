//! `copy-region`: where a region may be lost, something outside of it must hold what lives there.

use super::Found;
use super::finding::{Finding, Rule};
use super::view::View;
use crate::dataset::DatasetPlan;
use crate::part;
use std::collections::HashMap;

/// A dataset whose region may be lost, by an objective of its own or by a failover away from there, needs a replica,
/// a copy or the repository in another region.
pub(super) fn uncovered(view: &View<'_>, found: &mut Found) {
    let failovers: HashMap<&str, &str> =
        view.plan.failovers.iter().map(|(name, failover)| (failover.from.as_str(), name.as_str())).collect();
    for (name, dataset) in &view.plan.datasets {
        let Some(home) = view.region_of(dataset) else { continue };
        let objective = dataset.rpo.and_then(|rpo| rpo.region);
        let reason = match (objective, failovers.get(home)) {
            (Some(span), _) => format!("may lose {span} when region {home} is lost"),
            (None, Some(failover)) => format!("lives in region {home}, which failover {failover} leaves"),
            (None, None) => continue,
        };
        let key = match objective {
            Some(_) => format!("datasets.{}.rpo.region", part(name)),
            None => format!("datasets.{}", part(name)),
        };
        found.extend(judged(view, name, dataset, home, reason, key));
    }
}

fn judged(
    view: &View<'_>,
    name: &str,
    dataset: &DatasetPlan,
    home: &str,
    reason: String,
    key: String,
) -> Option<Finding> {
    let replica = dataset.replica.as_ref().map(|replica| replica.region.as_str());
    let repository = view.plan.repository.as_ref().map(|_| view.region_of_repository());
    let is_away = |region: &str| region != home;
    if replica.is_some_and(is_away)
        || repository.flatten().is_some_and(is_away)
        || view.is_copied_away_from(home)
    {
        return None;
    }
    let hint = format!("Add a copy with a region other than {home}, or a replica there.");
    if repository == Some(None) || view.has_copy_without_region() {
        let what = format!(
            "{name} {reason}; whether anything outside of it holds {name} cannot be told: not every region of the repository and its copies is stated"
        );
        return Some(Finding::unknown(Rule::CopyRegion, key, what).hint("State the `region` of each."));
    }
    let what = format!("{name} {reason}, and nothing outside of it holds {name}");
    Some(Finding::contradiction(Rule::CopyRegion, key, what).hint(hint))
}
