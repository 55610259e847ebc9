//! Reading a journal back. A crash in the middle of an append leaves a last line that is not whole: it is cut, and
//! that is said. Anything else that is wrong is damage, and named: a line that counts is never passed over.

use super::{JournalError, next_chain};
use crate::event::Record;
use lifeboat_base::hex;
use lifeboat_evidence::{Digest, canonical};
use serde::Deserialize;
use std::path::Path;

/// A space, the chain value in hexadecimal.
const TAIL_BYTES: usize = 1 + 64;

/// A line as it stands in the file, with its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The record's number.
    pub number: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The chain value.
    pub chain: Digest,
}

/// What a file of the journal holds.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Its records, each with its line.
    pub records: Vec<(Record, Line)>,
    /// So many bytes are whole lines.
    pub whole_bytes: usize,
    /// So many bytes after them are what a crash left of an append.
    pub torn_bytes: usize,
    /// Whether the last record is whole but for its newline.
    pub lacks_newline: bool,
}

/// Reads a file whose first line follows `previous`.
///
/// # Errors
/// [`JournalError::Damaged`] with the line.
pub fn read(bytes: &[u8], previous: Digest, path: &Path) -> Result<Reading, JournalError> {
    let mut reading = Reading::default();
    let mut chain = previous;
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (text, after) =
            (&rest[..end.unwrap_or(rest.len())], &rest[end.map_or(rest.len(), |end| end + 1)..]);
        match read_line(text, chain) {
            Ok((record, line)) => {
                chain = line.chain;
                reading.whole_bytes += text.len() + usize::from(end.is_some());
                reading.lacks_newline = end.is_none();
                reading.records.push((record, line));
            }
            // What was not all written is the file's end: without its newline, or with blocks that never arrived.
            Err(_) if after.is_empty() && (end.is_none() || text.contains(&0)) => {
                reading.torn_bytes = rest.len();
                break;
            }
            Err(what) => {
                let line = reading.records.len() + 1;
                return Err(JournalError::Damaged { path: path.to_owned(), line, what });
            }
        }
        rest = after;
    }
    Ok(reading)
}

/// Reads one line, without its newline.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_line(text: &[u8], previous: Digest) -> Result<(Record, Line), String> {
    let json_bytes = text.len().checked_sub(TAIL_BYTES).ok_or("it is too short")?;
    let (json, tail) = text.split_at(json_bytes);
    let digits = std::str::from_utf8(&tail[1..]).ok().filter(|_| tail[0] == b' ');
    let chain = digits.and_then(hex::decode).map(Digest).ok_or("it does not end with a SHA-256")?;
    if next_chain(previous, json) != chain {
        return Err("its SHA-256 does not fit it and the line before".to_owned());
    }
    // `Value` first: a name that comes twice would be read by one reader so, and by another otherwise.
    let value = canonical::parse(json).map_err(|error| lifeboat_base::report(&error))?;
    let record = Record::deserialize(value).map_err(|error| format!("it is of another release: {error}"))?;
    let bytes = [text, b"\n"].concat();
    let number = record.number;
    Ok((record, Line { number, bytes, chain }))
}

#[cfg(test)]
mod tests {
    use super::super::{BEGINNING, line};
    use super::*;
    use crate::event::Event;
    use crate::ids::Generation;
    use lifeboat_base::clock::Timestamp;

    fn lines(count: u64) -> Vec<Line> {
        let mut chain = BEGINNING;
        let record = |number| Record {
            number,
            generation: Generation::FIRST,
            at: Timestamp::from_secs(1_800_000_000),
            event: Event::Noted { what: format!("number {number}") },
            heard: None,
        };
        let mut lines = Vec::new();
        for number in 1..=count {
            let line = line(&record(number), chain).unwrap();
            chain = line.chain;
            lines.push(line);
        }
        lines
    }

    fn file(lines: &[Line]) -> Vec<u8> {
        lines.iter().flat_map(|line| line.bytes.clone()).collect()
    }

    fn read_back(bytes: &[u8]) -> Result<Reading, JournalError> {
        read(bytes, BEGINNING, Path::new("journal"))
    }

    #[test]
    fn a_journal_reads_as_a_person_reads_it() {
        let bytes = file(&lines(2));
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.starts_with(r#"{"at":"2027-01-15T08:00:00Z","event":{"is":"noted","what":"number 1"},"#),
            "{text}"
        );
        let reading = read_back(&bytes).unwrap();
        assert_eq!((reading.records.len(), reading.whole_bytes, reading.torn_bytes), (2, bytes.len(), 0));
        assert_eq!(reading.records.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>(), lines(2));
    }

    #[test]
    fn cut_anywhere_it_loses_the_last_line_and_no_other() {
        let all = lines(3);
        let bytes = file(&all);
        for cut in 0..=bytes.len() {
            let reading = read_back(&bytes[..cut]).unwrap();
            let mut end = 0;
            let whole = all.iter().take_while(|line| {
                end += line.bytes.len();
                // A line without its newline is whole: its digits say so.
                end <= cut + 1
            });
            assert_eq!(reading.records.len(), whole.count(), "{cut}");
            assert_eq!(reading.whole_bytes + reading.torn_bytes, cut);
        }
    }

    #[test]
    fn a_flipped_bit_is_never_passed_over() {
        let all = lines(3);
        let bytes = file(&all);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            let is_last_newline = place + 1 == bytes.len();
            match read_back(&damaged) {
                Err(JournalError::Damaged { line, .. }) => assert!((1..=3).contains(&line), "{place}"),
                // The newline of the last line became another byte: what stands there is no whole line any more.
                Ok(reading) => assert!(is_last_newline && reading.torn_bytes > 0, "{place}"),
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn blocks_that_never_arrived_are_a_torn_end() {
        let all = lines(2);
        let mut bytes = file(&all);
        let end = bytes.len();
        bytes[end - 40..end - 1].fill(0);
        let reading = read_back(&bytes).unwrap();
        assert_eq!((reading.records.len(), reading.torn_bytes), (1, all[1].bytes.len()));
    }

    #[test]
    fn lines_of_another_run_or_order_do_not_fit() {
        let all = lines(3);
        let error = read_back(&file(&[all[0].clone(), all[2].clone()])).unwrap_err();
        assert!(error.to_string().contains("journal, line 2"), "{error}");
        assert!(lifeboat_base::Hint::hint(&error).unwrap().contains("mirror"));
    }
}
