//! The newest point of a dataset, whatever its store: proven without anybody naming a point.

use crate::error::{RecoveryError, Result};
use crate::postgres::{ClusterQuestions, prove_cluster};
use crate::prove::{Proof, prove};
use crate::queries::ProofQuery;
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_wal::{Edge, Target};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Published, Reader, ReaderPin, Repository};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{RecoveryPath, RecoveryTarget, STORE, resolve};
use std::path::Path;
use std::sync::Arc;

/// A proof of the newest point.
#[derive(Debug)]
pub struct LatestProof {
    /// The snapshot that was restored.
    pub published: Published,
    /// The way on from it through the log, where the store keeps one.
    pub point: Option<RecoveryPath>,
    /// The proof.
    pub proof: Proof,
}

/// Proves the newest point of a dataset in a scratch place.
///
/// # Errors
/// Where there is no point, or the proof could not be carried out; damage is an answer, not an error.
pub fn prove_latest(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    scratch: &Path,
    queries: Vec<ProofQuery>,
    progress: &Progress,
) -> Result<LatestProof> {
    let watch = Stopwatch::start();
    let newest = repository.find_snapshot(Some(dataset), "latest")?;
    let point = (newest.snapshot.store == STORE).then(|| path_to_latest(repository, dataset)).transpose()?;
    let published = point.as_ref().map_or(newest, |path| path.snapshot.clone());
    let reader = Reader::new(repository)?;
    let resolving = watch.elapsed();
    // Who may not write reads without a pin.
    let _pin = repository
        .writer()
        .and_then(|signer| {
            ReaderPin::take(repository, &signer, std::slice::from_ref(&published.slot), "prove")
        })
        .ok();
    let mut proof = match &point {
        Some(path) => {
            let questions = ClusterQuestions { queries, ..ClusterQuestions::default() };
            prove_cluster(&reader, path, scratch, &questions, progress)?
        }
        None => prove(&reader, &published, Some(scratch), &queries, progress)?,
    };
    proof.resolving = resolving;
    Ok(LatestProof { published, point, proof })
}

fn path_to_latest(repository: &Arc<Repository>, dataset: &DatasetName) -> Result<RecoveryPath> {
    let wanted = RecoveryTarget { target: Target::Latest, edge: Edge::Inclusive, timeline: None };
    resolve(repository, dataset, &wanted, None).map_err(RecoveryError::from)
}
