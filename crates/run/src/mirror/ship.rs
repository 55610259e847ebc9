//! Bringing the lines of the journal to the mirror, in order, on a thread of its own, so that a mirror that hangs
//! holds up nothing but what has to be confirmed there.

use super::{Created, Mirror, MirrorError, Slot};
use crate::engine::who;
use crate::ids::RunId;
use crate::journal::Line;
use lifeboat_base::backoff::Backoff;
use lifeboat_evidence::Digest;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A mirror that does not answer is tried again, at first soon and at last every five seconds, for as long as the run
/// is executed.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(5), attempts: u32::MAX };

/// What is known of the mirror.
#[derive(Debug, Default)]
struct Known {
    queue: VecDeque<Line>,
    /// The last record that is confirmed to be there.
    confirmed: u64,
    /// Another executor's line stands where ours belongs.
    is_taken: bool,
    /// Whose, where that line says so.
    taken_by: Option<String>,
    /// Why the last attempt failed, if it did.
    trouble: Option<String>,
    /// Somebody waits: the next attempt is made at once.
    is_urgent: bool,
    is_over: bool,
}

/// What came of waiting for the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    Yes,
    Taken,
    /// It did not answer in time; and what it said instead.
    NotInTime(String),
}

/// A thread that ships lines.
pub(crate) struct Shipper {
    shared: Arc<(Mutex<Known>, Condvar)>,
}

impl Shipper {
    /// Starts with nothing to do; `confirmed` is the last record that the mirror has. Nothing is brought to a mirror
    /// that does not hold the document.
    pub(crate) fn start(
        mirror: Arc<dyn Mirror>,
        run: RunId,
        document: Digest,
        confirmed: u64,
    ) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Known { confirmed, ..Known::default() }), Condvar::new()));
        let theirs = shared.clone();
        thread::Builder::new()
            .name("run-mirror".to_owned())
            .spawn(move || ship(&*mirror, &run, &document, &theirs))?;
        Ok(Self { shared })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line.
    pub(crate) fn push(&self, line: Line) {
        self.lock().queue.push_back(line);
        self.shared.1.notify_all();
    }

    /// Whether another executor's line stands where ours belongs.
    pub(crate) fn is_taken(&self) -> bool {
        self.lock().is_taken
    }

    /// Whose line stands where ours belongs, and where they are: the first that does is their takeover.
    pub(crate) fn taken_by(&self) -> Option<String> {
        self.lock().taken_by.clone()
    }

    /// Whether the last attempt failed, or has not ended within the time that is waited for one.
    pub(crate) fn is_silent(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// Waits until a record is confirmed, at most so long.
    pub(crate) fn confirm(&self, number: u64, within: Duration) -> Confirmed {
        let open = |known: &mut Known| known.confirmed < number && !known.is_taken;
        self.lock().is_urgent = true;
        self.shared.1.notify_all();
        let waited = self.shared.1.wait_timeout_while(self.lock(), within, open);
        let (mut known, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match () {
            () if known.is_taken => Confirmed::Taken,
            () if known.confirmed >= number => Confirmed::Yes,
            () => {
                let silent = known.trouble.get_or_insert_with(|| "it does not answer".to_owned());
                Confirmed::NotInTime(silent.clone())
            }
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.lock().is_over = true;
        self.shared.1.notify_all();
    }
}

fn ship(mirror: &dyn Mirror, run: &RunId, document: &Digest, shared: &(Mutex<Known>, Condvar)) {
    let (lock, wake) = shared;
    let (mut failed, mut is_its_own) = (0, false);
    loop {
        let known = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |known: &mut Known| known.queue.is_empty() && !known.is_over;
        let known = wake.wait_while(known, idle).unwrap_or_else(PoisonError::into_inner);
        let Some(line) = known.queue.front().cloned() else { return };
        // Who ends waits for what has to be confirmed; the rest is for the next who resumes.
        if known.is_over && failed > 0 {
            return;
        }
        drop(known);
        let holds = if is_its_own { Ok(()) } else { holds(mirror, run, document) };
        is_its_own = holds.is_ok();
        let shipped = holds.and_then(|()| create(mirror, run, &line));
        let by = if matches!(shipped, Ok(false)) { taker(mirror, run, line.number) } else { None };
        let mut known = lock.lock().unwrap_or_else(PoisonError::into_inner);
        match shipped {
            Ok(true) => {
                failed = 0;
                known.confirmed = line.number;
                known.queue.pop_front();
                known.trouble = None;
                wake.notify_all();
            }
            Ok(false) => {
                known.is_taken = true;
                known.taken_by = by;
                wake.notify_all();
                return;
            }
            Err(error) => {
                failed += 1;
                known.trouble = Some(lifeboat_base::report(&error));
                let wait = BACKOFF.wait_after(failed).unwrap_or(BACKOFF.cap);
                let idle = |known: &mut Known| !known.is_over && !known.is_urgent;
                let waited = wake.wait_timeout_while(known, wait, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0.is_urgent = false;
            }
        }
    }
}

fn taker(mirror: &dyn Mirror, run: &RunId, number: u64) -> Option<String> {
    who(&mirror.read(&Slot { run: run.clone(), number }).ok()??)
}

/// Whether a line has its slot; not, where another's is there.
pub(crate) fn create(mirror: &dyn Mirror, run: &RunId, line: &Line) -> Result<bool, MirrorError> {
    let slot = Slot { run: run.clone(), number: line.number };
    Ok(match mirror.create(&slot, &line.bytes)? {
        Created::Created => true,
        Created::Taken(there) => there == line.bytes,
    })
}

/// Looks whether a mirror is the one that the run was begun with. Its document was there before anything else was: a
/// mirror without it is another one, or was made anew, and what it confirmed would keep nobody elsewhere from going on.
pub(crate) fn holds(mirror: &dyn Mirror, run: &RunId, document: &Digest) -> Result<(), MirrorError> {
    let there = mirror.read(&Slot { run: run.clone(), number: 0 })?;
    if there.is_some_and(|there| Digest::of(&there) == *document) {
        return Ok(());
    }
    let hint = "Give the plan whose repository the run is mirrored to; if that is gone for good, make sure that nobody goes on with the run elsewhere, and say so with `lifeboat runbook continue --without-mirror`.";
    let what =
        format!("it does not hold this run: {} is not where it was begun to be mirrored", mirror.place());
    Err(MirrorError {
        hint: Some(hint.to_owned()),
        ..MirrorError::new("look for the run in its mirror", what)
    })
}

/// The last record that a mirror has, found by halving: its slots have no gap.
pub(crate) fn last(mirror: &dyn Mirror, run: &RunId) -> Result<u64, MirrorError> {
    let is_there = |number| Ok(mirror.read(&Slot { run: run.clone(), number })?.is_some());
    let mut beyond = 1_u64;
    while is_there(beyond)? {
        beyond = beyond.saturating_mul(2);
    }
    let mut there = beyond / 2;
    while there + 1 < beyond {
        let middle = there + (beyond - there) / 2;
        match is_there(middle)? {
            true => there = middle,
            false => beyond = middle,
        }
    }
    Ok(there)
}
