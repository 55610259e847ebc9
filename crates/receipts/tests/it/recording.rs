//! Recording at the end of what was done, whatever happens in between.

use crate::support::{House, Refusing, datasets, event};
use lifeboat_base::Hint;
use lifeboat_evidence::{Action, Flaw, Outcome, PublicKey, Sign, Signature, Verdict, Who};
use lifeboat_objects::ObjectStore;
use lifeboat_receipts::{RecordError, RepositoryChains};
use lifeboat_repository::Signer;
use std::sync::Arc;
use std::time::Duration;

/// A repository's writer as whoever signs receipts.
struct Key(Signer);

impl Sign for Key {
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public().0)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).0)
    }
}

#[test]
fn chains_in_a_repository_keep_what_chains_promise() {
    let house = House::new();
    let signer = house.repository.writer().unwrap();
    let chains = RepositoryChains::with_signer(&house.repository, signer.clone());
    let id = lifeboat_evidence::RepositoryId(house.repository.id().0);
    lifeboat_evidence::conformance::check(&chains, &Key(signer), id);
}

#[test]
fn what_began_and_ended_leaves_a_receipt_with_its_times() {
    let house = House::new();
    let recorder = house.recorder();
    let begun = recorder.begin(Action::Backup, Some("users"));
    house.clock.advance(Duration::from_secs(90));
    let ended = recorder.end(begun, vec![event("users"), event("debates")], Some(&house.repository));
    assert!((ended.written, ended.waiting, ended.trouble.is_none()) == (2, 0, true), "{ended:?}");
    let (bundle, report) = house.verify();
    assert_eq!(report.verdict(), Verdict::Sound);
    let first = bundle.receipts().next().unwrap().receipt().clone();
    let started = first.draft.event.started.unwrap();
    assert_eq!(first.draft.at.since(started), Duration::from_secs(90));
    assert_eq!((first.draft.who, first.written), (Who::Operator, None));
    assert_eq!(datasets(&bundle), ["users", "debates"]);
}

#[test]
fn what_a_repository_cannot_take_waits_and_goes_with_the_next_one() {
    let house = House::new();
    let recorder = house.recorder();
    house.repository.writer().unwrap();
    let away = Refusing { inner: house.store.clone(), may_read: true, may_create: false };
    let away = house.open(Arc::new(away), house.state.path());
    let ended = recorder.record(event("first"), &away);
    assert!((ended.written, ended.waiting, ended.lost) == (0, 1, 0), "{ended:?}");
    assert!(ended.trouble.is_some());
    // Not even open.
    house.clock.advance(Duration::from_secs(1));
    let begun = recorder.begin(Action::Backup, None);
    assert_eq!(recorder.end(begun, vec![event("second")], None).waiting, 2);
    house.clock.advance(Duration::from_hours(3));
    let ended = recorder.record(event("third"), &house.repository);
    assert!((ended.written, ended.waiting, ended.trouble.is_none()) == (3, 0, true), "{ended:?}");
    let (bundle, report) = house.verify();
    assert_eq!(
        (report.verdict(), datasets(&bundle)),
        (Verdict::Sound, ["first", "second", "third"].map(str::to_owned).to_vec())
    );
    let late: Vec<bool> = bundle.receipts().map(|signed| signed.receipt().written.is_some()).collect();
    // The first had been signed in time, and was created as it was.
    assert_eq!(late, [false, true, false], "when it was signed is said where that was later");
}

#[test]
fn what_was_killed_is_said_to_be_interrupted() {
    let house = House::new();
    let recorder = house.recorder();
    drop(recorder.begin(Action::Restore, Some("users")));
    let running = recorder.begin(Action::Backup, Some("debates"));
    assert_eq!(recorder.drain(&house.repository).written, 1);
    let (bundle, _) = house.verify();
    let draft = bundle.receipts().next().unwrap().receipt().draft.clone();
    assert_eq!((draft.event.action, draft.event.outcome), (Action::Restore, Outcome::Interrupted));
    recorder.end(running, vec![event("debates")], Some(&house.repository));
    assert_eq!(datasets(&house.verify().0), ["users", "debates"]);
}

#[test]
fn what_was_created_before_a_kill_is_not_said_twice() {
    let house = House::new();
    let recorder = house.recorder();
    recorder.record(event("first"), &house.repository);
    // As after a kill between creation and removal: draft and signed receipt are there again.
    let away = Refusing { inner: house.store.clone(), may_read: true, may_create: false };
    let away = house.open(Arc::new(away), house.state.path());
    recorder.record(event("second"), &away);
    let folder = recorder.waiting().folder().to_owned();
    let kept: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .collect();
    assert_eq!(kept.len(), 2, "the draft, and what was signed of it");
    assert_eq!(recorder.drain(&house.repository).written, 1);
    for (bytes, path) in kept {
        lifeboat_base::crashsafe::create(&path, &bytes).unwrap();
    }
    assert_eq!(recorder.drain(&house.repository).written, 1);
    let (bundle, report) = house.verify();
    assert_eq!(
        (report.verdict(), datasets(&bundle)),
        (Verdict::Sound, vec!["first".to_owned(), "second".to_owned()])
    );
}

#[test]
fn a_signed_receipt_whose_number_was_taken_is_signed_anew() {
    let house = House::new();
    let recorder = house.recorder();
    house.repository.writer().unwrap();
    let away = Refusing { inner: house.store.clone(), may_read: true, may_create: false };
    let away = house.open(Arc::new(away), house.state.path());
    recorder.record(event("waits"), &away);
    // Another process of the same writer, with another folder of what waits.
    let other = lifeboat_receipts::Recorder::new(
        house.state.path(),
        "elsewhere",
        "host-1",
        Who::Serve,
        lifeboat_base::clock::Clock::Manual(house.clock.clone()),
    );
    other.record(event("faster"), &house.repository);
    recorder.drain(&house.repository);
    let (bundle, report) = house.verify();
    assert_eq!(
        (report.verdict(), datasets(&bundle)),
        (Verdict::Sound, vec!["faster".to_owned(), "waits".to_owned()])
    );
}

#[test]
fn who_may_write_and_not_read_goes_on_from_what_it_remembers() {
    let house = House::new();
    let recorder = house.recorder();
    house.repository.writer().unwrap();
    let blind = Refusing { inner: house.store.clone(), may_read: false, may_create: true };
    let blind = house.open(Arc::new(blind), house.state.path());
    for dataset in ["first", "second"] {
        let ended = recorder.record(event(dataset), &blind);
        assert!(ended.trouble.is_none(), "{ended:?}");
    }
    let (bundle, report) = house.verify();
    assert_eq!((report.verdict(), datasets(&bundle).len()), (Verdict::Sound, 2));
    // Somebody puts junk where the next one belongs.
    let chain = bundle.chains[0].id;
    let name = format!("receipts/{}/{}/000000000003", chain.repository, chain.writer);
    house.store.create(&lifeboat_objects::Key::new(&name).unwrap(), b"junk").unwrap();
    assert!(recorder.record(event("third"), &blind).trouble.is_none());
    let (bundle, report) = house.verify();
    let fourth = bundle.receipts().last().unwrap().receipt().clone();
    assert_eq!((fourth.number, fourth.repeats), (4, Some(3)));
    let flaws: Vec<_> = report.findings.iter().map(|f| (f.number, &f.flaw)).collect();
    assert!(matches!(flaws[..], [(3, Flaw::Unreadable(_))]), "{flaws:?}");
}

#[test]
fn many_processes_lose_nothing() {
    let house = House::new();
    house.repository.writer().unwrap();
    let seed = house.recorder();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (house, recorder) = (&house, seed.clone());
            scope.spawn(move || {
                for n in 0..5 {
                    recorder.record(event(&format!("{thread}-{n}")), &house.repository);
                }
            });
        }
    });
    // What one took along for another may still have waited when that one ended.
    let last = seed.drain(&house.repository);
    assert!(last.trouble.is_none() && last.waiting == 0, "{last:?}");
    let (bundle, report) = house.verify();
    let mut seen = datasets(&bundle);
    seen.sort();
    seen.dedup();
    assert_eq!((report.verdict(), seen.len(), report.receipts()), (Verdict::Sound, 20, 20));
}

#[test]
fn junk_from_another_writer_is_found_and_check_names_it() {
    let house = House::new();
    let recorder = house.recorder();
    recorder.record(event("first"), &house.repository);
    let (bundle, _) = house.verify();
    let chain = bundle.chains[0].id;
    let first = format!("receipts/{}/{}/000000000001", chain.repository, chain.writer);
    let moved = house.store.get(&lifeboat_objects::Key::new(&first).unwrap()).unwrap();
    let second = format!("receipts/{}/{}/000000000002", chain.repository, chain.writer);
    house.store.create(&lifeboat_objects::Key::new(&second).unwrap(), &moved).unwrap();
    let (_, report) = house.verify();
    assert!(matches!(&report.findings[..], [f] if f.number == 2 && matches!(f.flaw, Flaw::Unreadable(_))));
    let options =
        lifeboat_repository::CheckOptions { read: lifeboat_repository::Reading::Nothing, threads: 1 };
    let checked = lifeboat_repository::check(&house.repository, options, &|_, _| {}).unwrap();
    assert!(checked.problems.iter().any(|problem| problem.object == second), "{checked:?}");
}

#[test]
fn the_leader_witnesses_others_and_a_tail_that_is_cut_off_shows() {
    let house = House::new();
    let recorder = house.recorder();
    recorder.record(event("first"), &house.repository);
    assert!(recorder.witness(&house.repository).unwrap().is_none(), "there is nobody else");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = house.open(house.store.clone(), elsewhere.path());
    let theirs = house.recorder_at(elsewhere.path(), Who::Serve);
    for n in 0..3 {
        theirs.record(event(&format!("other-{n}")), &other);
    }
    let ended = recorder.witness(&house.repository).unwrap().unwrap();
    assert_eq!(ended.written, 1);
    let (bundle, report) = house.verify();
    assert_eq!(report.verdict(), Verdict::Sound);
    let chain = bundle.chains.iter().find(|chain| chain.placed.len() == 3).unwrap().id;
    let last = format!("receipts/{}/{}/000000000003", chain.repository, chain.writer);
    house.store.delete(&lifeboat_objects::Key::new(&last).unwrap()).unwrap();
    let (_, report) = house.verify();
    assert!(
        matches!(&report.findings[..], [f] if matches!(f.flaw, Flaw::TailRemoved { from: 3, to: 3, .. })),
        "{:?}",
        report.findings
    );
}

#[test]
fn what_is_older_than_the_retention_goes_and_the_rest_verifies() {
    let house = House::new();
    let recorder = house.recorder();
    for day in 0..10 {
        recorder.record(event(&format!("day-{day}")), &house.repository);
        house.clock.advance(Duration::from_hours(24));
    }
    assert_eq!(recorder.expire(&house.repository, 5).unwrap(), 6);
    assert_eq!(recorder.expire(&house.repository, 5).unwrap(), 0);
    let (bundle, report) = house.verify();
    assert_eq!((report.verdict(), report.receipts()), (Verdict::Sound, 5));
    assert_eq!(bundle.chains[0].placed[0].number, 7);
    recorder.record(event("afterwards"), &house.repository);
    assert_eq!(house.verify().1.verdict(), Verdict::Sound);
}

#[test]
fn a_revoked_writer_leaves_no_receipt_and_what_it_wrote_before_counts() {
    let house = House::new();
    let recorder = house.recorder();
    let writer = house.repository.writer().unwrap().id();
    recorder.record(event("before"), &house.repository);
    house.clock.advance(Duration::from_hours(1));
    house.repository.revoke(&writer).unwrap();
    house.clock.advance(Duration::from_hours(1));
    let ended = recorder.record(event("after"), &house.repository);
    let trouble = ended.trouble.unwrap();
    assert!(matches!(trouble, RecordError::Repository(_)) && trouble.hint().is_some(), "{trouble}");
    assert_eq!(ended.waiting, 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = house.open(house.store.clone(), elsewhere.path());
    let (bundle, report) = crate::support::verify_in(&other);
    assert_eq!((report.verdict(), datasets(&bundle)), (Verdict::Sound, vec!["before".to_owned()]));
}

#[test]
fn a_host_without_a_place_for_its_state_still_leaves_receipts() {
    let house = House::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let recorder = house.recorder_at(file.path(), Who::Operator);
    let ended = recorder.record(event("first"), &house.repository);
    assert_eq!((ended.written, ended.lost), (1, 0), "{ended:?}");
    assert!(ended.trouble.is_some(), "and that its state cannot be kept is said");
    assert_eq!(datasets(&house.verify().0), ["first"]);
}
