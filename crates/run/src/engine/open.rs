//! How an executor comes to a run: beginning one, resuming one of this machine. (Taking over is in `takeover`.)

use super::graph::Graph;
use super::{Executor, HEAR_EVERY, Parts, Threads, Workers};
use crate::carry::Carriers;
use crate::error::RunError;
use crate::escalation::Tells;
use crate::event::{Begun, Event, Given, Record};
use crate::folder::{RunFolder, Runs, Story};
use crate::ids::RunId;
use crate::journal::{BEGINNING, FileMedium, Journal, Line};
use crate::mirror::ship::{Confirmed, Shipper, create, holds, last};
use crate::mirror::{Created, Mirror, Slot};
use crate::people::People;
use crate::secrets::{EnvironmentAndFiles, Secrets};
use crate::state::RunState;
use crate::status::RunStatus;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_evidence::Digest;
use lifeboat_plan::Span;
use lifeboat_runbook::Runbook;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// So many steps are carried out at once, unless another number is set.
pub const DEFAULT_WIDTH: usize = 4;
/// So long the mirror has to confirm what may be done once, before the run stops and asks.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// With what and by whom runs are executed.
#[derive(Clone)]
pub struct House {
    /// Who carries out which language.
    pub carriers: Carriers,
    /// Where secrets are read.
    pub secrets: Arc<dyn Secrets>,
    /// Who may agree to what.
    pub people: People,
    /// The time.
    pub clock: Clock,
    /// Who executes.
    pub who: String,
    /// Where.
    pub host: String,
    /// So many steps are carried out at once.
    pub width: usize,
    /// Where runs are mirrored.
    pub mirror: Option<Arc<dyn Mirror>>,
    /// So long the mirror has to confirm what may be done once.
    pub confirm_within: Duration,
    /// How often it is looked for requests in the mirror.
    pub hear_every: Duration,
    /// By whom people are told what a run waits for them for; nobody is, where there is none.
    pub tells: Option<Tells>,
}

impl House {
    /// A house that carries out scripts and requests, mirrors nothing and knows nobody.
    pub fn new(who: &str, host: &str) -> Self {
        Self {
            carriers: Carriers::here(),
            secrets: Arc::new(EnvironmentAndFiles),
            people: People::default(),
            clock: Clock::System,
            who: who.to_owned(),
            host: host.to_owned(),
            width: DEFAULT_WIDTH,
            mirror: None,
            confirm_within: CONFIRM_WITHIN,
            hear_every: HEAR_EVERY,
            tells: None,
        }
    }
}

/// What is begun.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The document's bytes.
    pub document: Vec<u8>,
    /// What it compiles to.
    pub runbook: Runbook,
    /// What it is given.
    pub inputs: BTreeMap<String, Given>,
    /// When what it recovers from began, if somebody said so.
    pub since: Option<Timestamp>,
    /// How fast everything is to be back, where that is not what the document says.
    pub rto: Option<Span>,
}

/// Compiles a pinned document.
pub type Compile<'a> = &'a dyn Fn(&[u8]) -> Result<Runbook, Box<dyn Error + Send + Sync>>;

impl Executor {
    /// Begins a run. It is mirrored if the house has a mirror, and that is so for good.
    ///
    /// # Errors
    /// Where its beginning cannot be made durable, here or in the mirror.
    pub fn begin_run(runs: &Runs, house: House, begin: Begin) -> Result<Self, RunError> {
        let now = house.clock.now();
        let run = RunId::new(now);
        let document = Digest::of(&begin.document);
        if document.0 != begin.runbook.document {
            return Err(RunError::OtherDocument(run));
        }
        if let Some(mirror) = &house.mirror {
            mirror_document(&**mirror, &run, &begin.document)?;
        }
        let folder = runs.create(&run, &begin.document)?;
        let (medium, _) = folder.lock()?;
        let journal = Journal::after(Box::new(medium), crate::Generation::FIRST, 0, BEGINNING);
        let begun = Begun {
            run: run.clone(),
            title: begin.runbook.title.clone(),
            document,
            inputs: begin.inputs,
            by: house.who.clone(),
            host: house.host.clone(),
            mirror: house.mirror.as_ref().map(|mirror| mirror.place()),
            since: begin.since,
            rto: begin.rto.or(begin.runbook.front.objectives.rto),
        };
        let shipper = start_shipper(&house, &run, document, 0)?;
        let graph = Graph::of(begin.runbook);
        let (state, workers) = (RunState::default(), Box::new(Threads::default()));
        let mut executor =
            Self::of(Parts { house, graph, folder: Some(folder), journal, shipper, state, workers });
        executor.record(Event::Begun(begun), &mut |_: &Record, _: &RunState| {})?;
        executor.confirm_beginning()?;
        executor.listen()?;
        executor.candidates =
            executor.graph.forward().filter(|place| executor.is_candidate(*place)).collect();
        Ok(executor)
    }

    fn confirm_beginning(&self) -> Result<(), RunError> {
        let Some(shipper) = &self.shipper else { return Ok(()) };
        match shipper.confirm(self.state.number, self.house.confirm_within) {
            Confirmed::Yes => Ok(()),
            Confirmed::Taken => Err(RunError::MirrorSilent("another run has its name there".to_owned())),
            Confirmed::NotInTime(why) => Err(RunError::MirrorSilent(why)),
        }
    }

    /// Resumes a run of this machine that nobody executes.
    ///
    /// # Errors
    /// Where somebody does, or took it over elsewhere, or its journal is damaged.
    pub fn resume(runs: &Runs, run: &RunId, house: House, compile: Compile<'_>) -> Result<Self, RunError> {
        let folder = runs.open(run)?;
        let (medium, mut story) = folder.lock()?;
        let begun = begun(&story, run)?;
        let mirror = mirror_of(&house, &begun)?;
        let confirmed = match &mirror {
            Some(mirror) => reconcile(&**mirror, run, &mut story, &medium)?,
            None => 0,
        };
        Self::go_on(folder, medium, story, house, compile, confirmed, Box::new(Threads::default()))
    }

    /// Puts an executor on what its folder holds; the lines after `confirmed` are shipped.
    pub(crate) fn go_on(
        folder: RunFolder,
        medium: FileMedium,
        story: Story,
        house: House,
        compile: Compile<'_>,
        confirmed: u64,
        workers: Box<dyn Workers>,
    ) -> Result<Self, RunError> {
        let run = folder.run().clone();
        let state = RunState::of(story.records.iter().map(|(record, _)| record))?;
        if matches!(state.status, RunStatus::Ended { .. }) {
            ship_the_rest(&house, &run, &story, confirmed)?;
            return Err(RunError::Over(run));
        }
        let document = folder.document()?;
        if state.begun.as_ref().is_none_or(|begun| begun.document != Digest::of(&document)) {
            return Err(RunError::OtherDocument(run));
        }
        let runbook = compile(&document).map_err(RunError::Document)?;
        let journal = Journal::after(Box::new(medium), story.newest, story.number(), story.chain());
        let is_mirrored = state.begun.as_ref().is_some_and(|begun| begun.mirror.is_some());
        let digest = Digest::of(&document);
        let shipper = if is_mirrored { start_shipper(&house, &run, digest, confirmed)? } else { None };
        let torn_bytes = story.torn_bytes;
        if let Some(shipper) = &shipper {
            let left = story.records.into_iter().map(|(_, line)| line).filter(|line| line.number > confirmed);
            left.for_each(|line| shipper.push(line));
        }
        let graph = Graph::of(runbook);
        let parts = Parts { house, graph, folder: Some(folder), journal, shipper, state, workers };
        let mut executor = Self::of(parts);
        executor.note_torn(torn_bytes)?;
        executor.listen()?;
        executor.listener.iter().for_each(super::hearing::Listener::wait_for_first_look);
        Ok(executor)
    }

    fn note_torn(&mut self, bytes: usize) -> Result<(), RunError> {
        if bytes == 0 {
            return Ok(());
        }
        let what = format!("{bytes} bytes at the end of the journal were no whole record, and were cut");
        self.record(Event::Noted { what }, &mut |_: &Record, _: &RunState| {})
    }
}

/// The end of a run whose mirror was silent then is brought there by the next who looks.
fn ship_the_rest(house: &House, run: &RunId, story: &Story, confirmed: u64) -> Result<(), RunError> {
    let (Some(mirror), begun) = (&house.mirror, begun(story, run)?) else { return Ok(()) };
    if begun.mirror.is_none() || story.number() <= confirmed {
        return Ok(());
    }
    holds(&**mirror, run, &begun.document).map_err(RunError::Mirror)?;
    for (_, line) in story.records.iter().filter(|(_, line)| line.number > confirmed) {
        if !create(&**mirror, run, line).map_err(RunError::Mirror)? {
            return Err(RunError::TakenOver { run: run.clone(), by: None });
        }
    }
    Ok(())
}

pub(crate) fn begun(story: &Story, run: &RunId) -> Result<Begun, RunError> {
    match story.records.first().map(|(record, _)| &record.event) {
        Some(Event::Begun(begun)) => Ok(begun.clone()),
        _ => Err(RunError::NotBegun(run.clone())),
    }
}

/// The mirror of a run that has one.
pub(crate) fn mirror_of(house: &House, begun: &Begun) -> Result<Option<Arc<dyn Mirror>>, RunError> {
    let Some(place) = &begun.mirror else { return Ok(None) };
    match &house.mirror {
        Some(mirror) => Ok(Some(mirror.clone())),
        None => Err(RunError::MirrorMissing { run: begun.run.clone(), place: place.clone() }),
    }
}

pub(crate) fn start_shipper(
    house: &House,
    run: &RunId,
    document: Digest,
    confirmed: u64,
) -> Result<Option<Shipper>, RunError> {
    let Some(mirror) = house.mirror.clone() else { return Ok(None) };
    Shipper::start(mirror, run.clone(), document, confirmed).map(Some).map_err(RunError::Thread)
}

fn mirror_document(mirror: &dyn Mirror, run: &RunId, document: &[u8]) -> Result<(), RunError> {
    match mirror.create(&Slot { run: run.clone(), number: 0 }, document).map_err(RunError::Mirror)? {
        Created::Created => Ok(()),
        Created::Taken(there) if there == document => Ok(()),
        Created::Taken(_) => Err(RunError::MirrorSilent("another run has its name there".to_owned())),
    }
}

/// What the mirror has of a run that is about to be resumed. One that is ahead, or says something else, belongs to
/// somebody else by now. One that does not answer keeps nobody from resuming: what may be done once waits for it.
fn reconcile(
    mirror: &dyn Mirror,
    run: &RunId,
    story: &mut Story,
    _lock: &FileMedium,
) -> Result<u64, RunError> {
    let Ok(there) = last(mirror, run) else { return Ok(0) };
    let ours: Option<&Line> = story.records.iter().map(|(_, line)| line).find(|line| line.number == there);
    let theirs = mirror.read(&Slot { run: run.clone(), number: there });
    match (ours, theirs) {
        (_, Err(_)) => Ok(0),
        _ if there == 0 => Ok(0),
        (Some(ours), Ok(Some(theirs))) if ours.bytes == theirs => Ok(there),
        (_, Ok(theirs)) => Err(elsewhere(mirror, run, story, there, theirs)),
    }
}

/// Who went on with a run that is further in its mirror than here, or says something else there.
fn elsewhere(mirror: &dyn Mirror, run: &RunId, story: &Story, there: u64, last: Option<Vec<u8>>) -> RunError {
    let read = |number| mirror.read(&Slot { run: run.clone(), number }).ok().flatten();
    let generation = last.as_deref().and_then(record).map(|record| record.generation);
    if generation.is_some_and(|generation| generation == story.newest) && there > story.number() {
        return RunError::Behind { run: run.clone(), here: story.number(), there };
    }
    // From the newest back: a takeover is the first record of its generation.
    let by = (1..=there).rev().take(LOOKED_BACK).find_map(|number| who(&read(number)?));
    RunError::TakenOver { run: run.clone(), by }
}

/// So many records are looked at for who took a run over: more than that is not waited for.
const LOOKED_BACK: usize = 1000;

/// Who took over and where, if a line says that.
pub(crate) fn who(line: &[u8]) -> Option<String> {
    match record(line)?.event {
        Event::TakenOver(taken) => Some(format!("{} on {}", taken.by, taken.host)),
        _ => None,
    }
}

/// The record of a line, which ends with a space, its chain value in hexadecimal digits and a newline.
fn record(line: &[u8]) -> Option<Record> {
    serde_json::from_slice(line.get(..line.len().checked_sub(66)?)?).ok()
}
