//! Requests that people elsewhere leave in the mirror: looked for on a thread of its own, so that a mirror that hangs
//! or fails holds up nothing, and answered by the executor as those of its inbox are.
//!
//! The record that answers a request names it. So a request and its answer are one record: whatever crashes in
//! between, it was either answered, and is not answered again here or by whoever takes over, or it was not, and the
//! next who looks hears it.
//!
//! What is read is bounded: so many names a look, so many requests at a time, so many bytes each
//! ([`crate::mirror::MAX_REQUEST_BYTES`]), and so many answers a run and one who asks ([`crate::heard`]).

use super::{Executor, Observer};
use crate::error::RunError;
use crate::event::{Event, Heard};
use crate::heard::{HeardSoFar, MAX_HEARD, MAX_HEARD_OF_ONE};
use crate::ids::{RequestId, RunId};
use crate::mirror::{Left, LeftRequest, Mirror};
use crate::requests::Request;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Requests are looked for so often.
pub const HEAR_EVERY: Duration = Duration::from_secs(2);
/// Who resumes or takes over waits so long for the first look: what was asked meanwhile should come before the next
/// step, and a mirror that hangs must not keep the run from going on.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(2);
/// A look goes no further than so many names.
const MAX_LISTED: usize = 10_000;
/// So many requests are read before the executor has answered them.
const READ_AT_ONCE: usize = 64;
/// After so many that could not be read, the look is over: the mirror is away.
const MAX_FAILED: usize = 3;

/// A request that was found, or what is none and why.
#[derive(Debug)]
pub(super) struct Found {
    heard: Heard,
    left: Result<LeftRequest, String>,
}

/// What the thread and the executor share.
#[derive(Debug, Default)]
struct Shared {
    found: Vec<Found>,
    has_looked: bool,
    is_over: bool,
}

/// A thread that looks for requests.
pub(super) struct Listener {
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

impl Listener {
    /// Starts to look for what was not heard yet.
    pub(super) fn start(
        mirror: Arc<dyn Mirror>,
        run: RunId,
        heard: &HeardSoFar,
        every: Duration,
    ) -> std::io::Result<Self> {
        let shared = Arc::<(Mutex<Shared>, Condvar)>::default();
        let (theirs, seen) = (shared.clone(), Seen { known: heard.ids().clone(), failing: BTreeSet::new() });
        thread::Builder::new()
            .name("run-requests".to_owned())
            .spawn(move || listen(&*mirror, &run, seen, every, &theirs))?;
        Ok(Self { shared })
    }

    /// Waits for the first look, but not for a mirror that hangs.
    pub(super) fn wait_for_first_look(&self) {
        let looking = |shared: &mut Shared| !shared.has_looked;
        drop(self.shared.1.wait_timeout_while(lock(&self.shared), FIRST_LOOK_WITHIN, looking));
    }

    fn take(&self) -> Vec<Found> {
        let found = std::mem::take(&mut lock(&self.shared).found);
        self.shared.1.notify_all();
        found
    }
}

/// The thread is not waited for: it may hang in the mirror.
impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.shared).is_over = true;
        self.shared.1.notify_all();
    }
}

fn lock(shared: &(Mutex<Shared>, Condvar)) -> MutexGuard<'_, Shared> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(
    mirror: &dyn Mirror,
    run: &RunId,
    mut seen: Seen,
    every: Duration,
    shared: &(Mutex<Shared>, Condvar),
) {
    loop {
        let found = seen.look(mirror, run);
        let mut known = lock(shared);
        known.found.extend(found);
        known.has_looked = true;
        shared.1.notify_all();
        let waited = shared.1.wait_timeout_while(known, every, |shared| !shared.is_over);
        let known = waited.unwrap_or_else(PoisonError::into_inner).0;
        let unanswered = |shared: &mut Shared| !shared.found.is_empty() && !shared.is_over;
        let known = shared.1.wait_while(known, unanswered).unwrap_or_else(PoisonError::into_inner);
        if known.is_over {
            return;
        }
    }
}

/// What a listener knows of the names in the mirror.
struct Seen {
    /// They were handed to the executor, or answered before.
    known: BTreeSet<RequestId>,
    /// They could not be read: others come first.
    failing: BTreeSet<RequestId>,
}

impl Seen {
    fn look(&mut self, mirror: &dyn Mirror, run: &RunId) -> Vec<Found> {
        let Ok(mut ids) = mirror.requests(run, MAX_LISTED) else { return Vec::new() };
        ids.retain(|id| !self.known.contains(id));
        ids.sort_by_key(|id| (self.failing.contains(id), *id));
        let (mut found, mut failed) = (Vec::new(), 0);
        for id in ids.into_iter().take(READ_AT_ONCE) {
            match mirror.request(run, &id) {
                Ok(Some(left)) => {
                    self.known.insert(id);
                    found.push(understood(id, left));
                }
                Ok(None) => {}
                Err(_) => {
                    self.failing.insert(id);
                    failed += 1;
                }
            }
            if failed == MAX_FAILED {
                break;
            }
        }
        found
    }
}

fn understood(id: RequestId, left: Left) -> Found {
    match left {
        Left::Bytes { bytes, from } => Found { heard: Heard { id, from }, left: LeftRequest::read(&bytes) },
        Left::Nonsense(why) => Found { heard: Heard { id, from: None }, left: Err(why) },
    }
}

impl Executor {
    /// Listens to what people elsewhere ask, where the run is mirrored.
    pub(super) fn listen(&mut self) -> Result<(), RunError> {
        let Some(run) = self.state.begun.as_ref().filter(|begun| begun.mirror.is_some()) else {
            return Ok(());
        };
        let Some(mirror) = self.house.mirror.clone() else { return Ok(()) };
        if self.state.heard.is_full() {
            return Ok(());
        }
        let listener = Listener::start(mirror, run.run.clone(), &self.state.heard, self.house.hear_every);
        self.listener = Some(listener.map_err(RunError::Thread)?);
        Ok(())
    }

    /// Answers what was heard.
    pub(super) fn hear(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let found = self.listener.as_ref().map(Listener::take).unwrap_or_default();
        for found in found {
            self.answer(found, observer)?;
        }
        if self.state.heard.is_full() {
            self.listener = None;
        }
        Ok(())
    }

    fn answer(&mut self, found: Found, observer: &mut dyn Observer) -> Result<(), RunError> {
        let Found { heard, left } = found;
        if self.state.heard.has(&heard.id) || self.state.heard.is_full_of(heard.from.as_ref()) {
            return Ok(());
        }
        match left {
            Ok(left) => match self.why_not_heard(&left) {
                None => self.take(&left.request, Some(&heard), observer)?,
                Some(why) => {
                    let (by, what) = (left.request.by(), left.request.what());
                    self.refuse(by, &what, &why, Some(&heard), observer)?;
                }
            },
            Err(why) => {
                self.refuse("somebody", "something that cannot be read", &why, Some(&heard), observer)?;
            }
        }
        self.note_limit(&heard, observer)
    }

    /// What was meant for another run, or for what is not so any more.
    fn why_not_heard(&self, left: &LeftRequest) -> Option<String> {
        let run = &self.state.begun.as_ref()?.run;
        if left.run != *run {
            return Some(format!("it is about run {}", left.run));
        }
        match &left.request {
            Request::LeaveMirror { .. } => Some("it came through the mirror, which answers".to_owned()),
            request => self.why_changed(request, left.seen),
        }
    }

    /// What was meant for a step, or for a pause, that has changed after the last record that whoever asks had seen.
    pub(super) fn why_changed(&self, request: &Request, seen: u64) -> Option<String> {
        let by = super::judge::bounded(request.by());
        let changed = |what: &str, record: u64| {
            (record > seen).then(|| format!("{what} has changed since {by} looked (record {record})"))
        };
        match request {
            Request::Resume { .. } => changed("the run", self.state.turned),
            Request::Confirm { step, .. } | Request::Settle { step, .. } => {
                changed(step.as_str(), self.state.steps.get(step)?.record)
            }
            Request::Skip(said) | Request::Again(said) => {
                changed(said.step.as_str(), self.state.steps.get(&said.step)?.record)
            }
            // Consent is bound to what was asked; and who wants nothing more to be done is always right.
            Request::Approve(_)
            | Request::Pause { .. }
            | Request::Abort { .. }
            | Request::LeaveMirror { .. } => None,
        }
    }

    fn note_limit(&mut self, heard: &Heard, observer: &mut dyn Observer) -> Result<(), RunError> {
        if !self.state.heard.is_full_of(heard.from.as_ref()) {
            return Ok(());
        }
        let who = heard.from.as_deref().unwrap_or("those whom the mirror does not vouch for");
        let what = if self.state.heard.is_full() {
            format!("{MAX_HEARD} requests were heard through the mirror: no more are")
        } else {
            format!(
                "{MAX_HEARD_OF_ONE} requests of {who} were heard through the mirror: no more of theirs are"
            )
        };
        self.record(Event::Noted { what }, observer)
    }
}
