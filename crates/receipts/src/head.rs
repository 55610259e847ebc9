//! The last receipt of its own chain that a host knows: where it goes on without listing, how a write-only host
//! knows it at all, and a witness against who cuts the tail off.

use lifeboat_base::crashsafe::{self, CrashsafeError};
use lifeboat_evidence::{ChainId, Digest, Head, RepositoryId, WriterId};
use std::path::{Path, PathBuf};

/// Where the head of one repository is kept: beside what else this host remembers of it.
fn file(state: &Path, repository: &RepositoryId) -> PathBuf {
    state.join(repository.to_string()).join("receipts-head")
}

/// What is remembered of this host's chain in a repository; nothing where that is damaged.
pub(crate) fn remembered(state: &Path, repository: &RepositoryId) -> Option<Head> {
    let text = std::fs::read_to_string(file(state, repository)).ok()?;
    let mut words = text.split_whitespace();
    let (writer, number, hash) = (words.next()?, words.next()?, words.next()?);
    let chain = ChainId { repository: *repository, writer: WriterId::from_hex(writer)? };
    Some(Head { chain, number: number.parse().ok()?, hash: Digest::from_hex(hash)? })
}

/// What is remembered of a chain; nothing where it is of another writer.
pub(crate) fn read(state: &Path, chain: &ChainId) -> Option<Head> {
    remembered(state, &chain.repository).filter(|head| head.chain == *chain)
}

/// Remembers a head, unless a higher one is.
pub(crate) fn raise(state: &Path, head: &Head) -> Result<(), CrashsafeError> {
    if read(state, &head.chain).is_some_and(|known| known.number >= head.number) {
        return Ok(());
    }
    let path = file(state, &head.chain.repository);
    if let Some(parent) = path.parent() {
        crashsafe::create_dir_all(parent)?;
    }
    crashsafe::replace(&path, format!("{} {} {}\n", head.chain.writer, head.number, head.hash).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_only_rises_and_is_of_one_writer() {
        let state = tempfile::tempdir().unwrap();
        let chain = ChainId { repository: RepositoryId([1; 16]), writer: WriterId([2; 16]) };
        let head = |number| Head { chain, number, hash: Digest([number as u8; 32]) };
        assert_eq!(read(state.path(), &chain), None);
        raise(state.path(), &head(7)).unwrap();
        raise(state.path(), &head(6)).unwrap();
        assert_eq!(read(state.path(), &chain), Some(head(7)));
        assert_eq!(read(state.path(), &ChainId { writer: WriterId([3; 16]), ..chain }), None);
        crashsafe::replace(&file(state.path(), &chain.repository), b"torn").unwrap();
        assert_eq!(read(state.path(), &chain), None);
        raise(state.path(), &head(8)).unwrap();
        assert_eq!(read(state.path(), &chain), Some(head(8)));
    }
}
