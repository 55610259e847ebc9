//! The watchdog: looks at the server, and sees that no commit waits for us for too long.
//!
//! It is a process of its own. On its standard input it is told, a line of JSON each, first what to watch
//! ([`WatchdogConfig`]), then that the follower is there ([`Beat`]); the end of that input is the end of the follower.
//! On its standard output it says what happens ([`WatchdogEvent`]). Nobody need read that: what cannot be said at once
//! is dropped.
//!
//! Failpoints: `synchronous::looked`, and those of `exposure` and `server`.

use super::check::refuse_name;
use super::exposure::{RecordError, Records};
use super::machine::{Calm, Duty, Event, ExposureReason, Life, Look, State, tried_for};
use super::names::SynchronousNames;
use super::server::{Server, Shown};
use super::waits::Waits;
use super::{Result, SynchronousError};
use lifeboat_base::clock::{Clock, Stopwatch, Timestamp};
use lifeboat_base::{Hint, failpoint, report};
use lifeboat_postgres_wal::Lsn;
use lifeboat_wire_postgres::{ConnectOptions, PostgresError};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// So many looks fit into the time that a commit may wait.
const LOOKS: u32 = 10;
/// Looking more often costs the server more than it is worth.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// Looking less often lets a wait that begins early be seen late.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A server that has been away for a while is looked for so seldom, once nobody follows any more.
const AWAY_PAUSE: Duration = Duration::from_secs(30);
/// For that while.
const AWAY_AFTER: Duration = Duration::from_secs(120);
/// After it was taken out, our name comes back only when we have been caught up for so long.
const LONGEST_CALM: Duration = Duration::from_secs(5);
/// A beat that is older says nothing about now.
const BEAT_LASTS: Duration = Duration::from_secs(5);
/// A line of input is short; more is not ours.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// What is said and not read yet.
const EVENTS_UNREAD: usize = 64;
/// The shortest time that commits may be given: with less, every pause of the machine takes our name out.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// The same problem is said again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// What a watchdog is to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogConfig {
    /// The server, as a connection string. It may hold a password: it goes through the pipe, never into arguments.
    pub server: String,
    /// Our name in `synchronous_standby_names`.
    pub name: String,
    /// The longest time that a commit may wait for us.
    pub max_wait: Duration,
    /// Where the intervals of exposure are kept: of this server and name alone.
    pub directory: PathBuf,
    /// There is no follower on the other side of the pipe, whose end says nothing: for a second watchdog on another
    /// machine. It never puts in a name that was not there when it came or that it did not take out itself.
    pub alone: bool,
}

/// What the follower says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beat {
    /// It is there.
    Here {
        /// Whether it streams and holds what has arrived.
        caught_up: bool,
    },
    /// It ends now, on purpose.
    Stop,
}

/// What a watchdog says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogEvent {
    /// Commits wait for us.
    Covered {
        /// Since when, in nanoseconds since 1970.
        since_nanos: i64,
    },
    /// Commits do not wait for us.
    Exposed {
        /// Since when, in nanoseconds since 1970.
        since_nanos: i64,
        /// Why.
        reason: ExposureReason,
    },
    /// Something did not work. It is tried again.
    Problem {
        /// What.
        error: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The watchdog's process ended, and another one is started.
    Restarted,
    /// No watchdog can be had any more: our name was taken out, and synchronous mode has ended.
    Unguarded,
}

/// Watches until nobody follows any more and our name is out of the list. A server that never comes back is given up
/// after a minute where nothing is to be undone there, and after a week otherwise. Whoever runs it as a process lets it
/// outlive the requests to end that are meant for the follower: it ends with its pipe.
///
/// # Errors
/// Where it is not told what to watch, another watchdog has taken over, or the server was given up with our name
/// perhaps in its list.
pub fn run_watchdog(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<()> {
    let mut input = BufReader::new(input);
    let config = read_config(&mut input)?;
    let options = ConnectOptions::parse(&config.server, environment).map_err(PostgresError::from)?;
    let beats = beats(input);
    let mut watching = Watching::begin(config, options, events(output))?;
    loop {
        watching.look_and_act();
        if watching.is_over() {
            return watching.done;
        }
        watching.listen(&beats);
    }
}

/// Takes our name out of the list at once, from the process that calls, where no watchdog can be had.
///
/// # Errors
/// Where the server cannot be asked: then the name is still there.
pub fn leave_now(config: &WatchdogConfig, options: &ConnectOptions, reason: ExposureReason) -> Result<()> {
    let mut records = Records::take_over(&config.directory, &config.name)?;
    let recorded = records.exposed(Clock::System.now(), reason);
    let mut server = Server::open(options, &config.name)?;
    records.acting(|records| server.remove(records))?;
    Ok(recorded?)
}

fn read_config(input: &mut impl BufRead) -> Result<WatchdogConfig> {
    let process = |source| SynchronousError::Process { operation: "instruct", source };
    let line = read_line(input).map_err(process)?;
    let line = line.ok_or_else(|| process(io::ErrorKind::UnexpectedEof.into()))?;
    let config: WatchdogConfig = serde_json::from_str(&line).map_err(|e| process(e.into()))?;
    refuse_name(&config.name)?;
    match config.max_wait < SHORTEST_WAIT {
        true => {
            Err(process(io::Error::other(format!("commits cannot be given less than {SHORTEST_WAIT:?}"))))
        }
        false => Ok(config),
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    match input.take(MAX_LINE_BYTES).read_line(&mut line)? {
        0 => Ok(None),
        _ if line.ends_with('\n') => Ok(Some(line)),
        // Half a line is the end of a follower that was killed while it wrote.
        _ => Ok(None),
    }
}

/// The follower's beats; the channel ends with the pipe.
fn beats(mut input: impl BufRead + Send + 'static) -> Receiver<Beat> {
    let (sender, beats) = channel();
    thread::spawn(move || {
        while let Ok(Some(line)) = read_line(&mut input) {
            let Ok(beat) = serde_json::from_str(&line) else { continue };
            if sender.send(beat).is_err() {
                return;
            }
        }
    });
    beats
}

/// Writes events from a thread of its own, which may wait for ever where nobody reads.
fn events(mut output: impl Write + Send + 'static) -> SyncSender<WatchdogEvent> {
    let (sender, events) = sync_channel::<WatchdogEvent>(EVENTS_UNREAD);
    thread::spawn(move || {
        for event in events {
            let Ok(mut line) = serde_json::to_vec(&event) else { continue };
            line.push(b'\n');
            if output.write_all(&line).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    sender
}

/// A watchdog at work.
struct Watching {
    config: WatchdogConfig,
    options: ConnectOptions,
    events: SyncSender<WatchdogEvent>,
    records: Records,
    state: State,
    life: Life,
    beat: Option<(Stopwatch, bool)>,
    server: Option<Server>,
    /// Since when the server has not answered, without a break.
    away: Option<Stopwatch>,
    seen: Seen,
    /// What could not be recorded in time.
    owed: Option<(Timestamp, ExposureReason)>,
    said: Option<WatchdogEvent>,
    problem: Option<(String, Stopwatch)>,
    done: Result<()>,
}

/// What the looks so far have shown.
struct Seen {
    begun: Stopwatch,
    waits: Waits,
    calm: Calm,
    /// The end of the server's log at the look before.
    written: Option<Lsn>,
    /// When the look before was.
    at: Timestamp,
    new_session: bool,
    /// Whether the last look showed our name in the list, or nobody has looked and an earlier watchdog put it there.
    perhaps_listed: bool,
}

impl Watching {
    fn begin(
        config: WatchdogConfig,
        options: ConnectOptions,
        events: SyncSender<WatchdogEvent>,
    ) -> Result<Self> {
        let records = Records::take_over(&config.directory, &config.name)?;
        // A record that cannot be read may be of anything.
        let perhaps_listed = records.placement().map_or(true, |placement| placement.is_some());
        let seen = Seen {
            begun: Stopwatch::start(),
            waits: Waits::default(),
            calm: Calm::default(),
            written: None,
            at: Clock::System.now(),
            new_session: true,
            perhaps_listed,
        };
        // Alone, it does not put in what somebody else has not put in before.
        let state = match config.alone {
            true => State::Out(ExposureReason::RemovedByOthers),
            false => State::FIRST,
        };
        Ok(Self {
            config,
            options,
            events,
            records,
            state,
            life: Life::Alive,
            beat: None,
            server: None,
            away: None,
            seen,
            owed: None,
            said: None,
            problem: None,
            done: Ok(()),
        })
    }

    fn is_over(&self) -> bool {
        self.done.is_err() || (self.state == State::Over && self.owed.is_none())
    }

    fn pause(&self) -> Duration {
        let away = self.away.as_ref().map_or(Duration::ZERO, Stopwatch::elapsed);
        if self.life != Life::Alive && away > AWAY_AFTER {
            return AWAY_PAUSE;
        }
        (self.config.max_wait / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Hears what the follower says until it is time for the next look.
    fn listen(&mut self, beats: &Receiver<Beat>) {
        let (since, pause) = (Stopwatch::start(), self.pause());
        loop {
            let left = pause.saturating_sub(since.elapsed());
            match beats.recv_timeout(left) {
                Ok(Beat::Here { caught_up }) => self.beat = Some((Stopwatch::start(), caught_up)),
                Ok(Beat::Stop) if self.life == Life::Alive => {
                    self.life = Life::Stopping;
                    return;
                }
                Ok(Beat::Stop) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    if self.life == Life::Alive && !self.config.alone {
                        self.life = Life::Gone;
                        return;
                    }
                    return thread::sleep(left);
                }
            }
        }
    }

    /// One look, and what it asks for. What does not work is said, and tried again at the next look.
    fn look_and_act(&mut self) {
        if self.records.is_taken_over() {
            let directory = self.config.directory.clone();
            self.done = Err(RecordError::TakenOver { directory }.into());
            return;
        }
        self.settle();
        match self.look().and_then(|()| self.act()) {
            Ok(()) => self.away = None,
            Err(error @ SynchronousError::Record(RecordError::TakenOver { .. })) => self.done = Err(error),
            Err(error) => {
                // Whatever is wrong with the session, a new one is worth a try.
                self.server = None;
                self.problem(&error);
                let away = self.away.get_or_insert_with(Stopwatch::start).elapsed();
                self.give_up_after(away);
            }
        }
    }

    /// Ends where nobody follows any more and the server has been away for too long.
    fn give_up_after(&mut self, away: Duration) {
        let nothing_to_undo = self.state.has_nothing_to_undo(self.seen.perhaps_listed);
        let Some(tried_for) = tried_for(self.life, nothing_to_undo).filter(|limit| away >= *limit) else {
            return;
        };
        if nothing_to_undo {
            self.state = State::Over;
        } else {
            // The interval of exposure stays open: nobody knows when it ends.
            self.done = Err(SynchronousError::GivenUp { name: self.config.name.clone(), tried_for });
        }
    }

    fn look(&mut self) -> Result<()> {
        if self.server.is_none() {
            self.server = Some(Server::open(&self.options, &self.config.name)?);
            self.seen.new_session = true;
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        let shown = server.look()?;
        failpoint::reach("synchronous::looked").map_err(SynchronousError::Failpoint)?;
        let look = self.judge(shown)?;
        self.step(Event::Looked(look, self.life));
        Ok(())
    }

    fn judge(&mut self, shown: Shown) -> Result<Look> {
        let names = SynchronousNames::parse(&shown.list.names)?;
        self.seen.perhaps_listed = names.lists(&self.config.name);
        let (now, pause) = (self.seen.begun.elapsed(), self.pause());
        let in_front = self.seen.written.replace(shown.written);
        let holds_it = matches!((shown.acknowledged, in_front), (Some(at), Some(written)) if at >= written);
        let calm_for = match self.state {
            State::Out(ExposureReason::Starting) | State::Entering => Duration::ZERO,
            _ => self.config.max_wait.min(LONGEST_CALM),
        };
        let says_so = self.follower_is_caught_up();
        let waited = self.seen.waits.observe(now, shown.waiters, shown.written, shown.acknowledged);
        Ok(Look {
            listed: names.lists(&self.config.name),
            counted: shown.counted,
            caught_up: self.seen.calm.observe(now, holds_it && says_so, calm_for),
            waited_too_long: waited.is_some_and(|waited| waited + pause >= self.config.max_wait),
            new_session: std::mem::take(&mut self.seen.new_session),
        })
    }

    fn follower_is_caught_up(&self) -> bool {
        let beat = self.beat.as_ref().filter(|(since, _)| since.elapsed() < BEAT_LASTS);
        self.config.alone || beat.is_some_and(|(_, caught_up)| *caught_up)
    }

    fn act(&mut self) -> Result<()> {
        let now = Clock::System.now();
        match self.state.duty() {
            Duty::None => {}
            Duty::RecordExposed(reason) => {
                // Somebody took us out since the look before.
                self.expose(
                    if reason == ExposureReason::RemovedByOthers { self.seen.at } else { now },
                    reason,
                );
            }
            Duty::Place => {
                self.with_server(Server::place)?;
                self.step(Event::Placed);
            }
            Duty::Remove(reason) => {
                self.expose(now, reason);
                self.with_server(Server::remove)?;
                self.step(Event::Removed(self.life));
            }
            Duty::RecordCovered => {
                self.records.covered(now)?;
                self.owed = None;
                if !matches!(self.said, Some(WatchdogEvent::Covered { .. })) {
                    self.say(WatchdogEvent::Covered { since_nanos: now.as_nanos() });
                }
            }
        }
        self.seen.at = now;
        Ok(())
    }

    fn with_server(&mut self, act: impl FnOnce(&mut Server, &mut Records) -> Result<()>) -> Result<()> {
        match &mut self.server {
            Some(server) => self.records.acting(|records| act(server, records)),
            None => Ok(()),
        }
    }

    /// Records first. A disk that takes no record must not keep commits waiting: then it is owed.
    fn expose(&mut self, from: Timestamp, reason: ExposureReason) {
        if let Err(error) = self.records.exposed(from, reason) {
            self.owed.get_or_insert((from, reason));
            self.problem(&error.into());
        }
        let exposed = matches!(self.said, Some(WatchdogEvent::Exposed { .. }));
        if !exposed {
            self.say(WatchdogEvent::Exposed { since_nanos: from.as_nanos(), reason });
        }
    }

    /// Records what is owed.
    fn settle(&mut self) {
        let Some((from, reason)) = self.owed else { return };
        if self.records.exposed(from, reason).is_ok() {
            self.owed = None;
        }
    }

    fn step(&mut self, event: Event) {
        self.state = self.state.next(event);
    }

    fn problem(&mut self, error: &SynchronousError) {
        let text = report(error);
        let known = self.problem.as_ref().is_some_and(|(said, at)| *said == text && at.elapsed() < SAY_AGAIN);
        if !known {
            self.problem = Some((text.clone(), Stopwatch::start()));
            self.send(WatchdogEvent::Problem { error: text, hint: error.hint() });
        }
    }

    fn say(&mut self, event: WatchdogEvent) {
        self.said = Some(event.clone());
        self.send(event);
    }

    fn send(&self, event: WatchdogEvent) {
        match self.events.try_send(event) {
            // Nobody reads: the records say it all.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synchronous::exposure::{Listed, Placement};

    /// One whose follower is gone, of a server that is nowhere.
    fn watching(place: &tempfile::TempDir) -> Watching {
        let server = format!("postgres:///postgres?host={}/none", place.path().display());
        let config = WatchdogConfig {
            server: server.clone(),
            name: "lifeboat_app".to_owned(),
            max_wait: Duration::from_secs(1),
            directory: place.path().join("watchdog"),
            alone: false,
        };
        let options = ConnectOptions::parse(&server, &|_| None).unwrap();
        let mut watching = Watching::begin(config, options, events(io::sink())).unwrap();
        watching.life = Life::Gone;
        watching.look_and_act();
        assert!(watching.away.is_some() && !watching.is_over());
        watching
    }

    #[test]
    fn with_nothing_to_undo_a_server_that_is_away_is_given_up_soon() {
        let place = tempfile::tempdir().unwrap();
        let mut watching = watching(&place);
        watching.give_up_after(Duration::from_secs(59));
        assert!(!watching.is_over());
        watching.give_up_after(Duration::from_secs(60));
        assert!(watching.is_over() && watching.done.is_ok());
    }

    #[test]
    fn with_the_name_perhaps_in_its_list_it_is_tried_for_a_week_and_then_said() {
        let place = tempfile::tempdir().unwrap();
        let records = Records::take_over(&place.path().join("watchdog"), "lifeboat_app").unwrap();
        let listed = |names: &str| Listed { names: names.to_owned(), by_reset: true };
        records.keep_placement(&Placement { with: listed("lifeboat_app"), without: listed("") }).unwrap();
        let mut watching = watching(&place);
        let week = Duration::from_secs(7 * 24 * 3600);
        watching.give_up_after(week - Duration::from_secs(1));
        assert!(!watching.is_over());
        watching.give_up_after(week);
        assert!(watching.is_over());
        let error = watching.done.expect_err("the name may be there");
        assert!(error.hint().unwrap().contains("take lifeboat_app out"), "{error}");
    }
}
