//! The floor of a first backup: one thread, one loop.

use super::Totals;
use super::packs::{Entry, PackWriter};
use crate::error::BenchError;
use crate::options::FloorBackup;
use crate::tree;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Reads the tree, writes the packs.
///
/// # Errors
/// With the file that cannot be read, or the place that cannot be written.
pub(crate) fn run(task: &FloorBackup) -> Result<Totals, BenchError> {
    let mut concatenation = Concatenation {
        packs: PackWriter::create(&task.out, task.level)?,
        block: vec![0; task.block_bytes],
        filled: 0,
        entries: Vec::new(),
    };
    tree::walk(&task.tree, &mut |below, path| concatenation.add(below, path))?;
    concatenation.finish()
}

/// All files, one after another, cut into blocks.
struct Concatenation {
    packs: PackWriter,
    block: Vec<u8>,
    filled: usize,
    entries: Vec<Entry>,
}

impl Concatenation {
    fn add(&mut self, below: &Path, path: &Path) -> Result<(), BenchError> {
        let mut file = File::open(path).map_err(|e| BenchError::io("open", path, e))?;
        let mode = file.metadata().map_err(|e| BenchError::io("look at", path, e))?.permissions().mode();
        let mut length = 0;
        loop {
            let got = tree::fill(&mut file, &mut self.block[self.filled..])
                .map_err(|e| BenchError::io("read", path, e))?;
            (self.filled, length) = (self.filled + got, length + got as u64);
            if self.filled < self.block.len() {
                break;
            }
            self.flush()?;
        }
        self.entries.push(Entry { path: below.to_owned(), mode: mode & 0o7777, length });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let filled = std::mem::take(&mut self.filled);
        self.packs.block(&self.block[..filled])
    }

    fn finish(mut self) -> Result<Totals, BenchError> {
        if self.filled > 0 {
            self.flush()?;
        }
        let bytes = self.entries.iter().map(|entry| entry.length).sum();
        self.packs.finish(&self.entries)?;
        Ok(Totals { files: self.entries.len() as u64, bytes })
    }
}
