//! Chains as they lie in a repository.

use lifeboat_base::Hint;
use lifeboat_evidence::{
    ChainId, Chains, ChainsError, Creation, Key, KeyRing, PublicKey, Sign, Signature, Stored,
};
use lifeboat_objects::ObjectErrorKind;
use lifeboat_repository::ids::{RepositoryId, WriterId};
use lifeboat_repository::{ReceiptChain, ReceiptCreation, Repository, RepositoryError, Role, Signer};
use std::sync::Arc;

/// A repository as a place of chains. Without a signer it can only be read.
#[derive(Clone, Debug)]
pub struct RepositoryChains {
    repository: Arc<Repository>,
    signer: Option<Signer>,
}

/// The key that signs receipts for this host.
#[derive(Clone, Debug)]
pub(crate) struct WriterKey(pub(crate) Signer);

impl Sign for WriterKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public().0)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).0)
    }
}

/// Only the owner of a chain appends to it.
#[derive(Debug, thiserror::Error)]
#[error("chain {0} is not this writer's")]
struct NotOurs(ChainId);

impl Hint for NotOurs {
    fn hint(&self) -> Option<String> {
        None
    }
}

impl RepositoryChains {
    /// For reading.
    pub fn new(repository: &Arc<Repository>) -> Self {
        Self { repository: repository.clone(), signer: None }
    }

    /// For appending to the signer's own chain as well, and for removing where it may maintain.
    pub fn with_signer(repository: &Arc<Repository>, signer: Signer) -> Self {
        Self { repository: repository.clone(), signer: Some(signer) }
    }

    fn signer(&self, chain: &ChainId) -> Result<&Signer, ChainsError> {
        let signer = self.signer.as_ref();
        signer.ok_or_else(|| ChainsError::new("write receipts without a writer's key", NotOurs(*chain)))
    }
}

fn there(chain: &ChainId) -> ReceiptChain {
    ReceiptChain { repository: RepositoryId(chain.repository.0), writer: WriterId(chain.writer.0) }
}

fn here(chain: &ReceiptChain) -> ChainId {
    ChainId {
        repository: lifeboat_evidence::RepositoryId(chain.repository.0),
        writer: lifeboat_evidence::WriterId(chain.writer.0),
    }
}

fn failed(operation: &'static str) -> impl FnOnce(RepositoryError) -> ChainsError {
    move |error| ChainsError::new(operation, error)
}

fn is_denied(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Store(error) if error.kind == ObjectErrorKind::Denied)
}

impl Chains for RepositoryChains {
    fn chains(&self) -> Result<Vec<ChainId>, ChainsError> {
        let chains = self.repository.receipt_chains().map_err(failed("list the chains of receipts"))?;
        Ok(chains.iter().map(here).collect())
    }

    fn numbers(&self, chain: &ChainId, after: u64, limit: usize) -> Result<Option<Vec<u64>>, ChainsError> {
        match self.repository.receipt_numbers(&there(chain), after, limit) {
            Ok(numbers) => Ok(Some(numbers)),
            Err(error) if is_denied(&error) => Ok(None),
            Err(error) => Err(failed("list receipts")(error)),
        }
    }

    fn read(&self, chain: &ChainId, number: u64) -> Result<Stored, ChainsError> {
        match self.repository.read_receipt(&there(chain), number) {
            Ok(bytes) => Ok(Stored::Receipt(bytes)),
            Err(error) if error.is_not_found() => Ok(Stored::Absent),
            Err(error) if is_denied(&error) => Ok(Stored::Hidden),
            Err(error) if error.is_about_one_object() => {
                Ok(Stored::Unreadable(lifeboat_base::report(&error)))
            }
            Err(error) => Err(failed("read a receipt")(error)),
        }
    }

    fn create(&self, chain: &ChainId, number: u64, bytes: &[u8]) -> Result<Creation, ChainsError> {
        let signer = self.signer(chain)?;
        let own = ReceiptChain { repository: self.repository.id(), writer: signer.id() };
        if there(chain) != own {
            return Err(ChainsError::new("write a receipt", NotOurs(*chain)));
        }
        match self.repository.create_receipt(signer, number, bytes) {
            Ok(ReceiptCreation::Ours) => Ok(Creation::Created),
            Ok(ReceiptCreation::Taken) => Ok(Creation::Existed),
            Err(error) => Err(failed("write a receipt")(error)),
        }
    }

    fn remove(&self, chain: &ChainId, number: u64) -> Result<(), ChainsError> {
        let signer = self.signer(chain)?;
        self.repository
            .remove_receipt(signer, &there(chain), number)
            .map_err(failed("remove an expired receipt"))
    }
}

/// The public keys of every writer whose receipts a repository can judge.
pub fn key_ring(repository: &Repository) -> KeyRing {
    let key = |(repository, writer): (RepositoryId, lifeboat_repository::EnrolledWriter)| Key {
        repository: Some(lifeboat_evidence::RepositoryId(repository.0)),
        public_key: PublicKey(writer.public.0),
        name: writer.name,
        role: role(writer.role).to_owned(),
        revoked: writer.revoked,
    };
    repository.receipt_writers().into_iter().map(key).collect()
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Write => "write",
        Role::WriteOnly => "write-only",
        Role::Maintain => "maintain",
    }
}
