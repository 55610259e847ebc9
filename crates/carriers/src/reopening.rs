//! A mirror that could not be opened when a run was resumed: opened when it can be, so that nobody waits for it who
//! need not.

use lifeboat_base::clock::Stopwatch;
use lifeboat_run::mirror::{Created, Left, Mirror, MirrorError, Slot};
use lifeboat_run::{RequestId, RunId};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A failure to open is repeated for so long before it is tried again: each try may last until a server that is gone
/// is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens a mirror.
pub type Open = dyn Fn() -> Result<Arc<dyn Mirror>, MirrorError> + Send + Sync;

/// A mirror that is opened at its first use that succeeds.
pub struct ReopeningMirror {
    place: String,
    open: Box<Open>,
    known: Mutex<Known>,
}

enum Known {
    Open(Arc<dyn Mirror>),
    Failed { since: Stopwatch, what: String, hint: Option<String> },
}

impl fmt::Debug for ReopeningMirror {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReopeningMirror").field("place", &self.place).finish_non_exhaustive()
    }
}

impl ReopeningMirror {
    /// At a place that has just failed to open.
    pub fn new(place: String, failed: &MirrorError, open: Box<Open>) -> Self {
        Self { place, open, known: Mutex::new(Known::failed(failed)) }
    }

    fn opened(&self) -> Result<Arc<dyn Mirror>, MirrorError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Known::Open(mirror) => return Ok(mirror.clone()),
            Known::Failed { since, what, hint } if since.elapsed() < PATIENCE => {
                return Err(MirrorError {
                    hint: hint.clone(),
                    ..MirrorError::new("open the mirror", what.clone())
                });
            }
            Known::Failed { .. } => {}
        }
        let opened = (self.open)();
        *known = match &opened {
            Ok(mirror) => Known::Open(mirror.clone()),
            Err(error) => Known::failed(error),
        };
        opened
    }
}

impl Known {
    fn failed(error: &MirrorError) -> Self {
        Self::Failed { since: Stopwatch::start(), what: error.source.to_string(), hint: error.hint.clone() }
    }
}

impl Mirror for ReopeningMirror {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn create(&self, slot: &Slot, bytes: &[u8]) -> Result<Created, MirrorError> {
        self.opened()?.create(slot, bytes)
    }

    fn read(&self, slot: &Slot) -> Result<Option<Vec<u8>>, MirrorError> {
        self.opened()?.read(slot)
    }

    fn runs(&self) -> Result<Vec<RunId>, MirrorError> {
        self.opened()?.runs()
    }

    fn leave(&self, run: &RunId, id: &RequestId, bytes: &[u8]) -> Result<(), MirrorError> {
        self.opened()?.leave(run, id, bytes)
    }

    fn requests(&self, run: &RunId, most: usize) -> Result<Vec<RequestId>, MirrorError> {
        self.opened()?.requests(run, most)
    }

    fn request(&self, run: &RunId, id: &RequestId) -> Result<Option<Left>, MirrorError> {
        self.opened()?.request(run, id)
    }
}
