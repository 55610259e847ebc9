//! Runs mirrored in a repository: slot *n* of a run is record *n* + 1 there (docs/format.md, Runs).

use lifeboat_base::Hint;
use lifeboat_repository::ids::{self, InvalidRunName, RunName};
use lifeboat_repository::{MAX_RUN_REQUEST_BYTES, Repository, RepositoryError, RunRecordCreation, Signer};
use lifeboat_run::mirror::{Created, Left, MAX_REQUEST_BYTES, Mirror, MirrorError, Slot};
use lifeboat_run::{RequestId, RunId};
use std::sync::Arc;

const _: () =
    assert!(MAX_REQUEST_BYTES == MAX_RUN_REQUEST_BYTES, "a mirror takes every request, and no longer one");

/// A repository as a place of runs.
#[derive(Clone, Debug)]
pub struct RepositoryMirror {
    repository: Arc<Repository>,
    /// None for whoever only reads.
    signer: Option<Signer>,
}

impl RepositoryMirror {
    /// With this host's own key.
    ///
    /// # Errors
    /// Where this host has none that may write.
    pub fn new(repository: &Arc<Repository>) -> Result<Self, RepositoryError> {
        Ok(Self { signer: Some(repository.writer()?), repository: repository.clone() })
    }

    /// To look at runs: nothing can be created, and this host needs no key that may write.
    pub fn for_reading(repository: &Arc<Repository>) -> Self {
        Self { signer: None, repository: repository.clone() }
    }

    fn signer(&self, operation: &'static str) -> Result<&Signer, MirrorError> {
        self.signer.as_ref().ok_or_else(|| MirrorError::new(operation, "it was opened to be read"))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(RepositoryError) -> MirrorError {
    move |error| {
        let hint = error.hint();
        MirrorError { hint, ..MirrorError::new(operation, error) }
    }
}

/// Every run's name is one here as well.
fn name(run: &RunId) -> Result<RunName, MirrorError> {
    RunName::new(run.as_str()).map_err(|error: InvalidRunName| MirrorError::new("name the run", error))
}

const fn record(slot: &Slot) -> u64 {
    slot.number.saturating_add(1)
}

impl Mirror for RepositoryMirror {
    fn place(&self) -> String {
        self.repository.location()
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        const DOING: &str = "mirror a record of the run";
        let run = name(&slot.run)?;
        let creation = self.repository.create_run_record(self.signer(DOING)?, &run, record(slot), bytes);
        match creation.map_err(failed(DOING))? {
            RunRecordCreation::Created => Ok(Created::Created),
            RunRecordCreation::Taken(Some(there)) => Ok(Created::Taken(there.bytes)),
            RunRecordCreation::Taken(None) => Err(MirrorError {
                hint: Some("Run `lifeboat check`: it names what is no record, and why.".to_owned()),
                ..MirrorError::new(
                    DOING,
                    format!("what stands at record {} of {run} is no record", record(slot)),
                )
            }),
        }
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        match self.repository.read_run_record(&name(&slot.run)?, record(slot)) {
            Ok(there) => Ok(Some(there.bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(failed("read a mirrored record of the run")(error)),
        }
    }

    fn runs(&self) -> Result<Vec<RunId>, MirrorError> {
        let runs = self.repository.runs().map_err(failed("list the mirrored runs"))?;
        Ok(runs.iter().filter_map(|run| run.as_str().parse().ok()).collect())
    }

    fn leave(&self, run: &RunId, id: &RequestId, bytes: &[u8]) -> Result<(), MirrorError> {
        const DOING: &str = "leave a request in the repository";
        let id = ids::RequestId(id.0);
        let left = self.repository.leave_run_request(self.signer(DOING)?, &name(run)?, &id, bytes);
        if left.map_err(failed(DOING))? {
            return Ok(());
        }
        Err(MirrorError {
            hint: Some("Ask again; `lifeboat check` says what stands there.".to_owned()),
            ..MirrorError::new(DOING, format!("something else has its name: requests/{run}/{id}"))
        })
    }

    fn requests(&self, run: &RunId, most: usize) -> Result<Vec<RequestId>, MirrorError> {
        let requests = self.repository.run_requests(&name(run)?, most);
        let requests = requests.map_err(failed("list the requests to the run"))?;
        Ok(requests.into_iter().map(|id| RequestId(id.0)).collect())
    }

    fn request(&self, run: &RunId, id: &RequestId) -> Result<Option<Left>, MirrorError> {
        match self.repository.read_run_request(&name(run)?, &ids::RequestId(id.0)) {
            Ok(left) => Ok(Some(Left::Bytes { bytes: left.bytes, from: Some(left.writer.to_string()) })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_about_one_object() => {
                Ok(Some(Left::Nonsense(lifeboat_base::report(&error))))
            }
            Err(error) => Err(failed("read a request to the run")(error)),
        }
    }
}
