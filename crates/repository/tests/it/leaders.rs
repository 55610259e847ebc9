//! Leaders: one at a time, and of one that was replaced nothing later counts.

#![expect(clippy::unwrap_used, reason = "tests; the lint only knows functions that are marked as such")]

use crate::logs::directory_repository;
use crate::support::*;
use lifeboat_base::clock::Timestamp;
use lifeboat_objects::{Key, ObjectStore, list_all};
use lifeboat_repository::tree::Metadata;
use lifeboat_repository::{
    Candidate, CheckOptions, Effective, Leadership, Monotonic, Outcome, PruneOptions, Published, Reading,
    Repository, SnapshotWriter, Standing, check, copy, effective, prune,
};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const STALE: Duration = Duration::from_secs(30);

/// An observer's own clock, which only a test moves.
#[derive(Clone, Debug, Default)]
struct Observer(Arc<AtomicU64>);

impl Observer {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }
}

impl Monotonic for Observer {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// A machine: its own state and key, its own clock.
struct Machine {
    _state: tempfile::TempDir,
    repository: Arc<Repository>,
    clock: Observer,
    candidate: Candidate,
}

fn machine(house: &House) -> Machine {
    let state = tempfile::tempdir().unwrap();
    let repository = house.open_elsewhere(state.path()).unwrap();
    let clock = Observer::default();
    let signer = repository.writer().unwrap();
    let candidate = Candidate::new(&repository, &signer, STALE, Arc::new(clock.clone()));
    Machine { _state: state, repository, clock, candidate }
}

impl Machine {
    fn leads(&mut self) -> Leadership {
        match self.candidate.stand().unwrap() {
            Outcome::Leading(leadership) => leadership,
            following => panic!("{following:?}"),
        }
    }

    fn follows(&mut self) -> (u64, Duration) {
        match self.candidate.stand().unwrap() {
            Outcome::Following { generation, silent_for, .. } => (generation, silent_for),
            leading => panic!("{leading:?}"),
        }
    }

    fn publish(&self, leadership: &mut Leadership) -> Published {
        let mut writer = SnapshotWriter::begin(&self.repository, source("shared")).unwrap();
        writer.set_leadership(&leadership.fix(&dataset("shared")).unwrap());
        writer.finish(Metadata::default()).unwrap()
    }
}

fn counted(house: &House) -> Effective<Published> {
    let mut unreadable = Vec::new();
    let judged = house.repository.judged_snapshots(Some(&dataset("shared")), &mut unreadable).unwrap();
    assert!(unreadable.is_empty());
    let listed = house.repository.snapshots(None, &mut unreadable).unwrap();
    assert_eq!(listed, judged.counted, "what is listed is what counts, of one dataset and of all");
    judged
}

fn ids(published: &[Published]) -> Vec<String> {
    let mut ids: Vec<String> = published.iter().map(|p| p.id.to_string()).collect();
    ids.sort();
    ids
}

#[test]
fn the_first_leads_and_the_second_follows_until_it_is_silent() {
    let house = House::new();
    let (mut a, mut b) = (machine(&house), machine(&house));
    let mut leader = a.leads();
    assert_eq!(leader.generation(), 1);
    assert_eq!(b.follows(), (1, Duration::ZERO));
    for _ in 0..40 {
        b.clock.advance(STALE - Duration::from_secs(1));
        assert_eq!(leader.heartbeat().unwrap(), Standing::Current);
        assert_eq!(b.follows(), (1, Duration::ZERO), "a new heartbeat ends the silence");
    }
    assert!(list_all(&*house.store, "heartbeats/").unwrap().len() <= 17, "old heartbeats go");
    b.clock.advance(STALE - Duration::from_nanos(1));
    assert_eq!(b.follows(), (1, STALE - Duration::from_nanos(1)));
    b.clock.advance(Duration::from_nanos(1));
    let second = b.leads();
    assert_eq!(second.generation(), 2);
    assert!(!leader.is_current().unwrap() && second.is_current().unwrap());
}

#[test]
fn a_leader_that_lost_sees_it_and_gives_no_more_signs_of_life() {
    let house = House::new();
    let (mut a, mut b) = (machine(&house), machine(&house));
    let mut first = a.leads();
    first.heartbeat().unwrap();
    b.follows();
    b.clock.advance(STALE);
    let second = b.leads();
    let beats = || list_all(&*house.store, "heartbeats/000000000001/").unwrap().len();
    let before = beats();
    let writer = b.repository.writer().unwrap().id();
    assert_eq!(first.heartbeat().unwrap(), Standing::Superseded { generation: 2, writer });
    assert_eq!(first.heartbeat().unwrap(), Standing::Superseded { generation: 2, writer });
    assert_eq!(beats(), before);
    // It may stand again, and follows like anybody else.
    assert_eq!(a.follows().0, 2);
    drop(second);
}

#[test]
fn who_resigns_is_followed_at_once() {
    let house = House::new();
    let (mut a, mut b) = (machine(&house), machine(&house));
    let leader = a.leads();
    assert_eq!(b.follows().0, 1);
    leader.resign().unwrap();
    assert_eq!(b.leads().generation(), 2);
}

#[test]
fn of_candidates_that_race_for_a_generation_exactly_one_wins() {
    let house = House::new();
    for round in 1..=5u64 {
        let mut racing: Vec<Machine> = (0..4).map(|_| machine(&house)).collect();
        if round > 1 {
            for candidate in &mut racing {
                candidate.follows();
                candidate.clock.advance(STALE);
            }
        }
        let barrier = Barrier::new(racing.len());
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let racing: Vec<_> = racing
                .iter_mut()
                .map(|machine| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        machine.candidate.stand().unwrap()
                    })
                })
                .collect();
            racing.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let leading: Vec<u64> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Leading(leadership) => Some(leadership.generation()),
                Outcome::Following { generation, .. } => {
                    assert_eq!(*generation, round);
                    None
                }
            })
            .collect();
        assert_eq!(leading, [round]);
    }
    assert_eq!(house.repository.leaders().unwrap().len(), 5);
}

#[test]
fn wall_clocks_that_jump_change_nothing() {
    let house = House::new();
    let (mut a, mut b) = (machine(&house), machine(&house));
    let mut leader = a.leads();
    assert_eq!(b.follows().0, 1);
    // Everybody's wall clock, the store's included, jumps ten years ahead and then back before the start.
    house.clock.advance(Duration::from_secs(315_360_000));
    assert_eq!(b.follows(), (1, Duration::ZERO));
    assert_eq!(leader.heartbeat().unwrap(), Standing::Current);
    house.clock.set(Timestamp::from_secs(1));
    assert_eq!(leader.heartbeat().unwrap(), Standing::Current);
    assert_eq!(b.follows(), (1, Duration::ZERO));
    b.clock.advance(STALE);
    let mut second = b.leads();
    let (kept, late) = (b.publish(&mut second), a.publish(&mut leader));
    house.clock.set(Timestamp::from_secs(2_000_000_000));
    let read = counted(&house);
    assert_eq!((ids(&read.counted), ids(&read.void)), (ids(&[kept]), ids(&[late])));
}

#[test]
fn what_a_thawed_leader_publishes_does_not_count() {
    let house = House::new();
    let (mut a, mut b, mut c) = (machine(&house), machine(&house), machine(&house));
    let mut first = a.leads();
    let early = a.publish(&mut first);
    b.follows();
    b.clock.advance(STALE);
    let mut second = b.leads();
    // The old leader publishes once more before the new one's first entry: that entry will have seen it.
    let just_in_time = a.publish(&mut first);
    let took_over = b.publish(&mut second);
    let late = a.publish(&mut first);
    let next = b.publish(&mut second);
    let read = counted(&house);
    assert_eq!(
        ids(&read.counted),
        ids(&[early.clone(), just_in_time.clone(), took_over.clone(), next.clone()])
    );
    assert_eq!(ids(&read.void), ids(std::slice::from_ref(&late)));
    // The entry that fixed the chain is forgotten: the later ones repeat what it fixed.
    let signer = house.repository.writer().unwrap();
    house.repository.forget(&signer, &took_over, "test").unwrap();
    assert_eq!(ids(&counted(&house).void), ids(std::slice::from_ref(&late)));
    // A third leader carries on from what counts, not from what is void.
    c.follows();
    c.clock.advance(STALE);
    let mut third = c.leads();
    let by_third = c.publish(&mut third);
    house.repository.forget(&signer, &next, "test").unwrap();
    let stale = b.publish(&mut second);
    let read = counted(&house);
    assert_eq!(ids(&read.counted), ids(&[early, just_in_time, by_third]));
    assert_eq!(ids(&read.void), ids(&[late, stale]));
}

#[test]
fn a_writer_that_led_before_counts_again_under_its_new_generation() {
    let house = House::new();
    let (mut a, mut b) = (machine(&house), machine(&house));
    let mut first = a.leads();
    let early = a.publish(&mut first);
    b.follows();
    b.clock.advance(STALE);
    let second = b.leads();
    second.resign().unwrap();
    let mut third = a.leads();
    assert_eq!(third.generation(), 3);
    let under_third = a.publish(&mut third);
    // Its own old generation is over for itself too.
    let late = a.publish(&mut first);
    let read = counted(&house);
    assert_eq!((ids(&read.counted), ids(&read.void)), (ids(&[early, under_third]), ids(&[late])));
}

#[test]
fn garbage_and_strangers_lead_nothing() {
    let house = House::new();
    let (mut a, mut b) = (machine(&house), machine(&house));
    let leader = a.leads();
    // Somebody who can write to the store, and has no key, occupies the next generation and plays dead or alive.
    let stranger = House::new();
    let mut elsewhere = machine(&stranger);
    drop(elsewhere.leads());
    let foreign = stranger.store.get(&Key::new("leaders/000000000001").unwrap()).unwrap();
    house.store.create(&Key::new("leaders/000000000002").unwrap(), &foreign).unwrap();
    house.store.create(&Key::new("leaders/000000000003").unwrap(), b"garbage").unwrap();
    house.store.create(&Key::new("heartbeats/000000000001/000000000009").unwrap(), b"garbage").unwrap();
    assert!(leader.is_current().unwrap());
    assert_eq!(b.follows().0, 1);
    b.clock.advance(STALE);
    house.store.create(&Key::new("heartbeats/000000000001/000000000010").unwrap(), b"garbage").unwrap();
    assert_eq!(b.leads().generation(), 4);
    assert!(!leader.is_current().unwrap());
}

#[test]
fn a_shared_chain_is_read_by_generation() {
    let read = effective([(1, 'a'), (1, 'b'), (2, 'c'), (1, 'd'), (2, 'e'), (5, 'f'), (2, 'g'), (5, 'h')]);
    assert_eq!(read.counted, [(1, 'a'), (1, 'b'), (2, 'c'), (2, 'e'), (5, 'f'), (5, 'h')]);
    assert_eq!(read.void, [(1, 'd'), (2, 'g')]);
}

#[test]
fn what_does_not_count_is_no_base_no_latest_and_not_copied_but_keeps_its_content() {
    let house = House::new();
    let (mut a, mut b) = (machine(&house), machine(&house));
    let mut first = a.leads();
    b.follows();
    b.clock.advance(STALE);
    let mut second = b.leads();
    let kept = b.publish(&mut second);
    // The thawed leader publishes later than everybody, content that nobody else has.
    house.clock.advance(Duration::from_secs(60));
    let mut writer = SnapshotWriter::begin(&a.repository, source("shared")).unwrap();
    writer.set_leadership(&first.fix(&dataset("shared")).unwrap());
    write_files(&mut writer, &sample(7)).unwrap();
    let late = writer.finish(Metadata::default()).unwrap();
    // The fix of the first leader named no tips when it was made; the second's first entry voids it.
    assert_eq!(ids(&counted(&house).void), ids(std::slice::from_ref(&late)));
    let shared = dataset("shared");
    assert_eq!(house.repository.find_snapshot(Some(&shared), "latest").unwrap().id, kept.id);
    let writer = SnapshotWriter::begin(&house.repository, source("shared")).unwrap();
    assert_eq!(writer.base().unwrap().id, kept.id);
    drop(writer);
    // Whoever names it finds it, and prune keeps what it needs until it is forgotten.
    let found = house.repository.find_snapshot(Some(&shared), &late.id.to_string()).unwrap();
    house.clock.advance(Duration::from_secs(3600));
    let options = || PruneOptions { wait: Duration::ZERO, max_unused_percent: 0, ..PruneOptions::default() };
    prune(&house.repository, options()).unwrap();
    assert_eq!(restore(&house.repository, &found).unwrap(), sample(7));
    let report =
        check(&house.repository, CheckOptions { read: Reading::Everything, threads: 1 }, &|_, _| ()).unwrap();
    assert!(report.is_whole() && report.void == [late.slot.to_string()], "{report:?}");
    let (store, state) =
        (Arc::new(lifeboat_objects::memory::MemoryStore::new()), tempfile::tempdir().unwrap());
    let target = crate::checking::copy_of(&house, &store, &state);
    assert!(copy(&house.repository, &target, std::slice::from_ref(&late)).is_err());
    assert_eq!(copy(&house.repository, &target, std::slice::from_ref(&kept)).unwrap().copied, [kept.id]);
    // In the copy there are no leaders; what was copied counts.
    assert_eq!(ids(&target.snapshots(None, &mut Vec::new()).unwrap()), ids(std::slice::from_ref(&kept)));
    house.repository.forget(&house.repository.writer().unwrap(), &found, "test").unwrap();
    assert!(counted(&house).void.is_empty());
    assert!(prune(&house.repository, options()).unwrap().deleted_packs > 0);
}

#[test]
fn where_the_leader_cannot_be_told_its_snapshots_are_named_and_kept() {
    let house = House::new();
    let mut a = machine(&house);
    let mut first = a.leads();
    let published = a.publish(&mut first);
    let free = backup(&house.repository, "shared", &sample(1)).unwrap();
    let key = Key::new("leaders/000000000001").unwrap();
    house.store.overwrite(&key, b"rot");
    let mut unreadable = Vec::new();
    let listed = house.repository.snapshots(None, &mut unreadable).unwrap();
    assert_eq!(ids(&listed), ids(std::slice::from_ref(&free)));
    assert_eq!(unreadable.len(), 1);
    let said = lifeboat_base::report(&unreadable[0].error);
    assert!(said.contains("leaders/000000000001"), "{said}");
    assert!(unreadable[0].object.contains(&published.slot.writer.to_string()), "{unreadable:?}");
    let report = check(&house.repository, CheckOptions::default(), &|_, _| ()).unwrap();
    assert!(report.problems.iter().any(|p| p.object == key.as_str()), "{report:?}");
    // Its content stays, however long it takes to mend.
    prune(&house.repository, PruneOptions { wait: Duration::ZERO, ..PruneOptions::default() }).unwrap();
    let elsewhere = house.open_elsewhere(tempfile::tempdir().unwrap().path()).unwrap();
    restore(&elsewhere, &published).unwrap();
}

// Real processes, really killed.

const CHILD_ROOM: &str = "LIFEBOAT_LEADER_CHILD";

fn stands(repository: &Arc<Repository>, clock: &Observer) -> Candidate {
    Candidate::new(repository, &repository.writer().unwrap(), STALE, Arc::new(clock.clone()))
}

/// Leads, gives three signs of life, publishes once and resigns. As a child of a test it dies on the way.
#[test]
fn leading() {
    let child = std::env::var(CHILD_ROOM).ok();
    let alone = tempfile::tempdir().unwrap();
    let room = child.as_deref().map_or(alone.path(), Path::new);
    let repository = directory_repository(room, "leader");
    let Outcome::Leading(mut leadership) = stands(&repository, &Observer::default()).stand().unwrap() else {
        panic!("nobody else leads");
    };
    for _ in 0..3 {
        assert_eq!(leadership.heartbeat().unwrap(), Standing::Current);
    }
    let mut writer = SnapshotWriter::begin(&repository, source("shared")).unwrap();
    writer.set_leadership(&leadership.fix(&dataset("shared")).unwrap());
    writer.finish(Metadata::default()).unwrap();
    leadership.resign().unwrap();
}

/// Whether a process that leads, with this failpoint armed, came to its end.
fn leads_until(room: &Path, failpoint: &str) -> bool {
    Command::new(std::env::current_exe().unwrap())
        .args(["leaders::leading", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD_ROOM, room)
        .env("LIFEBOAT_FAILPOINTS", failpoint)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[test]
fn a_leader_killed_anywhere_is_followed_by_exactly_one() {
    // Where it dies; whether its generation exists then, how many signs of life, whether it published.
    for (failpoint, led, beats, published) in [
        ("leader::before-claim=kill", false, 0, false),
        ("leader::claimed=kill", true, 0, false),
        ("leader::before-heartbeat=kill", true, 0, false),
        ("leader::before-heartbeat=2*kill", true, 2, false),
        ("leader::before-heartbeat=3*kill", true, 3, true),
        ("leader::before-heartbeat=3*error", true, 3, true),
        ("leader::before-publication=kill", true, 3, false),
    ] {
        let room = tempfile::tempdir().unwrap();
        drop(directory_repository(room.path(), "leader"));
        assert!(!leads_until(room.path(), failpoint), "{failpoint} ended it");
        let repository = directory_repository(room.path(), "observer");
        assert_eq!(repository.leaders().unwrap().contains_key(&1), led, "{failpoint}");
        let store =
            lifeboat_objects::directory::DirectoryStore::create(room.path().join("repository")).unwrap();
        assert_eq!(list_all(&store, "heartbeats/").unwrap().len(), beats, "{failpoint}");
        let snapshots = repository.snapshots(None, &mut Vec::new()).unwrap();
        assert_eq!(snapshots.len(), usize::from(published), "{failpoint}");
        // Whoever stands next leads: at once where nobody did, else when the dead one is stale.
        let clock = Observer::default();
        let mut candidate = stands(&repository, &clock);
        if led {
            assert!(
                matches!(candidate.stand().unwrap(), Outcome::Following { generation: 1, .. }),
                "{failpoint}"
            );
            clock.advance(STALE);
        }
        let Outcome::Leading(mut next) = candidate.stand().unwrap() else { panic!("{failpoint}") };
        assert_eq!(next.generation(), if led { 2 } else { 1 }, "{failpoint}");
        assert_eq!(next.heartbeat().unwrap(), Standing::Current);
        // What the dead one published counts, and the same process started again follows.
        assert_eq!(repository.snapshots(None, &mut Vec::new()).unwrap(), snapshots, "{failpoint}");
        assert!(!leads_until(room.path(), ""), "{failpoint}: it stands again while another leads");
        next.resign().unwrap();
        assert!(leads_until(room.path(), ""), "{failpoint}: the other one resigned");
    }
}
