//! Targets in forged logs: orders of time that no test could make a server write, and PostgreSQL's own rule for
//! positions, written down a second time and held against every answer.

use super::*;
use crate::forge::{Forge, SEGMENT};
use crate::history::TimelineHistory;
use crate::page::Version;
use crate::reader::{Layout, WalReader};
use proptest::prelude::*;

const FROM_THE_START: Replay = Replay { redo: Lsn(0), consistent: Lsn(0) };

fn see_all(forge: &Forge, resolver: &mut Resolver) -> Lsn {
    let layout = Layout::new(TimelineHistory::first(TimelineId(1)), SEGMENT);
    let mut reader = WalReader::new(forge.start, layout);
    let mut flow = ControlFlow::Continue(());
    let fed = reader.feed(&forge.bytes, |record| {
        if flow.is_continue() {
            flow = resolver.see(record);
        }
    });
    fed.unwrap();
    reader.finish().at
}

fn resolve(forge: &Forge, target: Target, edge: Edge, replay: Replay) -> Result<Resolution, TargetError> {
    let mut resolver = Resolver::new(target, edge, replay);
    let end = see_all(forge, &mut resolver);
    resolver.finish(end)
}

/// How many records PostgreSQL replays with a position: it stops before or after the first one that begins there
/// or later.
fn replayed(forge: &Forge, resolution: &Resolution) -> usize {
    let at = forge.records.iter().position(|(start, _)| *start >= resolution.stop).unwrap();
    at + usize::from(resolution.inclusive)
}

/// What PostgreSQL replays of a log for a target.
fn stops_after(forge: &Forge, target: Target, edge: Edge) -> usize {
    replayed(forge, &resolve(forge, target, edge, FROM_THE_START).unwrap())
}

/// Commits whose times go forth and back.
fn unordered() -> Forge {
    let mut forge = Forge::new(Version::V15);
    for (xid, at) in [(10, 100), (11, 300), (12, 200), (13, 200), (14, 400)] {
        forge.commit(xid, at);
        forge.other(50);
    }
    forge
}

#[test]
fn the_first_later_commit_stops_whatever_comes_after_it() {
    use Edge::{Exclusive, Inclusive};
    let forge = unordered();
    let at = |time, edge| stops_after(&forge, Target::Time(PgTime(time)), edge);
    assert_eq!(at(99, Inclusive), 0);
    assert_eq!(at(100, Inclusive), 2);
    assert_eq!(at(100, Exclusive), 0);
    // Two commits of 200 and earlier come behind the one of 300: they are not had.
    assert_eq!(at(200, Inclusive), 2);
    assert_eq!(at(300, Inclusive), 8);
    assert_eq!(at(300, Exclusive), 2);
    assert_eq!(at(399, Exclusive), 8);
    let resolution = resolve(&forge, Target::Time(PgTime(250)), Inclusive, FROM_THE_START).unwrap();
    assert_eq!(resolution.last_transaction.unwrap().xid, 10);
    assert_eq!(resolution.first_left_out.unwrap().xid, 11);
    assert_eq!(resolution.log_needed, forge.records[2].1);
    assert!(!resolution.inclusive && resolution.reached);
}

#[test]
fn an_abort_stops_too_and_a_restore_point_does_not() {
    let mut forge = Forge::new(Version::V18);
    forge.commit(10, 100);
    forge.restore_point("late", 500);
    forge.abort(11, 300);
    forge.commit(12, 150);
    let resolution = resolve(&forge, Target::Time(PgTime(200)), Edge::Inclusive, FROM_THE_START).unwrap();
    assert_eq!(replayed(&forge, &resolution), 2);
    assert_eq!(resolution.first_left_out.unwrap().xid, 12, "the first commit, not the abort");
    assert_eq!(stops_after(&forge, Target::Xid(11), Edge::Inclusive), 3);
    assert_eq!(stops_after(&forge, Target::Xid(11), Edge::Exclusive), 2);
}

#[test]
fn a_prepared_transaction_counts_under_its_own_number() {
    let mut forge = Forge::new(Version::V16);
    forge.commit(10, 1);
    forge.commit_prepared(12, 11, 2);
    forge.commit(13, 3);
    assert_eq!(stops_after(&forge, Target::Xid(11), Edge::Inclusive), 2);
    let unknown = resolve(&forge, Target::Xid(12), Edge::Inclusive, FROM_THE_START);
    assert!(matches!(unknown, Err(TargetError::NotReached { .. })), "{unknown:?}");
}

#[test]
fn of_a_subtransaction_the_whole_is_named() {
    let mut forge = Forge::new(Version::V16);
    forge.commit_with(10, 1, &[11, 12]);
    let error = resolve(&forge, Target::Xid(12 | 7 << 32), Edge::Inclusive, FROM_THE_START).unwrap_err();
    assert!(error.hint().unwrap().contains("transaction 10"), "{error:?}");
}

#[test]
fn what_lies_before_the_backup_decides_nothing() {
    let mut forge = Forge::new(Version::V15);
    forge.restore_point("twice", 1);
    forge.commit(10, 900);
    let redo = forge.other(10);
    let consistent = forge.position();
    forge.commit(11, 100);
    forge.restore_point("twice", 2);
    forge.commit(12, 950);
    let replay = Replay { redo, consistent };
    let on = |target| resolve(&forge, target, Edge::Inclusive, replay).unwrap();
    assert_eq!(replayed(&forge, &on(Target::Name("twice".into()))), 5);
    // The commit of 900 came before: it is in the backup.
    let resolution = on(Target::Time(PgTime(500)));
    assert_eq!((replayed(&forge, &resolution), resolution.last_transaction.unwrap().xid), (5, 11));
    let immediate = on(Target::Immediate);
    assert_eq!((replayed(&forge, &immediate), immediate.last_transaction.unwrap().xid), (3, 10));
    assert_eq!(immediate.first_left_out.unwrap().xid, 11);
}

#[test]
fn a_target_before_consistency_says_what_can_be_had() {
    let mut forge = unordered();
    let consistent = forge.position();
    forge.commit(20, 500);
    let replay = Replay { redo: forge.start, consistent };
    let error = resolve(&forge, Target::Xid(11), Edge::Inclusive, replay).unwrap_err();
    assert!(matches!(error, TargetError::BeforeConsistent { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains(&consistent.to_string()));
    let late = Replay { redo: forge.start, consistent: forge.position().after(8) };
    let error = resolve(&forge, Target::Latest, Edge::Inclusive, late).unwrap_err();
    assert!(matches!(error, TargetError::LogTooShort { .. }), "{error:?}");
}

#[test]
fn past_the_end_of_the_log_the_nearest_is_named() {
    let forge = unordered();
    let error = resolve(&forge, Target::Time(PgTime(500)), Edge::Inclusive, FROM_THE_START).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("its last transaction is 14 of 2000-01-01T00:00:00.0004Z"), "{said}");
    let TargetError::NotReached { nearest, end, .. } = error else { panic!() };
    assert_eq!((replayed(&forge, &nearest), end), (10, forge.position()));
    assert!(!nearest.reached);

    // The follower of a quiet server knows better.
    let mut resolver = Resolver::new(Target::Time(PgTime(500)), Edge::Inclusive, FROM_THE_START);
    let end = see_all(&forge, &mut resolver);
    resolver.saw_clock(PgTime(501));
    assert_eq!(resolver.finish(end).unwrap(), *nearest);
}

#[test]
fn the_end_of_the_log_is_a_position_that_can_be_had() {
    let forge = unordered();
    let all = resolve(&forge, Target::Lsn(forge.position()), Edge::Inclusive, FROM_THE_START).unwrap();
    assert_eq!((replayed(&forge, &all), all.reached), (10, false));
    let past = Target::Lsn(forge.position().after(1));
    assert!(resolve(&forge, past, Edge::Inclusive, FROM_THE_START).is_err());
}

#[test]
fn a_record_that_cannot_be_read_is_no_answer() {
    let mut forge = unordered();
    let at = forge.record(crate::record::manager::TRANSACTION, 0, 30, &[1, 2, 3]);
    let error = resolve(&forge, Target::Latest, Edge::Inclusive, FROM_THE_START).unwrap_err();
    assert!(matches!(error, TargetError::Unreadable { at: found, .. } if found == at), "{error:?}");
    // Behind the stop it does not matter.
    assert_eq!(stops_after(&forge, Target::Xid(14), Edge::Inclusive), 9);
}

/// What PostgreSQL does of each kind of target, step by step: how many records it replays; `None` where it gives
/// up.
fn by_postgresql(forge: &Forge, what: &[(u32, i64)], target: &Target, edge: Edge) -> Option<usize> {
    let exclusive = edge == Edge::Exclusive;
    for (index, ((xid, at), (start, _))) in what.iter().zip(&forge.records).enumerate() {
        let before = match target {
            Target::Time(time) if exclusive => *at >= time.0,
            Target::Time(time) => *at > time.0,
            Target::Xid(wanted) => exclusive && u64::from(*xid) == *wanted,
            Target::Lsn(lsn) => exclusive && start >= lsn,
            _ => false,
        };
        if before {
            return Some(index);
        }
        let after = match target {
            Target::Xid(wanted) => !exclusive && u64::from(*xid) == *wanted,
            Target::Lsn(lsn) => !exclusive && start >= lsn,
            _ => false,
        };
        if after {
            return Some(index + 1);
        }
    }
    None
}

proptest! {
    #[test]
    fn every_answer_is_postgresqls(
        commits in proptest::collection::vec((1u32..20, 0i64..20), 1..30),
        kind in 0..3, value in 0u32..25, exclusive: bool,
    ) {
        let mut forge = Forge::new(Version::V17);
        for (xid, at) in &commits {
            forge.commit(*xid, *at);
        }
        let target = match kind {
            0 => Target::Time(PgTime(value.into())),
            1 => Target::Xid(value.into()),
            _ => Target::Lsn(forge.start.after(u64::from(value) * 30)),
        };
        let edge = if exclusive { Edge::Exclusive } else { Edge::Inclusive };
        let expected = by_postgresql(&forge, &commits, &target, edge);
        match resolve(&forge, target, edge, FROM_THE_START) {
            Ok(resolution) if resolution.reached => {
                let count = replayed(&forge, &resolution);
                prop_assert_eq!(Some(count), expected);
                let last = count.checked_sub(1).map(|last| commits[last].0);
                prop_assert_eq!(resolution.last_transaction.map(|last| last.xid), last);
                let left_out = resolution.first_left_out.map(|first| first.xid);
                prop_assert_eq!(left_out, commits.get(count).map(|first| first.0));
            }
            Ok(resolution) => {
                prop_assert_eq!(expected, None);
                prop_assert_eq!(replayed(&forge, &resolution), commits.len());
            }
            Err(error) => {
                prop_assert_eq!(expected, None, "{}", error);
            }
        }
    }
}
