//! Trust: who may sign what.
//!
//! The root signs the roster; the roster lists writers; every object but packs is signed by a rostered
//! writer. What is not is never a recovery point. A copy carries the rosters of its origin, countersigned by
//! its own root, so that what the origin's writers signed still counts.

use crate::bodies::{EnrolledWriter, Role, Roster};
use crate::crypto::PublicKey;
use crate::envelope::{ObjectType, Signed, signed_message};
use crate::error::{RepositoryError, Result};
use crate::ids::{DatasetName, RepositoryId, WriterId};
use lifeboat_base::clock::Timestamp;

/// The rosters by which signatures are judged.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub(crate) root: PublicKey,
    pub(crate) roster: Roster,
    /// The body of the roster as the root signed it.
    pub(crate) roster_signed: Vec<u8>,
    /// Rosters of origins, each for the bodies that name its repository.
    pub(crate) origins: Vec<Roster>,
}

/// What a signature must be good for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need<'a> {
    /// Any rostered writer.
    Write,
    /// A writer that may publish this dataset.
    Publish(&'a DatasetName),
    /// A writer that maintains.
    Maintain,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("signed by writer {0}, whom the roster does not list")]
    Unlisted(WriterId),
    #[error("the signature is not that of writer {0}")]
    Forged(WriterId),
    #[error("writer {0} may not sign this")]
    Role(WriterId),
    #[error("writer {0} was revoked before the store received it")]
    Revoked(WriterId),
    #[error("nobody signed it")]
    Unsigned,
}

impl Trust {
    /// The writer with an id, in the roster of `repository`.
    pub(crate) fn writer(&self, repository: &RepositoryId, id: &WriterId) -> Option<&EnrolledWriter> {
        self.rosters()
            .filter(|roster| roster.repository == *repository)
            .flat_map(|roster| &roster.writers)
            .find(|writer| writer.public.id() == *id)
    }

    /// The role of a writer of this repository.
    pub(crate) fn role(&self, id: &WriterId) -> Option<Role> {
        self.writer(&self.roster.repository, id).map(|writer| writer.role)
    }

    fn rosters(&self) -> impl Iterator<Item = &Roster> {
        std::iter::once(&self.roster).chain(&self.origins)
    }

    /// Whether there is a roster by which what names `repository` can be judged.
    pub(crate) fn knows(&self, repository: &RepositoryId) -> bool {
        self.rosters().any(|roster| roster.repository == *repository)
    }

    /// Judges the signatures of an object whose body names `repository`: one good one suffices. Gives the
    /// writer, and whether it has been revoked since (the caller then asks when the store received it).
    pub(crate) fn judge(
        &self,
        kind: ObjectType,
        signed: &Signed,
        repository: &RepositoryId,
        need: Need<'_>,
    ) -> std::result::Result<&EnrolledWriter, Distrust> {
        let message = signed_message(kind, &signed.body);
        let mut verdict = Distrust::Unsigned;
        for signature in &signed.signatures {
            let Some(writer) = self.writer(repository, &signature.signer) else {
                verdict = Distrust::Unlisted(signature.signer);
                continue;
            };
            if writer.public.verify(&message, &signature.signature).is_err() {
                verdict = Distrust::Forged(signature.signer);
            } else if !suffices(writer, need) {
                verdict = Distrust::Role(signature.signer);
            } else {
                return Ok(writer);
            }
        }
        Err(verdict)
    }

    /// Checks that the root signed.
    pub(crate) fn root_signed(root: &PublicKey, kind: ObjectType, signed: &Signed) -> bool {
        let message = signed_message(kind, &signed.body);
        signed.signatures.iter().any(|s| s.signer == root.id() && root.verify(&message, &s.signature).is_ok())
    }

    /// What a writer of this repository may do.
    pub(crate) fn permit(&self, id: &WriterId, need: Need<'_>) -> Result<()> {
        let refused = |action: &str| RepositoryError::NotPermitted {
            writer: id.to_string(),
            action: action.to_owned(),
        };
        let writer =
            self.writer(&self.roster.repository, id).ok_or_else(|| refused("write: it is not enrolled"))?;
        if writer.revoked.is_some() {
            return Err(refused("write: it was revoked"));
        }
        if suffices(writer, need) {
            return Ok(());
        }
        Err(refused(&match need {
            Need::Write => "write".to_owned(),
            Need::Publish(dataset) => format!("publish dataset {dataset}"),
            Need::Maintain => "maintain the repository (forget, prune, void)".to_owned(),
        }))
    }
}

fn suffices(writer: &EnrolledWriter, need: Need<'_>) -> bool {
    match need {
        Need::Write => true,
        Need::Publish(dataset) => writer.datasets.is_empty() || writer.datasets.contains(dataset),
        Need::Maintain => writer.role == Role::Maintain,
    }
}

/// Whether an object that a since revoked writer signed still counts: the store must have received it before.
pub(crate) fn received_in_time(
    writer: &EnrolledWriter,
    arrived: Timestamp,
) -> std::result::Result<(), Distrust> {
    match writer.revoked {
        Some(revoked) if arrived >= revoked => Err(Distrust::Revoked(writer.public.id())),
        _ => Ok(()),
    }
}
