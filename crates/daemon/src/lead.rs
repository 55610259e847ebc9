//! Leadership: one host does what is shared. A thread of its own stands, gives signs of life, and says who leads;
//! it does nothing else, so that a long job never makes a leader look dead.
//!
//! ```text
//! standing ──nobody leads, or whoever did is silent──► leading ──a newer generation, or no sign of life──► standing
//! ```
//! A leader that cannot give a sign of life for as long as others wait stops by itself, before another begins: its
//! shared streams end and no shared job begins. What it publishes late nevertheless is void for every reader.

use crate::house::House;
use crate::live::LeaderSeen;
use crate::record::What;
use lifeboat_base::clock::Stopwatch;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Candidate, ChainFix, ChainFixer, Leadership, Outcome, RepositoryError, Standing};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A leader that others have not heard of for so long is replaced, unless the plan says otherwise.
const SILENCE: Duration = Duration::from_secs(6);
/// Signs of life within the time in which one is due: so many may be lost.
const BEATS: u32 = 5;

/// Leadership, shared by the thread that keeps it and those who act under it.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    /// Held while a sign of life is given: nobody else waits for it.
    held: Mutex<Option<Leadership>>,
    /// What others need of it.
    fixer: Mutex<Option<ChainFixer>>,
    leads: AtomicBool,
}

impl Lead {
    /// Whether this host leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }

    /// Whether this host leads, as the repository has it now.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.fixer().is_some_and(|fixer| fixer.is_current().unwrap_or(false))
    }

    fn fixer(&self) -> Option<ChainFixer> {
        self.fixer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The generation that we lead under.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.fixer().map(|fixer| fixer.generation())
    }

    /// What a snapshot that is published under our leadership carries; `None` where we do not lead.
    ///
    /// # Errors
    /// Where the dataset's chain cannot be read.
    pub(crate) fn fix(&self, dataset: &DatasetName) -> Result<Option<ChainFix>, RepositoryError> {
        self.fixer().map(|fixer| fixer.fix(dataset)).transpose()
    }

    fn set(&self, leadership: Option<Leadership>) {
        let fixer = leadership.as_ref().map(Leadership::fixer);
        self.leads.store(fixer.is_some(), Ordering::SeqCst);
        *self.fixer.lock().unwrap_or_else(PoisonError::into_inner) = fixer;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = leadership;
    }

    fn beat(&self) -> Result<Standing, RepositoryError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(leadership) => leadership.heartbeat(),
            None => Err(RepositoryError::Aborted),
        }
    }

    fn resign(&self) -> Result<(), RepositoryError> {
        self.leads.store(false, Ordering::SeqCst);
        *self.fixer.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.map_or(Ok(()), Leadership::resign)
    }
}

/// Stands and leads until it is told to stop; then it steps down.
pub(crate) fn keep(house: &House, lead: &Lead, stop: &AtomicBool) {
    let planned = house.plan.serve.as_ref().and_then(|serve| serve.leader_silence);
    let silence = planned.map_or(SILENCE, lifeboat_plan::Span::duration).max(Duration::from_secs(1));
    let pause = silence / BEATS;
    let (mut candidate, mut last_beat) = (None, Stopwatch::start());
    while !stop.load(Ordering::Relaxed) {
        if lead.leads() {
            if go_on(house, lead, silence, &mut last_beat) {
                candidate = None;
            }
        } else {
            stand(house, lead, silence, &mut candidate, &mut last_beat);
        }
        crate::stream::sleep(pause, stop);
    }
    if lead.leads() {
        if let Err(error) = lead.resign() {
            house.say("leader", "not-resigned", json!({ "error": lifeboat_base::report(&error) }));
        }
        house.live.change(|seen| seen.leader.is_us = false);
    }
}

/// Gives a sign of life; true where we lead no more.
fn go_on(house: &House, lead: &Lead, silence: Duration, last_beat: &mut Stopwatch) -> bool {
    match lead.beat() {
        Ok(Standing::Current) => {
            *last_beat = Stopwatch::start();
            false
        }
        Ok(Standing::Superseded { generation, writer }) => {
            step_down(house, lead, Some(generation), Some(writer.to_string()));
            true
        }
        // Others may have begun already: whoever cannot tell stops.
        Err(_) if last_beat.elapsed() >= silence => {
            step_down(house, lead, None, None);
            true
        }
        Err(_) => false,
    }
}

fn step_down(house: &House, lead: &Lead, generation: Option<u64>, writer: Option<String>) {
    lead.set(None);
    house.live.change(|seen| seen.leader = LeaderSeen { generation, writer, is_us: false });
    record(house, What::Followed { generation });
    house.say("leader", "followed", json!({ "generation": generation }));
}

fn stand(
    house: &House,
    lead: &Lead,
    silence: Duration,
    candidate: &mut Option<Candidate>,
    last_beat: &mut Stopwatch,
) {
    // Without the repository nobody leads.
    let Ok(repository) = house.repository() else { return };
    if candidate.is_none() {
        let Ok(signer) = repository.writer() else { return };
        *candidate = Some(Candidate::new(&repository, &signer, silence, Arc::new(Stopwatch::start())));
    }
    let Some(standing) = candidate.as_mut() else { return };
    match standing.stand() {
        Ok(Outcome::Leading(leadership)) => {
            let generation = leadership.generation();
            *last_beat = Stopwatch::start();
            lead.set(Some(leadership));
            let leader = LeaderSeen { generation: Some(generation), writer: None, is_us: true };
            house.live.change(|seen| seen.leader = leader);
            record(house, What::Led { generation });
            house.say("leader", "led", json!({ "generation": generation }));
        }
        Ok(Outcome::Following { generation, writer, .. }) => {
            let leader =
                LeaderSeen { generation: Some(generation), writer: Some(writer.to_string()), is_us: false };
            let is_new =
                house.live.change(|seen| std::mem::replace(&mut seen.leader, leader.clone()) != leader);
            if is_new {
                house.say(
                    "leader",
                    "followed",
                    json!({ "generation": generation, "writer": writer.to_string() }),
                );
            }
        }
        Err(_) => {}
    }
}

fn record(house: &House, what: What) {
    if let Err(error) = house.state.keep(house.clock.now(), what) {
        house.say("controller", "not-kept", json!({ "error": lifeboat_base::report(&error) }));
    }
}
