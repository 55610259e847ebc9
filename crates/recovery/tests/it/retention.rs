//! Retention and what becomes of the log: with a repository whose clock is moved, and with real servers.

use crate::house::{CHECKSUM, House, fill, flushed, on_one_version, rows};
use lifeboat_base::Secret;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_plan::{Retain, Span};
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster};
use lifeboat_postgres_wal::{Edge, Lsn, SegmentSize, SystemId, Target as Point, TargetError, TimelineId};
use lifeboat_recovery::postgres::cluster_points;
use lifeboat_recovery::upkeep::{self, Upkeep, UpkeepOptions, WRITE_ONLY};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    CheckOptions, Environment, InitOptions, LOG_POSITION_FACT, Lineage, Lock, LogCatalogue, LogExtent,
    LogPayload, LogWriter, Published, Reading, Repository, Role, SnapshotSource, SnapshotWriter, Unlock,
    check,
};
use lifeboat_store_postgres::{
    PostgresStoreError, RecoveryTarget, RepositoryLog, STORE, SnapshotFacts, WalSink, WalStretch, resolve,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SYSTEM: SystemId = SystemId(7);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
pub(crate) const SEGMENT: u64 = 1 << 20;
const SECRET: [u8; 32] = [7; 32];

/// A repository in memory, and a clock that everybody in it goes by.
pub(crate) struct Moved {
    store: Arc<MemoryStore>,
    pub(crate) clock: ManualClock,
    pub(crate) repository: Arc<Repository>,
    dataset: DatasetName,
    log: RepositoryLog,
    position: u64,
}

pub(crate) fn environment(clock: &ManualClock, state: Option<&Path>) -> Environment {
    let clock = Clock::Manual(clock.clone());
    Environment { state: state.map(Path::to_owned), clock, ..Environment::default() }
}

impl Moved {
    /// With a state, so that its writer is one and the same.
    pub(crate) fn new(state: &Path) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_767_225_600));
        let store = Arc::new(MemoryStore::with_clock(Clock::Manual(clock.clone())));
        let lock = Lock::Command(Secret::new(SECRET.to_vec()));
        let options = InitOptions { grace: Duration::ZERO, ..InitOptions::default() };
        let environment = environment(&clock, Some(state));
        let repository = Repository::init(store.clone(), &[(lock, "test".to_owned())], &options, environment);
        let (repository, dataset) = (Arc::new(repository.unwrap()), DatasetName::new("app").unwrap());
        let log = RepositoryLog::new(&repository, &dataset, SYSTEM);
        Self { store, clock, repository, dataset, log, position: SEGMENT }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Clock::Manual(self.clock.clone()).now()
    }

    /// So much is written, and durable at once.
    pub(crate) fn write(&mut self, bytes: usize) {
        let now = self.now();
        let stretch = WalStretch {
            timeline: TimelineId(1),
            start: Lsn(self.position),
            bytes: vec![0; bytes],
            first: now,
            last: now,
        };
        self.position += bytes as u64;
        self.log.append(&stretch).unwrap();
    }

    pub(crate) fn snapshot(&self) -> Published {
        let mut writer = SnapshotWriter::begin(&self.repository, self.source(STORE)).unwrap();
        let facts = SnapshotFacts {
            system: SYSTEM,
            timeline: TimelineId(1),
            start: Lsn(self.position - 100),
            stop: Lsn(self.position),
            server_version: 150_014,
            block_bytes: 8192,
            segment: SegmentSize::new(SEGMENT).unwrap(),
            checksums: true,
            tablespaces: Vec::new(),
            marker: None,
            superuser: None,
        };
        facts.write(&mut writer);
        writer.finish(Metadata::default()).unwrap()
    }

    /// Up to where is written.
    pub(crate) fn end(&self) -> u64 {
        self.position
    }

    /// The repository as another machine opens it.
    pub(crate) fn opened_elsewhere(&self, state: &Path) -> Arc<Repository> {
        let unlock = Unlock::Command(Secret::new(SECRET.to_vec()));
        let its = environment(&self.clock, Some(state));
        Arc::new(Repository::open(self.store.clone(), &unlock, its).unwrap())
    }

    pub(crate) fn source(&self, store: &str) -> SnapshotSource {
        SnapshotSource {
            dataset: self.dataset.clone(),
            store: store.to_owned(),
            source: "/data".to_owned(),
            lineage: None,
            program: "test".to_owned(),
        }
    }

    fn prune(&self, retain: Retain) -> Upkeep {
        pruned(&self.repository, retain, self.now())
    }

    /// The stretches of the log.
    pub(crate) fn held(&self) -> Vec<(u64, u64)> {
        self.held_in(&self.repository)
    }

    pub(crate) fn held_in(&self, repository: &Arc<Repository>) -> Vec<(u64, u64)> {
        let logs = LogCatalogue::read(repository, &self.dataset).unwrap().lineages();
        logs.iter().flat_map(|log| &log.stretches).map(|stretch| (stretch.start, stretch.end)).collect()
    }
}

pub(crate) fn pruned(repository: &Arc<Repository>, retain: Retain, now: Timestamp) -> Upkeep {
    let retain_of = |_: &DatasetName| Some(retain);
    let options = UpkeepOptions {
        retain_of: &retain_of,
        only: None,
        dry_run: false,
        max_unused_percent: 10,
        wait: Duration::ZERO,
        now,
    };
    let dry_run = UpkeepOptions { dry_run: true, ..options.clone() };
    let foretold = upkeep::prune(repository, &dry_run).unwrap_or_else(|error| panic!("{}", report(&error)));
    let done = upkeep::prune(repository, &options).unwrap_or_else(|error| panic!("{}", report(&error)));
    let ids = |all: &[Published]| all.iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(&foretold.forgotten), ids(&done.forgotten), "what was said beforehand");
    assert_eq!(ids(&foretold.kept), ids(&done.kept));
    assert!(done.report.waiting_for.is_empty(), "{:?}", done.report);
    done
}

fn report(error: &dyn std::error::Error) -> String {
    lifeboat_base::report(error)
}

pub(crate) fn assert_whole(repository: &Arc<Repository>) {
    let report =
        check(repository, CheckOptions { read: Reading::Everything, threads: 2 }, &|_, _| ()).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

/// What compaction puts together goes as one.
const OBJECT_BYTES: u64 = 16 << 20;

#[test]
fn three_weeks_in_a_real_repository_are_kept_as_the_table_says() {
    let state = tempfile::tempdir().unwrap();
    let mut moved = Moved::new(state.path());
    let (window, daily) = (3 * DAY, 10_usize);
    let retain = Retain { daily: 10, window: Some(Span::new(window)), ..Retain::default() };
    let mut taken: Vec<(Timestamp, SnapshotFacts)> = Vec::new();
    let mut holes = 0;
    for day in 0..21_u64 {
        for _ in 0..4 {
            for _ in 0..10 {
                moved.clock.advance(HOUR * 6 / 10);
                moved.write(1 << 20);
            }
            let published = moved.snapshot();
            taken.push((moved.now(), SnapshotFacts::read(&published.snapshot.facts).unwrap()));
        }
        // Every other day on the hour, when one snapshot is exactly as old as the window.
        if day % 2 == 1 {
            moved.clock.advance(HOUR / 2);
        }
        let done = moved.prune(retain);
        let start = moved.now().minus(window);
        let in_window = |time: &Timestamp| *time > start;
        let origin = taken.iter().rposition(|(time, _)| !in_window(time)).unwrap_or(0);
        let newest_of_day = |n: usize| {
            let day = |time: Timestamp| time.as_secs() / 86_400;
            taken.get(n + 1).is_none_or(|(next, _)| day(*next) > day(taken[n].0))
        };
        let of_days: Vec<usize> = (0..taken.len()).filter(|n| newest_of_day(*n)).collect();
        let of_days = &of_days[of_days.len().saturating_sub(daily)..];
        let expected: Vec<usize> = (0..taken.len()).filter(|n| *n >= origin || of_days.contains(n)).collect();
        let kept: Vec<Timestamp> = done.kept.iter().map(|published| published.snapshot.taken).collect();
        assert_eq!(kept, expected.iter().map(|n| taken[*n].0).collect::<Vec<_>>(), "day {day}");
        assert_log(&moved, &expected.iter().map(|n| &taken[*n].1).collect::<Vec<_>>(), &taken[origin].1);
        let points = cluster_points(&moved.repository, &moved.dataset).unwrap().unwrap();
        assert!(points.unreachable.is_empty(), "day {day}: {points:?}");
        holes = holes.max(points.holes.len());
    }
    assert!(holes >= 2, "older snapshots stand alone");
    assert_whole(&moved.repository);
}

/// What is there is what the snapshots need for themselves and everything from the window's first on; what more is
/// there lies in objects of which a part stays.
fn assert_log(moved: &Moved, kept: &[&SnapshotFacts], origin: &SnapshotFacts) {
    let held = moved.held();
    let holds = |from: u64, to: u64| held.iter().any(|(start, end)| *start <= from && to <= *end);
    let window = (origin.first_needed().0, moved.position);
    let own = kept.iter().map(|facts| (facts.first_needed().0.max(SEGMENT), facts.stop.0));
    let needed: Vec<(u64, u64)> = own.chain([window]).collect();
    for (from, to) in &needed {
        assert!(holds(*from, *to), "{from} to {to} of {held:?}");
    }
    let is_near = |at: u64| {
        needed.iter().any(|(from, to)| from.saturating_sub(OBJECT_BYTES) < at && at < to + OBJECT_BYTES)
    };
    let stray = held.iter().flat_map(|(start, end)| (*start..*end).step_by(1 << 20)).find(|at| !is_near(*at));
    assert_eq!(stray, None, "{held:?} and {needed:?}");
}

#[test]
fn what_a_write_only_host_published_within_the_window_stays_however_much_it_publishes() {
    let state = tempfile::tempdir().unwrap();
    let moved = Moved::new(state.path());
    let laptop_state = tempfile::tempdir().unwrap();
    let laptop = moved.opened_elsewhere(laptop_state.path());
    let publish = |taken: Timestamp| {
        let mut writer = SnapshotWriter::begin(&laptop, moved.source("files")).unwrap();
        writer.set_taken(taken);
        writer.finish(Metadata::default()).unwrap()
    };
    let first = publish(moved.now());
    moved.clock.advance(DAY);
    let good = publish(moved.now());
    moved.clock.advance(DAY);
    // Whoever stole its key floods it, in the name of every hour to come and of times long gone.
    let flood: Vec<Published> = (0..20_u32)
        .map(|n| match n % 2 {
            0 => publish(moved.now().plus(2 * n * HOUR)),
            _ => publish(Timestamp::from_secs(n.into())),
        })
        .collect();
    let retain = Retain { hourly: 5, daily: 2, ..Retain::default() };
    let reasons = |retain: Retain, published: &Published| {
        let retain_of = |_: &DatasetName| Some(retain);
        let options = UpkeepOptions {
            retain_of: &retain_of,
            only: None,
            dry_run: true,
            max_unused_percent: 10,
            wait: Duration::ZERO,
            now: moved.now(),
        };
        let judged = upkeep::judge(&moved.repository, &options).unwrap();
        let one = judged[&moved.dataset].iter().find(|one| one.published.id == published.id);
        one.unwrap().reasons.clone()
    };
    assert!(reasons(retain, &good).is_empty(), "of any other writer it would be pushed out");
    let signer = laptop.writer().unwrap();
    moved.repository.enrol(signer.public(), "laptop", Role::WriteOnly, Vec::new()).unwrap();
    // It arrived a day ago, and the rules reach two days back.
    assert!(reasons(retain, &good).contains(&WRITE_ONLY));
    assert!(!reasons(retain, &first).contains(&WRITE_ONLY), "as old as the rules reach is not younger");
    assert!(flood.iter().all(|one| reasons(retain, one).contains(&WRITE_ONLY)));
    // A window that is given decides alone.
    let window = |span: Duration| Retain { window: Some(Span::new(span)), ..retain };
    assert!(
        !reasons(Retain { window: Some(Span::new(HOUR)), daily: 0, ..retain }, &good).contains(&WRITE_ONLY)
    );
    assert!(reasons(window(3 * DAY), &first).contains(&WRITE_ONLY));
    let done = moved.prune(window(3 * DAY));
    assert_eq!((done.forgotten.len(), done.kept.len()), (0, 22));
    // Once it is older than the window, it goes by the rules, by when it arrived.
    moved.clock.advance(5 * DAY);
    let last = publish_as_maintainer(&moved);
    let done = moved.prune(Retain { window: Some(Span::new(3 * DAY)), ..Retain::default() });
    let kept: Vec<_> = done.kept.iter().map(|published| published.id).collect();
    assert_eq!(kept.len(), 2, "what the window starts from, and what is in it");
    assert!(kept.contains(&last.id) && done.forgotten.iter().any(|one| one.id == good.id));
}

pub(crate) fn publish_as_maintainer(moved: &Moved) -> Published {
    let writer = SnapshotWriter::begin(&moved.repository, moved.source("files")).unwrap();
    writer.finish(Metadata::default()).unwrap()
}

#[test]
fn what_is_held_and_what_has_no_rule_stays() {
    let state = tempfile::tempdir().unwrap();
    let moved = Moved::new(state.path());
    let mut all = Vec::new();
    for _ in 0..5 {
        moved.clock.advance(HOUR);
        all.push(publish_as_maintainer(&moved));
    }
    let signer = moved.repository.writer().unwrap();
    moved.repository.hold(&signer, &all[1], "audit").unwrap();
    let no_rule = |_: &DatasetName| None;
    let options = UpkeepOptions {
        retain_of: &no_rule,
        only: None,
        dry_run: false,
        max_unused_percent: 10,
        wait: Duration::ZERO,
        now: moved.now(),
    };
    assert_eq!(upkeep::prune(&moved.repository, &options).unwrap().kept.len(), 5);
    let elsewhere = UpkeepOptions {
        retain_of: &|_| Some(Retain::default()),
        only: Some(DatasetName::new("other").unwrap()),
        ..options
    };
    assert!(upkeep::prune(&moved.repository, &elsewhere).unwrap().forgotten.is_empty());
    let done = moved.prune(Retain { versions: 2, ..Retain::default() });
    let kept: Vec<_> = done.kept.iter().map(|published| published.id).collect();
    assert_eq!(kept, [all[1].id, all[3].id, all[4].id]);
    let there = moved.repository.snapshots(None, &mut Vec::new()).unwrap();
    assert_eq!(there.iter().map(|published| published.id).collect::<Vec<_>>(), kept);
}

#[test]
fn a_log_that_is_no_clusters_stays_from_the_oldest_kept_snapshot_on() {
    let state = tempfile::tempdir().unwrap();
    let moved = Moved::new(state.path());
    let (signer, lineage) = (moved.repository.writer().unwrap(), Lineage::new("records").unwrap());
    let open = || LogWriter::open(&moved.repository, &signer, &moved.dataset, &lineage).unwrap();
    let mut log = open();
    let mut snapshots = Vec::new();
    for n in 0..7_u64 {
        moved.clock.advance(HOUR);
        let extent = LogExtent { start: n, end: n + 1, first: moved.now(), last: moved.now() };
        log.append(extent, "records", &LogPayload::Units(vec![vec![7]])).unwrap();
        if n % 2 == 0 {
            let mut writer = SnapshotWriter::begin(&moved.repository, moved.source("controller")).unwrap();
            writer.set_lineage(lineage.as_str());
            writer.set_fact(LOG_POSITION_FACT, n);
            snapshots.push(writer.finish(Metadata::default()).unwrap());
        }
    }
    // So few are not put together. The window of a cluster has no say here.
    let retain = Retain { versions: 2, window: Some(Span::new(HOUR)), ..Retain::default() };
    let done = moved.prune(retain);
    assert_eq!(done.kept.iter().map(|one| one.id).collect::<Vec<_>>(), [snapshots[2].id, snapshots[3].id]);
    assert_eq!(moved.held(), [(4, 7)]);
    assert_eq!(open().end(), Some(7), "its writer finds it");
    assert_whole(&moved.repository);
}

/// Enough log that what lies between two snapshots is more than objects that hold some of either.
const MANY_ROWS: u32 = 150_000;

#[test]
fn a_window_passes_and_older_snapshots_restore_and_start() {
    on_one_version(|installation| passes(installation, false));
}

#[test]
fn a_window_that_begins_behind_a_promotion_keeps_what_leads_there() {
    on_one_version(|installation| passes(installation, true));
}

fn passes(installation: &Installation, promoted: bool) {
    let (house, options) = (House::new(), ClusterOptions::new(installation.clone()));
    let primary = TestCluster::start_with(options.clone());
    fill(&primary, 300);
    let standby = promoted.then(|| primary.standby());
    let source = standby.as_ref().unwrap_or(&primary);
    let followed = house.follow(source);
    let protect = || {
        // A backup of a standby begins where the last checkpoint that it has replayed did.
        primary.psql("checkpoint");
        if let Some(standby) = &standby {
            let written = flushed(&primary);
            standby.wait_for(&format!("select pg_last_wal_replay_lsn() >= '{written}'"), "t");
        }
        house.protect(source).published
    };
    let old = protect();
    let of_old = rows(&primary);
    fill(&primary, MANY_ROWS);
    primary.psql("select pg_create_restore_point('between')");
    let between: Lsn = primary.psql("select pg_current_wal_insert_lsn()").trim().parse().unwrap();
    fill(&primary, MANY_ROWS);
    let origin = protect();
    fill(&primary, 50);
    primary.psql("select pg_create_restore_point('early')");
    let early = rows(&primary);
    fill(&primary, 50);
    if let Some(standby) = &standby {
        standby.wait_for(CHECKSUM, &rows(&primary));
        standby.promote();
    }
    fill(source, 60);
    let last = rows(source);
    let end = followed.catch_up(source);
    followed.stop();
    // A week later: the window begins behind that snapshot, and behind the promotion.
    let week = 7 * DAY;
    let begins = if promoted { Clock::System.now() } else { origin.snapshot.taken };
    let now = begins.plus(week).plus(Duration::from_millis(1));
    let retain = Retain { versions: 5, window: Some(Span::new(week)), ..Retain::default() };
    let done = pruned(&house.repository, retain, now);
    assert_eq!((done.forgotten.len(), done.kept.len()), (0, 2));
    assert!(done.report.deleted_logs > 0, "{:?}", done.report);
    assert_whole(&house.repository);
    let points = house.points();
    assert_eq!((points.holes.len(), points.unreachable.len()), (1, 0), "{points:?}");
    let facts = SnapshotFacts::read(&old.snapshot.facts).unwrap();
    let [alone, ..] = points.recoverable.as_slice() else { panic!("{points:?}") };
    assert_eq!((alone.from, &alone.snapshots), (facts.stop, &vec![old.id.short()]));
    assert!(alone.to < between && points.recoverable.last().unwrap().to >= end);
    // The older snapshot is a point without log, by itself.
    let wanted = RecoveryTarget { target: Point::Latest, edge: Edge::Inclusive, timeline: None };
    let path = resolve(&house.repository, &house.dataset, &wanted, Some(&old));
    let path = path.unwrap_or_else(|error| panic!("{}", report(&error)));
    assert!(path.goes_on_to.is_some());
    assert_eq!(rows(&house.restored(&path, &options, "old")), of_old);
    // The window's points are all there.
    let early_path = house.resolve_on(Point::Name("early".to_owned()), Some(TimelineId(1))).unwrap();
    assert_eq!(early_path.snapshot.id, origin.id);
    assert_eq!(rows(&house.restored(&early_path, &options, "early")), early);
    assert_eq!(rows(&house.restored(&house.latest(), &options, "latest")), last);
    // What lies between cannot be had, and the answer says what can.
    let error = house.resolve(Point::Lsn(between)).unwrap_err();
    let reached = matches!(&error, PostgresStoreError::Target(TargetError::NotReached { .. }));
    assert!(reached, "{}", report(&error));
    assert!(house.resolve(Point::Name("between".to_owned())).is_err());
}
