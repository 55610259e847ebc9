//! A part of a snapshot's tree, as a tree of its own: what lies below one directory, or all but some.

use crate::materialise::MaterialiseError;
use crate::tree::{LostListing, TreeReader, VisitEntry, VisitPiece};
use lifeboat_repository::tree::{Entry, Metadata};
use lifeboat_repository::{DeliverRun, Descend, Lost, RepositoryError, Request};

/// A part of a tree. Paths are without a slash at either end.
#[derive(Clone, Debug)]
pub struct TreePart<'t, T> {
    inner: &'t T,
    /// Its root in the whole tree.
    below: Vec<u8>,
    /// What is not in it, by paths in the whole tree.
    without: Vec<Vec<u8>>,
    root: Metadata,
}

impl<'t, T: TreeReader> TreePart<'t, T> {
    /// Everything but some paths and what lies below them.
    pub fn without(inner: &'t T, without: Vec<Vec<u8>>) -> Self {
        Self { inner, below: Vec::new(), without, root: inner.root_metadata().clone() }
    }

    /// What lies below a directory; `None` where there is no such directory.
    ///
    /// # Errors
    /// Where a listing on the way is missing or damaged.
    pub fn below(inner: &'t T, below: &[u8]) -> Result<Option<Self>, RepositoryError> {
        let entry = inner.entry(below)?;
        let root = entry.map(|entry| entry.metadata);
        Ok(root.map(|root| Self { inner, below: below.to_vec(), without: Vec::new(), root }))
    }

    /// A directory's path within this part; `None` where it is not in it.
    fn inside<'p>(&self, directory: &'p [u8]) -> Option<&'p [u8]> {
        if self.below.is_empty() {
            return Some(directory);
        }
        let rest = directory.strip_prefix(self.below.as_slice())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
    }

    /// Whether this part lies below a path, or at it.
    fn leads_here(&self, path: &[u8]) -> bool {
        let rest = self.below.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

impl<T: TreeReader> TreeReader for TreePart<'_, T> {
    fn root_metadata(&self) -> &Metadata {
        &self.root
    }

    fn walk(&self, visit: &mut VisitEntry<'_>, lost: &mut LostListing<'_>) -> Result<(), MaterialiseError> {
        let mut visit_inside = |directory: &[u8], entry: &Entry| {
            let path = join(directory, &entry.name);
            if self.without.contains(&path) {
                return Ok(Descend::No);
            }
            match self.inside(directory) {
                Some(directory) => visit(directory, entry),
                None if self.leads_here(&path) => Ok(Descend::Yes),
                None => Ok(Descend::No),
            }
        };
        // A listing on the way here may have held this part.
        let mut lost_inside =
            |directory: &[u8], error| lost(self.inside(directory).unwrap_or_default(), error);
        self.inner.walk(&mut visit_inside, &mut lost_inside)
    }

    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, RepositoryError> {
        self.inner.entry(&join(&self.below, path))
    }

    fn pieces(&self, entry: &Entry, visit: &mut VisitPiece<'_>) -> Result<(), MaterialiseError> {
        self.inner.pieces(entry, visit)
    }

    fn fetch(
        &self,
        requests: Vec<Request>,
        deliver: &DeliverRun<'_>,
        lost: &Lost<'_>,
    ) -> Result<(), RepositoryError> {
        self.inner.fetch(requests, deliver, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryTree;
    use lifeboat_repository::tree::{Content, EntryKind};

    fn paths<T: TreeReader>(tree: &T) -> Vec<String> {
        let mut paths = Vec::new();
        let mut visit = |directory: &[u8], entry: &Entry| {
            paths.push(String::from_utf8(join(directory, &entry.name)).unwrap());
            Ok(Descend::Yes)
        };
        tree.walk(&mut visit, &mut |_, error| panic!("{error}")).unwrap();
        paths
    }

    #[test]
    fn a_tree_is_divided_without_rest() {
        let mut tree = MemoryTree::default();
        let file = |name: &[u8]| Entry::new(name, EntryKind::File);
        let folder = |tree: &mut MemoryTree, name: &[u8], entries| {
            let nodes = tree.add_listing(entries);
            Entry { content: Content::Listing { nodes }, ..Entry::new(name, EntryKind::Directory) }
        };
        let (b, bc) = (folder(&mut tree, b"b", vec![file(b"2")]), folder(&mut tree, b"bc", vec![file(b"3")]));
        let a = folder(&mut tree, b"a", vec![file(b"1"), b, bc]);
        let ab = folder(&mut tree, b"ab", vec![file(b"4")]);
        tree.nodes = tree.add_listing(vec![a, ab, file(b"c")]);
        assert_eq!(paths(&tree), ["a", "a/1", "a/b", "a/b/2", "a/bc", "a/bc/3", "ab", "ab/4", "c"]);
        let part = TreePart::below(&tree, b"a/b").unwrap().unwrap();
        assert_eq!(paths(&part), ["2"]);
        assert!(part.entry(b"2").unwrap().is_some());
        assert_eq!(paths(&TreePart::below(&tree, b"a").unwrap().unwrap()), ["1", "b", "b/2", "bc", "bc/3"]);
        assert!(TreePart::below(&tree, b"x").unwrap().is_none());
        let rest = TreePart::without(&tree, vec![b"a/b".to_vec(), b"c".to_vec()]);
        assert_eq!(paths(&rest), ["a", "a/1", "a/bc", "a/bc/3", "ab", "ab/4"]);
    }
}
