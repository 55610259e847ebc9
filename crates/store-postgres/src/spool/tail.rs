//! The last bytes of a timeline's log: what the server must send once more when following goes on.

use lifeboat_postgres_wal::Lsn;

/// How much of it is kept, in bytes.
pub(super) const TAIL_BYTES: usize = 64 << 10;

/// The last bytes of a timeline, and where they end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    end: Lsn,
    bytes: Vec<u8>,
}

impl Tail {
    /// A log that ends at a position, and nothing is known of what it holds.
    pub(super) fn at(end: Lsn) -> Self {
        Self { end, bytes: Vec::new() }
    }

    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    /// The last bytes, at most so many, and where they begin.
    pub(super) fn last(&self, most: usize) -> (Lsn, &[u8]) {
        let bytes = &self.bytes[self.bytes.len().saturating_sub(most)..];
        (Lsn(self.end.0 - bytes.len() as u64), bytes)
    }

    /// Adds what follows; where it begins elsewhere, what was before is forgotten.
    pub(super) fn extend(&mut self, start: Lsn, bytes: &[u8]) {
        if start != self.end {
            self.bytes.clear();
        }
        self.end = start.after(bytes.len() as u64);
        let fresh = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let older = TAIL_BYTES - fresh.len();
        // Twice as much may gather, so that not every commit moves all of it.
        if self.bytes.len() + fresh.len() > 2 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len().saturating_sub(older));
        }
        self.bytes.extend_from_slice(fresh);
        if fresh.len() < bytes.len() {
            self.bytes.drain(..self.bytes.len() - fresh.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_begins_elsewhere_has_nothing_before_it() {
        let mut tail = Tail::at(Lsn(10));
        tail.extend(Lsn(10), b"abc");
        assert_eq!((tail.end(), tail.last(2)), (Lsn(13), (Lsn(11), &b"bc"[..])));
        tail.extend(Lsn(20), b"x");
        assert_eq!((tail.end(), tail.last(9)), (Lsn(21), (Lsn(20), &b"x"[..])));
    }

    proptest! {
        #[test]
        fn it_is_the_end_of_what_came(lengths in proptest::collection::vec(0usize..3 * TAIL_BYTES, 0..6)) {
            let (mut tail, mut all) = (Tail::at(Lsn(5)), Vec::new());
            for (number, length) in lengths.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..length).map(|at| (at * 31 + number) as u8).collect();
                tail.extend(Lsn(5 + all.len() as u64), &bytes);
                all.extend_from_slice(&bytes);
                let (start, last) = tail.last(TAIL_BYTES);
                prop_assert_eq!(last, &all[all.len().saturating_sub(TAIL_BYTES)..]);
                prop_assert_eq!(start.0 + last.len() as u64, 5 + all.len() as u64);
            }
        }
    }
}
