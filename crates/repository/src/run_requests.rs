//! What people elsewhere ask of a run, as objects: created once, outside prune, sealed like other bodies. Whoever
//! carries the run out finds them by listing.
//!
//! A request keeps its identity when it is left again after a lost answer, so that it is there once. What the first
//! half of an identity is for is the order of the names, and nothing rests on it.
//!
//! This module deliberately does not know what a request asks for, nor whether it was heard.

use crate::bodies::{self, Role, RunRequestObject};
use crate::crypto::Signer;
use crate::envelope::{ObjectType, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{RequestId, RunName, WriterId};
use crate::layout;
use crate::repository::Repository;
use crate::snapshots::is_about_one_object;
use crate::trust::Need;
use lifeboat_base::failpoint;
use lifeboat_objects::{Creation, Listed};
use std::ops::ControlFlow;

/// A request is at most so long.
pub const MAX_RUN_REQUEST_BYTES: usize = 64 << 10;
/// The object around the largest request: keys, signature and names, with a margin.
const MAX_OBJECT_BYTES: u64 = MAX_RUN_REQUEST_BYTES as u64 + 4096;

/// A request to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// Whose key signed it.
    pub writer: WriterId,
    /// Its bytes, as they were given to whoever left it.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// The requests to a run, in the order of their names: at most `most` of them.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn run_requests(&self, run: &RunName, most: usize) -> Result<Vec<RequestId>> {
        let mut requests = Vec::new();
        if most == 0 {
            return Ok(requests);
        }
        self.store.list(&layout::run_requests(run), None, &mut |listed: Listed| {
            requests.extend(layout::request_parts(&listed.key).map(|(_, id)| id));
            if requests.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(requests)
    }

    /// A request to a run. Whatever lies there, no more than the largest request is read.
    ///
    /// # Errors
    /// [`RepositoryError::is_not_found`]; damage where it is too large, stands elsewhere than it says, or nobody who
    /// may ask signed it.
    pub fn read_run_request(&self, run: &RunName, id: &RequestId) -> Result<RunRequest> {
        let key = layout::run_request(run, id);
        let too_large = || RepositoryError::damaged(&key, "it is larger than a request may be");
        if self.store.head(&key)?.size_bytes > MAX_OBJECT_BYTES {
            return Err(too_large());
        }
        let opened = self.read::<RunRequestObject>(ObjectType::RunRequest, &key, Need::Write)?;
        let body = opened.body;
        if (&body.run, &body.id) != (run, id) {
            return Err(RepositoryError::damaged(&key, "it belongs to another place"));
        }
        if body.request.len() > MAX_RUN_REQUEST_BYTES {
            return Err(too_large());
        }
        if !self.may_ask(&opened.writer) {
            return Err(RepositoryError::damaged(&key, "its writer may not ask: it can only write"));
        }
        Ok(RunRequest { writer: opened.writer, bytes: body.request })
    }

    /// Who can only write sees no run, and is trusted with nothing but its own datasets.
    fn may_ask(&self, writer: &WriterId) -> bool {
        self.trust().writer(&self.id(), writer).is_some_and(|writer| writer.role != Role::WriteOnly)
    }

    fn permit_asking(&self, writer: &WriterId) -> Result<()> {
        self.trust().permit(writer, Need::Write)?;
        if self.may_ask(writer) {
            return Ok(());
        }
        let action = "ask anything of a run: it can only write".to_owned();
        Err(RepositoryError::NotPermitted { writer: writer.to_string(), action })
    }

    /// Leaves a request; whether it is there now. Tried again with the same bytes it stays one; `false` where something
    /// else has its name.
    ///
    /// # Errors
    /// Where the signer may not ask, the request is too large, or the store fails: nobody knows then whether it is
    /// there, and it may be left again.
    pub fn leave_run_request(
        &self,
        signer: &Signer,
        run: &RunName,
        id: &RequestId,
        request: &[u8],
    ) -> Result<bool> {
        self.permit_asking(&signer.id())?;
        if request.len() > MAX_RUN_REQUEST_BYTES {
            return Err(RepositoryError::RunRequest { run: run.to_string(), bytes: request.len() });
        }
        let (key, repository) = (layout::run_request(run, id), self.id());
        let body = RunRequestObject { repository, run: run.clone(), id: *id, request: request.to_vec() };
        let signed = Signed::new(ObjectType::RunRequest, bodies::encode(&body), signer);
        let sealed = self.wrap(ObjectType::RunRequest, &signed)?;
        failpoint::reach("runs::before-request").map_err(|e| RepositoryError::Io("leave a request", e))?;
        let creation = self.store.create(&key, &sealed)?;
        failpoint::reach("runs::after-request").map_err(|e| RepositoryError::Io("leave a request", e))?;
        match creation {
            Creation::Created => Ok(true),
            Creation::Existed => self.is_ours(signer, run, id, request),
        }
    }

    fn is_ours(&self, signer: &Signer, run: &RunName, id: &RequestId, request: &[u8]) -> Result<bool> {
        match self.read_run_request(run, id) {
            Ok(there) => Ok(there.writer == signer.id() && there.bytes == request),
            Err(error) if is_about_one_object(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
