//! Reading the index of a repository, while others write to it and prune it.

use crate::bodies::Role;
use crate::envelope::ObjectType;
use crate::error::{RepositoryError, Result};
use crate::ids::BulkName;
use crate::index::{self, Index, IndexedPack, Standing};
use crate::layout;
use crate::lists::Lists;
use crate::repository::Repository;
use crate::snapshots::{Unreadable, noting};
use crate::trust::Need;
use lifeboat_objects::{Key, list_all};

/// How often the index is listed again because prune superseded an object between listing and reading it.
const MAX_LOADING_ATTEMPTS: u32 = 5;

/// Whether what this process has read before may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It may.
    Remembering,
    /// What is really there is asked.
    Anew,
}

impl Repository {
    /// Reads every index object that is not dead. Packs that a verdict names are left out, those that the
    /// open list names are marked as condemned. Index objects that fail their checks are left out and named:
    /// anybody who can create objects can make one.
    pub(crate) fn load_index(&self, lists: &Lists) -> Result<Index> {
        self.load_by(lists, Reading::Remembering)
    }

    fn load_by(&self, lists: &Lists, reading: Reading) -> Result<Index> {
        let mut last = None;
        for _ in 0..MAX_LOADING_ATTEMPTS {
            match self.load_listed(lists, reading) {
                // The verdict that superseded it came after its replacement, which the next listing has.
                Err(error) if error.is_not_found() => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or(RepositoryError::Aborted))
    }

    /// As [`Repository::load_index`], for prune: what cannot be read might describe what is needed, so that
    /// nothing may be deleted beside it.
    pub(crate) fn load_whole_index(&self, lists: &Lists) -> Result<Index> {
        let mut index = self.load_by(lists, Reading::Anew)?;
        index.unreadable.pop().map_or(Ok(index), |unreadable| Err(unreadable.error))
    }

    fn load_listed(&self, lists: &Lists, reading: Reading) -> Result<Index> {
        let mut index = Index::default();
        let mut known = std::collections::HashSet::new();
        for (_, packs) in self.index_objects_noting(lists, reading, &mut index.unreadable)? {
            index.add(packs, &mut |name| {
                if lists.is_dead(name) || !known.insert(*name) {
                    None
                } else if lists.is_condemned(name) {
                    Some(Standing::Condemned)
                } else {
                    Some(Standing::Present)
                }
            });
        }
        index.sort();
        Ok(index)
    }

    /// Every index object that no verdict names, with the packs that it describes.
    ///
    /// # Errors
    /// Where one of them fails its checks.
    pub(crate) fn index_objects(&self, lists: &Lists) -> Result<Vec<(BulkName, Vec<IndexedPack>)>> {
        let mut unreadable = Vec::new();
        let objects = self.index_objects_noting(lists, Reading::Anew, &mut unreadable)?;
        unreadable.pop().map_or(Ok(objects), |unreadable| Err(unreadable.error))
    }

    fn index_objects_noting(
        &self,
        lists: &Lists,
        reading: Reading,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<Vec<(BulkName, Vec<IndexedPack>)>> {
        let mut objects = Vec::new();
        let roster = self.trust().roster.number;
        for listed in list_all(&*self.store, layout::INDEX)? {
            let Some(name) = layout::bulk_name(&listed.key) else { continue };
            if lists.is_dead(&name) {
                continue;
            }
            let known = match reading {
                Reading::Remembering => self.index_cache.get(roster, &name),
                Reading::Anew => None,
            };
            if let Some(packs) = known {
                objects.push((name, packs.to_vec()));
                continue;
            }
            match self.read_index_object(&listed.key, &name) {
                // Superseded since it was listed.
                Err(error) if error.is_not_found() => return Err(error),
                read => {
                    let Some(packs) = noting(unreadable, &listed.key, read)? else { continue };
                    let bytes = usize::try_from(listed.size_bytes).unwrap_or(usize::MAX);
                    self.index_cache.keep(roster, name, &packs, bytes);
                    objects.push((name, packs));
                }
            }
        }
        Ok(objects)
    }

    pub(crate) fn read_index_object(&self, key: &Key, name: &BulkName) -> Result<Vec<IndexedPack>> {
        let bytes = self.store.get(key)?;
        if BulkName::of(&bytes) != *name {
            return Err(RepositoryError::damaged(key, "its bytes are not those that its name says"));
        }
        let (kind, signed) = self.unwrap(key, &bytes)?;
        if kind != ObjectType::Index {
            return Err(RepositoryError::damaged(key, format!("it is a {kind:?}")));
        }
        let writer = self.check_signature(kind, key, &signed, Need::Write)?;
        let packs = index::decode_for(&signed.body, &self.id())?;
        // Whoever can only write has identities of its own (docs/format.md, Write-only hosts), and must not
        // put chunks under those of others.
        let serves = self.trust().role(&writer) != Some(Role::WriteOnly);
        Ok(if serves { packs } else { Vec::new() })
    }
}
