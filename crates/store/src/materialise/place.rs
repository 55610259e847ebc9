//! Directories of the target: where they are, and handles of those in use.

use crate::directory::{Directory, Name};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many directories stay open. Neighbours in a tree are neighbours in a block, so that few are needed.
const OPEN_DIRECTORIES_MAX: usize = 256;

/// A directory of the target, by its names from the root down. It need not be open.
#[derive(Debug)]
pub(super) struct Place {
    serial: u64,
    above: Option<Arc<Place>>,
    name: Box<[u8]>,
}

impl Place {
    /// The name in the directory above.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The path from the root.
    pub(super) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut place = self;
        while let Some(above) = &place.above {
            names.push(&*place.name);
            place = above;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of a name in here.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }
}

/// One after the other: a tree may be deeper than a stack.
impl Drop for Place {
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut place) = above.and_then(Arc::into_inner) {
            above = place.above.take();
        }
    }
}

/// Opens places, and keeps those open that were used last.
#[derive(Debug)]
pub(super) struct Pool {
    root: Arc<Directory>,
    root_place: Arc<Place>,
    serials: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    handles: HashMap<u64, (u64, Arc<Directory>)>,
    uses: u64,
}

impl Open {
    fn get(&mut self, place: &Place) -> Option<Arc<Directory>> {
        self.uses += 1;
        let (last_use, handle) = self.handles.get_mut(&place.serial)?;
        *last_use = self.uses;
        Some(Arc::clone(handle))
    }

    fn put(&mut self, place: &Place, handle: &Arc<Directory>) {
        self.uses += 1;
        self.handles.insert(place.serial, (self.uses, Arc::clone(handle)));
        if self.handles.len() > OPEN_DIRECTORIES_MAX {
            self.close_half();
        }
    }

    fn close_half(&mut self) {
        let mut uses: Vec<u64> = self.handles.values().map(|(last_use, _)| *last_use).collect();
        let (_, median, _) = uses.select_nth_unstable(OPEN_DIRECTORIES_MAX / 2);
        let median = *median;
        self.handles.retain(|_, (last_use, _)| *last_use > median);
    }
}

impl Pool {
    pub(super) fn new(root: Directory) -> Self {
        let root_place = Arc::new(Place { serial: 0, above: None, name: Box::default() });
        Self { root: Arc::new(root), root_place, serials: AtomicU64::new(1), open: Mutex::default() }
    }

    pub(super) fn root(&self) -> &Arc<Directory> {
        &self.root
    }

    pub(super) fn root_place(&self) -> &Arc<Place> {
        &self.root_place
    }

    /// A place in another one. Nothing is created.
    pub(super) fn below(&self, above: &Arc<Place>, name: &[u8]) -> Arc<Place> {
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        Arc::new(Place { serial, above: Some(Arc::clone(above)), name: name.into() })
    }

    /// A handle of a place, opened name by name from the nearest place that is open.
    pub(super) fn open(&self, place: &Arc<Place>) -> io::Result<Arc<Directory>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: Vec<&Place> = Vec::new();
        let mut at: &Place = place;
        let mut handle = loop {
            if let Some(handle) = open.get(at) {
                break handle;
            }
            let Some(above) = &at.above else { break Arc::clone(&self.root) };
            missing.push(at);
            at = above;
        };
        for place in missing.into_iter().rev() {
            handle = Arc::new(handle.open_child(Name::new(&place.name)?)?);
            open.put(place, &handle);
        }
        Ok(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_opened_again_after_they_were_closed() {
        let directory = tempfile::tempdir().unwrap();
        let pool = Pool::new(Directory::open_root(directory.path()).unwrap());
        let name = [b'x'; 60];
        let mut places = vec![Arc::clone(pool.root_place())];
        for _ in 0..600 {
            let above = places.last().unwrap();
            pool.open(above).unwrap().create_child(Name::new(&name).unwrap()).unwrap();
            places.push(pool.below(above, &name));
        }
        for place in places.iter().chain(places.iter().rev()) {
            pool.open(place).unwrap();
            assert!(pool.open.lock().unwrap().handles.len() <= OPEN_DIRECTORIES_MAX);
        }
        assert_eq!(places[600].path().len(), 600 * 61 - 1);
        assert_eq!(places[1].path_of(b"y"), [&name[..], b"/y"].concat());
        assert_eq!(places[0].path_of(b"y"), b"y");
    }

    #[test]
    fn a_deep_place_is_dropped_without_recursion() {
        let directory = tempfile::tempdir().unwrap();
        let pool = Pool::new(Directory::open_root(directory.path()).unwrap());
        let mut place = Arc::clone(pool.root_place());
        for _ in 0..500_000 {
            place = pool.below(&place, b"d");
        }
        drop(place);
    }
}
