//! Rehearsing: the whole way at once, measured.
//!
//! Without a target a small application is made, with a writer that logs each write that its database
//! acknowledged; it is protected, written to for some seconds more, killed and destroyed, restored and proven,
//! and what was lost is counted against the writer's log. With a target the target itself is never touched: it
//! is protected, restored into scratch and proven.

use crate::error::{RecoveryError, Result};
use crate::postgres::{ClusterQuestions, prove_cluster};
use crate::protect::{ProtectOptions, ProtectReport, protect};
use crate::prove::{Proof, examine, prove_into};
use crate::restore::{RestoreOptions, restore};
use crate::target::Target;
use lifeboat_base::clock::{Clock, Stopwatch, Timestamp};
use lifeboat_base::scratch::Scratch;
use lifeboat_base::{Secret, random};
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Environment, InitOptions, Lock, Reader, Repository};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{RecoveryTarget, resolve};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the writer of the demonstration goes on after the snapshot.
pub const WRITING_ON: Duration = Duration::from_secs(5);
/// How long it writes before the snapshot.
const WRITING_BEFORE: Duration = Duration::from_secs(1);
/// The pause between two of its transactions.
const WRITER_PAUSE: Duration = Duration::from_millis(5);
/// How long its first acknowledged write may take.
const WRITER_START: Duration = Duration::from_secs(20);

/// What a rehearsal measured.
#[derive(Debug)]
pub struct Rehearsal {
    /// What was protected.
    pub protected: ProtectReport,
    /// The proof of what was restored.
    pub proof: Proof,
    /// How long restoring took.
    pub restoring: Duration,
    /// What the disaster cost.
    pub loss: Loss,
    /// Each part of the way and how long it took, in order.
    pub parts: Vec<(&'static str, Duration)>,
}

/// What a disaster cost, or would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Counted against the log of a writer.
    Counted {
        /// Writes that the database acknowledged.
        acknowledged: u64,
        /// Of those, writes that are in the restored database.
        recovered: u64,
        /// Of those, writes that are not.
        lost: u64,
        /// The time between the first lost acknowledgement and the last.
        span: Duration,
        /// The log: a line for each acknowledged write.
        log: PathBuf,
    },
    /// What was written to the target after this instant would have been lost.
    Since {
        /// The instant that the snapshot shows.
        taken: Timestamp,
        /// How long ago that was when the rehearsal ended.
        age: Duration,
    },
}

/// Makes a repository that lives as long as a scratch folder.
///
/// # Errors
/// Where the folder cannot be written to.
pub fn temporary_repository(scratch: &Scratch, host: &str) -> Result<Arc<Repository>> {
    let store = DirectoryStore::create(scratch.path().join("repository"))
        .map_err(lifeboat_repository::RepositoryError::from)?;
    let lock = Lock::Command(Secret::new(random::bytes::<32>().to_vec()));
    let environment = Environment {
        state: Some(scratch.path().join("state")),
        writer_key: None,
        host: host.to_owned(),
        clock: Clock::System,
    };
    let repository = Repository::init(
        Arc::new(store),
        &[(lock, "rehearsal".to_owned())],
        &InitOptions::default(),
        environment,
    )?;
    Ok(Arc::new(repository))
}

/// Rehearses with a target, which is only read; what is restored stays as long as `scratch` does.
///
/// # Errors
/// Where a part of the way failed; a snapshot that turns out to be damaged is an answer of the proof.
pub fn rehearse_target(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    target: &Target,
    options: &ProtectOptions,
    scratch: &Scratch,
    progress: &Progress,
) -> Result<Rehearsal> {
    let protected = protect(repository, dataset, target, options, progress)?;
    let reader = Reader::new(repository)?;
    let proof = match target {
        Target::Postgres(_) => {
            let watch = Stopwatch::start();
            let path = resolve(repository, dataset, &RecoveryTarget::LATEST, Some(&protected.published))?;
            let resolving = watch.elapsed();
            // Beside our own folder, which the server's user may not enter.
            let within = scratch.path().parent().unwrap_or(scratch.path());
            let proof = prove_cluster(&reader, &path, within, &ClusterQuestions::default(), progress)?;
            Proof { resolving, ..proof }
        }
        Target::Files(_) | Target::Sqlite(_) => {
            prove_into(&reader, &protected.published, &scratch.path().join("restored"), progress)?
        }
    };
    let taken = protected.published.snapshot.taken;
    let age = Clock::System.now().since(taken);
    let mut parts = vec![("protect", protected.took), ("restore", proof.restoring)];
    parts.extend(proof.cluster.as_ref().map(|cluster| ("replay", cluster.replaying)));
    parts.push(("prove", proof.questioning));
    Ok(Rehearsal { restoring: proof.restoring, protected, proof, loss: Loss::Since { taken, age }, parts })
}

/// Rehearses with an application of our own. `writer` starts the writer: it is given the paths of the
/// database and of the log, and must call [`write_until_killed`] in a process of its own.
///
/// # Errors
/// Where a part of the way failed.
pub fn rehearse_demonstration(
    repository: &Arc<Repository>,
    scratch: &Scratch,
    writer: &dyn Fn(&Path, &Path) -> Command,
    progress: &Progress,
    say: &mut dyn FnMut(&str),
) -> Result<Rehearsal> {
    let application = scratch.path().join("application");
    std::fs::create_dir(&application).map_err(RecoveryError::io("create", &application))?;
    let (database, log) = (application.join("app.db"), scratch.path().join("acknowledged.log"));
    make_database(&database)
        .map_err(|e| RecoveryError::Demonstration("make the demonstration's database", e))?;
    say("a small application writes; each acknowledged write goes into its log");
    let mut running = Running::start(writer(&database, &log), &log)?;
    std::thread::sleep(WRITING_BEFORE);
    let dataset = DatasetName::new("demonstration")?;
    let target = Target::Sqlite(database.clone());
    let protected = protect(repository, &dataset, &target, &ProtectOptions::default(), progress)?;
    say("protected; the application goes on writing for five seconds");
    running.still_runs()?;
    std::thread::sleep(WRITING_ON);
    running.kill()?;
    let watch = Stopwatch::start();
    std::fs::remove_dir_all(&application).map_err(RecoveryError::io("destroy", &application))?;
    let destroying = watch.elapsed();
    say("disaster: the application is killed and its database destroyed");
    let reader = Reader::new(repository)?;
    let restored =
        restore(&reader, &protected.published, &application, &RestoreOptions::default(), progress)?;
    let mut proof = examine(&reader, &protected.published, &application)?;
    proof.restoring = restored.took;
    let watch = Stopwatch::start();
    let loss = count_loss(&database, &log)?;
    let parts = vec![
        ("protect", protected.took),
        ("disaster", destroying),
        ("restore", restored.took),
        ("prove", proof.questioning),
        ("count what was lost", watch.elapsed()),
    ];
    Ok(Rehearsal { protected, restoring: restored.took, proof, loss, parts })
}

fn make_database(path: &Path) -> rusqlite::Result<()> {
    let database = Connection::open(path)?;
    database.execute_batch(
        "pragma journal_mode = wal;
         create table accounts (id integer primary key, name text not null, balance integer not null);
         create table entries (seq integer primary key, account integer not null references accounts (id), amount integer not null, note text not null);
         create index entries_by_account on entries (account);",
    )?;
    let mut insert = database.prepare("insert into accounts (id, name, balance) values (?1, ?2, 0)")?;
    for id in 1..=100 {
        insert.execute((id, format!("account {id}")))?;
    }
    Ok(())
}

/// Writes to the demonstration's database until the process is killed: a transaction, and once the database
/// has acknowledged it, its number in the log, synced.
///
/// # Errors
/// Where the database or the log fails; it returns otherwise only when the process that started it is gone.
pub fn write_until_killed(database: &Path, log: &Path) -> Result<()> {
    let failed = |error| RecoveryError::Demonstration("write to the demonstration's database", error);
    let mut connection = Connection::open(database).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
    connection.execute_batch("pragma synchronous = full; pragma foreign_keys = on;").map_err(failed)?;
    let mut log_file =
        OpenOptions::new().create(true).append(true).open(log).map_err(RecoveryError::io("open", log))?;
    let is_alone = watch_standard_input();
    for seq in 1u64.. {
        if is_alone.load(Ordering::Relaxed) {
            break;
        }
        write_entry(&mut connection, seq).map_err(failed)?;
        let line = format!("{seq} {}\n", Clock::System.now().as_nanos());
        log_file
            .write_all(line.as_bytes())
            .and_then(|()| log_file.sync_data())
            .map_err(RecoveryError::io("write", log))?;
        std::thread::sleep(WRITER_PAUSE);
    }
    Ok(())
}

/// Tells when the rehearsal is gone that started this process, since nobody else would end it: the rehearsal holds
/// the other end of our standard input, which closes with it, however it ends and whenever.
fn watch_standard_input() -> Arc<AtomicBool> {
    let is_alone = Arc::new(AtomicBool::new(false));
    let told = is_alone.clone();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        told.store(true, Ordering::Relaxed);
    });
    is_alone
}

fn write_entry(connection: &mut Connection, seq: u64) -> rusqlite::Result<()> {
    let (account, amount) =
        (i64::try_from(seq % 100).unwrap_or(0) + 1, i64::try_from(seq % 1000).unwrap_or(0));
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let note = format!("entry {seq} of account {account}");
    transaction.execute(
        "insert into entries (seq, account, amount, note) values (?1, ?2, ?3, ?4)",
        (i64::try_from(seq).unwrap_or(0), account, amount, note),
    )?;
    transaction.execute("update accounts set balance = balance + ?2 where id = ?1", (account, amount))?;
    transaction.commit()
}

/// The writer's process: killed when this is dropped, whatever happens.
struct Running(Child);

impl Running {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut running =
            Self(child.map_err(|error| RecoveryError::Writer(format!("did not start: {error}")))?);
        let watch = Stopwatch::start();
        while std::fs::metadata(log).map_or(0, |m| m.len()) == 0 {
            running.still_runs()?;
            if watch.elapsed() > WRITER_START {
                return Err(RecoveryError::Writer(format!(
                    "wrote nothing within {} s",
                    WRITER_START.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    fn still_runs(&mut self) -> Result<()> {
        let ended = self
            .0
            .try_wait()
            .map_err(|error| RecoveryError::Writer(format!("cannot be watched: {error}")))?;
        let Some(status) = ended else { return Ok(()) };
        let mut said = String::new();
        if let Some(stderr) = self.0.stderr.take() {
            let _ = BufReader::new(stderr).read_line(&mut said);
        }
        Err(RecoveryError::Writer(format!("ended by itself ({status}): {}", said.trim())))
    }

    fn kill(mut self) -> Result<()> {
        self.still_runs()?;
        let killed = self.0.kill().and_then(|()| self.0.wait());
        killed.map(drop).map_err(|error| RecoveryError::Writer(format!("cannot be killed: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compares the log of acknowledged writes with the restored database.
fn count_loss(database: &Path, log: &Path) -> Result<Loss> {
    let failed = |error| RecoveryError::Demonstration("count the restored entries", error);
    let connection =
        Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let mut statement = connection.prepare("select seq from entries").map_err(failed)?;
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).map_err(failed)?;
    let restored: BTreeSet<u64> = rows
        .map(|row| row.map(|seq| u64::try_from(seq).unwrap_or(0)))
        .collect::<rusqlite::Result<_>>()
        .map_err(failed)?;
    let acknowledged = read_log(log)?;
    let lost: Vec<i64> =
        acknowledged.iter().filter(|(seq, _)| !restored.contains(seq)).map(|(_, at)| *at).collect();
    let span = match (lost.first(), lost.last()) {
        (Some(first), Some(last)) => Timestamp::from_nanos(*last).since(Timestamp::from_nanos(*first)),
        _ => Duration::ZERO,
    };
    let (acknowledged, lost) = (acknowledged.len() as u64, lost.len() as u64);
    Ok(Loss::Counted { acknowledged, recovered: acknowledged - lost, lost, span, log: log.to_owned() })
}

/// Number and instant of each acknowledged write. A last line without an end was not synced whole, so that
/// its write was acknowledged to nobody.
fn read_log(log: &Path) -> Result<Vec<(u64, i64)>> {
    let mut reader = BufReader::new(File::open(log).map_err(RecoveryError::io("open", log))?);
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line).map_err(RecoveryError::io("read", log))? > 0 {
        if let Some((seq, at)) = line.strip_suffix('\n').and_then(|whole| whole.split_once(' ')) {
            acknowledged.extend(seq.parse().ok().zip(at.parse().ok()));
        }
        line.clear();
    }
    Ok(acknowledged)
}
