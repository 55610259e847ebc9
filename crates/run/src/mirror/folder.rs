//! A mirror in a folder, as on another disk or a mounted share.

use super::{Created, Left, MAX_REQUEST_BYTES, Mirror, MirrorError, Slot, check_length, check_same};
use crate::ids::{RequestId, RunId};
use lifeboat_base::crashsafe::{self, Creation};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// No run has this name.
const REQUESTS: &str = "_requests";

/// A mirror in a folder.
#[derive(Clone, Debug)]
pub struct FolderMirror {
    folder: PathBuf,
}

impl FolderMirror {
    /// A mirror in this folder, which is made when something is put there.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self, slot: &Slot) -> PathBuf {
        self.folder.join(slot.run.as_str()).join(format!("{:08}", slot.number))
    }

    fn requests_of(&self, run: &RunId) -> PathBuf {
        self.folder.join(REQUESTS).join(run.as_str())
    }
}

impl Mirror for FolderMirror {
    fn place(&self) -> String {
        format!("file:{}", self.folder.display())
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        let failed = |error| MirrorError::new("create a slot of the mirror", error);
        let path = self.path(slot);
        crashsafe::create_dir_all(path.parent().unwrap_or(&self.folder)).map_err(failed)?;
        match crashsafe::create(&path, bytes).map_err(failed)? {
            Creation::Created => Ok(Created::Created),
            Creation::Existed => {
                let there = fs::read(&path).map_err(|e| MirrorError::new("read a slot of the mirror", e))?;
                Ok(Created::Taken(there))
            }
        }
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        match fs::read(self.path(slot)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(MirrorError::new("read a slot of the mirror", error)),
        }
    }

    fn runs(&self) -> Result<Vec<RunId>, MirrorError> {
        let mut runs: Vec<RunId> = names(&self.folder)?.filter_map(|name| name.parse().ok()).collect();
        runs.sort();
        Ok(runs)
    }

    fn leave(&self, run: &RunId, id: &RequestId, bytes: &[u8]) -> Result<(), MirrorError> {
        check_length(bytes)?;
        let failed = |error| MirrorError::new("leave a request", error);
        let folder = self.requests_of(run);
        crashsafe::create_dir_all(&folder).map_err(failed)?;
        let path = folder.join(id.to_string());
        match crashsafe::create(&path, bytes).map_err(failed)? {
            Creation::Created => Ok(()),
            Creation::Existed => match read_request(&path)? {
                Some(Left::Bytes { bytes: there, .. }) => check_same(&there, bytes),
                _ => check_same(&[], bytes),
            },
        }
    }

    fn requests(&self, run: &RunId, most: usize) -> Result<Vec<RequestId>, MirrorError> {
        let mut ids: Vec<RequestId> =
            names(&self.requests_of(run))?.filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        ids.truncate(most);
        Ok(ids)
    }

    fn request(&self, run: &RunId, id: &RequestId) -> Result<Option<Left>, MirrorError> {
        read_request(&self.requests_of(run).join(id.to_string()))
    }
}

/// The names in a folder; of one that is not there none.
fn names(folder: &Path) -> Result<impl Iterator<Item = String> + use<>, MirrorError> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        listing => Some(listing.map_err(|e| MirrorError::new("list the mirror", e))?),
    };
    Ok(listing.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()))
}

fn read_request(path: &Path) -> Result<Option<Left>, MirrorError> {
    let failed = |error| MirrorError::new("read a request of the mirror", error);
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_REQUEST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_REQUEST_BYTES {
        return Ok(Some(Left::Nonsense("it is larger than a request may be".to_owned())));
    }
    Ok(Some(Left::Bytes { bytes, from: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_in_a_folder_keeps_what_mirrors_promise() {
        let folder = tempfile::tempdir().unwrap();
        super::super::conformance::check(&FolderMirror::new(&folder.path().join("mirror")));
    }
}
