//! A spool as a whole: what is appended comes out again, whatever happens in between.

use super::files::FILE_BYTES;
use super::reading::BatchContent;
use super::record::BLOCK_BYTES;
use super::*;
use crate::error::PostgresStoreError;
use crate::sink::{FollowedLog, RepositoryLog, WalSink};
use lifeboat_base::clock::Stopwatch;
use lifeboat_objects::memory::MemoryStore;
use lifeboat_repository::ids::{DatasetName, RepositoryId};
use lifeboat_repository::{Environment, InitOptions, Lock, LogCatalogue, LogPayload, LogReader, Repository};
use proptest::prelude::*;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

const SYSTEM: SystemId = SystemId(77);
const ONE: TimelineId = TimelineId(1);
const LIMIT: u64 = 6 * FILE_BYTES;

fn repository() -> Arc<Repository> {
    let environment =
        Environment { state: None, writer_key: None, host: "test".to_owned(), clock: Clock::System };
    let locks = [(Lock::Command(lifeboat_base::Secret::new(vec![7; 32])), "test".to_owned())];
    let store = Arc::new(MemoryStore::new());
    Arc::new(Repository::init(store, &locks, &InitOptions::default(), environment).unwrap())
}

fn owner(repository: RepositoryId) -> SpoolOwner {
    SpoolOwner { repository, dataset: DatasetName::new("app").unwrap() }
}

/// A folder on a disk, and whose spool it is.
struct Place {
    folder: TempDir,
    repository: Arc<Repository>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir_in("/var/tmp").unwrap(), repository: repository() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    fn open(&self) -> Spool {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Spool, SpoolError> {
        Spool::open(&self.path(), owner(self.repository.id()), LIMIT)
    }

    fn spooled(&self, spool: &Arc<Spool>) -> SpooledLog {
        SpooledLog::new(spool, self.log())
    }

    fn log(&self) -> RepositoryLog {
        RepositoryLog::new(&self.repository, &DatasetName::new("app").unwrap(), SYSTEM)
    }

    /// The stretches of log objects of a timeline, each as it was stored, and what they hold.
    fn kept(&self, timeline: TimelineId) -> (Vec<(u64, u64)>, Vec<u8>) {
        let dataset = DatasetName::new("app").unwrap();
        let catalogue = LogCatalogue::read(&self.repository, &dataset).unwrap();
        let lineage = crate::lineage::of_timeline(SYSTEM, timeline).unwrap();
        let logs = catalogue.lineages();
        let Some(log) = logs.into_iter().find(|log| log.lineage == lineage) else {
            return Default::default();
        };
        let mut bytes = Vec::new();
        for stretch in &log.stretches {
            for piece in LogReader::over(catalogue.clone(), &lineage, stretch.start..stretch.end) {
                let LogPayload::Bytes(piece) = piece.unwrap().payload else { panic!("bytes") };
                bytes.extend_from_slice(&piece);
            }
        }
        (log.stretches.iter().map(|stretch| (stretch.start, stretch.end)).collect(), bytes)
    }

    fn file(&self, sequence: u64) -> PathBuf {
        self.path().join(format!("{sequence:016x}.spool"))
    }

    fn change(&self, sequence: u64, at: u64, change: impl Fn(&mut u8)) {
        let file = OpenOptions::new().read(true).write(true).open(self.file(sequence)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        change(&mut byte[0]);
        file.write_all_at(&byte, at).unwrap();
    }
}

fn stretch(start: u64, length: usize) -> WalStretch {
    let bytes = (start..).take(length).map(|at| (at % 251) as u8).collect();
    let at = Timestamp::from_secs(1_700_000_000 + i64::try_from(start).unwrap());
    WalStretch { timeline: ONE, start: Lsn(start), bytes, first: at, last: at }
}

#[test]
fn what_is_appended_is_there_when_it_is_opened_again() {
    let place = Place::new();
    let spool = place.open();
    for (start, length) in [(1000, 10), (1010, 70_000), (71_010, 5)] {
        spool.append(SYSTEM, &stretch(start, length)).unwrap();
    }
    spool.keep_history(SYSTEM, TimelineId(2), b"1\t0/4000100\tx\n", Timestamp::from_secs(5)).unwrap();
    spool.keep_history(SYSTEM, TimelineId(2), b"1\t0/4000100\tx\n", Timestamp::from_secs(6)).unwrap();
    assert_eq!(spool.status().waiting_bytes, 70_015 + 14, "a history is kept once");
    drop(spool);

    let spool = Arc::new(place.open());
    assert_eq!((spool.torn_bytes(), spool.status().waiting_bytes), (0, 70_015 + 14));
    let mut log = place.spooled(&spool);
    assert_eq!(log.timelines().unwrap(), [ONE]);
    assert_eq!(FollowedLog::end(&mut log, ONE).unwrap(), Some(Lsn(71_015)));
    let (start, tail) = FollowedLog::tail(&mut log, ONE, 64 << 10).unwrap().unwrap();
    assert_eq!((start.0, tail), (71_015 - 65_536, stretch(71_015 - 65_536, 65_536).bytes));
    assert_eq!(FollowedLog::history(&mut log, TimelineId(2)).unwrap().unwrap().timeline(), TimelineId(2));
    assert!(matches!(
        log.append(&stretch(71_016, 1)),
        Err(PostgresStoreError::Log(lifeboat_repository::LogError::NotNext { expected: 71_015, .. }))
    ));
    log.append(&stretch(71_015, 9)).unwrap();
    let batch = spool.read(1 << 20).unwrap().unwrap();
    let BatchContent::Wal(all) = &batch.content else { panic!("a stretch first") };
    assert_eq!((all.start, all.bytes.clone()), (Lsn(1000), stretch(1000, 70_015).bytes));
    assert_eq!((all.first, all.last), (stretch(1000, 1).first, stretch(71_010, 1).last));
}

#[test]
fn all_of_it_is_published_in_order_and_once_and_then_it_is_empty() {
    let place = Place::new();
    let spool = place.open();
    for start in (0..50).map(|number| 1000 + number * 3000) {
        spool.append(SYSTEM, &stretch(start, 3000)).unwrap();
    }
    let drained = drain(&spool, &place.repository, &mut |_| {}).unwrap();
    assert_eq!((drained.bytes, drained.stretches[&(SYSTEM, ONE)]), (150_000, (Lsn(1000), Lsn(151_000))));
    assert_eq!(place.kept(ONE), (vec![(1000, 151_000)], stretch(1000, 150_000).bytes));
    assert_eq!(spool.files.list().unwrap(), [0; 0], "nothing is left");
    // It goes on as any other.
    spool.append(SYSTEM, &stretch(151_000, 10)).unwrap();
    drop(spool);
    let spool = place.open();
    drain(&spool, &place.repository, &mut |_| {}).unwrap();
    assert_eq!(place.kept(ONE).1, stretch(1000, 150_010).bytes);
}

#[test]
fn what_the_repository_has_is_compared_and_not_stored_again() {
    let place = Place::new();
    let spool = place.open();
    for start in [1000, 4000, 7000] {
        spool.append(SYSTEM, &stretch(start, 3000)).unwrap();
    }
    // Published, and then the process ended before it could let go; somebody else was further on, behind a hole.
    let mut log = place.log();
    WalSink::append(&mut log, &stretch(1000, 4500)).unwrap();
    log.look_again();
    WalSink::skip_to(&mut log, ONE, Lsn(20_000)).unwrap();
    WalSink::append(&mut log, &stretch(20_000, 10)).unwrap();
    drain(&spool, &place.repository, &mut |_| {}).unwrap();
    let mut bytes = stretch(1000, 9000).bytes;
    bytes.extend(stretch(20_000, 10).bytes);
    assert_eq!(place.kept(ONE), (vec![(1000, 10_000), (20_000, 20_010)], bytes));
    let dataset = DatasetName::new("app").unwrap();
    let objects = LogCatalogue::read(&place.repository, &dataset).unwrap();
    let stored: u64 = objects.lineages().iter().flat_map(|log| &log.stretches).map(|s| s.end - s.start).sum();
    assert_eq!(stored, 9010, "nothing twice");
}

#[test]
fn another_history_is_noticed_and_nothing_is_let_go() {
    let place = Place::new();
    let spool = place.open();
    spool.append(SYSTEM, &stretch(1000, 3000)).unwrap();
    let mut other = stretch(1000, 2000);
    other.bytes[1234] ^= 1;
    WalSink::append(&mut place.log(), &other).unwrap();
    let error = drain(&spool, &place.repository, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PostgresStoreError::Diverged { at: Lsn(2234), .. }), "{error}");
    assert!(!error.is_passing());
    assert_eq!(spool.status().waiting_bytes, 3000);
}

#[test]
fn files_are_begun_one_after_the_other_and_go_when_they_are_published() {
    let place = Place::new();
    let spool = Arc::new(place.open());
    let mut log = place.spooled(&spool);
    let piece = 7 << 20;
    let mut end = 1000;
    let full = loop {
        match log.append(&stretch(end, piece)) {
            Ok(()) => end += piece as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, PostgresStoreError::Spool(SpoolError::Full { .. })), "{full}");
    assert_eq!(spool.files.list().unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(spool.status().waiting_bytes, 24 * piece as u64, "four in each");
    let mut publisher = Publisher::new(&spool, &place.repository);
    for _ in 0..5 {
        publisher.publish_next().unwrap().unwrap();
    }
    assert_eq!(spool.files.list().unwrap(), [2, 3, 4, 5, 6]);
    log.append(&stretch(end, piece)).unwrap();
    drop(log);
    drop(publisher);
    drop(spool);

    let spool = place.open();
    assert_eq!(
        spool.status().waiting_bytes,
        21 * piece as u64,
        "what is in files that are not published whole"
    );
    drain(&spool, &place.repository, &mut |_| {}).unwrap();
    assert_eq!(place.kept(ONE).0, [(1000, end + piece as u64)]);
}

#[test]
fn a_full_spool_takes_more_as_soon_as_there_is_room() {
    let place = Place::new();
    let spool = Arc::new(place.open());
    let mut log = place.spooled(&spool);
    let piece = 8 << 20;
    for number in 0..18 {
        log.append(&stretch(1000 + number * piece as u64, piece)).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = Publisher::new(&spool, &place.repository);
            while publisher.publish_next().unwrap().is_some() {}
        });
        let watch = Stopwatch::start();
        while log.append(&stretch(1000 + 18 * piece as u64, piece)).is_err() {
            assert!(watch.elapsed() < Duration::from_secs(120));
        }
    });
}

#[test]
fn it_is_of_one_dataset_of_one_repository_and_of_one_process() {
    let place = Place::new();
    let spool = place.open();
    spool.append(SYSTEM, &stretch(1000, 3000)).unwrap();
    assert!(matches!(place.try_open(), Err(SpoolError::InUse { .. })));
    drop(spool);
    let stranger = Spool::open(&place.path(), owner(RepositoryId([1; 16])), LIMIT).unwrap_err();
    assert!(matches!(stranger, SpoolError::Foreign { .. }) && stranger.is_usage(), "{stranger}");
    let other = drain(&place.open(), &repository(), &mut |_| {}).unwrap_err();
    assert!(matches!(other, PostgresStoreError::Spool(SpoolError::Foreign { .. })));
    let small = Spool::open(&place.path(), owner(place.repository.id()), FILE_BYTES).unwrap_err();
    assert!(matches!(small, SpoolError::TooSmall { .. }));
}

#[test]
fn a_write_that_was_cut_off_is_cut_and_what_comes_next_goes_elsewhere() {
    let place = Place::new();
    let spool = place.open();
    spool.append(SYSTEM, &stretch(1000, 3000)).unwrap();
    spool.append(SYSTEM, &stretch(4000, 9000)).unwrap();
    drop(spool);
    // The last block of it never reached the disk.
    let third = 4 * BLOCK_BYTES as u64 + 100;
    place.change(1, third, |byte| *byte ^= 0xFF);
    let spool = place.open();
    assert_eq!(spool.status().waiting_bytes, 3000);
    assert!(spool.torn_bytes() > 8192, "{}", spool.torn_bytes());
    spool.append(SYSTEM, &stretch(4000, 50)).unwrap();
    assert_eq!(spool.files.list().unwrap(), [1, 2]);
    drop(spool);
    let spool = place.open();
    assert_eq!(
        (spool.torn_bytes(), spool.status().waiting_bytes),
        (0, 3050),
        "it is known where the first ended"
    );
    drain(&spool, &place.repository, &mut |_| {}).unwrap();
    assert_eq!(place.kept(ONE), (vec![(1000, 4050)], stretch(1000, 3050).bytes));
}

#[test]
fn damage_is_said_with_its_place_and_nothing_is_thrown_away() {
    let damaged_at = |change: &dyn Fn(&Place)| {
        let place = Place::new();
        let spool = place.open();
        for number in 0..5 {
            spool.append(SYSTEM, &stretch(1000 + number * (8 << 20), 8 << 20)).unwrap();
        }
        drop(spool);
        change(&place);
        let before = std::fs::read_dir(place.path()).unwrap().count();
        let opened = place.try_open();
        let outcome = opened.map_err(PostgresStoreError::from).and_then(|spool| {
            let drained = drain(&spool, &place.repository, &mut |_| {});
            drained.inspect_err(|_| assert!(spool.status().waiting_bytes > 0))
        });
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), before, "nothing is gone");
        match outcome {
            Err(PostgresStoreError::Spool(SpoolError::Damaged { path, at, .. })) => (path, at, place),
            other => panic!("{other:?}"),
        }
    };
    // Within a record of a file that another one follows: found when it is published.
    let second = (BLOCK_BYTES + (8 << 20) + BLOCK_BYTES) as u64;
    let (path, at, place) = damaged_at(&|place| place.change(1, second + 5000, |byte| *byte ^= 1));
    assert_eq!((path, at), (place.file(1), second));
    assert_eq!(place.kept(ONE).0, [(1000, 1000 + (8 << 20))], "what comes before it is published");
    // The head of a record.
    let (_, at, _) = damaged_at(&|place| place.change(1, second + 5, |byte| *byte ^= 1));
    assert_eq!(at, second);
    // The head of a file.
    let (path, at, place) = damaged_at(&|place| place.change(2, 40, |byte| *byte ^= 1));
    assert_eq!((path, at), (place.file(2), 0));
    // A record of the last file with one behind it.
    let (path, at, place) = damaged_at(&|place| {
        let spool = place.open();
        spool.append(SYSTEM, &stretch(1000 + 5 * (8 << 20), 100)).unwrap();
        drop(spool);
        place.change(2, 9000, |byte| *byte ^= 1);
    });
    assert_eq!((path, at), (place.file(2), BLOCK_BYTES as u64));
}

#[test]
fn a_file_that_is_missing_is_damage() {
    let place = Place::new();
    let spool = place.open();
    for number in 0..9 {
        spool.append(SYSTEM, &stretch(1000 + number * (8 << 20), 8 << 20)).unwrap();
    }
    drop(spool);
    std::fs::remove_file(place.file(2)).unwrap();
    let error = place.try_open().unwrap_err();
    assert!(matches!(&error, SpoolError::Damaged { path, .. } if *path == place.file(2)), "{error}");
}

#[test]
fn another_cluster_gets_files_of_its_own() {
    let place = Place::new();
    let spool = place.open();
    spool.append(SYSTEM, &stretch(1000, 100)).unwrap();
    spool.append(SystemId(78), &stretch(5000, 100)).unwrap();
    spool.append(SYSTEM, &stretch(1100, 100)).unwrap();
    drop(spool);
    let drained = drain(&place.open(), &place.repository, &mut |_| {}).unwrap();
    assert_eq!(drained.stretches[&(SYSTEM, ONE)], (Lsn(1000), Lsn(1200)));
    assert_eq!(drained.stretches[&(SystemId(78), ONE)], (Lsn(5000), Lsn(5100)));
}

#[test]
fn the_repository_is_asked_once_and_may_be_further_on() {
    let place = Place::new();
    let spool = Arc::new(place.open());
    spool.append(SYSTEM, &stretch(1000, 100)).unwrap();
    WalSink::append(&mut place.log(), &stretch(1000, 5000)).unwrap();
    let mut log = place.spooled(&spool);
    assert_eq!(FollowedLog::end(&mut log, ONE).unwrap(), Some(Lsn(6000)));
    let (start, tail) = FollowedLog::tail(&mut log, ONE, 10).unwrap().unwrap();
    assert_eq!((start, tail), (Lsn(5990), stretch(5990, 10).bytes));
    assert_eq!(spool.status().published, Some((ONE, Lsn(6000))));
    log.append(&stretch(6000, 10)).unwrap();
    assert_eq!(FollowedLog::end(&mut log, ONE).unwrap(), Some(Lsn(6010)));
    drain(&spool, &place.repository, &mut |_| {}).unwrap();
    assert_eq!(place.kept(ONE), (vec![(1000, 6010)], stretch(1000, 5010).bytes));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Appends, crashes (which may leave a part of the next record behind), openings and publications in any order:
    /// everything that was appended comes out, in order, once.
    #[test]
    fn whatever_happens_everything_comes_out_once(steps in proptest::collection::vec((0u8..8, 1usize..200_000, any::<u64>()), 1..25)) {
        let place = Place::new();
        let mut spool = Arc::new(place.open());
        let mut end = 1000;
        for (what, length, random) in steps {
            match what {
                0..=3 => {
                    spool.append(SYSTEM, &stretch(end, length)).unwrap();
                    end += length as u64;
                }
                4 | 5 => {
                    let writing = spool.writing.lock().unwrap().as_ref().map(|file| (file.sequence, file.at));
                    drop(spool);
                    if let Some((sequence, at)) = writing.filter(|(_, at)| at + 8192 < FILE_BYTES && what == 5) {
                        let file = OpenOptions::new().write(true).open(place.file(sequence)).unwrap();
                        file.write_all_at(&random.to_le_bytes(), at + random % 8000).unwrap();
                    }
                    spool = Arc::new(place.open());
                }
                6 => {
                    Publisher::new(&spool, &place.repository).publish_next().unwrap();
                }
                _ => {
                    // Published, and the process ended before it let go.
                    if let Some(batch) = spool.read(length).unwrap()
                        && let BatchContent::Wal(stretch) = &batch.content
                    {
                        place.log().fit(stretch).unwrap();
                    }
                }
            }
        }
        drain(&spool, &place.repository, &mut |_| {}).unwrap();
        let (stretches, bytes) = place.kept(ONE);
        prop_assert_eq!(bytes, stretch(1000, end as usize - 1000).bytes);
        prop_assert!(stretches.len() <= 1);
    }
}
