//! A snapshot and the log that it needs, at once.
//!
//! A base backup is worth nothing without the WAL that was written while it was taken. So the log is followed
//! before the backup begins, by whoever follows this dataset already, or else by ourselves on a slot; and the
//! backup counts as taken only once the log is durable up to its end.
//!
//! Where the dataset has no slot nobody means to keep all of its log. Then only what the backup needs is stored, from
//! the segment that its redo begins in; on a primary that is a new one, since the server begins one for every base
//! backup. What lies between two such backups is a hole, whether the server still has it or not.

use crate::backup::{Asked, BackupOptions, TakenBackup, stream_backup};
use crate::cluster::Cluster;
use crate::error::{PostgresStoreError, Result};
use crate::follow::{FollowEvent, FollowOptions, Follower, Following, SlotChoice};
use crate::sink::RepositoryLog;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{hex, random};
use lifeboat_postgres_wal::Lsn;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Repository, SnapshotWriter};
use lifeboat_store::progress::Progress;
use lifeboat_wire_postgres::{ConnectOptions, Connection, Purpose};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the first byte of log may take to come, and the last.
const LOG_WITHIN: Duration = Duration::from_secs(120);
/// How long WAL waits for more during a backup: nobody waits for the acknowledgement.
const GATHER: Duration = Duration::from_millis(500);
/// How often it is looked where somebody else's log ends.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest name of a slot, in bytes.
const MAX_SLOT_BYTES: usize = 63;
/// The SQLSTATE of a slot that somebody reads (`object_in_use`).
const SLOT_IN_USE: &str = "55006";
/// What our messages in the WAL are about.
pub const MARKER_PREFIX: &str = "lifeboat";

/// What is needed to take a snapshot of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSource {
    /// Where the repository keeps it.
    pub repository: Arc<Repository>,
    /// As which dataset.
    pub dataset: DatasetName,
    /// The server.
    pub server: ConnectOptions,
}

/// What was taken, and what a person should know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The backup.
    pub backup: TakenBackup,
    /// What was noticed.
    pub notes: Vec<String>,
}

/// The slot of a dataset, as PostgreSQL lets slots be named: `lifeboat_users`.
pub fn slot_name(dataset: &DatasetName) -> String {
    let fit =
        |byte: u8| if byte.is_ascii_lowercase() || byte.is_ascii_digit() { char::from(byte) } else { '_' };
    let name = dataset.as_str().bytes().map(fit);
    "lifeboat_".chars().chain(name).take(MAX_SLOT_BYTES).collect()
}

/// Takes a base backup into a snapshot that is being written, and makes sure of its log. The caller publishes it.
///
/// # Errors
/// Where the server or the repository fails, or the log does not become durable: then nothing must be published.
pub fn protect(
    source: &ClusterSource,
    writer: &mut SnapshotWriter,
    progress: &Progress,
) -> Result<Protected> {
    let (mut connection, cluster) = Cluster::connect(&source.server)?;
    let mut notes = warnings(&cluster);
    let cover = Cover::begin(source, &mut connection, &cluster)?;
    let mut asked_of = Asked::default();
    let mut begun = |redo| {
        cover.is_needed_from(redo);
        asked_of = ask(&source.server, &mut notes);
        asked_of.clone()
    };
    let options = BackupOptions {
        label: format!("lifeboat {}", source.dataset),
        fast_checkpoint: true,
        max_rate_kib: None,
    };
    let backup = match stream_backup(connection, &cluster, &options, writer, &mut begun, progress) {
        Ok(backup) => backup,
        Err(error) => {
            cover.abandon();
            return Err(error);
        }
    };
    notes.extend(cover.end(backup.facts.stop)?);
    Ok(Protected { backup, notes })
}

fn warnings(cluster: &Cluster) -> Vec<String> {
    let mut notes = Vec::new();
    if !cluster.checksums {
        notes.push(
            "the cluster has no data checksums: damage within its pages cannot be told by any proof"
                .to_owned(),
        );
    }
    notes
}

/// Writes the marker, and asks who made the cluster. A role that may only replicate can do neither.
fn ask(server: &ConnectOptions, notes: &mut Vec<String>) -> Asked {
    let marker = format!("snapshot {}", hex::encode(&random::bytes::<16>()));
    let asked = Connection::open(server, Purpose::Sql).and_then(|mut connection| {
        let superuser = connection.query("select rolname from pg_catalog.pg_roles where oid = 10")?;
        let superuser = superuser.single()?.to_owned();
        let in_recovery = connection.query("select pg_catalog.pg_is_in_recovery()")?.single()? == "t";
        if !in_recovery {
            connection.execute(&format!(
                "select pg_catalog.pg_logical_emit_message(true, '{MARKER_PREFIX}', '{marker}')"
            ))?;
        }
        Ok((superuser, in_recovery))
    });
    match asked {
        Ok((superuser, in_recovery)) => {
            Asked { marker: (!in_recovery).then_some(marker), superuser: Some(superuser) }
        }
        Err(error) => {
            let error = lifeboat_base::report(&error);
            notes.push(format!("no marker was written, since the role may only replicate here ({error}); a proof will not look for it"));
            Asked::default()
        }
    }
}

/// Who keeps the log while the backup is taken.
enum Cover {
    /// Somebody who follows the dataset on its own slot.
    Other { source: Box<ClusterSource>, log: RepositoryLog, cluster: Cluster },
    /// We do.
    Own { following: Following, events: Receiver<FollowEvent>, thread: JoinHandle<Result<()>> },
}

impl Cover {
    fn begin(source: &ClusterSource, connection: &mut Connection, cluster: &Cluster) -> Result<Self> {
        let name = slot_name(&source.dataset);
        let slot = match connection.read_slot(&name)? {
            Some(_) => SlotChoice::Permanent(name),
            None => SlotChoice::Temporary(temporary_slot()),
        };
        let options = FollowOptions {
            server: source.server.clone(),
            slot,
            gather: GATHER,
            give_up: true,
            take_over: None,
        };
        let is_for_this_backup = matches!(options.slot, SlotChoice::Temporary(_));
        let (follower, events) = Follower::new(&source.repository, &source.dataset, options);
        let following = follower.handle();
        if is_for_this_backup {
            follower.await_beginning();
        }
        let thread = std::thread::spawn(move || follower.run());
        let is_kept = match is_for_this_backup {
            true => following.wait_until_kept(LOG_WITHIN),
            false => following.wait_until_streaming(LOG_WITHIN),
        };
        if is_kept {
            return Ok(Self::Own { following, events, thread });
        }
        following.stop();
        match joined(thread) {
            Err(PostgresStoreError::Server(error)) if error.sqlstate() == Some(SLOT_IN_USE) => {
                let log = RepositoryLog::new(&source.repository, &source.dataset, cluster.system);
                Ok(Self::Other { source: Box::new(source.clone()), log, cluster: cluster.clone() })
            }
            Err(error) => Err(error),
            Ok(()) => Err(PostgresStoreError::WalMissing { reached: Lsn::ZERO, needed: cluster.flushed }),
        }
    }

    /// Says where the backup's redo begins.
    fn is_needed_from(&self, redo: Lsn) {
        if let Self::Own { following, .. } = self {
            following.begin_at(redo);
        }
    }

    /// There will be no backup: nobody follows for it any longer.
    fn abandon(self) {
        if let Self::Own { following, thread, .. } = self {
            following.stop();
            // Why the backup failed says more than how this ended.
            let _ = joined(thread);
        }
    }

    /// Waits until the log is durable up to a position.
    fn end(self, needed: Lsn) -> Result<Vec<String>> {
        match self {
            Self::Own { following, events, thread } => {
                let reached = wait_while_it_moves(&following, needed);
                following.stop();
                let status = following.status();
                joined(thread)?;
                if !reached {
                    return Err(PostgresStoreError::WalMissing { reached: status.durable, needed });
                }
                Ok(events.try_iter().filter_map(note_of).collect())
            }
            Self::Other { source, mut log, cluster } => {
                let watch = Stopwatch::start();
                loop {
                    log.look_again();
                    let reached = log.end(cluster.timeline)?.unwrap_or(Lsn::ZERO);
                    if reached >= needed {
                        let name = slot_name(&source.dataset);
                        return Ok(vec![format!("the log is kept by who follows on slot {name}")]);
                    }
                    if watch.elapsed() > LOG_WITHIN {
                        return Err(PostgresStoreError::WalMissing { reached, needed });
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
    }
}

/// Waits for the log as long as it goes on: where much of it was not followed, that may take long.
fn wait_while_it_moves(following: &Following, needed: Lsn) -> bool {
    loop {
        let before = following.status().durable;
        if following.wait_for(needed, LOG_WITHIN) {
            return true;
        }
        if following.status().durable == before {
            return false;
        }
    }
}

fn joined(thread: JoinHandle<Result<()>>) -> Result<()> {
    match thread.join() {
        Ok(done) => done,
        Err(_) => Err(lifeboat_repository::RepositoryError::Aborted.into()),
    }
}

/// A name that no other backup has.
fn temporary_slot() -> String {
    format!("lifeboat_{}", hex::encode(&random::bytes::<8>()))
}

/// What of a follower's events a person should hear of after a backup.
fn note_of(event: FollowEvent) -> Option<String> {
    match event {
        FollowEvent::Hole { timeline, from, to } => Some(format!(
            "nobody followed between: the log of timeline {timeline} has a hole from {from} to {to}, and no point in it can be restored to"
        )),
        FollowEvent::OtherCluster { system, .. } => Some(format!(
            "another cluster was kept under this name before: a new lineage begins with system {system}"
        )),
        FollowEvent::Warning { text } => Some(text),
        FollowEvent::Streaming { .. }
        | FollowEvent::Switched { .. }
        | FollowEvent::NotPublished { .. }
        | FollowEvent::NotSpooled { .. }
        | FollowEvent::Spooled { .. }
        | FollowEvent::Disconnected { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_named_as_postgresql_lets_them() {
        let name = |dataset: &str| slot_name(&DatasetName::new(dataset).unwrap());
        assert_eq!(name("users"), "lifeboat_users");
        assert_eq!(name("db-1.users"), "lifeboat_db_1_users");
        assert_eq!(name(&"x".repeat(100)).len(), MAX_SLOT_BYTES);
    }
}
