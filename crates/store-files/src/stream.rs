//! A file as the stream of its data: extent after extent, and never more than was announced.

use lifeboat_repository::tree::Extent;
use lifeboat_store::progress::Progress;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

/// Reads the data extents of a file one after the other.
pub(crate) struct FileStream<'a> {
    file: BorrowedFd<'a>,
    extents: std::slice::Iter<'a, Extent>,
    current: Extent,
    /// Whether the file has holes: its stream must then be as long as its extents, whatever happens to it.
    sparse: bool,
    progress: &'a Progress,
}

impl<'a> FileStream<'a> {
    /// A stream of one extent over the whole file.
    pub(crate) fn whole(file: BorrowedFd<'a>, size: u64, progress: &'a Progress) -> Self {
        Self {
            file,
            extents: [].iter(),
            current: Extent { offset: 0, length: size },
            sparse: false,
            progress,
        }
    }

    /// A stream of the extents of a file with holes. Where the file has become shorter, zeros.
    pub(crate) fn sparse(file: BorrowedFd<'a>, extents: &'a [Extent], progress: &'a Progress) -> Self {
        let start = Extent { offset: 0, length: 0 };
        Self { file, extents: extents.iter(), current: start, sparse: true, progress }
    }
}

impl Read for FileStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.length == 0 {
            match self.extents.next() {
                Some(next) => self.current = *next,
                // Known without asking the kernel; whether the file has grown shows in its metadata.
                None => return Ok(0),
            }
        }
        let wanted = usize::try_from(self.current.length).unwrap_or(usize::MAX).min(buffer.len());
        let mut read = rustix::io::pread(self.file, &mut buffer[..wanted], self.current.offset)?;
        if read == 0 && self.sparse {
            buffer[..wanted].fill(0);
            read = wanted;
        }
        self.current.offset += read as u64;
        self.current.length -= read as u64;
        self.progress.count_bytes(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    fn read(mut stream: FileStream<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn no_more_than_announced_and_less_where_there_is_less() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let progress = Progress::default();
        assert_eq!(read(FileStream::whole(file.as_fd(), 10, &progress)), b"0123456789");
        assert_eq!(read(FileStream::whole(file.as_fd(), 4, &progress)), b"0123");
        assert_eq!(read(FileStream::whole(file.as_fd(), 20, &progress)), b"0123456789");
        assert_eq!(progress.bytes(), 24);
    }

    #[test]
    fn extents_come_whole_even_of_a_file_cut_short() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let extents = [(1, 2), (4, 0), (8, 4)].map(|(offset, length)| Extent { offset, length });
        assert_eq!(read(FileStream::sparse(file.as_fd(), &extents, &Progress::default())), b"1289\0\0");
        assert_eq!(read(FileStream::sparse(file.as_fd(), &[], &Progress::default())), b"");
    }
}
