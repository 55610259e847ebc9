//! Scratch places: folders of our own that are gone when they are done with.

use crate::error::{RecoveryError, Result};
use lifeboat_base::{hex, random};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A folder that nobody else may read, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A new folder below `parent`, or below the system's folder for temporary files.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("lifeboat-{}", hex::encode(&random::bytes::<8>())));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(RecoveryError::io("create scratch folder", &path))?;
        Ok(Self { path, keep: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder when this is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
