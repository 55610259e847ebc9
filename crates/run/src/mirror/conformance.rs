//! What every implementation of [`Mirror`] must do, as one test that panics where it does not.

use super::{Created, Left, MAX_REQUEST_BYTES, Mirror, Slot};
use crate::ids::{RequestId, RunId};
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many race for each slot.
const RACERS: usize = 4;
/// So many slots are raced for.
const SLOTS: u64 = 8;

/// Checks a mirror that holds nothing of the runs of this suite.
pub fn check(mirror: &dyn Mirror) {
    let [one, other] =
        ["20270115t080000z-00000001", "20270115t080000z-00000002"].map(|id| id.parse().expect("a name"));
    what_is_not_there_is_not_there(mirror, &one);
    a_request_is_left_once(mirror, &one, &other);
    requests_are_bounded(mirror, &one);
    assert_eq!(mirror.runs().expect("runs are listed"), [], "a request makes no run");
    a_slot_is_created_once(mirror, &one);
    runs_do_not_see_each_other(mirror, &one, &other);
    one_racer_wins_each_slot(mirror, &other);
    let runs = mirror.runs().expect("runs are listed");
    assert!(runs.contains(&one) && runs.contains(&other), "{runs:?}");
    assert!(!mirror.place().is_empty());
}

fn slot(run: &RunId, number: u64) -> Slot {
    Slot { run: run.clone(), number }
}

fn what_is_not_there_is_not_there(mirror: &dyn Mirror, run: &RunId) {
    assert!(!mirror.runs().expect("runs are listed").contains(run));
    assert_eq!(mirror.read(&slot(run, 0)).expect("it is read"), None);
}

fn left(mirror: &dyn Mirror, run: &RunId, n: u8) -> Option<Vec<u8>> {
    match mirror.request(run, &RequestId([n; 16])).expect("it is read") {
        Some(Left::Bytes { bytes, .. }) => Some(bytes),
        Some(Left::Nonsense(why)) => panic!("{why}"),
        None => None,
    }
}

fn a_request_is_left_once(mirror: &dyn Mirror, run: &RunId, other: &RunId) {
    assert_eq!(mirror.requests(run, 10).expect("they are listed"), []);
    assert_eq!(left(mirror, run, 1), None);
    let ids = [3, 1, 2].map(|n| RequestId([n; 16]));
    for id in &ids {
        mirror.leave(run, id, &id.0).expect("it is left");
    }
    mirror.leave(run, &ids[1], &ids[1].0).expect("it is left again and stays one");
    assert!(mirror.leave(run, &ids[1], b"other").is_err(), "nothing else gets its name");
    assert_eq!(mirror.requests(run, 10).expect("they are listed"), [ids[1], ids[2], ids[0]]);
    assert_eq!(mirror.requests(run, 2).expect("they are listed"), [ids[1], ids[2]]);
    assert_eq!(left(mirror, run, 1), Some(vec![1; 16]));
    assert_eq!(mirror.requests(other, 10).expect("they are listed"), []);
    assert_eq!(left(mirror, other, 1), None);
}

fn requests_are_bounded(mirror: &dyn Mirror, run: &RunId) {
    let id = RequestId([4; 16]);
    assert!(mirror.leave(run, &id, &vec![b'x'; MAX_REQUEST_BYTES + 1]).is_err());
    mirror.leave(run, &id, &vec![b'x'; MAX_REQUEST_BYTES]).expect("the largest is left");
    assert_eq!(left(mirror, run, 4).map(|bytes| bytes.len()), Some(MAX_REQUEST_BYTES));
}

fn a_slot_is_created_once(mirror: &dyn Mirror, run: &RunId) {
    let document = vec![b'#'; 100_000];
    assert_eq!(mirror.create(&slot(run, 0), &document).expect("it is created"), Created::Created);
    for bytes in [&b"other"[..], &document] {
        let taken = mirror.create(&slot(run, 0), bytes).expect("it is refused");
        assert_eq!(taken, Created::Taken(document.clone()), "whoever loses reads the winner");
    }
    assert_eq!(mirror.read(&slot(run, 0)).expect("it is read"), Some(document));
}

fn runs_do_not_see_each_other(mirror: &dyn Mirror, one: &RunId, other: &RunId) {
    assert_eq!(mirror.create(&slot(one, 1), b"one\n").expect("it is created"), Created::Created);
    assert_eq!(mirror.read(&slot(other, 1)).expect("it is read"), None);
    assert_eq!(mirror.read(&slot(one, 2)).expect("it is read"), None);
}

fn one_racer_wins_each_slot(mirror: &dyn Mirror, run: &RunId) {
    for number in 1..=SLOTS {
        let winners = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for racer in 0..RACERS {
                let winners = &winners;
                scope.spawn(move || {
                    let mine = format!("racer {racer}\n").into_bytes();
                    match mirror.create(&slot(run, number), &mine).expect("it is told") {
                        Created::Created => drop(winners.fetch_add(1, Ordering::SeqCst)),
                        Created::Taken(there) => assert_ne!(there, mine),
                    }
                });
            }
        });
        assert_eq!(winners.load(Ordering::SeqCst), 1, "slot {number}");
    }
}
