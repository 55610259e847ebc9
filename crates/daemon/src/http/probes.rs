//! What probes and Prometheus ask.

use super::Inner;
use super::answer::Answer;
use super::fault::Fault;
use super::parameter::Asked;
use super::shapes::{Alive, Build, Check, Health, Readiness, Threads, ThreadsOfName};
use lifeboat_plan::Plan;
use lifeboat_watch::health::{Checker, Status};
use lifeboat_watch::metrics::{Metric, Sample, exposition, metrics as metrics_of};
use std::collections::BTreeMap;
use std::time::Duration;

type Answered = Result<Answer, Fault>;

pub(super) fn healthz(_: &Inner, _: &Asked) -> Answered {
    Answer::json(&Alive { status: "ok" })
}

pub(super) fn readyz(inner: &Inner, _: &Asked) -> Answered {
    match waits_for(inner) {
        None => Answer::json(&Readiness { status: "ready", reason: None }),
        reason => Answer::json_with(503, &Readiness { status: "not_ready", reason }),
    }
}

/// What a start still waits for.
fn waits_for(inner: &Inner) -> Option<String> {
    let seen = inner.house.live.seen();
    if seen.is_stopping {
        return Some("the service is about to end".to_owned());
    }
    if inner.house.open_repository().is_none() {
        let why = seen.repository.failure.map(|failure| format!(": {failure}")).unwrap_or_default();
        return Some(format!("startup in progress: the repository is not open{why}"));
    }
    if !seen.is_started {
        return Some("startup in progress: what the last run left open is settled".to_owned());
    }
    let surveyed = seen.repository.asked.is_some() || seen.repository.failure.is_some();
    let mut copies = inner.house.copies();
    if !surveyed || copies.any(|(name, _)| !seen.copies.contains_key(&name)) {
        return Some("startup in progress: the repository and its copies are looked through".to_owned());
    }
    None
}

pub(super) fn health(inner: &Inner, _: &Asked) -> Answered {
    let mut worst = Status::Up;
    let checks = inner.health.each(|name, checker, now| {
        let status = checker.status(now);
        worst = worse(worst, status);
        (name.to_owned(), check(checker, status))
    });
    let overall = match worst {
        Status::Up => "ok",
        other => other.as_str(),
    };
    let status = if worst == Status::Down { 503 } else { 200 };
    Answer::json_with(status, &Health { overall, checks: checks.into_iter().collect() })
}

const fn worse(one: Status, other: Status) -> Status {
    match (one, other) {
        (Status::Down, _) | (_, Status::Down) => Status::Down,
        (Status::Unknown, _) | (_, Status::Unknown) => Status::Unknown,
        (Status::Up, Status::Up) => Status::Up,
    }
}

fn check(checker: &Checker, status: Status) -> Check {
    Check {
        status: status.as_str(),
        failures: checker.failures(),
        latency_seconds: checker.latency().as_ref().map(Duration::as_secs_f64),
        latency_max_seconds: checker.latency_max().as_ref().map(Duration::as_secs_f64),
        since: checker.since().map(|since| since.to_string()),
        error: checker.failure().map(str::to_owned),
    }
}

pub(super) fn threads(inner: &Inner, _: &Asked) -> Answered {
    let threads = threads_by_name().map_err(|error| inner.failed(&error))?;
    Answer::json(&Threads { count: threads.values().map(|threads| threads.count).sum(), threads })
}

/// As the kernel has them (proc(5), `/proc/self/task/TID/stat`): what may run beside other threads ends while we look.
fn threads_by_name() -> std::io::Result<BTreeMap<String, ThreadsOfName>> {
    let mut threads: BTreeMap<String, ThreadsOfName> = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let Ok(stat) = std::fs::read(task?.path().join("stat")) else { continue };
        let Some((name, state)) = name_and_state(&String::from_utf8_lossy(&stat)) else { continue };
        let of_name = threads.entry(name).or_default();
        of_name.count += 1;
        of_name.running += usize::from(state == 'R');
        of_name.blocked += usize::from(state == 'D');
    }
    Ok(threads)
}

/// The name is in parentheses and may have some of its own.
fn name_and_state(stat: &str) -> Option<(String, char)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    Some((name.to_owned(), after.trim_start().chars().next()?))
}

pub(super) fn build(_: &Inner, _: &Asked) -> Answered {
    Answer::json(&Build {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("LIFEBOAT_COMMIT"),
        built: option_env!("LIFEBOAT_BUILT"),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    })
}

pub(super) fn metrics(inner: &Inner, _: &Asked) -> Answered {
    let report = inner.report()?;
    let mut all = metrics_of(&report);
    let checks = inner.health.each(|name, checker, now| (name.to_owned(), checker.status(now)));
    all.extend(of_the_service(&inner.house.plan, &checks));
    Ok(Answer::metrics(exposition(&all)))
}

/// What the report does not say.
fn of_the_service<'a>(plan: &'a Plan, checks: &'a [(String, Status)]) -> Vec<Metric<'a>> {
    let known = checks.iter().filter(|(_, status)| *status != Status::Unknown);
    let up = known.map(|(name, status)| Sample {
        labels: vec![("check", name.as_str())],
        value: f64::from(u8::from(*status == Status::Up)),
    });
    let ages = plan.datasets.iter().filter_map(|(name, dataset)| {
        let most = dataset.prove.as_ref()?.max_age?.duration();
        Some(Sample { labels: vec![("dataset", name.as_str())], value: most.as_secs_f64() })
    });
    let build = Sample { labels: vec![("version", env!("CARGO_PKG_VERSION"))], value: 1.0 };
    let all = [
        ("lifeboat_build_info", "1, with the release as a label.", vec![build]),
        ("lifeboat_check_up", "Whether what the service stands on answers.", up.collect()),
        (
            "lifeboat_proof_age_max_seconds",
            "How long ago the dataset may last have been proven.",
            ages.collect(),
        ),
    ];
    let metrics = all.into_iter().map(|(name, help, samples)| Metric { name, help, samples });
    metrics.filter(|metric| !metric.samples.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_by_their_names() {
        let threads = threads_by_name().unwrap();
        assert!(threads.values().map(|threads| threads.count).sum::<usize>() >= 1);
        assert_eq!(name_and_state("7 (a) b) S 1 2"), Some(("a) b".to_owned(), 'S')));
        assert_eq!(name_and_state("nonsense"), None);
    }

    #[test]
    fn one_that_is_down_makes_all_of_it_down() {
        use Status::{Down, Unknown, Up};
        assert_eq!(
            (worse(Up, Up), worse(Up, Unknown), worse(Unknown, Down), worse(Down, Up)),
            (Up, Unknown, Down, Down)
        );
    }
}
