//! Proving a cluster: restored into scratch, replayed by a server of its own version, and questioned.

use super::{ClusterOptions, place, prepare};
use crate::error::{RecoveryError, Result};
use crate::prove::{Proof, damaged_or, read_back};
use crate::queries::{ANSWERED_WITHIN, Answered, NoValue, ProofQuery};
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_server::{
    Identity, Installation, Server, ServerError, ServerOptions, ServerPlace, StopMode, control_data,
};
use lifeboat_postgres_wal::{Lsn, TimelineId, TransactionRef};
use lifeboat_repository::Reader;
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{
    AnswerError, Answers, AtTarget, RecoveryPath, answer, question, verify_checksums,
};
use lifeboat_wire_postgres::{ConnectOptions, PostgresError};
use std::path::Path;
use std::time::Duration;

/// A server that replays is waited for as long as it lives; this only bounds a wait that nothing ends.
const REPLAY_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Who made a cluster, where the snapshot does not say.
const USUAL_SUPERUSER: &str = "postgres";
/// The database that every cluster has.
const USUAL_DATABASE: &str = "postgres";

/// What is asked of a restored cluster beside what is always asked.
#[derive(Clone, Debug, Default)]
pub struct ClusterQuestions {
    /// The plan's own questions.
    pub queries: Vec<ProofQuery>,
    /// Whose programs replay and ask; `None`: those of the right version that are found here.
    pub installation: Option<Installation>,
}

/// What the server that was restored to said.
#[derive(Clone, Debug)]
pub struct ClusterProof {
    /// Its version, as it says it; `None` where none could be started.
    pub server: Option<String>,
    /// Where it was restored to.
    pub stop: Lsn,
    /// On which timeline.
    pub timeline: TimelineId,
    /// The last transaction that is in it.
    pub last_transaction: Option<TransactionRef>,
    /// Bytes of log that were replayed.
    pub wal_bytes: u64,
    /// How long the log took to fetch.
    pub fetching_log: Duration,
    /// How long the server took to replay it and take connections.
    pub replaying: Duration,
    /// What it answered.
    pub answers: Answers,
}

/// The plan's own questions to a server.
pub(crate) fn ask_all(server: &ConnectOptions, default: &str, queries: &[ProofQuery]) -> Vec<Answered> {
    let ask = |query: &ProofQuery| {
        let mut options = server.clone();
        options.set_database(query.database.as_deref().unwrap_or(default));
        query.judge(answer(&options, &query.sql, ANSWERED_WITHIN).map_err(|error| NoValue {
            is_too_slow: matches!(error, AnswerError::TooSlow(_)),
            error: lifeboat_base::report(&error),
        }))
    };
    queries.iter().map(ask).collect()
}

/// Proves a point of a cluster in a scratch place.
///
/// # Errors
/// Where the proof could not be carried out; damage is an answer, not an error. Without a server of the right
/// version the verdict is `inconclusive`.
pub fn prove_cluster(
    reader: &Reader,
    path: &RecoveryPath,
    scratch: &Path,
    questions: &ClusterQuestions,
    progress: &Progress,
) -> Result<Proof> {
    let identity = Identity::suitable()?;
    let room = ServerPlace::new(scratch, &identity)?;
    let data = room.path().join("data");
    let options = ClusterOptions { action: AtTarget::Promote, ..ClusterOptions::default() };
    let mut restored = match place(reader, path, &data, &options, progress) {
        Ok(restored) => restored,
        Err(error) => return damaged_or(error),
    };
    let watch = Stopwatch::start();
    let mut proof = Proof::new();
    read_back(reader, &path.snapshot, &data, &mut proof)?;
    for problem in &restored.report.left_out.first {
        proof.fail(lifeboat_base::report(problem));
    }
    let reading_back = watch.elapsed();
    prepare(reader, path, &data, &options, &mut restored)?;
    proof.restoring = restored.placing + restored.fetching_log;
    identity.own(room.path()).map_err(RecoveryError::io("give to the server's user", room.path()))?;
    let resolution = &path.resolution;
    let mut cluster = ClusterProof {
        server: None,
        stop: resolution.stop,
        timeline: resolution.timeline,
        last_transaction: resolution.last_transaction,
        wal_bytes: restored.wal_bytes,
        fetching_log: restored.fetching_log,
        replaying: Duration::ZERO,
        answers: Answers::default(),
    };
    let watch = Stopwatch::start();
    let installation = match &questions.installation {
        Some(installation) => Ok(installation.clone()),
        None => Installation::find(path.facts.major_version()),
    };
    match installation {
        // It would write to where the old server may be writing at this moment.
        _ if !path.later_tablespaces.is_empty() => {
            let made =
                path.later_tablespaces.iter().map(|space| format!("{} at {}", space.oid, space.location));
            let made = made.collect::<Vec<_>>().join(", ");
            cluster.answers.doubts.push(format!(
                "no server was started: the log makes tablespace {made}, and who replays it writes there; a new snapshot leads past that"
            ));
        }
        Ok(installation) => {
            let bench = Bench { installation, identity, data: &data, room: &room };
            for answered in bench.run(path, questions, &mut cluster, progress)? {
                proof.add(answered);
            }
        }
        Err(error) => cluster.answers.doubts.push(format!(
            "no server of version {} could replay it: {}",
            path.facts.major_version(),
            lifeboat_base::report(&error)
        )),
    }
    if path.facts.marker.is_some() && path.marker_at.is_none() {
        cluster.answers.faults.push("the snapshot's marker is not in the log".to_owned());
    }
    if let Some(newest) = path.goes_on_to {
        cluster.answers.doubts.push(format!(
            "this is not the latest state: the log goes on behind a hole, to {newest}, and no snapshot leads there"
        ));
    }
    if !path.facts.checksums {
        cluster.answers.doubts.push("without data checksums, damage within pages cannot be told".to_owned());
    }
    proof.questioning = (reading_back + watch.elapsed()).saturating_sub(cluster.replaying);
    for fault in cluster.answers.faults.clone() {
        proof.fail(fault);
    }
    for doubt in cluster.answers.doubts.clone() {
        proof.doubt_if(true, || doubt);
    }
    proof.cluster = Some(cluster);
    Ok(proof)
}

/// A restored cluster and what is needed to start it.
struct Bench<'b> {
    installation: Installation,
    identity: Identity,
    data: &'b Path,
    room: &'b ServerPlace,
}

impl Bench<'_> {
    fn run(
        &self,
        path: &RecoveryPath,
        questions: &ClusterQuestions,
        cluster: &mut ClusterProof,
        progress: &Progress,
    ) -> Result<Vec<Answered>> {
        cluster.server = Some(self.installation.version.clone());
        let sockets = ServerPlace::for_sockets(&self.identity)?;
        let watch = Stopwatch::start();
        let mut server = Server::start(&self.installation, &self.identity, self.options(&sockets)?)?;
        if let Err(error) = server.wait_ready(REPLAY_WITHIN, &mut || progress.count_bytes(0)) {
            cluster.answers.faults.push(format!("the server did not recover: {}", said(&error)));
            return Ok(Vec::new());
        }
        cluster.replaying = watch.elapsed();
        let superuser = path.facts.superuser.as_deref().unwrap_or(USUAL_SUPERUSER);
        let mut answered = Vec::new();
        match self.ask(&server, superuser) {
            Ok((options, answers)) => {
                cluster.answers = answers;
                answered = ask_all(&options, &database_of(path), &questions.queries);
            }
            Err(error) => {
                let error = lifeboat_base::report(&error);
                cluster.answers.faults.push(format!("the server cannot be asked as {superuser}: {error}"));
            }
        }
        if let Err(error) = server.stop(StopMode::Fast) {
            cluster.answers.faults.push(format!("the server did not shut down: {}", said(&error)));
        } else if path.facts.checksums {
            verify_checksums(&self.installation, &self.identity, self.data, &mut cluster.answers);
        }
        Ok(answered)
    }

    fn ask(&self, server: &Server, superuser: &str) -> Result<(ConnectOptions, Answers), PostgresError> {
        let user = |name: &str| (name == "PGUSER").then(|| superuser.to_owned());
        let options = ConnectOptions::parse(&server.url("postgres"), &user)?;
        let answers = question(&options, &self.installation, &self.identity, server)?;
        Ok((options, answers))
    }

    /// A server for questions alone: what the old primary was set to does not matter here, and would often not
    /// work. What its log needs, it gets.
    fn options(&self, sockets: &ServerPlace) -> Result<ServerOptions> {
        let (access, users, settings) = (
            self.room.path().join("hba.conf"),
            self.room.path().join("ident.conf"),
            self.room.path().join("proof.conf"),
        );
        for (file, content) in [(&access, "local all all trust\n"), (&users, ""), (&settings, "")] {
            lifeboat_base::crashsafe::replace(file, content.as_bytes())?;
            self.identity.own(file).map_err(RecoveryError::io("give to the server's user", file))?;
        }
        let control = control_data(&self.installation, self.data)
            .map_err(|error| RecoveryError::Control(Box::new(error)))?;
        let mut options = ServerOptions::new(self.data, sockets.path());
        options.config_file = Some(settings);
        let mut set = |name: &str, value: String| options.settings.push((name.to_owned(), value));
        set("hba_file", access.display().to_string());
        set("ident_file", users.display().to_string());
        set("hot_standby", "off".to_owned());
        set("fsync", "off".to_owned());
        set("shared_buffers", "128MB".to_owned());
        set("huge_pages", "off".to_owned());
        set("shared_preload_libraries", String::new());
        set("session_preload_libraries", String::new());
        set("local_preload_libraries", String::new());
        set("max_connections", control.max_connections.max(20).to_string());
        set("max_worker_processes", control.max_worker_processes.to_string());
        set("max_prepared_transactions", control.max_prepared_xacts.to_string());
        set("max_locks_per_transaction", control.max_locks_per_xact.to_string());
        set("max_wal_senders", "0".to_owned());
        set("autovacuum", "off".to_owned());
        // It would fail, and the proof with it, where no memory may be written and executed: as a hardened service.
        set("jit", "off".to_owned());
        Ok(options)
    }
}

/// The database that the dataset was protected by.
fn database_of(path: &RecoveryPath) -> String {
    let source = ConnectOptions::parse(&path.snapshot.snapshot.source, &|_| None);
    source.map_or_else(|_| USUAL_DATABASE.to_owned(), |options| options.database().to_owned())
}

fn said(error: &ServerError) -> String {
    lifeboat_base::report(error)
}
