//! One connection: from where to go on to the end of the stream, through as many timelines as come.

use super::publish::publish;
use super::start::{self, Start};
use super::{Begins, FollowEvent, Follower, SlotChoice};
use crate::cluster::Cluster;
use crate::error::{PostgresStoreError, Result};
use crate::host;
use crate::sink::{FollowedLog, WalSink};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::failpoint;
use lifeboat_postgres_wal::{Lsn, TimelineId};
use lifeboat_repository::{LogError, RepositoryError};
use lifeboat_wire_postgres::{
    Connection, PostgresError, Purpose, SlotKind, StatusSender, StreamEvent, WalStream,
};
use std::time::Duration;

/// How long to wait for the server before looking whether to end or to tell it where we are.
const LOOK_UP: Duration = Duration::from_millis(100);
/// The SQLSTATE of WAL that was removed (`undefined_file`).
const WAL_GONE: &str = "58P01";
/// The SQLSTATE of a slot that was invalidated (`object_not_in_prerequisite_state`).
const SLOT_LOST: &str = "55000";
/// The SQLSTATE of a slot that somebody else uses (`object_in_use`).
const SLOT_IN_USE: &str = "55006";
/// A session that was ended lets go of its slot within so many waits.
const LETS_GO_WITHIN: u32 = 50;
/// The server is told where we are at least so often, and asked whether it is there.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A repository that takes nothing for so long is away. A server that is shut down waits for whoever receives its log
/// to say that all of it is durable, so that we must not hold on for as long as that takes.
const LET_GO_AFTER: Duration = Duration::from_secs(20);

/// What a stretch of streaming ended with.
enum Streamed {
    Stopped,
    EndOfTimeline(Box<WalStream>),
}

/// What a connection ended with.
enum Ended {
    Stopped,
    /// The server does not have the WAL any more that was asked for.
    WalGone(Lsn, PostgresStoreError),
    /// Somebody else's session held the slot, and was told to end.
    TakenOver(PostgresStoreError),
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// With some of what is kept, to be compared.
    Overlapping,
    /// The server does not have what was asked for, before or behind this position: only of its segment something
    /// is compared, since a slot that was told of this position keeps no older one.
    WithinSegment(Lsn),
    /// The server does not have this position: behind it is a hole.
    BehindHole(Lsn),
}

impl Begin {
    /// What to try next, where the server does not have the position that is next; `None` once all was tried.
    fn without(self, position: Lsn) -> Option<Self> {
        match self {
            Self::WithinSegment(tried) if tried == position => Some(Self::BehindHole(position)),
            Self::BehindHole(tried) if tried == position => None,
            _ => Some(Self::WithinSegment(position)),
        }
    }
}

/// Connects and follows until it is stopped or the connection ends. Where the server does not have the WAL any
/// more that is next, the log goes on behind a hole.
pub(super) fn run(follower: &Follower) -> Result<()> {
    let (mut begin, mut taken_over) = (Begin::Overlapping, 0);
    loop {
        match connected(follower, begin)? {
            Ended::Stopped => return Ok(()),
            Ended::TakenOver(error) if taken_over == LETS_GO_WITHIN => return Err(error),
            Ended::TakenOver(_) => {
                taken_over += 1;
                std::thread::sleep(LOOK_UP);
            }
            Ended::WalGone(position, error) => begin = begin.without(position).ok_or(error)?,
        }
    }
}

fn connected(follower: &Follower, begin: Begin) -> Result<Ended> {
    let (mut connection, cluster) = Cluster::connect(&follower.options.server)?;
    if follower.is_to_be_elsewhere() {
        host::refuse_this_host(&connection, &follower.options.server)?;
    }
    let mut log = follower.log(cluster.system);
    let log = &mut *log;
    say_of_other_clusters(follower, &cluster, log)?;
    follower.warn_of(&cluster);
    let mut promised = slot(&mut connection, &follower.options.slot)?;
    let needed = match follower.shared.slot_is_made() {
        Begins::Kept => None,
        Begins::At(position) => Some(position),
        Begins::Awaited => return Ok(Ended::Stopped),
    };
    promised = needed.or(promised);
    let now = follower.now();
    let mut start = start::find_start(&mut connection, &cluster, promised, log, now)?;
    if needed.is_some_and(|needed| cluster.segment.start_of(needed) > start.first_new()) {
        start = skip(follower, &cluster, promised, start, log)?;
    }
    match begin {
        Begin::WithinSegment(next) if next == start.first_new() => {
            start = start.within_segment(cluster.segment);
            // Nothing can be compared: then only a slot that has kept this position since shows that nothing is missing.
            if start.overlap.is_empty() && promised.is_none_or(|promised| promised > next) {
                start = skip(follower, &cluster, promised, start, log)?;
            }
        }
        Begin::BehindHole(next) if next == start.first_new() => {
            start = skip(follower, &cluster, promised, start, log)?;
        }
        _ => {}
    }
    let first = start.first_new();
    let slot = follower.options.slot.name();
    let mut stream = match connection.start_replication(Some(slot), start.position, start.timeline) {
        Ok(stream) => stream,
        Err(error) if error.sqlstate() == Some(SLOT_LOST) => {
            drop_lost_slot(follower)?;
            return Ok(Ended::WalGone(first, error.into()));
        }
        Err(error) if error.sqlstate() == Some(SLOT_IN_USE) && end_other_session(follower)? => {
            return Ok(Ended::TakenOver(error.into()));
        }
        Err(error) => return Err(error.into()),
    };
    loop {
        let timeline = start.timeline;
        match stream_timeline(follower, &cluster, stream, start, log) {
            Ok(Streamed::Stopped) => return Ok(Ended::Stopped),
            Ok(Streamed::EndOfTimeline(ended)) => {
                (stream, start) = next_timeline(follower, &cluster, timeline, *ended, log)?;
            }
            Err(PostgresStoreError::Server(error))
                if error.sqlstate() == Some(WAL_GONE) && follower.shared.received() == first =>
            {
                return Ok(Ended::WalGone(first, error.into()));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Ends the session that holds our slot, where we may; false where we may not. A role may end its own sessions.
fn end_other_session(follower: &Follower) -> Result<bool> {
    let SlotChoice::Permanent(name) = &follower.options.slot else { return Ok(false) };
    if !follower.options.take_over.as_ref().is_some_and(super::TakeOver::may) {
        return Ok(false);
    }
    let mut connection = Connection::open(&follower.options.server, Purpose::Sql)?;
    // The name is one of ours: letters, digits and underscores.
    let held = format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots \
         where slot_name = '{name}' and active_pid is not null"
    );
    if !connection.query(&held)?.is_empty() {
        let text = format!("slot {name} was held by another session, which was ended: this host follows now");
        follower.shared.say(FollowEvent::Warning { text });
    }
    Ok(true)
}

/// Goes on behind a hole, where the server has WAL again.
fn skip(
    follower: &Follower,
    cluster: &Cluster,
    promised: Option<Lsn>,
    start: Start,
    log: &mut dyn FollowedLog,
) -> Result<Start> {
    let position = cluster.segment.start_of(promised.unwrap_or(cluster.flushed));
    if position <= start.first_new() {
        return Ok(start.within_segment(cluster.segment));
    }
    log.skip_to(cluster.timeline, position)?;
    follower.shared.say(FollowEvent::Hole {
        timeline: start.timeline,
        from: start.first_new(),
        to: position,
    });
    Ok(Start { timeline: cluster.timeline, position, overlap: Vec::new() })
}

/// A slot that fell behind `max_slot_wal_keep_size` never works again.
fn drop_lost_slot(follower: &Follower) -> Result<()> {
    let SlotChoice::Permanent(name) = &follower.options.slot else { return Ok(()) };
    let (mut connection, _) = Cluster::connect(&follower.options.server)?;
    connection.drop_slot(name)?;
    follower.shared.say(FollowEvent::Warning {
        text: format!("slot {name} was lost: the server kept no more WAL for it (max_slot_wal_keep_size); it is made anew"),
    });
    Ok(())
}

fn say_of_other_clusters(follower: &Follower, cluster: &Cluster, log: &mut dyn FollowedLog) -> Result<()> {
    let kept = log.systems()?;
    if !kept.is_empty() && !kept.contains(&cluster.system) {
        let kept = kept.into_iter().collect();
        follower.shared.say(FollowEvent::OtherCluster { kept, system: cluster.system });
    }
    Ok(())
}

/// Makes the slot where it is missing, and says from where on it keeps WAL.
fn slot(connection: &mut Connection, choice: &SlotChoice) -> Result<Option<Lsn>> {
    let name = choice.name();
    match choice {
        SlotChoice::Temporary(_) => connection.create_slot(name, SlotKind::Temporary)?,
        SlotChoice::Permanent(_) => {
            if connection.read_slot(name)?.is_none() {
                connection.create_slot(name, SlotKind::Permanent)?;
            }
        }
    }
    Ok(connection.read_slot(name)?.and_then(|slot| slot.restart))
}

fn next_timeline(
    follower: &Follower,
    cluster: &Cluster,
    ended: TimelineId,
    stream: WalStream,
    log: &mut dyn FollowedLog,
) -> Result<(WalStream, Start)> {
    failpoint::reach("postgres::timeline-ended").map_err(|e| RepositoryError::Io("follow", e))?;
    let (next, mut connection) = stream.end_of_timeline()?;
    start::keep_history(&mut connection, next.timeline, log, follower.now())?;
    let position = cluster.segment.start_of(next.start);
    follower.shared.say(FollowEvent::Switched { from: ended, to: next.timeline, at: next.start });
    let start = Start { timeline: next.timeline, position, overlap: Vec::new() };
    let slot = follower.options.slot.name();
    let stream = connection.start_replication(Some(slot), position, next.timeline)?;
    Ok((stream, start))
}

/// Receives one timeline while another thread publishes it. When this returns, everything that has arrived is
/// durable, or it was told to stop.
fn stream_timeline(
    follower: &Follower,
    cluster: &Cluster,
    mut stream: WalStream,
    start: Start,
    log: &mut dyn FollowedLog,
) -> Result<Streamed> {
    let shared = &follower.shared;
    let status = stream.split_status();
    let (system, timeline, from) = (cluster.system, start.timeline, start.first_new());
    shared.say(FollowEvent::Streaming { system, timeline, from });
    shared.lock().session_over = false;
    shared.update(|status| {
        *status = super::FollowStatus {
            timeline,
            durable: from,
            received: from,
            server_end: status.server_end.max(from),
            connected: true,
            ..*status
        };
    });
    let mut receiving = Receiving {
        follower,
        system,
        timeline,
        overlap: start.overlap,
        told: Stopwatch::start(),
        moved: (from, Stopwatch::start()),
    };
    let (received, published) = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(shared, log as &mut dyn WalSink, &status));
        let received = receiving.receive(&mut stream, &status, &|| publisher.is_finished());
        if received.is_err() {
            // What has arrived may take long to publish, and nobody is to wait for us meanwhile.
            stream.cancel_handle().shutdown();
            shared.update(|status| status.connected = false);
        }
        shared.lock().session_over = true;
        shared.pending().flush();
        let published = publisher.join();
        (received, published)
    });
    match published {
        Ok(published) => published?,
        Err(_) => return Err(LogError::from(RepositoryError::Aborted).into()),
    }
    match received? {
        true => Ok(Streamed::EndOfTimeline(Box::new(stream))),
        false => Ok(Streamed::Stopped),
    }
}

/// Receiving one timeline.
struct Receiving<'r> {
    follower: &'r Follower,
    system: lifeboat_postgres_wal::SystemId,
    timeline: TimelineId,
    /// What must come first: it is kept already.
    overlap: Vec<u8>,
    told: Stopwatch,
    /// Up to where the log was durable when that was looked at last, and when it had moved or had nowhere to go.
    moved: (Lsn, Stopwatch),
}

impl Receiving<'_> {
    /// True at the end of the timeline, false where it was told to stop.
    fn receive(
        &mut self,
        stream: &mut WalStream,
        status: &StatusSender,
        publisher_ended: &dyn Fn() -> bool,
    ) -> Result<bool> {
        let shared = &self.follower.shared;
        loop {
            if shared.is_stopped() || publisher_ended() {
                return Ok(false);
            }
            let asked = match stream.next(LOOK_UP)? {
                StreamEvent::Wal { start, server_end, data, .. } => {
                    let fresh =
                        agree(&mut self.overlap, data).map_err(|offset| PostgresStoreError::Diverged {
                            system: self.system,
                            timeline: self.timeline,
                            at: start.after(offset as u64),
                        })?;
                    let end = start.after(data.len() as u64);
                    let position = Lsn(end.0 - fresh.len() as u64);
                    shared.pending().push(self.timeline, position, fresh, self.follower.now());
                    shared.update(|status| {
                        status.received = status.received.max(end);
                        status.server_end = server_end.max(end);
                    });
                    false
                }
                StreamEvent::Keepalive { server_end, reply_requested, .. } => {
                    shared.update(|status| status.server_end = server_end);
                    reply_requested
                }
                StreamEvent::Idle => false,
                StreamEvent::EndOfTimeline => return Ok(true),
            };
            self.tell(status, asked)?;
            self.let_go_where_nothing_is_taken()?;
            while !shared.pending().wait_for_room(TELL_EVERY) && !shared.is_stopped() && !publisher_ended() {
                self.tell(status, true)?;
                self.let_go_where_nothing_is_taken()?;
            }
        }
    }

    /// Ends the session where nothing was made durable for long. What has arrived is published when it is back,
    /// and the slot keeps the rest.
    fn let_go_where_nothing_is_taken(&mut self) -> Result<()> {
        let shared = &self.follower.shared;
        let durable = shared.durable();
        if durable != self.moved.0 || durable >= shared.received() {
            self.moved = (durable, Stopwatch::start());
        }
        if self.moved.1.elapsed() < LET_GO_AFTER {
            return Ok(());
        }
        let what = self.follower.acknowledges();
        let text = format!("the {what} takes nothing: letting go of the server until it does");
        shared.say(FollowEvent::Warning { text });
        Err(PostgresStoreError::RepositoryAway { what, since: LET_GO_AFTER })
    }

    /// Tells the server where we are, so that it does not take us for dead, and asks whether it is there: where
    /// nothing is written, its answer is all that tells a quiet server from a dead one.
    fn tell(&mut self, status: &StatusSender, now: bool) -> Result<(), PostgresError> {
        if !now && self.told.elapsed() < TELL_EVERY {
            return Ok(());
        }
        self.told = Stopwatch::start();
        let shared = &self.follower.shared;
        status.send(shared.received(), shared.durable(), Lsn::ZERO, true).map(drop)
    }
}

/// Takes what is kept already off what has arrived. Where they differ: how far they agree.
fn agree<'d>(overlap: &mut Vec<u8>, data: &'d [u8]) -> Result<&'d [u8], usize> {
    let common = overlap.len().min(data.len());
    if let Some(offset) = (0..common).find(|at| overlap[*at] != data[*at]) {
        return Err(offset);
    }
    overlap.drain(..common);
    Ok(&data[common..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_the_last_thing_to_try() {
        let within = Begin::Overlapping.without(Lsn(7)).unwrap();
        assert_eq!(within, Begin::WithinSegment(Lsn(7)));
        assert_eq!(within.without(Lsn(7)), Some(Begin::BehindHole(Lsn(7))));
        assert_eq!(within.without(Lsn(8)), Some(Begin::WithinSegment(Lsn(8))), "it went on meanwhile");
        assert_eq!(Begin::BehindHole(Lsn(7)).without(Lsn(7)), None);
    }

    #[test]
    fn what_is_kept_is_not_kept_twice_and_what_differs_is_noticed() {
        let mut overlap = b"abcdef".to_vec();
        assert_eq!(agree(&mut overlap, b"abcd"), Ok(&b""[..]));
        assert_eq!(agree(&mut overlap, b"efgh"), Ok(&b"gh"[..]));
        assert_eq!(agree(&mut overlap, b"ij"), Ok(&b"ij"[..]));
        let mut overlap = b"abc".to_vec();
        assert_eq!(agree(&mut overlap, b"abX"), Err(2));
    }
}
