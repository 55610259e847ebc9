//! Where bytes come from: a file or a slice, read at positions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that can be read at any position.
pub trait ReadAt {
    /// How many bytes there are now.
    ///
    /// # Errors
    /// What the operating system says.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Fills `buffer` from `offset`; `false` where the bytes end before.
    ///
    /// # Errors
    /// What the operating system says.
    fn fill_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        Ok(self.read_at(offset, buffer)? == buffer.len())
    }
}

impl ReadAt for [u8] {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl ReadAt for File {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn size_bytes(&self) -> io::Result<u64> {
        (**self).size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buffer)
    }
}

impl ReadAt for Vec<u8> {
    fn size_bytes(&self) -> io::Result<u64> {
        self.as_slice().size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_and_a_slice_answer_alike() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let sources: [&dyn ReadAt; 2] = [&file, &b"0123456789".to_vec()];
        for source in sources {
            let mut buffer = [0; 4];
            assert_eq!(source.size_bytes().unwrap(), 10);
            assert!(source.fill_at(6, &mut buffer).unwrap());
            assert_eq!(&buffer, b"6789");
            assert_eq!(source.read_at(8, &mut buffer).unwrap(), 2);
            assert!(!source.fill_at(7, &mut buffer).unwrap());
        }
        assert_eq!(b"0123456789".as_slice().read_at(u64::MAX, &mut [0; 4]).unwrap(), 0);
    }
}
