//! The path by which every control object is read (unwrap, check who signed it, check that it stands where it
//! says) and created (once, recognising our own object after a retry).

use super::Repository;
use crate::crypto::{EpochPublicKey, Signer};
use crate::envelope::{EnvelopeError, FORMAT, ObjectType, Seal, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, RepositoryId, WriterId};
use crate::trust::{Distrust, Need, received_in_time};
use crate::{bodies, envelope, keys};
use lifeboat_objects::{Creation, Key};
use minicbor::Decode;

/// A body that was read, with who signed it.
#[derive(Clone, Debug)]
pub(crate) struct Opened<T> {
    pub(crate) body: T,
    pub(crate) hash: BodyHash,
    pub(crate) writer: WriterId,
    pub(crate) signed: Signed,
}

/// Whether an object that is created once is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// We made it, now or in an attempt before.
    Won,
    /// Another object stands there.
    Lost,
}

impl Repository {
    /// The newest epoch: what new objects are sealed to.
    pub(crate) fn epoch(&self) -> Result<(u32, EpochPublicKey)> {
        keys::newest_epoch(&self.trust().roster)
    }

    /// Wraps a body for this repository.
    pub(crate) fn wrap(&self, kind: ObjectType, signed: &Signed) -> Result<Vec<u8>> {
        if is_sealed(kind) {
            let (epoch, public) = self.epoch()?;
            envelope::wrap(kind, signed, &self.id(), Seal::To { epoch, public: &public })
        } else {
            envelope::wrap(kind, signed, &self.id(), Seal::Open)
        }
    }

    /// Creates a control object from bytes that nobody else would write, so that finding our own after a
    /// retry counts as having made it.
    pub(crate) fn create_once(&self, key: &Key, bytes: &[u8]) -> Result<Claim> {
        match self.store.create(key, bytes)? {
            Creation::Created => Ok(Claim::Won),
            Creation::Existed if self.store.get(key)? == bytes => Ok(Claim::Won),
            Creation::Existed => Ok(Claim::Lost),
        }
    }

    /// Signs a body and creates it under `key`.
    pub(crate) fn create_signed<T: minicbor::Encode<()>>(
        &self,
        kind: ObjectType,
        key: &Key,
        body: &T,
        signer: &Signer,
    ) -> Result<Claim> {
        let signed = Signed::new(kind, bodies::encode(body), signer);
        self.create_once(key, &self.wrap(kind, &signed)?)
    }

    /// Reads an object that must be of a kind and signed by whom `need` says.
    pub(crate) fn read<T: for<'b> Decode<'b, ()>>(
        &self,
        kind: ObjectType,
        key: &Key,
        need: Need<'_>,
    ) -> Result<Opened<T>> {
        let bytes = self.store.get(key)?;
        self.judge(kind, key, &bytes, need)
    }

    /// As [`Repository::read`], from bytes at hand.
    pub(crate) fn judge<T: for<'b> Decode<'b, ()>>(
        &self,
        kind: ObjectType,
        key: &Key,
        bytes: &[u8],
        need: Need<'_>,
    ) -> Result<Opened<T>> {
        let (found, signed) = self.unwrap(key, bytes)?;
        if found != kind {
            return Err(RepositoryError::damaged(key, format!("it is a {found:?} where a {kind:?} belongs")));
        }
        let writer = self.check_signature(kind, key, &signed, need)?;
        let body = decode(&signed.body, key)?;
        Ok(Opened { body, hash: BodyHash::of(&signed.body), writer, signed })
    }

    /// Reads an envelope without judging it.
    pub(crate) fn unwrap(&self, key: &Key, bytes: &[u8]) -> Result<(ObjectType, Signed)> {
        envelope::unwrap(bytes, Some(&self.id()), Some(&self.keys.epochs)).map_err(|error| match error {
            EnvelopeError::Newer(found) => RepositoryError::NewerFormat { found, supported: FORMAT },
            other => RepositoryError::damaged(key, other),
        })
    }

    /// Checks that a writer whom `need` admits signed, in time if it has been revoked since.
    pub(crate) fn check_signature(
        &self,
        kind: ObjectType,
        key: &Key,
        signed: &Signed,
        need: Need<'_>,
    ) -> Result<WriterId> {
        // What an origin's writers signed counts only inside a copied snapshot. (The body of an index object
        // is a table, which names its repository itself.)
        if kind != ObjectType::Index && body_repository(&signed.body) != Some(self.id()) {
            return Err(RepositoryError::damaged(key, "it belongs to another repository"));
        }
        self.check_signer(kind, key, signed, need)
    }

    /// As [`Repository::check_signature`], whatever repository the body names.
    pub(crate) fn check_signer(
        &self,
        kind: ObjectType,
        key: &Key,
        signed: &Signed,
        need: Need<'_>,
    ) -> Result<WriterId> {
        let mut trust = self.trust();
        let mut judged = trust.judge(kind, signed, &self.id(), need).cloned();
        if matches!(judged, Err(Distrust::Unlisted(_))) {
            trust = self.refresh_trust()?;
            judged = trust.judge(kind, signed, &self.id(), need).cloned();
        }
        let in_time = match judged {
            Ok(writer) if writer.revoked.is_some() => {
                let arrived = self.store.head(key)?.arrived;
                received_in_time(&writer, arrived).map(|()| writer)
            }
            other => other,
        };
        in_time.map(|writer| writer.public.id()).map_err(|distrust| RepositoryError::damaged(key, distrust))
    }
}

/// Every body starts with the repository that it was made for, under key 0.
fn body_repository(body: &[u8]) -> Option<RepositoryId> {
    #[derive(Decode)]
    #[cbor(map)]
    struct Head {
        #[n(0)]
        repository: RepositoryId,
    }
    minicbor::decode::<Head>(body).ok().map(|head| head.repository)
}

/// What a plain-text observer may see: what must be read before a key is, or by a host that has none.
fn is_sealed(kind: ObjectType) -> bool {
    !matches!(
        kind,
        ObjectType::Config
            | ObjectType::Slot
            | ObjectType::Roster
            | ObjectType::Origin
            | ObjectType::Release
            | ObjectType::Void
            | ObjectType::Tombstone
            | ObjectType::Lease
            | ObjectType::CondemnList
            | ObjectType::Verdict
            | ObjectType::Leader
            | ObjectType::Heartbeat
    )
}

pub(crate) fn wrap_open(
    kind: ObjectType,
    body: Vec<u8>,
    signer: &Signer,
    repository: &RepositoryId,
) -> Result<Vec<u8>> {
    envelope::wrap(kind, &Signed::new(kind, body, signer), repository, Seal::Open)
}

pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(body: &[u8], object: impl ToString) -> Result<T> {
    bodies::decode(body).map_err(|error| RepositoryError::damaged(object, error))
}
