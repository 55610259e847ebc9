//! The pages of a snapshot: a file, with newer versions of some pages in a log.
//!
//! Owns how pages are found and read. Does not know what holds them still.

use crate::SnapshotError;
use crate::report::SnapshotWarning;
use lifeboat_wire_sqlite::{CommittedWal, PageSize, ReadAt};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Consecutive pages of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct PageRun<'a> {
    /// The number of the first page, from 1.
    pub first_page: u32,
    /// The pages' content, a multiple of the page size.
    pub bytes: &'a [u8],
}

/// Where the pages of a database lie.
#[derive(Debug)]
pub(crate) struct Pages {
    /// For messages.
    pub(crate) path: PathBuf,
    pub(crate) page_size: PageSize,
    pub(crate) count: u32,
    file: Arc<File>,
    /// How many bytes of the file belong to pages; what is missing to whole pages is zeros.
    file_bytes: u64,
    log: Option<Log>,
}

#[derive(Debug)]
struct Log {
    file: Arc<File>,
    committed: CommittedWal,
}

impl Pages {
    /// A database without a page. Its page size is what SQLite would make it.
    pub(crate) fn none(path: PathBuf, file: Arc<File>) -> Self {
        Self { path, page_size: PageSize::DEFAULT, count: 0, file, file_bytes: 0, log: None }
    }

    /// All pages of a file, the last one perhaps in part; or the first `count`, where something else than the
    /// file says how many there are.
    pub(crate) fn of_file(
        path: PathBuf,
        file: Arc<File>,
        page_size: PageSize,
        count: Option<u32>,
    ) -> Result<Self, SnapshotError> {
        let size = file.size_bytes().map_err(SnapshotError::io("read", &path))?;
        let held = u32::try_from(page_size.pages_in(size)).unwrap_or(u32::MAX);
        let count = count.unwrap_or(held);
        let file_bytes = size.min(u64::from(count) * u64::from(page_size.get()));
        Ok(Self { path, page_size, count, file, file_bytes, log: None })
    }

    /// The pages of a file under those of a log that has at least one commit.
    pub(crate) fn under_log(
        path: PathBuf,
        file: Arc<File>,
        log: Arc<File>,
        committed: CommittedWal,
    ) -> Result<Self, SnapshotError> {
        let pages = Self::of_file(path, file, committed.header.page_size, Some(committed.pages))?;
        Ok(Self { log: Some(Log { file: log, committed }), ..pages })
    }

    /// What is odd about the file itself.
    pub(crate) fn warnings(&self, stated: u32) -> Vec<SnapshotWarning> {
        let mut warnings = Vec::new();
        let bytes = self.file_bytes % u64::from(self.page_size.get());
        if bytes != 0 {
            warnings.push(SnapshotWarning::PartialPage { bytes });
        }
        if stated > self.count {
            warnings.push(SnapshotWarning::MissingPages { stated, found: self.count });
        }
        warnings
    }

    /// Fills `buffer`, a multiple of the page size, with the pages from `first_page` on, which exist.
    pub(crate) fn read(&self, first_page: u32, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        self.read_file(first_page, buffer)?;
        if let Some(log) = &self.log {
            log.overlay(first_page, self.page_size, buffer)
                .map_err(SnapshotError::io("read WAL of", &self.path))?;
        }
        Ok(())
    }

    fn read_file(&self, first_page: u32, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        let page_size = u64::from(self.page_size.get());
        let offset = u64::from(first_page.saturating_sub(1)) * page_size;
        let held = self.file_bytes.saturating_sub(offset).min(buffer.len() as u64);
        // No truncation: at most the length of a slice.
        let (from_file, beyond) = buffer.split_at_mut(held as usize);
        let read = self.file.read_at(offset, from_file).map_err(SnapshotError::io("read", &self.path))?;
        if read < from_file.len() {
            let page = u32::try_from((offset + read as u64) / page_size + 1).unwrap_or(u32::MAX);
            return Err(SnapshotError::Shrunk { path: self.path.clone(), page });
        }
        // As SQLite reads what lies behind the end of the file.
        beyond.fill(0);
        Ok(())
    }
}

impl Log {
    fn overlay(&self, first_page: u32, page_size: PageSize, buffer: &mut [u8]) -> std::io::Result<()> {
        let count = u32::try_from(buffer.len() / page_size.as_usize()).unwrap_or(u32::MAX);
        let wanted = first_page..first_page.saturating_add(count);
        for (page, frame) in self.committed.index.range(wanted) {
            let start = (page - first_page) as usize * page_size.as_usize();
            let content = &mut buffer[start..start + page_size.as_usize()];
            if !self.file.fill_at(self.committed.header.content_offset(*frame), content)? {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("frame {frame} is gone"),
                ));
            }
        }
        Ok(())
    }
}
