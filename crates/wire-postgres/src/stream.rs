//! The log as it streams, and what we say back.
//!
//! Knows the conversation and positions; deliberately nothing of what is in the log. The stream has no
//! holes: what does not begin where the last piece ended is an error.

use crate::connection::{Connection, Stop};
use crate::error::{PostgresError, SessionFacts};
use crate::inbox::Message;
use crate::message::{self, Fields, Malformed};
use crate::replication::slot_name;
use crate::rows::Rows;
use crate::transport::Sender;
use lifeboat_base::clock::Clock;
use lifeboat_postgres_wal::{Lsn, TimelineId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From 1970 to 2000, where PostgreSQL's clock begins, in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The log of one timeline as it streams.
#[derive(Debug)]
pub struct WalStream {
    connection: Connection,
    status: StatusSender,
    timeline: TimelineId,
    position: Lsn,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The log comes.
    Streaming,
    /// The server has said all there is of the timeline, and waits for our word.
    Done,
    /// There was nothing left of the timeline from the start.
    Over(NextTimeline),
}

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent<'s> {
    /// A piece of the log. It lies in the session's buffer until the next event is asked for.
    Wal {
        /// Where it begins: where the last piece ended.
        start: Lsn,
        /// Where the server's log ended when it sent this.
        server_end: Lsn,
        /// When that was, in microseconds since 2000-01-01 UTC by the server's clock.
        sent_micros: i64,
        /// The bytes.
        data: &'s [u8],
    },
    /// A sign of life.
    Keepalive {
        /// Where the server's log ended when it sent this.
        server_end: Lsn,
        /// When that was, in microseconds since 2000-01-01 UTC by the server's clock.
        sent_micros: i64,
        /// Whether the server wants a status at once: without one it will hang up.
        reply_requested: bool,
    },
    /// Nothing came within the time.
    Idle,
    /// The timeline ends here: somebody was promoted. [`WalStream::end_of_timeline`] says what comes next.
    EndOfTimeline,
}

/// Where the log goes on behind a timeline's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextTimeline {
    /// The next timeline.
    pub timeline: TimelineId,
    /// Its first position: where the old one was left.
    pub start: Lsn,
}

/// Sends statuses, also from another thread while the stream is waited for. Once the stream is over it says so
/// and sends nothing.
#[derive(Clone, Debug)]
pub struct StatusSender {
    sender: Arc<Sender>,
    conversation: u64,
    session: Arc<SessionFacts>,
}

impl Connection {
    /// Begins to stream the log of a timeline from a position, which takes the session over. Start at the
    /// beginning of a segment, or where an earlier stream ended.
    ///
    /// # Errors
    /// What the server says, also that the log is not there any more; a server older than 15.
    pub fn start_replication(
        mut self,
        slot: Option<&str>,
        start: Lsn,
        timeline: TimelineId,
    ) -> Result<WalStream, PostgresError> {
        self.require_version()?;
        let slot = slot.map(slot_name).transpose()?;
        let slot = slot.map(|slot| format!("SLOT {slot} ")).unwrap_or_default();
        let command = format!("START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}");
        self.begin("start to stream the log", &command)?;
        let (results, stop) = self.collect()?;
        let state = match stop {
            Stop::CopyBoth => State::Streaming,
            // Where the timeline ends exactly at the start, there is nothing to stream.
            Stop::Ready => State::Over(next_timeline(&self, &results)?),
            Stop::CopyOut => return Err(self.protocol("a COPY of the wrong kind")),
        };
        self.doing = "stream the log";
        let status = StatusSender {
            sender: Arc::clone(self.sender()),
            conversation: self.sender().begin_conversation(),
            session: Arc::clone(self.facts()),
        };
        Ok(WalStream { connection: self, status, timeline, position: start, state })
    }
}

fn next_timeline(connection: &Connection, results: &[Rows]) -> Result<NextTimeline, PostgresError> {
    let rows = connection.one_row(results)?;
    Ok(NextTimeline { timeline: connection.parse(rows, 0)?, start: connection.parse(rows, 1)? })
}

impl WalStream {
    /// The timeline that is streamed.
    pub const fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Where the next piece has to begin: the end of what was received.
    pub const fn position(&self) -> Lsn {
        self.position
    }

    /// Who talks to whom.
    pub fn session(&self) -> &SessionFacts {
        self.connection.session()
    }

    /// A handle that ends the session from another thread.
    pub fn cancel_handle(&self) -> crate::CancelHandle {
        self.connection.cancel_handle()
    }

    /// What comes next, within a time; zero only looks.
    ///
    /// # Errors
    /// What the server says; where the connection breaks; where the log does not go on where it stopped.
    pub fn next(&mut self, wait: Duration) -> Result<StreamEvent<'_>, PostgresError> {
        if !matches!(self.state, State::Streaming) {
            return Ok(StreamEvent::EndOfTimeline);
        }
        // A wait beyond what the clock can say is one without end.
        let Some(message) = self.connection.receive(Instant::now().checked_add(wait))? else {
            return Ok(StreamEvent::Idle);
        };
        match message.tag {
            b'd' => self.event(&message),
            b'c' => {
                self.state = State::Done;
                Ok(StreamEvent::EndOfTimeline)
            }
            b'E' => Err(self.connection.server_error(&message)?),
            // A server that shuts down ends the command without ending the COPY.
            b'C' => Err(PostgresError::StreamEnded {
                target: self.session().target.clone(),
                position: self.position,
            }),
            _ => Err(self.connection.unexpected(&message)),
        }
    }

    fn event(&mut self, message: &Message) -> Result<StreamEvent<'_>, PostgresError> {
        let event = event(self.connection.body(message));
        let event = event.map_err(|error| self.connection.malformed(error))?;
        if let StreamEvent::Wal { start, data, .. } = event {
            if start != self.position {
                return Err(PostgresError::Gap {
                    target: self.connection.session().target.clone(),
                    expected: self.position,
                    found: start,
                });
            }
            self.position = start.after(data.len() as u64);
        }
        Ok(event)
    }

    /// Whether a whole further message is there without waiting and without asking the system. Where it is
    /// not, [`WalStream::next`] with no time to wait asks the system.
    pub fn has_buffered(&self) -> bool {
        matches!(self.state, State::Streaming) && self.connection.has_buffered()
    }

    /// Says up to where the log was received, is durable, and was replayed (for who only keeps it:
    /// [`Lsn::ZERO`]); with `reply`, asks for a sign of life.
    ///
    /// # Errors
    /// Where the connection broke.
    pub fn send_status(
        &self,
        written: Lsn,
        flushed: Lsn,
        applied: Lsn,
        reply: bool,
    ) -> Result<(), PostgresError> {
        self.status.send(written, flushed, applied, reply).map(drop)
    }

    /// A sender of statuses for another thread.
    pub fn split_status(&self) -> StatusSender {
        self.status.clone()
    }

    /// Ends the stream behind the end of its timeline: says where the log goes on and gives the session back.
    ///
    /// # Errors
    /// What the server says; where the timeline has not ended.
    pub fn end_of_timeline(self) -> Result<(NextTimeline, Connection), PostgresError> {
        let Self { mut connection, state, .. } = self;
        match state {
            State::Over(next) => Ok((next, connection)),
            State::Streaming => Err(PostgresError::Result {
                doing: "end the stream of a timeline",
                what: "the timeline goes on".to_owned(),
            }),
            State::Done => {
                connection.doing = "end the stream of a timeline";
                let results = say_done(&mut connection)?;
                Ok((next_timeline(&connection, &results)?, connection))
            }
        }
    }

    /// Ends the stream wherever it is, and gives the session back. What is under way is thrown away.
    ///
    /// # Errors
    /// What the server says, or where the connection breaks.
    pub fn stop(self) -> Result<Connection, PostgresError> {
        let Self { mut connection, state, .. } = self;
        connection.doing = "stop to stream the log";
        match state {
            State::Over(_) => {}
            State::Done => drop(say_done(&mut connection)?),
            State::Streaming => {
                let _ = connection.sender().begin_conversation();
                connection.send(&message::framed(b'c', &[]))?;
                skip_to_end(&mut connection)?;
                drop(finish(&mut connection)?);
            }
        }
        Ok(connection)
    }
}

/// Answers the server's CopyDone with ours, behind which no status may come.
fn say_done(connection: &mut Connection) -> Result<Vec<Rows>, PostgresError> {
    let _ = connection.sender().begin_conversation();
    connection.send(&message::framed(b'c', &[]))?;
    finish(connection)
}

fn finish(connection: &mut Connection) -> Result<Vec<Rows>, PostgresError> {
    match connection.collect()? {
        (results, Stop::Ready) => Ok(results),
        _ => Err(connection.protocol("a COPY where none was expected")),
    }
}

/// Throws away what the server sent before it heard us, up to its own CopyDone.
fn skip_to_end(connection: &mut Connection) -> Result<(), PostgresError> {
    loop {
        let message = connection.expect()?;
        match message.tag {
            b'd' => {}
            b'c' => return Ok(()),
            b'E' => return Err(connection.server_error(&message)?),
            _ => return Err(connection.unexpected(&message)),
        }
    }
}

impl StatusSender {
    /// As [`WalStream::send_status`]. Says whether the stream is still under way; where it is not, nothing
    /// was sent.
    ///
    /// # Errors
    /// Where the connection broke.
    pub fn send(&self, written: Lsn, flushed: Lsn, applied: Lsn, reply: bool) -> Result<bool, PostgresError> {
        let now = Clock::System.now().as_nanos() / 1000 - EPOCH_MICROS;
        let mut body = vec![b'r'];
        for position in [written, flushed, applied] {
            body.extend(position.0.to_be_bytes());
        }
        body.extend(now.to_be_bytes());
        body.push(u8::from(reply));
        let sent = self.sender.send_in(self.conversation, &message::framed(b'd', &body));
        sent.map_err(|source| PostgresError::Io {
            doing: "send a status of the stream",
            target: self.session.target.clone(),
            source,
        })
    }
}

/// What one CopyData of a stream means, by its first byte.
fn event(body: &[u8]) -> Result<StreamEvent<'_>, Malformed> {
    let mut fields = Fields(body);
    match fields.u8("an empty piece of the stream")? {
        b'w' => Ok(StreamEvent::Wal {
            start: Lsn(fields.u64("a piece of the log without a start")?),
            server_end: Lsn(fields.u64("a piece of the log without the server's end")?),
            sent_micros: fields.i64("a piece of the log without a time")?,
            data: fields.0,
        }),
        b'k' => Ok(StreamEvent::Keepalive {
            server_end: Lsn(fields.u64("a sign of life without the server's end")?),
            sent_micros: fields.i64("a sign of life without a time")?,
            reply_requested: fields.u8("a sign of life without its last byte")? != 0,
        }),
        _ => Err(Malformed("a piece of the stream of an unknown kind")),
    }
}

pub(crate) fn fuzz_event(body: &[u8]) -> bool {
    event(body).is_ok()
}
