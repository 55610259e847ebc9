//! Leases: how a writer claims the slot of a snapshot and keeps it, and how a reader pins what it reads.
//!
//! A lease ends only when its slot is filled: by its snapshot, by a release of its own writer, or, once it
//! has lapsed, by a void. Renewals are new objects; clocks only decide how long prune waits before it voids.

use crate::bodies::{End, Lease, ReaderLease, Release};
use crate::crypto::Signer;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::{DatasetName, Position, TicketId};
use crate::layout;
use crate::repository::{Claim, Repository};
use crate::trust::Need;
use lifeboat_base::{failpoint, random};
use lifeboat_objects::list_all;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A claim that is renewed in the background until it is dropped.
#[derive(Debug)]
pub(crate) struct WriterLease {
    position: Position,
    repository: Arc<Repository>,
    signer: Signer,
    renewals: Renewals,
}

impl WriterLease {
    /// Claims the next free slot of this writer's chain.
    pub(crate) fn claim(
        repository: &Arc<Repository>,
        signer: &Signer,
        dataset: &DatasetName,
        base: Option<Position>,
    ) -> Result<Self> {
        repository.trust().permit(&signer.id(), Need::Publish(dataset))?;
        let mut number = next_number(repository, dataset, signer)?;
        loop {
            let position = Position { dataset: dataset.clone(), writer: signer.id(), number };
            let body = lease_body(repository, &position, 0, base.clone());
            let key = layout::lease(&position, 0);
            if let Claim::Won = repository.create_signed(ObjectType::Lease, &key, &body, signer)? {
                failpoint::reach("lease::claimed").map_err(|e| RepositoryError::Io("claim a slot", e))?;
                if is_taken(repository, &position)? {
                    // Another process of this writer filled it after we had counted, and removed its lease.
                    repository.store.delete(&key)?;
                    number += 1;
                    continue;
                }
                let renewals = renew_lease(repository, signer, &position, base);
                return Ok(Self {
                    position,
                    repository: repository.clone(),
                    signer: signer.clone(),
                    renewals,
                });
            }
            number += 1;
        }
    }

    /// The slot.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// Gives the slot up, so that prune need not wait for it.
    pub(crate) fn release(self) -> Result<()> {
        let body = Release { repository: self.repository.id(), position: self.position.clone() };
        let key = layout::snapshot(&self.position);
        self.repository.create_signed(ObjectType::Release, &key, &body, &self.signer)?;
        self.forget()
    }

    /// Removes the lease's objects. Only for a slot that is filled.
    pub(crate) fn forget(self) -> Result<()> {
        self.renewals.stop();
        failpoint::reach("lease::before-removal").map_err(|e| RepositoryError::Io("remove a lease", e))?;
        let prefix = format!("{}/", lease_prefix(&self.position));
        // The newest first: as long as one is left, the lease can be seen.
        for listed in list_all(&*self.repository.store, &prefix)?.into_iter().rev() {
            self.repository.store.delete(&listed.key)?;
        }
        Ok(())
    }
}

/// The names of a lease's objects start with this and a slash.
pub(crate) fn lease_prefix(position: &Position) -> String {
    let claim = layout::lease(position, 0);
    claim.as_str().rsplit_once('/').map(|(prefix, _)| prefix.to_owned()).unwrap_or_default()
}

fn lease_body(repository: &Repository, position: &Position, renewal: u64, base: Option<Position>) -> Lease {
    let nonce = TicketId(random::bytes());
    Lease {
        repository: repository.id(),
        position: position.clone(),
        renewal,
        base,
        at: repository.clock().now(),
        nonce,
    }
}

/// One more than the highest number that anything of this chain stands at.
fn next_number(repository: &Repository, dataset: &DatasetName, signer: &Signer) -> Result<u64> {
    let mut highest = 0;
    // A lease goes only after its slot is filled: listing leases first, a number is in one listing at least.
    for prefix in [layout::LEASES, layout::SNAPSHOTS, layout::TOMBSTONES] {
        for listed in list_all(&*repository.store, &layout::chain(prefix, dataset, &signer.id()))? {
            let claimed = layout::lease_parts(&listed.key).map(|(position, _)| position);
            let position = claimed.or_else(|| layout::position(&listed.key));
            highest = highest.max(position.map_or(0, |position| position.number));
        }
    }
    if highest < layout::MAX_NUMBER {
        return Ok(highest + 1);
    }
    let last = Position { dataset: dataset.clone(), writer: signer.id(), number: highest };
    Err(RepositoryError::Occupied(layout::snapshot(&last).to_string()))
}

/// Whether something stands at a slot already, whatever it is, or it is forgotten already.
fn is_taken(repository: &Repository, position: &Position) -> Result<bool> {
    for key in [layout::snapshot(position), layout::tombstone(position)] {
        match repository.store.head(&key) {
            Ok(_) => return Ok(true),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn renew_lease(
    repository: &Arc<Repository>,
    signer: &Signer,
    position: &Position,
    base: Option<Position>,
) -> Renewals {
    let (signer, position) = (signer.clone(), position.clone());
    Renewals::start(repository, move |repository, renewal| {
        let body = lease_body(repository, &position, renewal, base.clone());
        repository
            .create_signed(ObjectType::Lease, &layout::lease(&position, renewal), &body, &signer)
            .map(drop)
    })
}

/// A pin on snapshots that are being read.
#[derive(Debug)]
pub struct ReaderPin {
    ticket: TicketId,
    repository: Arc<Repository>,
    signer: Signer,
    renewals: Option<Renewals>,
}

impl ReaderPin {
    /// Pins snapshots: prune waits for what reads them, and leaves what they need.
    ///
    /// # Errors
    /// Where this machine may not write to the repository: it can then read without a pin.
    pub fn take(
        repository: &Arc<Repository>,
        signer: &Signer,
        pins: &[Position],
        purpose: &str,
    ) -> Result<Self> {
        let ticket = TicketId(random::bytes());
        let (wanted, purpose, signer) = (pins, purpose.to_owned(), signer.clone());
        let pins = pins.to_vec();
        let renew = {
            let signer = signer.clone();
            move |repository: &Repository, renewal| {
                let at = repository.clock().now();
                let body = ReaderLease {
                    repository: repository.id(),
                    ticket,
                    renewal,
                    pins: pins.clone(),
                    at,
                    purpose: purpose.clone(),
                };
                repository
                    .create_signed(ObjectType::ReaderLease, &layout::reader(&ticket, renewal), &body, &signer)
                    .map(drop)
            }
        };
        renew(repository, 0)?;
        // Forgotten before our pin was there: prune need not have seen it.
        let forgotten = repository.forgotten()?;
        let renewals = Some(Renewals::start(repository, renew));
        let pin = Self { ticket, repository: repository.clone(), signer, renewals };
        match wanted.iter().find(|position| forgotten.contains(position)) {
            Some(position) => Err(RepositoryError::NoSuchSnapshot(position.to_string())),
            None => Ok(pin),
        }
    }

    fn end(&mut self) -> Result<()> {
        if let Some(renewals) = self.renewals.take() {
            renewals.stop();
        }
        let body =
            End { repository: self.repository.id(), ticket: self.ticket, at: self.repository.clock().now() };
        self.repository.create_signed(
            ObjectType::End,
            &layout::reader_ended(&self.ticket),
            &body,
            &self.signer,
        )?;
        for listed in list_all(&*self.repository.store, &format!("{}{}/", layout::READERS, self.ticket))?
            .into_iter()
            .rev()
        {
            self.repository.store.delete(&listed.key)?;
        }
        Ok(())
    }
}

impl Drop for ReaderPin {
    fn drop(&mut self) {
        // A pin that cannot be ended lapses by itself.
        let _ = self.end();
    }
}

/// A thread that renews a lease at a third of the lease time, until it is stopped.
#[derive(Debug)]
struct Renewals {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Renewals {
    fn start(
        repository: &Arc<Repository>,
        renew: impl Fn(&Repository, u64) -> Result<()> + Send + 'static,
    ) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (stopped, repository) = (stop.clone(), repository.clone());
        let every = Duration::from_secs(repository.config.lease_secs) / 3;
        let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
            let mut renewal = 1;
            while !wait(&stopped, every) {
                // A renewal that fails only brings the lapse nearer; the next one may work.
                if renew(&repository, renewal).is_ok() {
                    renewal += 1;
                }
            }
        });
        Self { stop, thread: thread.ok() }
    }

    fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Renewals {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Waits until told to stop (true) or until the time is over (false).
fn wait(stop: &(Mutex<bool>, Condvar), time: Duration) -> bool {
    let guard = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (guard, _) =
        stop.1.wait_timeout_while(guard, time, |stopped| !*stopped).unwrap_or_else(PoisonError::into_inner);
    *guard
}
