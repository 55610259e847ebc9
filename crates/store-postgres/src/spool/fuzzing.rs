//! For the fuzz target in `fuzz/`: the files of a spool, behind one door.

use super::record::{BLOCK_BYTES, FileHead, refit_file_head, refit_record};
use super::survey::look_through;

/// For fuzzing: looks through any bytes as a file of a spool, as they are and once more with hashes that are made to
/// fit, since no mutation would find those. Says whether either way it holds records that are whole.
#[doc(hidden)]
pub fn fuzz_spool(bytes: &[u8]) -> bool {
    let taken = look_through(bytes);
    let mut fitted = bytes.to_vec();
    refit_file_head(&mut fitted);
    let Some((_, key)) = fitted.get(..BLOCK_BYTES).and_then(FileHead::parse) else { return taken };
    let mut at = BLOCK_BYTES;
    while at < fitted.len() {
        refit_record(&key, &mut fitted[at..]);
        at += BLOCK_BYTES;
    }
    taken | look_through(&fitted)
}

#[cfg(test)]
#[path = "../../../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, dead_code, reason = "the fuzzers and other tests share it")]
mod replay;

#[cfg(test)]
mod tests {
    use super::super::record::{Kind, RecordHead};
    use super::super::{FileHead, SpoolOwner};
    use super::{BLOCK_BYTES, fuzz_spool, replay};
    use lifeboat_base::clock::Timestamp;
    use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
    use lifeboat_repository::ids::{DatasetName, RepositoryId};

    /// A file with a stretch, a history and another stretch, each in a block of its own.
    fn file() -> Vec<u8> {
        let owner = SpoolOwner {
            repository: RepositoryId([3; 16]),
            dataset: DatasetName::new("db-1.users").unwrap(),
        };
        // The same each time, as a seed is.
        let head = FileHead { tag: [9; 16], ..FileHead::new(&owner, SystemId(7), 4, 12_288, 900) };
        let (mut bytes, key) = head.encode();
        let record = |number, kind, start, length| RecordHead {
            number,
            kind,
            timeline: TimelineId(2),
            start: Lsn(start),
            length,
            first: Timestamp::from_secs(1_700_000_000),
            last: Timestamp::from_secs(1_700_000_001),
        };
        let history: &[u8] = b"1\t0/3000060\tno recovery target specified\n";
        let mut encoded = Vec::new();
        for (head, content) in [
            (record(900, Kind::Wal, 0x300_0060, 200), &[0xAB; 200][..]),
            (record(901, Kind::History, 0, history.len() as u32), history),
            (record(902, Kind::Wal, 0x300_0128, 16), &[0xCD; 16]),
        ] {
            key.encode(&head, content, &mut encoded);
            bytes.extend_from_slice(&encoded);
        }
        bytes
    }

    #[test]
    fn what_a_follower_writes_is_a_seed() {
        let targets: &[replay::Target] = &[("postgres_spool", fuzz_spool)];
        let whole = file();
        replay::seed(targets, "postgres_spool", "full", &whole);
        let mut torn = whole.clone();
        torn[3 * BLOCK_BYTES + 85] ^= 1;
        replay::seed(targets, "postgres_spool", "torn", &torn);
        let mut damaged = whole.clone();
        damaged[2 * BLOCK_BYTES + 5] ^= 1;
        replay::seed(targets, "postgres_spool", "damaged", &damaged);
        let mut unfinished = whole[..2 * BLOCK_BYTES].to_vec();
        unfinished.resize(3 * BLOCK_BYTES, 0);
        replay::seed(targets, "postgres_spool", "unfinished", &unfinished);
    }
}
