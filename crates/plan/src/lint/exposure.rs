//! What would be lost, against what may be: for each failure domain the time since what survives it, added up from
//! the schedule, how long a snapshot takes and how long it travels.

use super::Found;
use super::finding::{Finding, Rule};
use super::sum::{Source, Sum, said};
use super::view::{Limit, View};
use crate::dataset::DatasetPlan;
use crate::part;
use crate::protect::{Mode, ProtectPlan};
use crate::serve::CopyPlan;
use crate::span::Span;

/// A copy without a schedule is brought up to date so long after anything new.
const COPIED_AFTER: Span = Span::from_secs(60);

/// `rpo-host` and `rpo-missing`: when the host is lost the repository holds everything up to the last snapshot,
/// or what the log had shipped.
pub(super) fn host(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let Some(limit) = view.rpo(name, dataset) else {
            found.push(rpo_missing(name));
            continue;
        };
        let Some(protect) = &dataset.protect else { continue };
        let mut sum = to_repository(view, name, protect);
        if view.is_beside(dataset) {
            // Both are lost at once: what is left is in a copy.
            let Some(copy) = best_copy(view, |_| true) else { continue };
            sum.extend(copy);
        }
        found.extend(judged(Rule::RpoHost, name, "its host", &limit, sum, protect));
    }
}

fn rpo_missing(name: &str) -> Finding {
    let key = format!("datasets.{}", part(name));
    let what = format!("how much of {name} may be lost is said nowhere, so nothing can be held against it");
    Finding::unknown(Rule::RpoMissing, &key, what)
        .hint(format!("State `{key}.rpo`, or `system.rpo` for all."))
}

/// The time since what the repository holds.
pub(super) fn to_repository(view: &View<'_>, name: &str, protect: &ProtectPlan) -> Sum {
    let mut sum = Sum::default();
    let key = |last: &str| format!("datasets.{}.protect.{last}", part(name));
    match (protect.mode, &protect.snapshots) {
        (Mode::Continuous, _) if protect.synchronous => {
            sum.push("commits wait until they are durable", Span::default(), Source::Stated);
            return sum;
        }
        (Mode::Continuous, _) => {
            sum.push_or_miss("ships", view.ships(name, protect), key("ships"));
            return sum;
        }
        (Mode::OnChange { look_every }, _) => sum.push("looks every", look_every, Source::Stated),
        (Mode::Scheduled, Some(schedule)) => {
            let (what, gap) = view.gap_term(schedule);
            sum.push(what, gap, Source::Stated);
        }
        (Mode::Scheduled, None) => {}
    }
    sum.push_or_miss("takes", view.takes(name, protect), key("takes"));
    // A snapshot is written into the repository while it is taken: only what is stated comes on top.
    if let Some((ships, source)) = view.ships(name, protect) {
        sum.push("ships", ships, source);
    }
    sum
}

fn to_copy(view: &View<'_>, place: usize, copy: &CopyPlan) -> Sum {
    let mut sum = Sum::default();
    match &copy.schedule {
        None => sum.push("copied after", COPIED_AFTER, Source::Default),
        Some(schedule) => {
            let (what, gap) = view.gap_term(schedule);
            sum.push(format!("copied {what}"), gap, Source::Stated);
        }
    }
    let takes = copy.takes.map(|takes| (takes, Source::Stated));
    sum.push_or_miss("copying takes", takes, format!("copies.{place}.takes"));
    sum
}

/// What each copy adds, with its place in the plan: first the one that is behind the least.
fn copies_by_lag(view: &View<'_>) -> Vec<(usize, Sum)> {
    let sums = view.plan.copies.iter().enumerate().map(|(place, copy)| (place, to_copy(view, place, copy)));
    let mut sums: Vec<(usize, Sum)> = sums.collect();
    sums.sort_by_key(|(_, sum)| (sum.total(), sum.missing().len()));
    sums
}

/// The copy that is behind the least, of those that are meant.
fn best_copy(view: &View<'_>, is_meant: impl Fn(&CopyPlan) -> bool) -> Option<Sum> {
    let copies = view.copies_by_lag.get_or_init(|| copies_by_lag(view));
    let best = copies.iter().find(|(place, _)| view.plan.copies.get(*place).is_some_and(&is_meant));
    best.map(|(_, sum)| sum.clone())
}

fn judged(
    rule: Rule,
    name: &str,
    lost: &str,
    limit: &Limit,
    sum: Sum,
    protect: &ProtectPlan,
) -> Option<Finding> {
    let Limit { span, key } = limit;
    if sum.exceeds(*span) {
        let what = format!("{name} may lose {span} when {lost} is lost, and can lose {sum}");
        let hint = shorter(name, *span, &sum, protect);
        return Some(Finding::contradiction(rule, key, what).sum(sum).hint(hint));
    }
    let missing = sum.missing().first()?;
    let what = format!(
        "whether {name} loses at most {span} when {lost} is lost cannot be computed: {} neither stated nor measured",
        match sum.missing() {
            [_] => format!("`{}` is", sum.says_missing()),
            _ => format!("{} are", sum.says_missing()),
        }
    );
    let hint = format!("State `{}`, or let it be measured.", missing.key);
    Some(Finding::unknown(rule, missing.key.clone(), what).sum(sum).hint(hint))
}

fn shorter(name: &str, limit: Span, sum: &Sum, protect: &ProtectPlan) -> String {
    match (protect.mode, sum.left_of(limit)) {
        (Mode::Scheduled, Some(left)) => {
            let less = if sum.missing().is_empty() { "at least" } else { "clearly more often than" };
            format!(
                "Take a snapshot of {name} {less} every {left}, or follow its log: `protect = \"continuous\"`."
            )
        }
        (Mode::Scheduled, None) => {
            format!("No schedule is short enough: follow the log of {name}, or allow more than {limit}.")
        }
        _ => "Ship sooner, or allow more.".to_owned(),
    }
}

/// `rpo-repository`, `rpo-region` and `copy-region`: what survives the repository, or the region, is a copy, or
/// a replica that the store's own engine keeps.
pub(super) fn elsewhere(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let (Some(rpo), Some(protect)) = (dataset.rpo, &dataset.protect) else { continue };
        let key = |domain: &str| format!("datasets.{}.rpo.{domain}", part(name));
        if let Some(span) = rpo.repository {
            let limit = Limit { span, key: key("repository") };
            found.extend(without_repository(view, name, dataset, protect, &limit));
        }
        if let Some(span) = rpo.region {
            let limit = Limit { span, key: key("region") };
            found.extend(without_region(view, name, dataset, protect, &limit));
        }
    }
}

fn replica(dataset: &DatasetPlan) -> Option<Sum> {
    dataset.replica.as_ref().map(|replica| Sum::default().stated("replica behind by", replica.lag))
}

/// Of two ways that survive, the one that loses less.
fn lesser(one: Option<Sum>, other: Option<Sum>) -> Option<Sum> {
    [one, other].into_iter().flatten().min_by_key(|sum| (sum.total(), sum.missing().len()))
}

fn without_repository(
    view: &View<'_>,
    name: &str,
    dataset: &DatasetPlan,
    protect: &ProtectPlan,
    limit: &Limit,
) -> Option<Finding> {
    let copied = best_copy(view, |_| true).map(|copy| {
        let mut sum = to_repository(view, name, protect);
        sum.extend(copy);
        sum
    });
    match lesser(copied, replica(dataset)) {
        Some(sum) => judged(Rule::RpoRepository, name, "the repository with its host", limit, sum, protect),
        None => {
            let what = format!(
                "{name} may lose {} when the repository is lost with its host, and nothing else holds it",
                limit.span
            );
            let hint = "Add a copy: `[[copies]]` with the URL of another place.";
            Some(Finding::contradiction(Rule::RpoRepository, &limit.key, what).hint(hint))
        }
    }
}

fn without_region(
    view: &View<'_>,
    name: &str,
    dataset: &DatasetPlan,
    protect: &ProtectPlan,
    limit: &Limit,
) -> Option<Finding> {
    let Some(home) = view.region_of(dataset) else {
        let what =
            format!("in which region {name} lives is said nowhere, so what survives its loss is unknown");
        let hint = format!("State `datasets.{}.region`, or `system.region` for all.", part(name));
        return Some(Finding::unknown(Rule::RpoRegion, &limit.key, what).hint(hint));
    };
    let is_away = |region: Option<&str>| region.is_some_and(|region| region != home);
    let there = || to_repository(view, name, protect);
    let repository = is_away(view.region_of_repository()).then(there);
    let copied = best_copy(view, |copy| is_away(copy.region.as_deref())).map(|copy| {
        let mut sum = there();
        sum.extend(copy);
        sum
    });
    let replicated =
        replica(dataset).filter(|_| is_away(dataset.replica.as_ref().map(|replica| &*replica.region)));
    // Where nothing is away, `copy-region` says so.
    let sum = lesser(repository, lesser(copied, replicated))?;
    judged(Rule::RpoRegion, name, &format!("region {home}"), limit, sum, protect)
}

/// `rpo-host`, by what a document says of the schedule: one that gives only a schedule and no window knows no log.
pub(super) fn promised(view: &View<'_>, found: &mut Found) {
    for (place, promise) in view.plan.promises.iter().enumerate() {
        let (Some(every), None) = (promise.every, promise.window) else { continue };
        let Some(name) = promise.of.strip_prefix("datasets.").map(|name| name.trim_matches('"')) else {
            continue;
        };
        let Some(dataset) = view.plan.datasets.get(name) else { continue };
        let Some(limit) = view.rpo(name, dataset).filter(|limit| every >= limit.span) else { continue };
        let source = &promise.source;
        let what = format!(
            "{name} may lose {} when its host is lost ({}), and can lose {every} and what a snapshot takes where it is done as {source} has it: every {every}",
            limit.span, limit.key
        );
        let sum = Sum::default().stated("every", every);
        let hint = format!("Correct {source}, or allow more than {every}.");
        found.push(
            Finding::contradiction(Rule::RpoHost, format!("promises.{place}.every"), what)
                .sum(sum)
                .hint(hint),
        );
    }
}

/// `stale-after`: what is reported only after more than may be lost is reported too late; what is reported before
/// the next snapshot can be there is reported every day.
pub(super) fn stale_after(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let Some(stale) = dataset.stale_after else { continue };
        let key = format!("datasets.{}.stale_after", part(name));
        let limit = view.rpo(name, dataset).filter(|limit| stale > limit.span);
        let protect = dataset.protect.as_ref();
        // Of a followed dataset with a schedule, snapshots only shorten what is replayed: the log keeps the RPO.
        let follows =
            protect.is_some_and(|protect| protect.mode == Mode::Continuous && protect.snapshots.is_some());
        if let (Some(limit), false) = (limit, follows) {
            let what = format!(
                "{name} may lose {} ({}), and a snapshot is reported as stale after {stale}: the objective is missed for {} before anybody hears of it",
                limit.span,
                limit.key,
                Span::new(stale.duration().saturating_sub(limit.span.duration()))
            );
            let hint = format!("Report it before {} have passed.", limit.span);
            found.push(Finding::contradiction(Rule::StaleAfter, key, what).hint(hint));
            continue;
        }
        found.extend(protect.and_then(|protect| too_soon(view, name, protect, stale, &key)));
    }
}

fn too_soon(view: &View<'_>, name: &str, protect: &ProtectPlan, stale: Span, key: &str) -> Option<Finding> {
    let (what, gap) = view.gap_term(protect.snapshots.as_ref()?);
    let mut sum = Sum::default().stated(what, gap);
    if let Some((takes, source)) = view.takes(name, protect) {
        sum.push("takes", takes, source);
    }
    (sum.total() > stale).then(|| {
        let what = format!(
            "a snapshot of {name} is reported as stale after {stale}, and the next one comes after {sum}"
        );
        let hint = "An alarm that is always on is heard by nobody: allow more than the schedule needs.";
        Finding::hazard(Rule::StaleAfter, key, what).sum(sum).hint(hint)
    })
}

/// `overlap`: what takes longer than the time until it is due again is never done as often as planned.
pub(super) fn overlap(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let snapshots = dataset.protect.as_ref().and_then(|protect| {
            let takes = view.takes(name, protect)?;
            Some((protect.snapshots.as_ref()?, takes, format!("datasets.{}.protect", part(name))))
        });
        if let Some((schedule, takes, key)) = snapshots {
            found.extend(overlaps(view, &format!("a snapshot of {name}"), schedule, takes, key));
        }
        let proofs = dataset.prove.as_ref().and_then(|prove| prove.schedule.as_ref()).zip(view.restore(name));
        if let Some((schedule, takes)) = proofs {
            let key = format!("datasets.{}.prove", part(name));
            found.extend(overlaps(view, &format!("a proof of {name}"), schedule, takes, key));
        }
    }
    for (place, copy) in view.plan.copies.iter().enumerate() {
        if let (Some(schedule), Some(takes)) = (&copy.schedule, copy.takes) {
            let what = format!("bringing {} up to date", copy.name.as_deref().unwrap_or(&copy.url));
            found.extend(overlaps(
                view,
                &what,
                schedule,
                (takes, Source::Stated),
                format!("copies.{place}.takes"),
            ));
        }
    }
}

fn overlaps(
    view: &View<'_>,
    what: &str,
    schedule: &crate::schedule::Schedule,
    (takes, source): (Span, Source),
    key: String,
) -> Option<Finding> {
    let gap = view.gap(schedule);
    (takes >= gap).then(|| {
        let what =
            format!("{what} takes {takes} and is due {}: it is never done as often", schedule.describe());
        let mut sum = Sum::default();
        sum.push("takes", takes, source);
        let hint = format!("Let it be due less often than every {}.", said(takes));
        Finding::contradiction(Rule::Overlap, key, what).sum(sum).hint(hint)
    })
}
