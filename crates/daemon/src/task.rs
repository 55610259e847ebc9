//! What a plan makes a host do, again and again.

use lifeboat_plan::{CopyPlan, DatasetPlan, Mode, Plan, Schedule, Span, When};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// A snapshot of a dataset.
    Snapshot,
    /// A look whether a dataset has changed, and a snapshot if it has.
    Look,
    /// A proof of a dataset.
    Proof,
    /// A copy is brought up to date.
    Copy,
    /// What retention gives up is forgotten, and its space freed: in the repository, or in a copy.
    Prune,
    /// A part of the repository is read and checked.
    Check,
    /// The heads of everybody's receipts are signed.
    Heads,
}

impl TaskKind {
    const ALL: [Self; 7] =
        [Self::Snapshot, Self::Look, Self::Proof, Self::Copy, Self::Prune, Self::Check, Self::Heads];

    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Look => "look",
            Self::Proof => "proof",
            Self::Copy => "copy",
            Self::Prune => "prune",
            Self::Check => "check",
            Self::Heads => "heads",
        }
    }

    /// The kind of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether its first time is now, rather than when it is first due.
    const fn begins_at_once(self) -> bool {
        matches!(self, Self::Snapshot | Self::Look | Self::Proof | Self::Copy)
    }
}

/// Which task: its kind and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// What is done.
    pub kind: TaskKind,
    /// The dataset or the copy; empty where it is the repository.
    pub subject: String,
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        if self.subject.is_empty() { Ok(()) } else { write!(f, " {}", self.subject) }
    }
}

impl TaskKey {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, subject) = text.split_once(' ').unwrap_or((text, ""));
        let kind = TaskKind::of(word)?;
        Some(Self { kind, subject: subject.to_owned() })
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which.
    pub key: TaskKey,
    /// When it is due.
    pub schedule: Schedule,
    /// Whether only the leader does it.
    pub is_shared: bool,
    /// Tasks with the same word are never done at once.
    pub exclusive: String,
    /// Whether its first time is now, rather than when it is first due.
    pub begins_at_once: bool,
}

/// A proof without a schedule of its own.
const PROVE_EVERY: Span = Span::from_secs(24 * 60 * 60);
const PRUNE_EVERY: Span = Span::from_secs(24 * 60 * 60);
/// New things are looked for in the origin so often, where a copy has no schedule.
pub(crate) const COPY_EVERY: Span = Span::from_secs(60);
const CHECK_EVERY: Span = Span::from_secs(60 * 60);
/// Everything is read once within so long, a part an hour.
const CHECK_WITHIN: Span = Span::from_secs(30 * 24 * 60 * 60);
const HEADS_EVERY: Span = Span::from_secs(60 * 60);
/// A snapshot of a followed dataset, from which its log starts anew.
const BASE_EVERY: Span = Span::from_secs(7 * 24 * 60 * 60);

/// Everything in the repository is read once within so long.
pub fn check_within(plan: &Plan) -> Span {
    plan.repository.as_ref().and_then(|repository| repository.check_within).unwrap_or(CHECK_WITHIN)
}

/// How often the repository is checked: every hour, or four times within the time for everything.
pub fn check_every(plan: &Plan) -> Span {
    let quarter = Span::new(check_within(plan).duration() / 4);
    CHECK_EVERY.min(quarter).max(Span::from_secs(1))
}

/// What a copy is called: its name, or its place in the list.
pub fn copy_name(copy: &CopyPlan, place: usize) -> String {
    copy.name.clone().unwrap_or_else(|| format!("copy-{}", place + 1))
}

/// Whether a dataset is this host's: its own, or anybody's.
pub fn is_done_by(dataset: &DatasetPlan, host: &str) -> bool {
    dataset.host.as_deref().is_none_or(|its| its == host)
}

/// Whether a dataset may be read from anywhere, so that the leader does it.
pub fn is_shared(dataset: &DatasetPlan) -> bool {
    dataset.host.is_none() && dataset.store_kind().is_some_and(lifeboat_plan::StoreKind::is_on_the_network)
}

/// Everything that a plan makes this host do.
pub fn tasks(plan: &Plan, host: &str) -> Vec<Task> {
    let own = plan.datasets.iter().filter(|(_, dataset)| is_done_by(dataset, host));
    let mut tasks: Vec<Task> = own.flat_map(|(name, dataset)| of_dataset(name, dataset)).collect();
    let planned = plan.repository.as_ref();
    let prune = planned.and_then(|repository| repository.prune.clone());
    let prune = prune.unwrap_or_else(|| Schedule::every(PRUNE_EVERY));
    for (place, copy) in plan.copies.iter().enumerate() {
        let schedule = copy.schedule.clone().unwrap_or_else(|| Schedule::every(COPY_EVERY));
        tasks.push(of_repository(TaskKind::Copy, copy_name(copy, place), schedule));
        tasks.push(of_repository(TaskKind::Prune, copy_name(copy, place), prune.clone()));
    }
    tasks.push(of_repository(TaskKind::Prune, String::new(), prune));
    tasks.push(of_repository(TaskKind::Check, String::new(), Schedule::every(check_every(plan))));
    tasks.push(of_repository(TaskKind::Heads, String::new(), Schedule::every(HEADS_EVERY)));
    tasks
}

fn of_repository(kind: TaskKind, subject: String, schedule: Schedule) -> Task {
    // Prune and check read the same things, and copies are each their own.
    let exclusive = match kind {
        TaskKind::Copy | TaskKind::Prune if !subject.is_empty() => format!("copy {subject}"),
        TaskKind::Heads => "receipts".to_owned(),
        _ => "repository".to_owned(),
    };
    let key = TaskKey { kind, subject };
    Task { begins_at_once: kind.begins_at_once(), key, schedule, is_shared: true, exclusive }
}

fn of_dataset(name: &str, dataset: &DatasetPlan) -> Vec<Task> {
    let Some(protect) = &dataset.protect else { return Vec::new() };
    let task = |kind: TaskKind, schedule: Schedule| Task {
        key: TaskKey { kind, subject: name.to_owned() },
        schedule,
        is_shared: is_shared(dataset),
        exclusive: format!("dataset {name}"),
        begins_at_once: kind.begins_at_once(),
    };
    let mut tasks = Vec::new();
    match (protect.mode, &protect.snapshots) {
        (Mode::OnChange { look_every }, _) => tasks.push(task(TaskKind::Look, Schedule::every(look_every))),
        (Mode::Scheduled, Some(schedule)) => tasks.push(task(TaskKind::Snapshot, schedule.clone())),
        // Whoever follows takes the first snapshot itself; later ones keep the log short.
        (Mode::Continuous, schedule) => {
            let schedule = schedule.clone().unwrap_or_else(|| Schedule::every(BASE_EVERY));
            tasks.push(Task { begins_at_once: false, ..task(TaskKind::Snapshot, schedule) });
        }
        (Mode::Scheduled, None) => {}
    }
    if let Some(prove) = &dataset.prove {
        let schedule = prove.schedule.clone().unwrap_or_else(|| Schedule::every(PROVE_EVERY));
        tasks.push(task(TaskKind::Proof, schedule));
    }
    tasks
}

/// The tasks by their keys.
pub fn by_key(tasks: Vec<Task>) -> BTreeMap<TaskKey, Task> {
    tasks.into_iter().map(|task| (task.key.clone(), task)).collect()
}

/// Whether a schedule is every so long, rather than by a calendar.
pub fn is_interval(schedule: &Schedule) -> bool {
    matches!(schedule.when, When::Every(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(plan: &str, host: &str) -> Vec<String> {
        let plan = Plan::parse(plan, "p.toml").unwrap();
        tasks(&plan, host)
            .iter()
            .map(|task| format!("{}{}", task.key, if task.is_shared { "*" } else { "" }))
            .collect()
    }

    #[test]
    fn each_host_does_its_own_and_the_leader_the_rest() {
        let plan = r#"
            [datasets.users]
            store = "postgres://db/users"
            protect = "continuous"
            prove = { every = "1d" }
            [datasets.media]
            store = "/srv/media"
            host = "web-1"
            protect = { every = "1h" }
            [datasets.settings]
            store = "/etc/app"
            host = "web-2"
            protect = "on-change"
            [datasets.unprotected]
            store = "/tmp"
            [[copies]]
            url = "s3://away/x"
        "#;
        let shared = ["copy copy-1*", "prune copy-1*", "prune*", "check*", "heads*"];
        let of = |own: &[&'static str]| [own, &shared].concat();
        assert_eq!(keys(plan, "web-1"), of(&["snapshot media", "snapshot users*", "proof users*"]));
        assert_eq!(keys(plan, "web-2"), of(&["look settings", "snapshot users*", "proof users*"]));
        for text in keys(plan, "web-1") {
            let text = text.trim_end_matches('*');
            assert_eq!(TaskKey::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(TaskKey::parse("dream users"), None);
    }

    #[test]
    fn a_copy_is_pruned_when_the_repository_is_and_never_while_it_is_brought_up_to_date() {
        let plan = r#"
            [repository]
            url = "file:r"
            prune = { every = "3h" }
            [[copies]]
            name = "away"
            url = "s3://away/x"
        "#;
        let tasks = by_key(tasks(&Plan::parse(plan, "p.toml").unwrap(), "here"));
        let task = |text: &str| &tasks[&TaskKey::parse(text).unwrap()];
        assert_eq!(task("prune away").schedule, task("prune").schedule);
        assert_eq!(task("prune away").exclusive, task("copy away").exclusive);
        assert_ne!(task("prune away").exclusive, task("prune").exclusive);
        assert!(task("prune away").is_shared && !task("prune away").begins_at_once);
    }

    #[test]
    fn checks_come_often_enough_for_the_time_in_which_everything_is_read() {
        let every = |within: &str| {
            let plan = format!("[repository]\nurl = \"file:r\"\n{within}");
            check_every(&Plan::parse(&plan, "p.toml").unwrap()).to_string()
        };
        assert_eq!(every(""), "1h");
        assert_eq!(every("check_within = \"90d\""), "1h");
        assert_eq!(every("check_within = \"2h\""), "30m");
        assert_eq!(every("check_within = \"1s\""), "1s");
    }
}
