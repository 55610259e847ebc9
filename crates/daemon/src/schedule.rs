//! The scheduler: which task is due now. It is pure: it is told the time and what begins and ends, and asks
//! nobody.
//!
//! ```text
//! waiting ──due, nobody of its kind at work──► at work ──ended──► waiting
//!    ▲                                            │
//!    └────────── failed: soon again, then less soon
//! ```
//! What was missed while nobody watched (a pause, a machine that was off) is done once, not as often as it was
//! missed. Jitter is the same for the same occurrence, so that a restart moves nothing.

use crate::record::JobOutcome;
use crate::task::{Task, TaskKey};
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Timestamp;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// After a failure, or where a controller ended before its job did.
const AGAIN: Backoff =
    Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(15 * 60), attempts: u32::MAX };
/// A task that can never be due (29 February on a Monday, ...) is looked at again so often.
const FAR_AWAY: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What is known of a task's past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// When it was last begun.
    pub begun: Option<Timestamp>,
    /// When it last ended.
    pub ended: Option<Timestamp>,
    /// How it last ended.
    pub outcome: Option<JobOutcome>,
    /// How often in a row it did not end well.
    pub failures: u32,
}

/// A task and how it stands.
#[derive(Clone, Debug)]
struct Entry {
    task: Task,
    past: Past,
    due: Timestamp,
    is_at_work: bool,
}

/// Which task is due now.
#[derive(Debug, Default)]
pub struct Scheduler {
    entries: BTreeMap<TaskKey, Entry>,
    waiting: BTreeSet<(Timestamp, TaskKey)>,
    /// What is at work, by the word that keeps others out.
    busy: BTreeSet<String>,
}

impl Scheduler {
    /// A scheduler of these tasks, with what is known of their past.
    pub fn new(tasks: Vec<Task>, past: &BTreeMap<TaskKey, Past>, now: Timestamp) -> Self {
        let mut scheduler = Self::default();
        for task in tasks {
            let past = past.get(&task.key).copied().unwrap_or_default();
            let due = due(&task, &past, now);
            scheduler.waiting.insert((due, task.key.clone()));
            scheduler.entries.insert(task.key.clone(), Entry { task, past, due, is_at_work: false });
        }
        scheduler
    }

    /// The tasks that are to begin now, the longest overdue first, at most `room` of them; `leads` says whether
    /// shared ones are ours. Nothing is begun by asking.
    pub fn ready(&self, now: Timestamp, leads: bool, room: usize) -> Vec<TaskKey> {
        let mut busy: BTreeSet<&str> = self.busy.iter().map(String::as_str).collect();
        let mut ready = Vec::new();
        for (due, key) in &self.waiting {
            if *due > now || ready.len() >= room {
                break;
            }
            let Some(entry) = self.entries.get(key) else { continue };
            if (leads || !entry.task.is_shared) && busy.insert(&entry.task.exclusive) {
                ready.push(key.clone());
            }
        }
        ready
    }

    /// When the next task is due, of those that are not overdue already.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let behind = (
            now.plus(Duration::from_nanos(1)),
            TaskKey { kind: crate::task::TaskKind::Snapshot, subject: String::new() },
        );
        self.waiting.range(behind..).next().map(|(due, _)| *due)
    }

    /// When a task is due; `None` while it is at work, or where there is no such task.
    pub fn due_of(&self, key: &TaskKey) -> Option<Timestamp> {
        self.entries.get(key).filter(|entry| !entry.is_at_work).map(|entry| entry.due)
    }

    /// The task of a key.
    pub fn task(&self, key: &TaskKey) -> Option<&Task> {
        self.entries.get(key).map(|entry| &entry.task)
    }

    /// Every task with its past and when it is due.
    pub fn all(&self) -> impl Iterator<Item = (&Task, &Past, Option<Timestamp>)> {
        self.entries
            .values()
            .map(|entry| (&entry.task, &entry.past, (!entry.is_at_work).then_some(entry.due)))
    }

    /// A task with its past and when it is due.
    pub fn one(&self, key: &TaskKey) -> Option<(&Task, &Past, Option<Timestamp>)> {
        let entry = self.entries.get(key)?;
        Some((&entry.task, &entry.past, (!entry.is_at_work).then_some(entry.due)))
    }

    /// A task begins.
    pub fn begun(&mut self, key: &TaskKey, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.waiting.remove(&(entry.due, key.clone()));
        entry.is_at_work = true;
        entry.past.begun = Some(now);
        self.busy.insert(entry.task.exclusive.clone());
    }

    /// A task ended.
    pub fn ended(&mut self, key: &TaskKey, now: Timestamp, outcome: JobOutcome) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.busy.remove(&entry.task.exclusive);
        entry.is_at_work = false;
        entry.past.ended = Some(now);
        entry.past.outcome = Some(outcome);
        entry.past.failures = if outcome.is_good() { 0 } else { entry.past.failures.saturating_add(1) };
        entry.due = due(&entry.task, &entry.past, now);
        self.waiting.insert((entry.due, key.clone()));
    }

    /// A task is due at once, whatever its schedule says; false where there is no such task, or it is at work.
    pub fn hurry(&mut self, key: &TaskKey, now: Timestamp) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| !entry.is_at_work) else { return false };
        if entry.due > now {
            self.waiting.remove(&(entry.due, key.clone()));
            entry.due = now;
            self.waiting.insert((now, key.clone()));
        }
        true
    }
}

/// When a task is due next.
fn due(task: &Task, past: &Past, now: Timestamp) -> Timestamp {
    let Some(begun) = past.begun else {
        // A new one among many does not begin with all the others.
        let first = if task.begins_at_once { now } else { planned(task, now).unwrap_or(now.plus(FAR_AWAY)) };
        return first.plus(jitter(task, first));
    };
    // A clock that was ahead must not keep a task from being done until it catches up.
    let begun = begun.min(now);
    let planned = planned(task, begun).unwrap_or(now.plus(FAR_AWAY));
    let planned = planned.plus(jitter(task, planned));
    let failed = past.failures > 0 && past.outcome.is_some_and(|outcome| !outcome.is_good());
    if failed {
        planned.min(past.ended.unwrap_or(begun).min(now).plus(pause(past.failures)))
    } else {
        planned
    }
}

fn planned(task: &Task, from: Timestamp) -> Option<Timestamp> {
    task.schedule.due_after(from.to_jiff()).map(Timestamp::from_jiff)
}

fn pause(failures: u32) -> Duration {
    let doubled = AGAIN.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(20)));
    doubled.min(AGAIN.cap)
}

/// The same for the same occurrence of the same task, wherever it is asked.
fn jitter(task: &Task, occurrence: Timestamp) -> Duration {
    let most = task.schedule.jitter.duration();
    if most.is_zero() {
        return Duration::ZERO;
    }
    let mut hasher = DefaultHasher::new();
    (&task.key, occurrence.as_secs()).hash(&mut hasher);
    let part = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    most.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskKind;
    use lifeboat_plan::{Calendar, Schedule, Span, When};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn key(kind: TaskKind, subject: &str) -> TaskKey {
        TaskKey { kind, subject: subject.to_owned() }
    }

    fn task(kind: TaskKind, subject: &str, schedule: Schedule) -> Task {
        Task {
            key: key(kind, subject),
            schedule,
            is_shared: false,
            exclusive: format!("dataset {subject}"),
            begins_at_once: true,
        }
    }

    fn hourly(subject: &str) -> Task {
        task(TaskKind::Snapshot, subject, Schedule::every(Span::from_secs(3600)))
    }

    fn scheduler(tasks: Vec<Task>) -> Scheduler {
        Scheduler::new(tasks, &BTreeMap::new(), at(0))
    }

    #[test]
    fn a_new_task_is_due_at_once_and_then_by_its_schedule() {
        let mut scheduler = scheduler(vec![hourly("a")]);
        let key = key(TaskKind::Snapshot, "a");
        assert_eq!(scheduler.ready(at(0), true, 9), std::slice::from_ref(&key));
        scheduler.begun(&key, at(0));
        assert_eq!(scheduler.ready(at(1), true, 9), []);
        scheduler.ended(&key, at(100), JobOutcome::Done);
        // From its beginning, not from its end: how long it takes moves nothing.
        assert_eq!(scheduler.due_of(&key), Some(at(3600)));
        assert_eq!(scheduler.next_due(at(100)), Some(at(3600)));
    }

    #[test]
    fn never_two_of_one_dataset() {
        let every = Schedule::every(Span::from_secs(60));
        let mut scheduler = scheduler(vec![hourly("a"), task(TaskKind::Proof, "a", every), hourly("b")]);
        let snapshot = key(TaskKind::Snapshot, "a");
        assert_eq!(scheduler.ready(at(0), true, 9), [snapshot.clone(), key(TaskKind::Snapshot, "b")]);
        assert_eq!(scheduler.ready(at(0), true, 1), std::slice::from_ref(&snapshot));
        scheduler.begun(&snapshot, at(0));
        assert_eq!(scheduler.ready(at(0), true, 9), [key(TaskKind::Snapshot, "b")]);
        scheduler.ended(&snapshot, at(1), JobOutcome::Done);
        assert!(scheduler.ready(at(1), true, 9).contains(&key(TaskKind::Proof, "a")));
    }

    #[test]
    fn what_was_missed_is_done_once() {
        let mut scheduler = scheduler(vec![hourly("a")]);
        let key = key(TaskKind::Snapshot, "a");
        scheduler.begun(&key, at(0));
        scheduler.ended(&key, at(1), JobOutcome::Done);
        // Ten days of silence.
        let later = 10 * 24 * 3600;
        assert_eq!(scheduler.ready(at(later), true, 9).len(), 1);
        scheduler.begun(&key, at(later));
        scheduler.ended(&key, at(later + 1), JobOutcome::Done);
        assert_eq!(scheduler.ready(at(later + 2), true, 9), []);
        assert_eq!(scheduler.due_of(&key), Some(at(later + 3600)));
    }

    #[test]
    fn a_failure_is_tried_again_soon_and_then_less_soon() {
        let mut scheduler = scheduler(vec![hourly("a")]);
        let key = key(TaskKind::Snapshot, "a");
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..9 {
            scheduler.begun(&key, at(now));
            scheduler.ended(&key, at(now), JobOutcome::Failed);
            let due = scheduler.due_of(&key).unwrap();
            pauses.push(due.since(at(now)).as_secs());
            now += i64::try_from(due.since(at(now)).as_secs()).unwrap();
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 900]);
        scheduler.begun(&key, at(now));
        scheduler.ended(&key, at(now), JobOutcome::Done);
        assert_eq!(scheduler.due_of(&key), Some(at(now + 3600)));
    }

    #[test]
    fn shared_tasks_wait_for_leadership() {
        let shared = Task { is_shared: true, ..hourly("a") };
        let scheduler = scheduler(vec![shared]);
        assert_eq!(scheduler.ready(at(0), false, 9), []);
        assert_eq!(scheduler.ready(at(0), true, 9).len(), 1);
    }

    #[test]
    fn a_restart_moves_nothing() {
        let calendar = Calendar::new("0 2 * * *", Some("Europe/Berlin")).unwrap();
        let schedule = Schedule { when: When::Calendar(calendar), jitter: Span::from_secs(600) };
        let tasks = || vec![task(TaskKind::Snapshot, "a", schedule.clone())];
        let key = key(TaskKind::Snapshot, "a");
        let past =
            Past { begun: Some(at(0)), ended: Some(at(9)), outcome: Some(JobOutcome::Done), failures: 0 };
        let past = BTreeMap::from([(key.clone(), past)]);
        let due: Vec<_> = [10, 100, 1000]
            .map(|now| Scheduler::new(tasks(), &past, at(now)).due_of(&key))
            .into_iter()
            .collect();
        assert!(due[0].is_some() && due[0] == due[1] && due[1] == due[2], "{due:?}");
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nothing_from_being_done() {
        let ahead = Past {
            begun: Some(at(999_999)),
            ended: Some(at(999_999)),
            outcome: Some(JobOutcome::Done),
            failures: 0,
        };
        let key = key(TaskKind::Snapshot, "a");
        let scheduler = Scheduler::new(vec![hourly("a")], &BTreeMap::from([(key.clone(), ahead)]), at(0));
        assert_eq!(scheduler.due_of(&key), Some(at(3600)));
    }

    #[test]
    fn a_person_may_hurry_a_task() {
        let mut scheduler = scheduler(vec![hourly("a")]);
        let key = key(TaskKind::Snapshot, "a");
        scheduler.begun(&key, at(0));
        assert!(!scheduler.hurry(&key, at(1)));
        scheduler.ended(&key, at(2), JobOutcome::Done);
        assert!(scheduler.hurry(&key, at(3)));
        assert_eq!(scheduler.ready(at(3), true, 9), std::slice::from_ref(&key));
    }
}
