//! Looking through a file of a spool: where its records end, and whether what follows is the end of a write that a
//! crash cut off, or damage.
//!
//! Records are written one at a time, and each is durable before the next one is begun. So something that is no
//! record, with no record behind it, is a write that was never acknowledged; with one behind it, it was acknowledged
//! once and is damaged.

use super::record::{BLOCK_BYTES, FileHead, HEAD_BYTES, ReadHead, RecordHead, RecordKey};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that can be read anywhere.
pub(crate) trait Image {
    /// Fills `into` from a position.
    fn read_into(&self, into: &mut [u8], at: u64) -> io::Result<()>;
    /// How many there are.
    fn length(&self) -> io::Result<u64>;
}

impl Image for File {
    fn read_into(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(into, at)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Image for [u8] {
    fn read_into(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// How a file begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is made and holds nothing yet; also where its head was being written.
    No,
    /// It holds records.
    Yes(FileHead, RecordKey),
    /// It has no head, and is not empty.
    Damaged,
}

/// Reads how a file begins.
pub(crate) fn begun(image: &(impl Image + ?Sized)) -> io::Result<Begun> {
    let length = image.length()?;
    if length < BLOCK_BYTES as u64 {
        return Ok(Begun::Damaged);
    }
    let mut block = [0; BLOCK_BYTES];
    image.read_into(&mut block, 0)?;
    match FileHead::parse(&block) {
        Some((head, key)) => Ok(Begun::Yes(head, key)),
        // The head is durable before the first record is written.
        None if is_zero_from(image, BLOCK_BYTES as u64, length)? => Ok(Begun::No),
        None => Ok(Begun::Damaged),
    }
}

fn is_zero_from(image: &(impl Image + ?Sized), mut at: u64, end: u64) -> io::Result<bool> {
    let mut bytes = vec![0; 64 * BLOCK_BYTES];
    while at < end {
        let some = usize::try_from(end - at).map_or(bytes.len(), |left| left.min(bytes.len()));
        image.read_into(&mut bytes[..some], at)?;
        if bytes[..some].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += some as u64;
    }
    Ok(true)
}

/// What a look through a file has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Behind the last record there is nothing, or no room.
    Clean,
    /// Behind the last record lies the beginning of one that was never acknowledged.
    Torn,
    /// At this place a record was, and there are some behind it.
    Damaged,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Where its records end.
    pub(crate) end: u64,
    /// The number of the next record.
    pub(crate) next: u64,
    pub(crate) ends: Ends,
}

/// How far to look, and how closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// To where the file after this one says that it ended. What the records hold is checked when they are read.
    Known(u64),
    /// As far as there are records that are whole.
    Whole,
}

/// Looks through a begun file, record by record.
pub(crate) fn survey<I: Image + ?Sized>(
    image: &I,
    head: &FileHead,
    key: &RecordKey,
    until: Until,
    mut each: impl FnMut(&RecordHead, u64),
) -> io::Result<Survey> {
    let mut survey = Survey { end: BLOCK_BYTES as u64, next: head.first, ends: Ends::Clean };
    loop {
        if until == Until::Known(survey.end) {
            return Ok(survey);
        }
        match record_at(image, key, survey.end, survey.next, until == Until::Whole)? {
            Some(record) => {
                each(&record, survey.end);
                survey.end += record.padded();
                survey.next += 1;
            }
            None => break,
        }
    }
    survey.ends = match until {
        Until::Known(_) => Ends::Damaged,
        Until::Whole => what_follows(image, key, &survey)?,
    };
    Ok(survey)
}

/// The record of a number at a place, if one is there.
fn record_at<I: Image + ?Sized>(
    image: &I,
    key: &RecordKey,
    at: u64,
    number: u64,
    closely: bool,
) -> io::Result<Option<RecordHead>> {
    let ReadHead::Record(head, content) = head_at(image, key, at)? else { return Ok(None) };
    let fits = at.checked_add(head.padded()).is_some_and(|end| image.length().is_ok_and(|all| end <= all));
    if head.number != number || !fits {
        return Ok(None);
    }
    if closely {
        let mut bytes = vec![0; head.length as usize];
        image.read_into(&mut bytes, at + HEAD_BYTES as u64)?;
        if key.content(&bytes) != content {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

fn head_at<I: Image + ?Sized>(image: &I, key: &RecordKey, at: u64) -> io::Result<ReadHead> {
    let mut bytes = [0; HEAD_BYTES];
    if at.checked_add(HEAD_BYTES as u64).is_none_or(|end| image.length().is_ok_and(|all| end > all)) {
        return Ok(ReadHead::Zeros);
    }
    image.read_into(&mut bytes, at)?;
    Ok(key.parse(&bytes))
}

/// What lies behind the last record that is whole.
fn what_follows<I: Image + ?Sized>(image: &I, key: &RecordKey, survey: &Survey) -> io::Result<Ends> {
    let (mut at, mut ends, length) = (survey.end, Ends::Clean, image.length()?);
    while at < length {
        match head_at(image, key, at)? {
            ReadHead::Record(head, _) if head.number > survey.next => return Ok(Ends::Damaged),
            ReadHead::Zeros if ends == Ends::Clean && at == survey.end => {}
            _ => ends = Ends::Torn,
        }
        at += BLOCK_BYTES as u64;
    }
    let is_clean = ends == Ends::Clean || is_zero_from(image, survey.end, length)?;
    Ok(if is_clean { Ends::Clean } else { Ends::Torn })
}

/// For the fuzz target: looks through any bytes as a file. Says whether it holds records that are whole.
pub(crate) fn look_through(bytes: &[u8]) -> bool {
    let Ok(Begun::Yes(head, key)) = begun(bytes) else { return false };
    let mut again = head.encode().0;
    assert_eq!(again, bytes[..BLOCK_BYTES], "a head is written as it was read");
    let mut records = Vec::new();
    let keep = |record: &RecordHead, at: u64| records.push((*record, at));
    let Ok(whole) = survey(bytes, &head, &key, Until::Whole, keep) else { return false };
    assert!(whole.end <= bytes.len().next_multiple_of(BLOCK_BYTES) as u64);
    assert_eq!(whole.next, head.first + records.len() as u64);
    let mut end = BLOCK_BYTES as u64;
    for (record, at) in &records {
        assert_eq!(*at, end, "records follow each other");
        end += record.padded();
        let from = *at as usize + HEAD_BYTES;
        key.encode(record, &bytes[from..from + record.length as usize], &mut again);
        let read = &bytes[*at as usize..from + record.length as usize];
        assert_eq!(again[..read.len()], *read, "a record is written as it was read");
    }
    let known = survey(bytes, &head, &key, Until::Known(whole.end), |_, _| {});
    assert_eq!(known.ok().map(|known| (known.end, known.next)), Some((whole.end, whole.next)));
    !records.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::record::{Kind, SpoolOwner};
    use lifeboat_base::clock::Timestamp;
    use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
    use lifeboat_repository::ids::{DatasetName, RepositoryId};
    use proptest::prelude::*;

    /// A file with records of such lengths, and where each begins.
    fn file(lengths: &[u32]) -> (Vec<u8>, FileHead, Vec<u64>) {
        let owner =
            SpoolOwner { repository: RepositoryId([7; 16]), dataset: DatasetName::new("app").unwrap() };
        let head = FileHead::new(&owner, SystemId(5), 2, 0, 40);
        let (mut bytes, key) = head.encode();
        let (mut starts, mut start, mut record) = (Vec::new(), 1000, Vec::new());
        for (number, length) in (40..).zip(lengths) {
            let head = RecordHead {
                number,
                kind: Kind::Wal,
                timeline: TimelineId(1),
                start: Lsn(start),
                length: *length,
                first: Timestamp::from_nanos(1),
                last: Timestamp::from_nanos(2),
            };
            start += u64::from(*length);
            starts.push(bytes.len() as u64);
            key.encode(&head, &vec![number as u8; *length as usize], &mut record);
            bytes.extend_from_slice(&record);
        }
        bytes.resize(bytes.len() + 8 * BLOCK_BYTES, 0);
        (bytes, head, starts)
    }

    fn survey_of(bytes: &[u8], until: Until) -> Survey {
        let Begun::Yes(head, key) = begun(bytes).unwrap() else { panic!("it is begun") };
        survey(bytes, &head, &key, until, |_, _| {}).unwrap()
    }

    #[test]
    fn records_end_where_nothing_follows() {
        let (bytes, _, starts) = file(&[10, 5000, 0]);
        let end = starts[2] + BLOCK_BYTES as u64;
        assert_eq!(survey_of(&bytes, Until::Whole), Survey { end, next: 43, ends: Ends::Clean });
        let known = survey_of(&bytes, Until::Known(starts[2]));
        assert_eq!(known, Survey { end: starts[2], next: 42, ends: Ends::Clean });
        let beyond = survey_of(&bytes, Until::Known(end + 1));
        assert_eq!(beyond.ends, Ends::Damaged, "the file after it knows of more");
        let full = &bytes[..end as usize];
        assert_eq!(survey_of(full, Until::Whole).ends, Ends::Clean);
        assert!(look_through(&bytes));
    }

    #[test]
    fn a_file_is_not_begun_until_its_head_is_whole() {
        let (bytes, head, _) = file(&[10]);
        assert_eq!(begun(&[0; 3 * BLOCK_BYTES][..]).unwrap(), Begun::No);
        let mut torn = head.encode().0;
        torn[50..].fill(0);
        torn.resize(3 * BLOCK_BYTES, 0);
        assert_eq!(begun(&torn[..]).unwrap(), Begun::No);
        let mut damaged = bytes.clone();
        damaged[20] ^= 1;
        assert_eq!(begun(&damaged[..]).unwrap(), Begun::Damaged, "it has records");
        assert_eq!(begun(&[][..]).unwrap(), Begun::Damaged);
    }

    #[test]
    fn what_breaks_before_a_whole_record_is_damage_and_behind_the_last_it_is_torn() {
        let (bytes, _, starts) = file(&[10, 5000, 7]);
        for (record, start) in starts.iter().enumerate() {
            for offset in [0, 20, 70, HEAD_BYTES as u64 + 3] {
                let mut broken = bytes.clone();
                broken[(start + offset) as usize] ^= 0x40;
                let survey = survey_of(&broken, Until::Whole);
                let ends = if record == 2 { Ends::Torn } else { Ends::Damaged };
                assert_eq!((survey.end, survey.ends), (*start, ends), "record {record}, byte {offset}");
            }
        }
        // A head that never reached the disk, before a block that did.
        let mut gone = bytes.clone();
        gone[starts[1] as usize..starts[1] as usize + BLOCK_BYTES].fill(0);
        assert_eq!(survey_of(&gone, Until::Whole).ends, Ends::Damaged);
        let (bytes, _, starts) = file(&[10, 5000]);
        let mut torn = bytes;
        torn[starts[1] as usize..starts[1] as usize + BLOCK_BYTES].fill(0);
        assert_eq!(survey_of(&torn, Until::Whole).ends, Ends::Torn);
    }

    proptest! {
        /// However much of the last write reached the disk: the records before it are found, and nothing else is.
        #[test]
        fn a_torn_write_is_cut(lengths in proptest::collection::vec(0u32..20_000, 1..6), kept in proptest::collection::vec(any::<bool>(), 6)) {
            let (mut bytes, _, starts) = file(&lengths);
            let last = *starts.last().unwrap() as usize;
            let end = bytes.len() - 8 * BLOCK_BYTES;
            let blocks = (end - last) / BLOCK_BYTES;
            let whole = (0..blocks).all(|block| kept[block]);
            for block in (0..blocks).filter(|block| !kept[*block]) {
                bytes[last + block * BLOCK_BYTES..last + (block + 1) * BLOCK_BYTES].fill(0);
            }
            let survey = survey_of(&bytes, Until::Whole);
            let nothing = bytes[last..].iter().all(|byte| *byte == 0);
            let expected = match (whole, nothing) {
                (true, _) => (end as u64, Ends::Clean),
                (false, true) => (last as u64, Ends::Clean),
                (false, false) => (last as u64, Ends::Torn),
            };
            // A block that holds nothing but the zeros behind the content is no loss.
            if survey.end != end as u64 {
                prop_assert_eq!((survey.end, survey.ends), expected);
            }
        }
    }
}
