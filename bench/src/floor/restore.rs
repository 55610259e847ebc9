//! The floor of a restore: mkdir, open, write, close, and one sync of the file system at the end.

use super::Totals;
use super::packs::{Entry, OwnPacks, empty_folder};
use super::replay::{Visitor, replay};
use crate::error::BenchError;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes every file of `packs` under `target`, which must not exist or be empty. Modes come from `open`
/// alone, so the program that calls this clears its umask first.
///
/// # Errors
/// Where the packs are damaged or the target cannot be written.
pub(crate) fn run(packs: &Path, target: &Path) -> Result<Totals, BenchError> {
    empty_folder(target)?;
    let mut writer = Writer { target: target.to_owned(), folder: PathBuf::new(), file: None };
    let totals = replay(&mut OwnPacks::open(packs)?, &mut writer)?;
    let folder = File::open(target).map_err(|e| BenchError::io("open", target, e))?;
    rustix::fs::syncfs(folder).map_err(|e| BenchError::io("sync", target, e.into()))?;
    Ok(totals)
}

struct Writer {
    target: PathBuf,
    /// The folder that was made last: files come sorted, so most need no other.
    folder: PathBuf,
    file: Option<(File, PathBuf)>,
}

impl Visitor for Writer {
    fn begin(&mut self, entry: &Entry) -> Result<(), BenchError> {
        let path = self.target.join(&entry.path);
        let folder = path.parent().unwrap_or(&self.target);
        if folder != self.folder {
            fs::create_dir_all(folder).map_err(|e| BenchError::io("create folder", folder, e))?;
            folder.clone_into(&mut self.folder);
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(entry.mode).open(&path);
        self.file = Some((file.map_err(|e| BenchError::io("create", &path, e))?, path));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        match &mut self.file {
            Some((file, path)) => file.write_all(bytes).map_err(|e| BenchError::io("write", path, e)),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), BenchError> {
        self.file = None;
        Ok(())
    }
}
