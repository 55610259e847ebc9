//! Proving: a snapshot is really restored into scratch, and the restored data is asked whether it is whole.
//!
//! Three outcomes: `proven`, `failed`, `inconclusive`. Every restored file is read back from the scratch place
//! and compared with the identities that the snapshot recorded; a database is opened by its engine and
//! questioned.

use crate::error::{RecoveryError, Result};
use crate::import::{DumpProof, DumpQuestions, is_dump, prove_dump};
use crate::postgres::ClusterProof;
use crate::protect::SQLITE;
use crate::queries::{Answered, Outcome, ProofQuery};
use crate::restore::{RestoreOptions, restore};
use crate::samples::{Measured, Phases};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::scratch::Scratch;
use lifeboat_repository::tree::EntryKind;
use lifeboat_repository::{Descend, Published, Reader, RepositoryError};
use lifeboat_store::materialise::MaterialiseError;
use lifeboat_store::progress::Progress;
use lifeboat_store_sqlite::{Questions, Verdict as DatabaseVerdict, question};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a proof comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Restored, read back and questioned; everything is whole.
    Proven,
    /// Something is damaged or missing.
    Failed,
    /// No damage was found, but not everything could be asked.
    Inconclusive,
}

impl Verdict {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// A proof.
#[derive(Debug)]
pub struct Proof {
    /// What it comes to.
    pub verdict: Verdict,
    /// Why it is not `proven`.
    pub reasons: Vec<String>,
    /// Files that were read back and compared.
    pub files: u64,
    /// Bytes that were read back and compared.
    pub bytes: u64,
    /// What a database answered.
    pub questions: Option<Questions>,
    /// What a cluster's server answered.
    pub cluster: Option<ClusterProof>,
    /// What the server said that a dump was restored into.
    pub dump: Option<DumpProof>,
    /// The plan's own questions.
    pub queries: Vec<Answered>,
    /// How long finding the snapshot and the position in the log took, where whoever did it says so.
    pub resolving: Duration,
    /// How long restoring took.
    pub restoring: Duration,
    /// How long reading back and questioning took.
    pub questioning: Duration,
}

/// Proves a snapshot in a scratch place below `scratch`, or below the system's folder for temporary files.
///
/// # Errors
/// Where the proof could not be carried out, or nothing is there that could answer `queries`; damage of the snapshot
/// is an answer, not an error.
pub fn prove(
    reader: &Reader,
    published: &Published,
    scratch: Option<&Path>,
    queries: &[ProofQuery],
    progress: &Progress,
) -> Result<Proof> {
    let scratch = scratch.map_or_else(std::env::temp_dir, Path::to_owned);
    if is_dump(published) {
        let questions = DumpQuestions { queries: queries.to_vec(), ..DumpQuestions::default() };
        return prove_dump(reader, published, &scratch, &questions, progress);
    }
    let store = &published.snapshot.store;
    if !queries.is_empty() && store != SQLITE {
        return Err(RecoveryError::NobodyAnswers { store: store.clone() });
    }
    if let Some(query) = queries.iter().find(|query| query.database.is_some()) {
        return Err(RecoveryError::NoOtherDatabase { query: query.name.clone() });
    }
    let scratch = Scratch::new(&scratch)?;
    let into = scratch.path().join("restored");
    let mut proof = prove_into(reader, published, &into, progress)?;
    if !queries.is_empty() && proof.questions.is_some() {
        let watch = Stopwatch::start();
        let database = database_of(reader, published, &into)?;
        for query in database.iter().flat_map(|database| queries.iter().map(move |q| q.ask_sqlite(database)))
        {
            proof.add(query);
        }
        proof.questioning += watch.elapsed();
    }
    Ok(proof)
}

/// Proves a snapshot in a place that the caller keeps or removes, and that does not exist yet.
pub(crate) fn prove_into(
    reader: &Reader,
    published: &Published,
    into: &Path,
    progress: &Progress,
) -> Result<Proof> {
    let restored = match restore(reader, published, into, &RestoreOptions::default(), progress) {
        Ok(restored) => restored,
        Err(error) => return damaged_or(error),
    };
    let mut proof = examine(reader, published, into)?;
    proof.restoring = restored.took;
    for problem in &restored.report.left_out.first {
        proof.fail(lifeboat_base::report(problem));
    }
    let refused = restored.report.refused.count;
    proof.doubt_if(refused > 0, || {
        format!("metadata of {refused} entries could not be restored here (owners and devices need root)")
    });
    Ok(proof)
}

/// Reads back and questions what a snapshot was restored to.
///
/// # Errors
/// Where it could not be carried out; damage is an answer, not an error.
pub fn examine(reader: &Reader, published: &Published, restored: &Path) -> Result<Proof> {
    let watch = Stopwatch::start();
    let mut proof = Proof::new();
    read_back(reader, published, restored, &mut proof)?;
    let stats = &published.snapshot.stats;
    proof.doubt_if(stats.left_out > 0, || {
        format!("{} entries could not be read when the snapshot was taken", stats.left_out)
    });
    proof.doubt_if(stats.torn > 0, || format!("{} files changed while they were read", stats.torn));
    if published.snapshot.store == SQLITE {
        question_database(reader, published, restored, &mut proof)?;
    }
    proof.questioning = watch.elapsed();
    Ok(proof)
}

/// Damage of the repository is what a proof is for; anything else means that there was none.
pub(crate) fn damaged_or(error: RecoveryError) -> Result<Proof> {
    let text = lifeboat_base::report(&error);
    let damaged = match &error {
        RecoveryError::Repository(error)
        | RecoveryError::Materialise(MaterialiseError::Repository(error)) => error.is_about_one_object(),
        RecoveryError::Materialise(error) => {
            matches!(error, MaterialiseError::Unsafe { .. } | MaterialiseError::Impossible { .. })
        }
        _ => false,
    };
    if !damaged {
        return Err(error);
    }
    let mut proof = Proof::new();
    proof.fail(text);
    Ok(proof)
}

impl Proof {
    /// One that nothing speaks against yet.
    pub(crate) fn new() -> Self {
        Self {
            verdict: Verdict::Proven,
            reasons: Vec::new(),
            files: 0,
            bytes: 0,
            questions: None,
            cluster: None,
            dump: None,
            queries: Vec::new(),
            resolving: Duration::ZERO,
            restoring: Duration::ZERO,
            questioning: Duration::ZERO,
        }
    }

    /// What was measured, for whoever remembers it; `None` where nothing was brought back, or something is damaged.
    pub fn measured(&self) -> Option<Measured> {
        let is_usable = self.verdict != Verdict::Failed && !self.restoring.is_zero();
        let cluster = self.cluster.as_ref();
        let log = cluster.map_or(Duration::ZERO, |cluster| cluster.fetching_log);
        let started = cluster.filter(|cluster| !cluster.replaying.is_zero());
        is_usable.then(|| Measured {
            bytes: self.bytes,
            log_bytes: cluster.map_or(0, |cluster| cluster.wal_bytes),
            phases: Phases {
                resolving: self.resolving,
                files: self.restoring.saturating_sub(log),
                log,
                replay: started.map(|cluster| cluster.replaying),
                questions: Some(self.questioning),
            },
        })
    }

    /// Adds a question of the plan's, with what follows from its answer.
    pub(crate) fn add(&mut self, answered: Answered) {
        match answered.outcome.clone() {
            Outcome::Met => {}
            Outcome::Missed(reason) => self.fail(reason),
            Outcome::Unknown(reason) => self.doubt_if(true, || reason),
        }
        self.queries.push(answered);
    }

    pub(crate) fn fail(&mut self, reason: String) {
        self.verdict = Verdict::Failed;
        self.reasons.push(reason);
    }

    pub(crate) fn doubt_if(&mut self, doubtful: bool, reason: impl FnOnce() -> String) {
        if doubtful {
            if self.verdict == Verdict::Proven {
                self.verdict = Verdict::Inconclusive;
            }
            self.reasons.push(reason());
        }
    }
}

/// Reads every restored file and compares it, piece by piece, with the identities in the snapshot.
pub(crate) fn read_back(
    reader: &Reader,
    published: &Published,
    root: &Path,
    proof: &mut Proof,
) -> Result<()> {
    reader.walk(&published.snapshot, &mut |directory, entry| {
        if entry.kind == EntryKind::File {
            let path = below(root, directory, &entry.name);
            match compare(reader, &path, entry) {
                Ok(bytes) => {
                    proof.files += 1;
                    proof.bytes += bytes;
                }
                Err(RecoveryError::Io { source, .. }) => proof.fail(format!("{}: {source}", path.display())),
                Err(RecoveryError::Repository(RepositoryError::Damaged { object, what })) => {
                    proof.fail(format!("{}: {object}: {what}", path.display()));
                }
                Err(other) => return Err(other),
            }
        }
        Ok::<_, RecoveryError>(Descend::Yes)
    })
}

fn compare(reader: &Reader, path: &Path, entry: &lifeboat_repository::tree::Entry) -> Result<u64> {
    let file = File::open(path).map_err(RecoveryError::io("read back", path))?;
    let length = file.metadata().map_err(RecoveryError::io("read back", path))?.len();
    if length != entry.size {
        return Err(RepositoryError::damaged(
            path.display(),
            format!("restored with {length} bytes instead of {}", entry.size),
        )
        .into());
    }
    let mut buffer = Vec::new();
    let mut bytes = 0;
    reader.pieces(entry, &mut |piece| {
        buffer.resize(piece.length as usize, 0);
        file.read_exact_at(&mut buffer, piece.offset).map_err(RecoveryError::io("read back", path))?;
        if !reader.is_piece(&piece, &buffer)? {
            return Err(RepositoryError::damaged(
                path.display(),
                format!("what was restored at offset {} is not what was protected", piece.offset),
            )
            .into());
        }
        bytes += buffer.len() as u64;
        Ok::<_, RecoveryError>(())
    })?;
    Ok(bytes)
}

fn below(root: &Path, directory: &[u8], name: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name))
}

/// Where a snapshot's database lies.
fn database_of(reader: &Reader, published: &Published, root: &Path) -> Result<Option<PathBuf>> {
    let mut database = None;
    reader.walk(&published.snapshot, &mut |directory, entry| {
        database.get_or_insert_with(|| below(root, directory, &entry.name));
        Ok::<_, RecoveryError>(Descend::No)
    })?;
    Ok(database)
}

fn question_database(reader: &Reader, published: &Published, root: &Path, proof: &mut Proof) -> Result<()> {
    let Some(database) = database_of(reader, published, root)? else {
        proof.fail("the snapshot holds no database".to_owned());
        return Ok(());
    };
    let questions = question(&database)?;
    for fault in &questions.faults {
        proof.fail(fault.to_string());
    }
    for doubt in &questions.doubts {
        proof.doubt_if(true, || doubt.to_string());
    }
    if questions.verdict() == DatabaseVerdict::Failed && proof.verdict != Verdict::Failed {
        proof.fail("the database is damaged".to_owned());
    }
    proof.questions = Some(questions);
    Ok(())
}
