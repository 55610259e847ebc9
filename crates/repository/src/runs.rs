//! Records of runs as objects: created once, outside prune, sealed like other bodies. Of two executors of one run that
//! claim the same number, one gets it, and the other reads what stands there.
//!
//! This module deliberately does not know what a record says.

use crate::bodies::{self, RunRecordObject};
use crate::crypto::Signer;
use crate::envelope::{ObjectType, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{RunName, WriterId};
use crate::layout;
use crate::repository::Repository;
use crate::snapshots::is_about_one_object;
use crate::trust::Need;
use lifeboat_base::failpoint;
use lifeboat_objects::{Creation, Key, Listed};
use std::ops::ControlFlow;

/// The largest record: what a step printed does not belong here.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// A record of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Whose key signed it.
    pub writer: WriterId,
    /// Its bytes, as they were given to whoever created it.
    pub bytes: Vec<u8>,
}

/// What came of creating a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunRecordCreation {
    /// It is there now.
    Created,
    /// Something was there already; `None` where it cannot be read, or is nothing that counts.
    Taken(Option<RunRecord>),
}

impl Repository {
    /// The runs that have any record here, in the order of their names.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn runs(&self) -> Result<Vec<RunName>> {
        let (mut runs, mut after) = (Vec::new(), None);
        // One look a run, however many records it has.
        while let Some(key) = self.first_record(after.as_ref())? {
            after = match layout::run_parts(&key) {
                Some((run, _)) => {
                    let last = layout::run_record(&run, layout::MAX_NUMBER);
                    runs.push(run);
                    Some(last)
                }
                None => Some(key),
            };
        }
        Ok(runs)
    }

    fn first_record(&self, after: Option<&Key>) -> Result<Option<Key>> {
        let mut first = None;
        self.store.list(layout::RUNS, after, &mut |listed: Listed| {
            first = Some(listed.key);
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// The numbers of a run at which anything stands, ascending.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub fn run_record_numbers(&self, run: &RunName) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        self.store.list(&layout::run_records(run), None, &mut |listed: Listed| {
            numbers.extend(layout::run_parts(&listed.key).map(|(_, number)| number));
            ControlFlow::Continue(())
        })?;
        Ok(numbers)
    }

    /// A record of a run.
    ///
    /// # Errors
    /// [`RepositoryError::is_not_found`]; damage where it stands elsewhere than it says, or nobody who may write
    /// signed it.
    pub fn read_run_record(&self, run: &RunName, number: u64) -> Result<RunRecord> {
        let key = layout::run_record(run, number);
        let opened = self.read::<RunRecordObject>(ObjectType::RunRecord, &key, Need::Write)?;
        let body = opened.body;
        if (&body.run, body.number) != (run, number) {
            return Err(RepositoryError::damaged(&key, "it belongs to another place"));
        }
        Ok(RunRecord { writer: opened.writer, bytes: body.record })
    }

    /// Creates a record. What stands there already is never overwritten; it may be what this writer itself put there,
    /// in an attempt whose answer was lost.
    ///
    /// # Errors
    /// Where the signer may not write, the record is too large, or the store fails: nobody knows then whether it is
    /// there.
    pub fn create_run_record(
        &self,
        signer: &Signer,
        run: &RunName,
        number: u64,
        record: &[u8],
    ) -> Result<RunRecordCreation> {
        self.trust().permit(&signer.id(), Need::Write)?;
        if !(1..=layout::MAX_NUMBER).contains(&number) || record.len() > MAX_RECORD_BYTES {
            return Err(RepositoryError::RunRecord { run: run.to_string(), number, bytes: record.len() });
        }
        let key = layout::run_record(run, number);
        let body =
            RunRecordObject { repository: self.id(), run: run.clone(), number, record: record.to_vec() };
        let signed = Signed::new(ObjectType::RunRecord, bodies::encode(&body), signer);
        let sealed = self.wrap(ObjectType::RunRecord, &signed)?;
        failpoint::reach("runs::before-put").map_err(|e| RepositoryError::Io("record a run", e))?;
        let creation = self.store.create(&key, &sealed)?;
        failpoint::reach("runs::after-put").map_err(|e| RepositoryError::Io("record a run", e))?;
        match creation {
            Creation::Created => Ok(RunRecordCreation::Created),
            Creation::Existed => self.taken_record(run, number),
        }
    }

    fn taken_record(&self, run: &RunName, number: u64) -> Result<RunRecordCreation> {
        match self.read_run_record(run, number) {
            Ok(there) => Ok(RunRecordCreation::Taken(Some(there))),
            Err(error) if is_about_one_object(&error) => Ok(RunRecordCreation::Taken(None)),
            Err(error) => Err(error),
        }
    }
}
