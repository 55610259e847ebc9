//! Which log may go, by the snapshots that stay.

use crate::house::House;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_postgres_wal::{Lsn, SystemId, TimelineId};
use lifeboat_recovery::Target;
use lifeboat_recovery::logs::{Aged, cut_offs};
use lifeboat_recovery::protect::{ProtectOptions, protect};
use lifeboat_repository::Published;
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{RepositoryLog, STORE, WalSink, WalStretch};
use std::collections::BTreeMap;
use std::time::Duration;

const SYSTEM: SystemId = SystemId(7);
const SEGMENT: u64 = 16 << 20;

/// What a snapshot of the cluster says of itself that needs the log from a segment on.
fn facts(segment: u64) -> BTreeMap<String, String> {
    let (start, stop) = (Lsn(segment * SEGMENT + 40), Lsn(segment * SEGMENT + 400));
    let facts = [
        ("system", SYSTEM.to_string()),
        ("timeline", "1".to_owned()),
        ("start-lsn", start.to_string()),
        ("stop-lsn", stop.to_string()),
        ("server-version", "150014".to_owned()),
        ("block-bytes", "8192".to_owned()),
        ("segment-bytes", SEGMENT.to_string()),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A snapshot that says this.
fn snapshot(house: &House, facts: BTreeMap<String, String>) -> Published {
    let tree = house.place.path().join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    let report = protect(
        &house.repository,
        &house.dataset,
        &Target::Files(tree),
        &ProtectOptions::default(),
        &Progress::default(),
    );
    let mut published = report.unwrap().published;
    published.snapshot.store = STORE.to_owned();
    published.snapshot.facts = facts;
    published
}

#[test]
fn log_stays_where_a_snapshot_that_stays_does_not_say_what_it_needs() {
    let house = House::new();
    let at: Timestamp = Clock::System.now().minus(Duration::from_secs(3600));
    let mut log = RepositoryLog::new(&house.repository, &house.dataset, SYSTEM);
    let stretch = WalStretch {
        timeline: TimelineId(1),
        start: Lsn(SEGMENT),
        bytes: vec![7; 4 * SEGMENT as usize / 1024],
        first: at,
        last: at,
    };
    log.append(&stretch).unwrap();
    let cut = |kept: &[Published]| -> Vec<u64> {
        let aged: Vec<Aged<'_>> = kept.iter().map(|one| (one, one.snapshot.taken)).collect();
        let [without, with] = [None, Some(at)].map(|window| {
            let cut_offs = cut_offs(&house.repository, &house.dataset, &aged, window).unwrap();
            cut_offs.into_iter().map(|cut| cut.before).collect::<Vec<_>>()
        });
        assert_eq!(without, with, "everything was taken since the window began");
        without
    };
    let good = snapshot(&house, facts(2));
    assert_eq!(cut(std::slice::from_ref(&good)), [2 * SEGMENT]);
    // Another release wrote it: nobody knows here what it needs.
    let mut unknown = facts(1);
    unknown.remove("segment-bytes");
    let unknown = snapshot(&house, unknown);
    assert_eq!(cut(&[good.clone(), unknown.clone()]), Vec::<u64>::new());
    assert_eq!(cut(&[unknown]), Vec::<u64>::new());
    // What is no cluster has no say.
    let mut files = snapshot(&house, BTreeMap::new());
    files.snapshot.store = "files".to_owned();
    assert_eq!(cut(&[good, files]), [2 * SEGMENT]);
}
