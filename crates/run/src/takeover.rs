//! Taking a run over from an executor that hangs, or from a machine that is gone.
//!
//! The next generation is claimed before anything is read: here by creating its journal file, in the mirror by
//! occupying the next slot. From then on the other executor stops before it acts. Whether it acted before, nobody can
//! see where a step that may be done once is open, or where the run is not mirrored: then a person has to state that
//! it is stopped. With that statement a run of this machine is also taken over while its mirror is silent; its records
//! are brought there later, and what may be done once waits for that.
//!
//! Failpoints: `run::claimed` (the next generation is claimed here, and nothing recorded), `run::occupied` (its slot in
//! the mirror is occupied, and nothing recorded here).

use crate::engine::{Compile, Executor, House, Threads, begun, mirror_of};
use crate::error::RunError;
use crate::event::{Act, Again, Begun, Event, Record, TakenOver};
use crate::folder::{FolderError, RunFolder, Runs, Story};
use crate::ids::{Generation, RunId};
use crate::journal::{self, BEGINNING, JournalError, Line, Medium};
use crate::mirror::reading::read_slot;
use crate::mirror::ship::{create, holds, last};
use crate::mirror::{Mirror, Slot};
use crate::state::RunState;
use crate::status::StepStatus;
use crate::time::RunTime;
use lifeboat_evidence::Digest;
use std::path::Path;

/// What a person says about the other executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// That it is stopped, and how they know.
    pub text: String,
}

impl Executor {
    /// Takes a run over: one of this machine, or one that only the mirror has.
    ///
    /// # Errors
    /// [`RunError::StatementNeeded`] where a person has to say that the other executor is stopped; [`FolderError::Lost`]
    /// where somebody else took it over at the same time.
    pub fn take_over(
        runs: &Runs,
        run: &RunId,
        house: House,
        compile: Compile<'_>,
        statement: Option<Statement>,
    ) -> Result<Self, RunError> {
        let folder = fetch(runs, run, house.mirror.as_deref(), statement.as_ref())?;
        let before = folder.story()?;
        let begun = begun(&before, run)?;
        let mirror = mirror_of(&house, &begun)?;
        refuse_what_is_over(&before, run)?;
        require_statement(&begun, &before, statement.as_ref())?;
        let (generation, mut medium) = folder.claim()?;
        reach("run::claimed")?;
        // Only now: what the other recorded before the claim is all there, and after it the other stops.
        let mut story = folder.story()?;
        refuse_what_is_over(&story, run)?;
        require_statement(&begun, &story, statement.as_ref())?;
        let taken = TakenOver {
            by: house.who.clone(),
            host: house.host.clone(),
            statement: statement.map(|statement| statement.text),
            after: story.chain(),
        };
        let (record, line) = takeover_line(&house, &story, generation, taken)?;
        let has_statement = taken_with_statement(&record);
        let is_occupied = match &mirror {
            Some(mirror) => is_occupied(occupy(&**mirror, run, &story, &line), has_statement)?,
            None => false,
        };
        reach("run::occupied")?;
        medium.append(&line.bytes)?;
        medium.sync()?;
        let confirmed = if is_occupied { line.number } else { 0 };
        story.records.push((record, line));
        story.newest = generation;
        Self::go_on(folder, medium, story, house, compile, confirmed, Box::new(Threads::default()))
    }
}

fn taken_with_statement(record: &Record) -> bool {
    matches!(&record.event, Event::TakenOver(taken) if taken.statement.is_some())
}

/// Whether the next slot is occupied; a silent mirror is no obstacle where a person stated that the other is stopped.
fn is_occupied(occupied: Result<(), RunError>, has_statement: bool) -> Result<bool, RunError> {
    match occupied {
        Ok(()) => Ok(true),
        Err(RunError::Mirror(_)) if has_statement => Ok(false),
        Err(error) => Err(error),
    }
}

fn reach(failpoint: &'static str) -> Result<(), RunError> {
    let reached = lifeboat_base::failpoint::reach(failpoint);
    Ok(reached.map_err(|error| JournalError::io("take over", Path::new("the run"), error))?)
}

fn takeover_line(
    house: &House,
    story: &Story,
    generation: Generation,
    taken: TakenOver,
) -> Result<(Record, Line), RunError> {
    let latest = story.records.last().map(|(record, _)| record.at).unwrap_or_default();
    let at = RunTime::after(house.clock.clone(), latest).now();
    let record =
        Record { number: story.number() + 1, generation, at, event: Event::TakenOver(taken), heard: None };
    let line = journal::line(&record, story.chain())?;
    Ok((record, line))
}

/// Nothing can follow the end: a takeover behind it would make the run unreadable.
fn refuse_what_is_over(story: &Story, run: &RunId) -> Result<(), RunError> {
    // Not only the last record: that it is over is told after its end.
    let is_over = story.records.iter().any(|(record, _)| matches!(record.event, Event::Ended { .. }));
    if is_over { Err(RunError::Over(run.clone())) } else { Ok(()) }
}

/// A statement is needed where the run is not mirrored, or where something is open that may be done once.
fn require_statement(begun: &Begun, story: &Story, statement: Option<&Statement>) -> Result<(), RunError> {
    if says_something(statement) {
        return Ok(());
    }
    if begun.mirror.is_none() {
        return Err(RunError::StatementNeeded { why: "the run is not mirrored".to_owned() });
    }
    let state = RunState::of(story.records.iter().map(|(record, _)| record))?;
    if state.has_left_mirror {
        return Err(RunError::StatementNeeded { why: "the run goes on without its mirror".to_owned() });
    }
    let open = state
        .under_way()
        .find(|id| matches!(state.status_of(id), StepStatus::Open { repeat: Again::Never, .. }));
    match open {
        Some(step) => {
            let what = match state.status_of(step) {
                StepStatus::Open { act: Act::Undo, .. } => "the undo of ",
                _ => "",
            };
            Err(RunError::StatementNeeded {
                why: format!("{what}{step} may be under way, and may be done once"),
            })
        }
        None => Ok(()),
    }
}

fn says_something(statement: Option<&Statement>) -> bool {
    statement.is_some_and(|statement| !statement.text.trim().is_empty())
}

/// The run's folder, with what the mirror knows beyond it.
fn fetch(
    runs: &Runs,
    run: &RunId,
    mirror: Option<&dyn Mirror>,
    statement: Option<&Statement>,
) -> Result<RunFolder, RunError> {
    let here = match runs.open(run) {
        // A fetch that was cut off before the first record.
        Ok(folder) if mirror.is_some() && folder.story()?.number() == 0 => None,
        Ok(folder) => Some(folder),
        Err(FolderError::Absent { .. }) if mirror.is_some() => None,
        Err(error) => return Err(error.into()),
    };
    let Some(mirror) = mirror else {
        return here.ok_or_else(|| RunError::NotBegun(run.clone()));
    };
    let known = here.as_ref().map(|folder| begun(&folder.story()?, run)).transpose()?;
    if let (Some(folder), Some(Begun { mirror: None, .. })) = (&here, &known) {
        return Ok(folder.clone());
    }
    let read = |number| mirror.read(&Slot { run: run.clone(), number }).map_err(RunError::Mirror);
    let is_here = here.is_some();
    let folder = match here {
        Some(folder) => folder,
        None => runs.create(run, &read(0)?.ok_or_else(|| RunError::NotBegun(run.clone()))?)?,
    };
    let story = folder.story()?;
    let (mut number, mut chain) = (0, BEGINNING);
    // What both have need not be read again; where they part, the mirror is right.
    let is_its_own = known.map_or(Ok(()), |begun| holds(mirror, run, &begun.document));
    let there = match is_its_own.and_then(|()| last(mirror, run)) {
        Ok(there) => there,
        // What is here is what can be known.
        Err(_) if is_here && says_something(statement) => return Ok(folder),
        Err(error) => return Err(RunError::Mirror(error)),
    };
    for (record, line) in story.records.iter().filter(|(record, _)| record.number <= there) {
        let is_last = record.number == there || record.number == story.number();
        if is_last && read(record.number)?.as_deref() != Some(&line.bytes) {
            (number, chain) = common(&story, &read)?;
            break;
        }
        (number, chain) = (record.number, line.chain);
    }
    adopt(&folder, &read, number, chain)?;
    Ok(folder)
}

/// The last record that both have.
fn common(
    story: &Story,
    read: &dyn Fn(u64) -> Result<Option<Vec<u8>>, RunError>,
) -> Result<(u64, Digest), RunError> {
    let mut common = (0, BEGINNING);
    for (record, line) in &story.records {
        if read(record.number)?.as_deref() != Some(&line.bytes) {
            break;
        }
        common = (record.number, line.chain);
    }
    Ok(common)
}

/// Puts the mirror's lines after a record into the folder.
fn adopt(
    folder: &RunFolder,
    read: &dyn Fn(u64) -> Result<Option<Vec<u8>>, RunError>,
    mut number: u64,
    mut chain: Digest,
) -> Result<(), RunError> {
    let mut has_room = false;
    while let Some(bytes) = read(number + 1)? {
        let (record, line) = read_slot(number + 1, &bytes, chain)?;
        if !has_room {
            folder.part(record.generation, number)?;
            has_room = true;
        }
        folder.adopt(record.generation, &line)?;
        (number, chain) = (record.number, line.chain);
    }
    Ok(())
}

/// Occupies the next slot, after what this machine has beyond the mirror.
fn occupy(mirror: &dyn Mirror, run: &RunId, story: &Story, line: &Line) -> Result<(), RunError> {
    let document = begun(story, run)?.document;
    let there = holds(mirror, run, &document).and_then(|()| last(mirror, run)).map_err(RunError::Mirror)?;
    let beyond = story.records.iter().map(|(_, line)| line).filter(|line| line.number > there);
    for line in beyond.chain([line]) {
        if !create(mirror, run, line).map_err(RunError::Mirror)? {
            return Err(FolderError::Lost(run.clone()).into());
        }
    }
    Ok(())
}
