//! What a step prints, kept in a file: masked, and bounded. Of more than that the beginning and the end are kept, and
//! how much is missing is said.

use super::mask::Masker;
use lifeboat_base::Secret;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// So much of the beginning is kept.
const HEAD_BYTES: usize = 512 << 10;
/// So much of the end is kept.
const TAIL_BYTES: usize = 256 << 10;

/// A file that takes what a step prints. It is evidence, not state: it is written through once, at the end.
#[derive(Debug)]
pub struct Capture {
    file: File,
    written: usize,
    tail: VecDeque<u8>,
    left_out: u64,
}

/// One of the streams of a step, on its way into the capture.
#[derive(Debug)]
pub(crate) struct Stream {
    masker: Masker,
    /// The beginning, for who asks for the answer.
    pub(crate) answer: Vec<u8>,
    answer_bytes: usize,
}

impl Stream {
    pub(crate) fn new(secrets: &[Secret], answer_bytes: usize) -> Self {
        Self { masker: Masker::new(secrets), answer: Vec::new(), answer_bytes }
    }

    pub(crate) fn push(&mut self, bytes: &[u8], capture: &mut Capture) -> io::Result<()> {
        let shown = self.masker.push(bytes);
        self.take(&shown, capture)
    }

    pub(crate) fn finish(&mut self, capture: &mut Capture) -> io::Result<()> {
        let shown = self.masker.finish();
        self.take(&shown, capture)
    }

    fn take(&mut self, shown: &[u8], capture: &mut Capture) -> io::Result<()> {
        let room = self.answer_bytes - self.answer.len();
        self.answer.extend_from_slice(&shown[..room.min(shown.len())]);
        capture.push(shown)
    }
}

impl Capture {
    /// A new file, in place of an older one of that name.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Self { file, written: 0, tail: VecDeque::new(), left_out: 0 })
    }

    /// Takes bytes that may be shown.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = HEAD_BYTES - self.written;
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.file.write_all(head)?;
        self.written += head.len();
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        self.left_out += surplus as u64;
        Ok(())
    }

    /// Writes the end.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        if self.left_out > 0 {
            writeln!(self.file, "\n… {} bytes are left out here …", self.left_out)?;
        }
        let (first, second) = self.tail.as_slices();
        self.file.write_all(first)?;
        self.file.write_all(second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut capture = Capture::create(&path).unwrap();
        let line = [b'x'; 99_999];
        capture.push(b"first\n").unwrap();
        for _ in 0..100 {
            capture.push(&line).unwrap();
        }
        capture.push(b"\nlast\n").unwrap();
        capture.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("first\n") && text.ends_with("\nlast\n"));
        assert!(text.len() < HEAD_BYTES + TAIL_BYTES + 100, "{}", text.len());
        let left_out = 6 + 100 * line.len() + 6 - HEAD_BYTES - TAIL_BYTES;
        assert!(text.contains(&format!("… {left_out} bytes are left out here …")));
    }

    #[test]
    fn a_secret_over_two_reads_is_neither_in_the_file_nor_in_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut capture = Capture::create(&path).unwrap();
        let mut stream = Stream::new(&[Secret::new(b"hunter2".to_vec())], 1000);
        for part in ["pass hun", "ter", "2 end hun"] {
            stream.push(part.as_bytes(), &mut capture).unwrap();
        }
        stream.finish(&mut capture).unwrap();
        capture.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "pass *** end hun");
        assert_eq!(stream.answer, b"pass *** end hun");
    }
}
