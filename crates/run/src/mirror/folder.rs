//! A mirror in a folder, as on another disk or a mounted share.

use super::{Created, Mirror, MirrorError, Slot};
use crate::ids::RunId;
use lifeboat_base::crashsafe::{self, Creation};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
        let listing = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(|e| MirrorError::new("list the mirror", e))?,
        };
        let names = listing.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut runs: Vec<RunId> = names.filter_map(|name| name.parse().ok()).collect();
        runs.sort();
        Ok(runs)
    }
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
