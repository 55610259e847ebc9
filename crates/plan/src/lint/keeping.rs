//! What keeps a dataset: whether anything protects, retains and proves it, and whether what is kept is what was
//! meant.

use super::Found;
use super::finding::{Finding, Rule};
use super::sum::{Source, Sum, said};
use super::view::View;
use crate::dataset::{DatasetPlan, Retain, StoreKind};
use crate::part;
use crate::protect::Mode;
use crate::prove::ProvePlan;
use crate::span::Span;

const HOUR: u64 = 60 * 60;

/// `nothing-protects`, `nothing-retains`, `nothing-proves`, `no-log`, `no-driver` and `no-repository`: what is
/// promised and done by nobody.
pub(super) fn gaps(view: &View<'_>, found: &mut Found) {
    if view.plan.repository.is_none() && !view.plan.datasets.is_empty() {
        let what = "no repository is named, so where recovery points are kept is unknown";
        let hint = "State `repository.url`, unless it is given with --repository.";
        found.push(Finding::unknown(Rule::NoRepository, "repository", what).hint(hint));
    }
    for (name, dataset) in &view.plan.datasets {
        let key = format!("datasets.{}", part(name));
        found.extend(unprotected(view, name, dataset, &key));
        if dataset.retain.is_none() {
            let what = format!("nothing says what is kept of {name}: every snapshot is kept for ever");
            found.push(
                Finding::hazard(Rule::NothingRetains, &key, what).hint(format!("State `{key}.retain`.")),
            );
        }
        found.extend(unproven(name, dataset, &key));
        found.extend(without_driver(name, dataset, &key));
    }
}

fn unprotected(view: &View<'_>, name: &str, dataset: &DatasetPlan, key: &str) -> Option<Finding> {
    if dataset.protect.is_some() {
        return None;
    }
    let hint = format!("State `{key}.protect`: \"continuous\", or {{ every = \"…\" }}.");
    let finding = match view.rpo(name, dataset) {
        Some(limit) => {
            let what = format!("{name} may lose {} ({}), and nothing protects it", limit.span, limit.key);
            Finding::contradiction(Rule::NothingProtects, key, what)
        }
        None => Finding::hazard(Rule::NothingProtects, key, format!("nothing protects {name}")),
    };
    Some(finding.hint(hint))
}

fn unproven(name: &str, dataset: &DatasetPlan, key: &str) -> Option<Finding> {
    let scheduled = dataset.prove.as_ref().is_some_and(|prove| prove.schedule.is_some());
    (!scheduled).then(|| {
        let what =
            format!("nothing proves {name} by itself: that it can be restored would show in the disaster");
        Finding::hazard(Rule::NothingProves, key, what)
            .hint(format!("State `{key}.prove = {{ every = \"1d\" }}`."))
    })
}

fn without_driver(name: &str, dataset: &DatasetPlan, key: &str) -> Option<Finding> {
    let kind = dataset.store_kind();
    let follows = dataset.protect.as_ref().is_some_and(|protect| protect.mode == Mode::Continuous);
    match kind {
        None => {
            let what = format!("which kind of store holds {name} is not said by {:?}", dataset.store);
            Some(
                Finding::unknown(Rule::NoDriver, format!("{key}.store"), what)
                    .hint(format!("State `{key}.kind`.")),
            )
        }
        Some(kind) if follows && has_no_log(kind) => {
            let what = format!(
                "{name} is to be protected continuously, and {} has no log that could be followed",
                kind.word()
            );
            let hint = "Protect it by schedule, { every = \"…\" }, or \"on-change\".";
            Some(Finding::contradiction(Rule::NoLog, format!("{key}.protect"), what).hint(hint))
        }
        Some(kind) if !kind.has_driver() => {
            let what = format!(
                "this release has no driver for {}: {name} is in the plan and not yet protected by it",
                kind.word()
            );
            Some(Finding::unknown(Rule::NoDriver, key, what))
        }
        Some(StoreKind::Sqlite) if follows => {
            let what = format!(
                "this release does not yet follow the log of sqlite: of {name} it takes snapshots only"
            );
            Some(Finding::unknown(Rule::NoDriver, format!("{key}.protect"), what))
        }
        Some(_) => None,
    }
}

const fn has_no_log(kind: StoreKind) -> bool {
    matches!(kind, StoreKind::Files | StoreKind::Bucket | StoreKind::Kubernetes | StoreKind::Secrets)
}

/// `proof-age`: between the ends of two proofs lie the schedule and how long one takes.
pub(super) fn proofs(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let proven = dataset.prove.as_ref().and_then(|prove| Some((prove, prove.max_age?)));
        if let Some((prove, max_age)) = proven {
            found.extend(proof(view, name, prove, max_age));
        }
    }
}

fn proof(view: &View<'_>, name: &str, prove: &ProvePlan, max_age: Span) -> Option<Finding> {
    let key = format!("datasets.{}.prove.max_age", part(name));
    let mut sum = Sum::default();
    if let Some(schedule) = &prove.schedule {
        let (what, gap) = view.gap_term(schedule);
        sum.push(what, gap, Source::Stated);
        // A restore that is stated is no proof that was measured: it counts only where it was.
        if let Some((takes, source @ Source::Measured { .. })) = view.restore(name) {
            sum.push("takes", takes, source);
        }
    }
    if sum.total() > max_age {
        let what = format!("the last proof of {name} may be {max_age} old, and can be {sum}");
        let hint = format!("Prove more often than every {max_age}.");
        return Some(Finding::contradiction(Rule::ProofAge, key, what).sum(sum).hint(hint));
    }
    let age = view.known.datasets.get(name)?.proof_age.filter(|age| *age > max_age)?;
    let what = format!("the last proof of {name} may be {max_age} old, and is {age} old");
    Some(Finding::contradiction(Rule::ProofAge, key, what).hint(format!("Run `lifeboat prove {name}`.")))
}

/// `window`, `retain-unfilled` and `at-least`: retention against the snapshots that there are.
pub(super) fn retention(view: &View<'_>, found: &mut Found) {
    for (name, dataset) in &view.plan.datasets {
        let Some(retain) = &dataset.retain else { continue };
        let key = format!("datasets.{}.retain", part(name));
        found.extend(window(view, name, dataset, retain, &key));
        found.extend(unfilled(view, name, dataset, retain, &key));
        found.extend(at_least(name, retain, &key));
    }
}

fn window(view: &View<'_>, name: &str, dataset: &DatasetPlan, retain: &Retain, key: &str) -> Option<Finding> {
    let (window, protect) = (retain.window?, dataset.protect.as_ref()?);
    let key = format!("{key}.window");
    if protect.mode != Mode::Continuous {
        let what = format!(
            "any point of the last {window} of {name} is promised, and there are snapshots only: no log is kept"
        );
        let hint = "Follow its log, or say `days` for the snapshots of so many days.";
        return Some(Finding::contradiction(Rule::Window, key, what).hint(hint));
    }
    let (every, gap) = view.gap_term(protect.snapshots.as_ref()?);
    (gap > window).then(|| {
        let sum = Sum::default().stated("window", window).stated(every, gap);
        let what = format!("the window of {name} is {window}, and a new snapshot comes every {}: log of up to {sum} must be kept, and replayed", said(gap));
        let hint = "Log is of use only behind a snapshot that is older: take snapshots more often than the window is long.";
        Finding::hazard(Rule::Window, key, what).sum(sum).hint(hint)
    })
}

/// A rule of periods keeps one of each: in periods without a snapshot it keeps none.
fn unfilled(
    view: &View<'_>,
    name: &str,
    dataset: &DatasetPlan,
    retain: &Retain,
    key: &str,
) -> Option<Finding> {
    let gap = view.gap(dataset.protect.as_ref()?.snapshots.as_ref()?);
    let rules = [
        ("hourly", retain.hourly, HOUR),
        ("daily", retain.daily, 24 * HOUR),
        ("weekly", retain.weekly, 7 * 24 * HOUR),
        ("monthly", retain.monthly, 31 * 24 * HOUR),
        ("yearly", retain.yearly, 366 * 24 * HOUR),
    ];
    // Twice as long, so that what is due every hour and a little later does not count.
    let empty =
        rules.into_iter().find(|(_, count, period)| *count > 1 && gap >= Span::from_secs(2 * period))?;
    let (rule, count, _) = empty;
    let what = format!(
        "{rule} = {count} keeps one snapshot of each of {count} periods of {name}, and there is a new one only every {}: it reaches further back than it says",
        said(gap)
    );
    let hint = "Take snapshots as often as they are kept, or keep them by longer periods.";
    Some(Finding::hazard(Rule::RetainUnfilled, format!("{key}.{rule}"), what).hint(hint))
}

fn at_least(name: &str, retain: &Retain, key: &str) -> Option<Finding> {
    let at_least = retain.at_least.map_or(1, std::num::NonZeroU32::get);
    let counts = [retain.hourly, retain.daily, retain.weekly, retain.monthly, retain.yearly, retain.versions];
    let most: u64 = counts.into_iter().map(u64::from).sum();
    let keeps_by_time = retain.days > 0 || retain.window.is_some();
    let key = format!("{key}.at_least");
    if !keeps_by_time && most > 0 && u64::from(at_least) > most {
        let what = format!(
            "the rules of {name} keep {most} snapshots, and at_least = {at_least}: the rules decide nothing"
        );
        return Some(
            Finding::hazard(Rule::AtLeast, key, what).hint("Leave the rules out, or let them keep more."),
        );
    }
    (!keeps_by_time && most <= 1 && at_least <= 1).then(|| {
        let what =
            format!("of {name} one snapshot is kept: what was damaged before the last one was taken is gone");
        Finding::hazard(Rule::AtLeast, key, what).hint("Keep some that are older: daily = 7, for example.")
    })
}

/// `scratch-limit`: no proof is begun that would take more than it may.
pub(super) fn scratch(view: &View<'_>, found: &mut Found) {
    let scratch = view.plan.serve.as_ref().and_then(|serve| serve.scratch.as_ref()?.limit);
    let Some(limit) = scratch else { return };
    for (name, dataset) in &view.plan.datasets {
        let size = dataset.recover.and_then(|recover| recover.size).filter(|size| *size > limit);
        if let (Some(size), Some(_)) = (size, &dataset.prove) {
            let what = format!(
                "a proof of {name} takes {size}, and proofs may take {limit} (serve.scratch.limit): it is never begun"
            );
            let hint = format!("Allow more than {size}.");
            found.push(
                Finding::contradiction(
                    Rule::ScratchLimit,
                    format!("datasets.{}.recover.size", part(name)),
                    what,
                )
                .hint(hint),
            );
        }
    }
}
