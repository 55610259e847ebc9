//! The controller's state: an embedded database of records and of what follows from them.
//!
//! A record and what it changes are committed together, synced, before anything is done that rests on them. The
//! tables beside `records` can be built again from the records alone: that is how a controller comes back on an
//! empty machine. One process has the database at a time; a lock file beside it says so.
//!
//! Failpoints: `controller::before-record`, `controller::recorded`.

use crate::reading::Readings;
use crate::record::{JobOutcome, Record, Sequence, What};
use crate::schedule::Past;
use crate::task::{TaskKey, TaskKind};
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{Hint, failpoint};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const FILE: &str = "controller.db";
const LOCK: &str = "controller.lock";
/// The version of the tables; another one is built again from the records.
const VERSION: i64 = 1;
/// So many ended jobs are kept for people; what tasks need of the past is kept beside them.
const KEPT_JOBS: u64 = 10_000;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS records (sequence INTEGER PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS jobs (
        job INTEGER PRIMARY KEY, task TEXT NOT NULL, generation INTEGER, begun INTEGER NOT NULL,
        ended INTEGER, outcome TEXT, detail TEXT);
    CREATE INDEX IF NOT EXISTS jobs_open ON jobs (job) WHERE ended IS NULL;
    CREATE INDEX IF NOT EXISTS jobs_by_task ON jobs (task, job);
    CREATE TABLE IF NOT EXISTS tasks (
        task TEXT PRIMARY KEY, begun INTEGER NOT NULL, ended INTEGER, outcome TEXT,
        failures INTEGER NOT NULL DEFAULT 0, detail TEXT);
    CREATE TABLE IF NOT EXISTS likenesses (dataset TEXT PRIMARY KEY, likeness TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
";

/// State that could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Somebody else has it.
    #[error("the controller's state in {} is in use by another process", folder.display())]
    InUse {
        /// Where.
        folder: PathBuf,
    },
    /// The operating system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The database refused.
    #[error("{operation} in the controller's state")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
    /// A record makes no sense.
    #[error("record {sequence} of the controller's state cannot be read")]
    Record {
        /// Which.
        sequence: Sequence,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Records do not follow on each other.
    #[error("record {found} of the controller's state follows on {expected}: some are missing")]
    Gap {
        /// The one that should have come.
        expected: Sequence,
        /// The one that came.
        found: Sequence,
    },
}

impl Hint for StateError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::InUse { .. } => {
                "Another `lifeboat serve` runs with this state directory: stop it, or give this one its own."
                    .to_owned()
            }
            Self::Io { .. } => "Check the state directory's permissions and room.".to_owned(),
            Self::Database { .. } => {
                "Check the disk's room; a damaged database is built again by `lifeboat serve --recover`.".to_owned()
            }
            Self::Record { .. } | Self::Gap { .. } => {
                "Move controller.db away and run `lifeboat serve --recover`: it is built again from the repository."
                    .to_owned()
            }
        })
    }
}

/// A result of the state.
pub type Result<T> = std::result::Result<T, StateError>;

fn database(operation: &'static str) -> impl Fn(rusqlite::Error) -> StateError {
    move |source| StateError::Database { operation, source }
}

/// A job, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its number: that of the record of its beginning.
    pub job: Sequence,
    /// Which task it did.
    pub task: TaskKey,
    /// The generation of leadership that it was begun under.
    pub generation: Option<u64>,
    /// When it began.
    pub begun: Timestamp,
    /// When it ended, and how.
    pub ended: Option<(Timestamp, JobOutcome)>,
    /// What came of it.
    pub detail: Value,
}

/// Which jobs are wanted: all that nothing here speaks against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobsWanted {
    /// Only those that did so.
    pub kind: Option<TaskKind>,
    /// Only those about this dataset or copy.
    pub subject: Option<String>,
    /// Only those that ended so, or have not.
    pub outcome: Option<WantedOutcome>,
    /// Only those with a smaller number.
    pub before: Option<Sequence>,
}

/// How a job ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedOutcome {
    /// It has not ended.
    Running,
    /// It ended so.
    Ended(JobOutcome),
}

/// The state.
#[derive(Debug)]
pub struct State {
    connection: Mutex<Connection>,
    _lock: File,
}

impl State {
    /// Opens the state in a folder, or begins one there.
    ///
    /// # Errors
    /// Where another process has it, or it cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self> {
        let io = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { operation, path, source }
        };
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
        let lock_path = folder.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(io("open", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StateError::InUse { folder: folder.to_owned() });
            }
            Err(error) => return Err(io("lock", &lock_path)(error.into())),
        }
        let mut connection = Connection::open(folder.join(FILE)).map_err(database("open the database"))?;
        prepare(&mut connection)?;
        Ok(Self { connection: Mutex::new(connection), _lock: lock })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere rolled its transaction back: what is committed is whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a record, durably, with everything that follows from it; gives its number.
    ///
    /// # Errors
    /// Where it cannot be written: then nothing has changed, and what it says must not be done.
    pub fn keep(&self, at: Timestamp, what: What) -> Result<Sequence> {
        reach("controller::before-record")?;
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(database("begin"))?;
        let sequence = end_of(&transaction)? + 1;
        insert(&transaction, sequence, &Record { at, what })?;
        transaction.commit().map_err(database("commit"))?;
        drop(connection);
        reach("controller::recorded")?;
        Ok(sequence)
    }

    /// Takes over records that were kept elsewhere, in their order; those that are here already are passed over.
    ///
    /// # Errors
    /// Where one is missing between, or they cannot be written: then none is taken.
    pub fn adopt(&self, records: impl IntoIterator<Item = (Sequence, Record)>) -> Result<u64> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(database("begin"))?;
        let (mut end, mut adopted) = (end_of(&transaction)?, 0);
        for (sequence, record) in records {
            if sequence <= end {
                continue;
            }
            if sequence != end + 1 {
                return Err(StateError::Gap { expected: end + 1, found: sequence });
            }
            insert(&transaction, sequence, &record)?;
            (end, adopted) = (sequence, adopted + 1);
        }
        transaction.commit().map_err(database("commit"))?;
        Ok(adopted)
    }

    /// The number of the last record; 0 where there is none.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn end(&self) -> Result<Sequence> {
        end_of(&self.connection())
    }

    /// So many records behind one, in their order.
    ///
    /// # Errors
    /// Where the database or a record cannot be read.
    pub fn records(&self, behind: Sequence, most: u32) -> Result<Vec<(Sequence, Record)>> {
        let read = database("read records");
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached(
                "SELECT sequence, body FROM records WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            )
            .map_err(&read)?;
        let rows = statement
            .query_map(params![behind.cast_signed(), most], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, Vec<u8>>(1)?))
            })
            .map_err(&read)?;
        rows.map(|row| {
            let (sequence, body) = row.map_err(&read)?;
            let record =
                Record::from_bytes(&body).map_err(|source| StateError::Record { sequence, source })?;
            Ok((sequence, record))
        })
        .collect()
    }

    /// What is known of every task's past.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn past(&self) -> Result<BTreeMap<TaskKey, Past>> {
        let read = database("read tasks");
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached("SELECT task, begun, ended, outcome, failures FROM tasks")
            .map_err(&read)?;
        let rows = statement
            .query_map([], |row| {
                let past = Past {
                    begun: Some(Timestamp::from_nanos(row.get(1)?)),
                    ended: row.get::<_, Option<i64>>(2)?.map(Timestamp::from_nanos),
                    outcome: row.get::<_, Option<String>>(3)?.as_deref().and_then(JobOutcome::of),
                    failures: row.get(4)?,
                };
                Ok((row.get::<_, String>(0)?, past))
            })
            .map_err(&read)?;
        let mut tasks = BTreeMap::new();
        for row in rows {
            let (task, past) = row.map_err(&read)?;
            if let Some(key) = TaskKey::parse(&task) {
                tasks.insert(key, past);
            }
        }
        Ok(tasks)
    }

    /// The jobs that began and have not ended.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn open_jobs(&self) -> Result<Vec<Job>> {
        self.query_jobs("ended IS NULL ORDER BY job", params![])
    }

    /// The newest jobs, the newest first; of one task, where one is named.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn jobs(&self, task: Option<&TaskKey>, most: u32) -> Result<Vec<Job>> {
        match task {
            None => self.query_jobs("TRUE ORDER BY job DESC LIMIT ?1", params![most]),
            Some(task) => {
                self.query_jobs("task = ?2 ORDER BY job DESC LIMIT ?1", params![most, task.to_string()])
            }
        }
    }

    /// The newest of the jobs that are wanted, the newest first.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn jobs_wanted(&self, wanted: &JobsWanted, most: u32) -> Result<Vec<Job>> {
        let before = i64::try_from(wanted.before.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
        let kind = wanted.kind.map(TaskKind::word);
        let (is_running, outcome) = match wanted.outcome {
            None => (false, None),
            Some(WantedOutcome::Running) => (true, None),
            Some(WantedOutcome::Ended(outcome)) => (false, Some(outcome.word())),
        };
        // A task is its kind, a blank and its subject.
        let which = "job < ?2
            AND (?3 IS NULL OR task = ?3 OR substr(task, 1, length(?3) + 1) = ?3 || ' ')
            AND (?4 IS NULL OR substr(task, -length(?4) - 1) = ' ' || ?4)
            AND (?5 IS NULL OR outcome = ?5) AND (NOT ?6 OR ended IS NULL)
            ORDER BY job DESC LIMIT ?1";
        self.query_jobs(which, params![most, before, kind, wanted.subject, outcome, is_running])
    }

    /// A job by its number; `None` where there is none, or it is kept no more.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn job(&self, job: Sequence) -> Result<Option<Job>> {
        let Ok(job) = i64::try_from(job) else { return Ok(None) };
        Ok(self.query_jobs("job = ?1", params![job])?.pop())
    }

    fn query_jobs(&self, which: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<Vec<Job>> {
        let read = database("read jobs");
        let connection = self.connection();
        let sql =
            format!("SELECT job, task, generation, begun, ended, outcome, detail FROM jobs WHERE {which}");
        let mut statement = connection.prepare_cached(&sql).map_err(&read)?;
        let rows = statement.query_map(parameters, job_of).map_err(&read)?;
        rows.filter_map(std::result::Result::transpose).map(|row| row.map_err(&read)).collect()
    }

    /// The last job of a task that ended well, with when it began and what came of it.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn last_good(&self, task: &TaskKey) -> Result<Option<Job>> {
        let good = "task = ?1 AND outcome IN ('done', 'left-out') ORDER BY job DESC LIMIT 1";
        Ok(self.query_jobs(good, params![task.to_string()])?.pop())
    }

    /// What a dataset looked like when it was last looked at.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn likeness(&self, dataset: &str) -> Result<Option<String>> {
        let sql = "SELECT likeness FROM likenesses WHERE dataset = ?1";
        let found = self.connection().query_row(sql, [dataset], |row| row.get(0)).optional();
        found.map_err(database("read what a dataset looked like"))
    }

    /// A fact by its name: `plan`, `host`, `messages`.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn fact(&self, name: &str) -> Result<Option<String>> {
        fact_of(&self.connection(), name)
    }
}

fn fact_of(connection: &Connection, name: &str) -> Result<Option<String>> {
    let sql = "SELECT value FROM facts WHERE name = ?1";
    connection.query_row(sql, [name], |row| row.get(0)).optional().map_err(database("read a fact"))
}

fn reach(name: &'static str) -> Result<()> {
    failpoint::reach(name).map_err(|source| StateError::Io {
        operation: "keep a record in",
        path: FILE.into(),
        source,
    })
}

fn prepare(connection: &mut Connection) -> Result<()> {
    let failed = database("prepare the database");
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(&failed)?;
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
    let transaction = connection.transaction().map_err(&failed)?;
    transaction.execute_batch(TABLES).map_err(&failed)?;
    if version != VERSION {
        build_again(&transaction)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(&failed)?;
    }
    transaction.commit().map_err(&failed)
}

/// Everything beside the records, from the records.
fn build_again(transaction: &Transaction<'_>) -> Result<()> {
    let failed = database("build the tables again");
    for table in ["jobs", "tasks", "likenesses", "facts"] {
        transaction.execute(&format!("DELETE FROM {table}"), []).map_err(&failed)?;
    }
    let mut statement =
        transaction.prepare("SELECT sequence, body FROM records ORDER BY sequence").map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let sequence = row.get::<_, i64>(0).map_err(&failed)?.cast_unsigned();
        let body: Vec<u8> = row.get(1).map_err(&failed)?;
        let record = Record::from_bytes(&body).map_err(|source| StateError::Record { sequence, source })?;
        apply(transaction, sequence, &record)?;
    }
    Ok(())
}

fn end_of(connection: &Connection) -> Result<Sequence> {
    let end: Option<i64> = connection
        .query_row("SELECT max(sequence) FROM records", [], |row| row.get(0))
        .map_err(database("read records"))?;
    Ok(end.unwrap_or(0).cast_unsigned())
}

fn insert(transaction: &Transaction<'_>, sequence: Sequence, record: &Record) -> Result<()> {
    let body = record.to_bytes().map_err(|source| StateError::Record { sequence, source })?;
    transaction
        .prepare_cached("INSERT INTO records (sequence, at, body) VALUES (?1, ?2, ?3)")
        .and_then(|mut insert| insert.execute(params![sequence.cast_signed(), record.at.as_nanos(), body]))
        .map_err(database("keep a record"))?;
    apply(transaction, sequence, record)
}

/// What follows from a record: the one transition function of the state.
fn apply(transaction: &Transaction<'_>, sequence: Sequence, record: &Record) -> Result<()> {
    let at = record.at.as_nanos();
    let run = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| {
        let executed =
            transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(parameters));
        executed.map(|_| ()).map_err(database("keep what follows from a record"))
    };
    match &record.what {
        What::Started { host, plan, .. } => {
            run(SET_FACT, params!["host", host])?;
            run(SET_FACT, params!["plan", plan])
        }
        What::Began { task, generation } => {
            let (task, job) = (task.to_string(), sequence.cast_signed());
            run(BEGAN_JOB, params![job, task, generation.map(u64::cast_signed), at])?;
            run(BEGAN_TASK, params![task, at])?;
            run(FORGET_JOBS, params![sequence.saturating_sub(KEPT_JOBS).cast_signed()])
        }
        What::Ended { job, outcome, detail } => {
            let (job, detail) = (job.cast_signed(), detail.to_string());
            run(ENDED_JOB, params![job, at, outcome.word(), detail])?;
            run(ENDED_TASK, params![job, at, outcome.word(), detail, outcome.is_good()])
        }
        What::Interrupted { job } => {
            let (job, word) = (job.cast_signed(), JobOutcome::Interrupted.word());
            run(ENDED_JOB, params![job, at, word, "null"])?;
            run(ENDED_TASK, params![job, at, word, "null", false])
        }
        What::Looked { dataset, likeness } => run(SET_LIKENESS, params![dataset, likeness]),
        What::Signs { repository, writer } => run(SET_FACT, params![signs(repository), writer]),
        What::Read { repository, begun, shares, damaged } => {
            let name = read_in(repository);
            let before = fact_of(transaction, &name)?.and_then(|text| Readings::parse(&text));
            let read = before.unwrap_or_else(|| Readings::none_before(*begun)).after_read(shares, *begun);
            run(SET_FACT, params![name, read.to_text()])?;
            run(SET_FACT, params![damaged_in(repository), serde_json::json!(damaged).to_string()])
        }
        What::Messages { queue } => run(SET_FACT, params!["messages", queue.to_string()]),
        What::Stopped | What::Led { .. } | What::Followed { .. } | What::Noted { .. } => Ok(()),
    }
}

/// The fact that says with which key this host signs in a repository.
pub(crate) fn signs(repository: &str) -> String {
    format!("signs {repository}")
}

/// The fact that says when what a repository holds was last read.
pub(crate) fn read_in(repository: &str) -> String {
    format!("read {repository}")
}

/// The fact that says which objects of a repository are damaged.
pub(crate) fn damaged_in(repository: &str) -> String {
    format!("damaged {repository}")
}

const SET_FACT: &str = "INSERT INTO facts (name, value) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const SET_LIKENESS: &str = "INSERT INTO likenesses (dataset, likeness) VALUES (?1, ?2)
    ON CONFLICT (dataset) DO UPDATE SET likeness = excluded.likeness";
const BEGAN_JOB: &str = "INSERT INTO jobs (job, task, generation, begun) VALUES (?1, ?2, ?3, ?4)";
const BEGAN_TASK: &str = "INSERT INTO tasks (task, begun) VALUES (?1, ?2)
    ON CONFLICT (task) DO UPDATE SET begun = excluded.begun";
const FORGET_JOBS: &str = "DELETE FROM jobs WHERE job < ?1 AND ended IS NOT NULL";
const ENDED_JOB: &str = "UPDATE jobs SET ended = ?2, outcome = ?3, detail = ?4 WHERE job = ?1";
const ENDED_TASK: &str = "UPDATE tasks SET ended = ?2, outcome = ?3, detail = ?4,
    failures = CASE WHEN ?5 THEN 0 ELSE failures + 1 END
    WHERE task = (SELECT task FROM jobs WHERE job = ?1)";

/// `None` where a newer release made the task.
fn job_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Job>> {
    let Some(task) = TaskKey::parse(&row.get::<_, String>(1)?) else { return Ok(None) };
    let ended: Option<i64> = row.get(4)?;
    let outcome: Option<String> = row.get(5)?;
    let detail: Option<String> = row.get(6)?;
    Ok(Some(Job {
        job: row.get::<_, i64>(0)?.cast_unsigned(),
        task,
        generation: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
        begun: Timestamp::from_nanos(row.get(3)?),
        ended: ended
            .zip(outcome.as_deref().and_then(JobOutcome::of))
            .map(|(at, o)| (Timestamp::from_nanos(at), o)),
        detail: detail.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskKind;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn key(subject: &str) -> TaskKey {
        TaskKey { kind: TaskKind::Snapshot, subject: subject.to_owned() }
    }

    fn began(subject: &str) -> What {
        What::Began { task: key(subject), generation: None }
    }

    fn ended(job: Sequence, outcome: JobOutcome) -> What {
        What::Ended { job, outcome, detail: serde_json::json!({ "files": job }) }
    }

    fn open() -> (tempfile::TempDir, State) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        (folder, state)
    }

    /// Something of everything.
    fn fill(state: &State) {
        let started =
            What::Started { host: "db-1".to_owned(), version: "1".to_owned(), plan: "# plan".to_owned() };
        state.keep(at(0), started).unwrap();
        let first = state.keep(at(1), began("a")).unwrap();
        state.keep(at(2), ended(first, JobOutcome::Done)).unwrap();
        let second = state.keep(at(3), began("b")).unwrap();
        state.keep(at(4), ended(second, JobOutcome::Failed)).unwrap();
        let third = state.keep(at(5), began("b")).unwrap();
        state.keep(at(6), What::Interrupted { job: third }).unwrap();
        state.keep(at(7), began("c")).unwrap();
        state.keep(at(8), What::Looked { dataset: "d".to_owned(), likeness: "x".to_owned() }).unwrap();
    }

    fn seen(state: &State) -> (BTreeMap<TaskKey, Past>, Vec<Job>, Option<String>, Option<String>) {
        let jobs = state.jobs(None, 100).unwrap();
        (state.past().unwrap(), jobs, state.fact("plan").unwrap(), state.likeness("d").unwrap())
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let (folder, state) = open();
        fill(&state);
        let before = seen(&state);
        assert_eq!(before.0[&key("b")].failures, 2);
        assert_eq!(before.0[&key("b")].outcome, Some(JobOutcome::Interrupted));
        assert_eq!(
            state.open_jobs().unwrap().iter().map(|job| job.task.subject.as_str()).collect::<Vec<_>>(),
            ["c"]
        );
        assert_eq!(state.last_good(&key("a")).unwrap().unwrap().detail["files"], 2);
        assert_eq!(state.last_good(&key("b")).unwrap(), None);
        drop(state);
        assert_eq!(seen(&State::open(folder.path()).unwrap()), before);
    }

    #[test]
    fn everything_follows_from_the_records() {
        let (_folder, state) = open();
        fill(&state);
        let records = state.records(0, 1000).unwrap();
        assert_eq!(records.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
        let (_other, again) = open();
        assert_eq!(again.adopt(records.clone()).unwrap(), 9);
        assert_eq!(seen(&again), seen(&state));
        // A second time changes nothing, and a gap is refused whole.
        assert_eq!(again.adopt(records.clone()).unwrap(), 0);
        let gap = vec![(11, records[0].1.clone())];
        assert!(matches!(again.adopt(gap), Err(StateError::Gap { expected: 10, found: 11 })));
        assert_eq!(seen(&again), seen(&state));
    }

    #[test]
    fn what_was_read_of_which_repository_is_known_again() {
        let (_folder, state) = open();
        let read = |repository: &str, begun, shares: &[(u64, u64)], damaged: &[&str]| {
            let damaged = damaged.iter().map(|name| (*name).to_owned()).collect();
            let (repository, shares) = (repository.to_owned(), shares.to_vec());
            state.keep(at(99), What::Read { repository, begun: at(begun), shares, damaged }).unwrap();
        };
        let seen = |state: &State, repository: &str| {
            let readings = Readings::parse(&state.fact(&read_in(repository)).unwrap().unwrap()).unwrap();
            let damaged = state.fact(&damaged_in(repository)).unwrap().unwrap();
            (readings.everything_since(), readings.newest(), damaged)
        };
        read("one", 10, &[(0, 9)], &["packs/00/a"]);
        read("other", 20, &[(0, u64::MAX)], &[]);
        assert_eq!(seen(&state, "one"), (None, Some(at(10)), r#"["packs/00/a"]"#.to_owned()));
        assert_eq!(seen(&state, "other"), (Some(at(20)), Some(at(20)), "[]".to_owned()));
        read("one", 30, &[(10, 99), (7, 3)], &[]);
        assert_eq!(seen(&state, "one"), (None, Some(at(30)), "[]".to_owned()), "a share of nothing is none");
        let (_other, again) = open();
        again.adopt(state.records(0, 100).unwrap()).unwrap();
        assert_eq!(seen(&again, "one"), seen(&state, "one"));
    }

    #[test]
    fn tables_of_another_version_are_built_again() {
        let (folder, state) = open();
        fill(&state);
        let before = seen(&state);
        state
            .connection()
            .execute_batch("DELETE FROM tasks; DELETE FROM jobs; PRAGMA user_version = 0")
            .unwrap();
        drop(state);
        assert_eq!(seen(&State::open(folder.path()).unwrap()), before);
    }

    #[test]
    fn one_process_at_a_time() {
        let (folder, _state) = open();
        let error = State::open(folder.path()).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
        assert!(error.hint().unwrap().contains("lifeboat serve"));
    }
}
