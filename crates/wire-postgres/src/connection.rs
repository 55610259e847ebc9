//! A session with a server in which nothing is under way, and the conversation of simple queries.
//!
//! Owns the loop that every answer goes through ([`Connection::collect`]). It deliberately does not know how
//! a session came about, nor what is said in a backup or a stream.

use crate::cancel::{CancelHandle, CancelKey};
use crate::error::{PostgresError, ServerError, SessionFacts};
use crate::inbox::{FrameError, Inbox, Message};
use crate::message::{self, Fields, Malformed};
use crate::options::ConnectOptions;
use crate::rows::{LARGEST_RESULT, Rows};
use crate::transport::{Sender, Transport};
use crate::{cancel, startup};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Notices beyond this many are not kept: the first ones say what there is to say.
const MOST_NOTICES: usize = 64;

/// Parameters beyond this many are not kept; a server reports about fifteen.
const MOST_PARAMETERS: usize = 1000;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// SQL in a database.
    Sql,
    /// Physical replication: backups and the log.
    Replication,
}

/// A session with a server.
///
/// It is closed when dropped. After an error of the server (other than `FATAL`) it can be used on; after any
/// other error every further request says that it is broken.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    inbox: Inbox,
    session: Arc<SessionFacts>,
    parameters: BTreeMap<String, String>,
    version: u32,
    pub(crate) cancel_key: CancelKey,
    route: Arc<cancel::Route>,
    notices: Vec<ServerError>,
    pub(crate) doing: &'static str,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not let in yet.
    Starting,
    /// Something may be asked.
    Ready,
    /// An answer is under way.
    Busy,
}

/// Where an answer stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Something else may be asked.
    Ready,
    /// The server sends a COPY now.
    CopyOut,
    /// The server sends, and listens.
    CopyBoth,
}

impl Connection {
    /// Opens a session with the first server of the options that will do.
    ///
    /// # Errors
    /// Where none lets us in; the hint says what to do about it.
    pub fn open(options: &ConnectOptions, purpose: Purpose) -> Result<Self, PostgresError> {
        startup::open(options, purpose)
    }

    pub(crate) fn starting(
        transport: Transport,
        session: Arc<SessionFacts>,
        route: Arc<cancel::Route>,
    ) -> Self {
        Self {
            transport,
            inbox: Inbox::new(),
            session,
            parameters: BTreeMap::new(),
            version: 0,
            cancel_key: CancelKey::default(),
            route,
            notices: Vec::new(),
            doing: "log in",
            state: State::Starting,
        }
    }

    /// The server let us in and waits for requests.
    pub(crate) fn started(&mut self) -> Result<(), PostgresError> {
        let version = self.parameter("server_version").unwrap_or_default();
        let number = version_number(version);
        self.version = number.ok_or_else(|| self.protocol("no version that can be read"))?;
        self.inbox.trust();
        self.state = State::Ready;
        Ok(())
    }

    /// The server's version as `server_version_num` has it: 150004 for 15.4.
    pub const fn server_version(&self) -> u32 {
        self.version
    }

    /// A parameter that the server reports: `server_version`, `in_hot_standby`, `TimeZone` …
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Who talks to whom.
    pub fn session(&self) -> &SessionFacts {
        &self.session
    }

    /// Warnings and notices since they were last taken, the first 64 of them.
    pub fn take_notices(&mut self) -> Vec<ServerError> {
        std::mem::take(&mut self.notices)
    }

    /// A handle that cancels what is under way, or ends the session, from another thread.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle::new(
            Arc::clone(&self.route),
            self.cancel_key.clone(),
            Arc::clone(self.transport.socket()),
        )
    }

    /// Runs SQL and returns the last result that has columns; without any, what the last command did.
    /// Several commands in one text are one transaction. Names in the text are looked up in the role's own
    /// `search_path`: qualify those of the system (`pg_catalog.…`), since others may have made some of the
    /// same name.
    ///
    /// # Errors
    /// What the server says, or where the results have more than 64 MiB. `COPY` is not for here.
    pub fn query(&mut self, sql: &str) -> Result<Rows, PostgresError> {
        let mut results = self.query_all(sql)?;
        let last = results.iter().rposition(|rows| !rows.columns().is_empty());
        let last = last.or_else(|| results.len().checked_sub(1));
        Ok(last.map(|last| results.swap_remove(last)).unwrap_or_default())
    }

    /// Runs SQL and returns the result of each command in it.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub fn query_all(&mut self, sql: &str) -> Result<Vec<Rows>, PostgresError> {
        self.ask("run SQL", sql)
    }

    /// Runs SQL for what it does.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub fn execute(&mut self, sql: &str) -> Result<(), PostgresError> {
        self.query_all(sql).map(drop)
    }

    /// Asks something whose answer ends by itself.
    pub(crate) fn ask(&mut self, doing: &'static str, command: &str) -> Result<Vec<Rows>, PostgresError> {
        self.begin(doing, command)?;
        let (results, stop) = self.collect()?;
        if stop != Stop::Ready {
            return Err(self.protocol("a COPY where none was expected"));
        }
        Ok(results)
    }

    /// Sends a command and does not wait for the answer.
    pub(crate) fn begin(&mut self, doing: &'static str, command: &str) -> Result<(), PostgresError> {
        self.doing = doing;
        if self.state != State::Ready {
            return Err(PostgresError::Broken { doing, target: self.session.target.clone() });
        }
        if command.contains('\0') {
            return Err(PostgresError::Argument {
                what: "command (it has a zero byte)",
                value: command.to_owned(),
            });
        }
        let _ = self.transport.sender().begin_conversation();
        self.state = State::Busy;
        self.send(&message::with_text(b'Q', command))
    }

    /// Collects results until the server is ready for more or begins a COPY.
    pub(crate) fn collect(&mut self) -> Result<(Vec<Rows>, Stop), PostgresError> {
        let mut results = Results::default();
        let mut failure = None;
        loop {
            let message = self.expect()?;
            match message.tag {
                b'E' => {
                    let error = self.server_error(&message)?;
                    // A server that ends the session says nothing more.
                    if error.server().is_some_and(ServerError::ends_the_session) {
                        return Err(error);
                    }
                    failure.get_or_insert(error);
                }
                b'Z' => {
                    self.state = State::Ready;
                    return failure.map_or(Ok((results.done, Stop::Ready)), Err);
                }
                b'H' => return Ok((results.done, Stop::CopyOut)),
                b'W' => return Ok((results.done, Stop::CopyBoth)),
                // What is left of a COPY that an error ended.
                b'd' | b'c' if failure.is_some() => {}
                tag => {
                    results.add(tag, self.body(&message)).map_err(|error| self.malformed(error))?;
                    self.check_size(results.cost())?;
                }
            }
        }
    }

    fn check_size(&self, bytes: usize) -> Result<(), PostgresError> {
        if bytes <= LARGEST_RESULT {
            return Ok(());
        }
        Err(PostgresError::TooLarge {
            doing: self.doing,
            what: "the result",
            bytes: bytes as u64,
            limit: LARGEST_RESULT as u64,
        })
    }

    /// The next message of the conversation, however long it takes.
    pub(crate) fn expect(&mut self) -> Result<Message, PostgresError> {
        match self.receive(None)? {
            Some(message) => Ok(message),
            None => Err(self.io(io::ErrorKind::TimedOut.into())),
        }
    }

    /// The next message of the conversation, or `None` where none is whole before the deadline. What a server
    /// may say at any time is taken note of on the way.
    pub(crate) fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Message>, PostgresError> {
        loop {
            let message = self.inbox.take().map_err(|error| self.frame(error))?;
            let Some(message) = message else {
                if !self.fill(deadline)? {
                    return Ok(None);
                }
                continue;
            };
            match message.tag {
                b'S' => self.note_parameter(&message)?,
                b'N' => self.note_notice(&message)?,
                b'A' => {}
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Takes in what arrives; says whether anything did before the deadline.
    fn fill(&mut self, deadline: Option<Instant>) -> Result<bool, PostgresError> {
        match self.transport.receive(self.inbox.room(), deadline) {
            Ok(0) => Err(PostgresError::Closed { doing: self.doing, target: self.session.target.clone() }),
            Ok(bytes) => {
                self.inbox.arrived(bytes);
                Ok(true)
            }
            Err(error) if deadline.is_some() && error.kind() == io::ErrorKind::TimedOut => {
                // A connection that the system gave up ends with the same word. It is no silence.
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    Ok(false)
                } else {
                    Err(self.io(error))
                }
            }
            Err(error) => Err(self.io(error)),
        }
    }

    /// Whether a whole message is there that need not be waited for.
    pub(crate) fn has_buffered(&self) -> bool {
        !matches!(self.inbox.peek(), Ok(None))
    }

    pub(crate) fn body(&self, message: &Message) -> &[u8] {
        self.inbox.body(message)
    }

    fn note_parameter(&mut self, message: &Message) -> Result<(), PostgresError> {
        let mut fields = Fields(self.inbox.body(message));
        let pair = fields.text("a parameter without a name").and_then(|name| {
            fields.text("a parameter without a value").map(|value| (name.to_owned(), value.to_owned()))
        });
        let (name, value) = pair.map_err(|error| self.malformed(error))?;
        if self.parameters.len() < MOST_PARAMETERS || self.parameters.contains_key(&name) {
            let _ = self.parameters.insert(name, value);
        }
        Ok(())
    }

    fn note_notice(&mut self, message: &Message) -> Result<(), PostgresError> {
        let notice = message::server_error(self.inbox.body(message));
        let notice = notice.map_err(|error| self.malformed(error))?;
        if self.notices.len() < MOST_NOTICES {
            self.notices.push(notice);
        }
        Ok(())
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), PostgresError> {
        self.transport.sender().send(bytes).map_err(|error| self.io(error))
    }

    pub(crate) const fn sender(&self) -> &Arc<Sender> {
        self.transport.sender()
    }

    pub(crate) const fn facts(&self) -> &Arc<SessionFacts> {
        &self.session
    }

    pub(crate) fn io(&self, source: io::Error) -> PostgresError {
        PostgresError::Io { doing: self.doing, target: self.session.target.clone(), source }
    }

    pub(crate) fn protocol(&self, what: impl Into<String>) -> PostgresError {
        PostgresError::Protocol { doing: self.doing, target: self.session.target.clone(), what: what.into() }
    }

    pub(crate) fn malformed(&self, Malformed(what): Malformed) -> PostgresError {
        self.protocol(what)
    }

    pub(crate) fn unexpected(&self, message: &Message) -> PostgresError {
        self.protocol(format!("a message {:?} where none may be", char::from(message.tag)))
    }

    fn frame(&self, error: FrameError) -> PostgresError {
        match error {
            FrameError::Short => self.protocol("a message shorter than its own length"),
            FrameError::Large { bytes, limit } => {
                PostgresError::TooLarge { doing: self.doing, what: "a message", bytes, limit }
            }
        }
    }

    /// What an ErrorResponse says.
    pub(crate) fn server_error(&self, message: &Message) -> Result<PostgresError, PostgresError> {
        let error = message::server_error(self.body(message)).map_err(|error| self.malformed(error))?;
        let session = Arc::clone(&self.session);
        Ok(PostgresError::Server { doing: self.doing, session, error: Box::new(error) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.state == State::Ready {
            // Whether the server hears it or not, the session ends.
            drop(self.transport.sender().send(&message::framed(b'X', &[])));
        }
        self.transport.socket().shutdown();
    }
}

/// Results as they come together.
#[derive(Debug, Default)]
struct Results {
    done: Vec<Rows>,
    done_bytes: usize,
    current: Option<Rows>,
}

impl Results {
    fn add(&mut self, tag: u8, body: &[u8]) -> Result<(), Malformed> {
        match tag {
            b'T' => self.current = Some(Rows::described(body)?),
            b'D' => self.current.as_mut().ok_or(Malformed("a row without a description"))?.push(body)?,
            b'C' => {
                let tag = Fields(body).text("a command's end without a word")?;
                let rows = self.current.take().unwrap_or_default().tagged(tag);
                self.done_bytes += rows.cost() + size_of::<Rows>();
                self.done.push(rows);
            }
            b'I' => {}
            _ => return Err(Malformed("a message that does not belong into an answer")),
        }
        Ok(())
    }

    fn cost(&self) -> usize {
        self.done_bytes + self.current.as_ref().map_or(0, Rows::cost)
    }
}

/// `15.14 (Debian …)`, `18.6`, `19devel` or `18beta1` as PostgreSQL numbers them: 150014, 180006, 190000.
fn version_number(text: &str) -> Option<u32> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (major, rest) = text.split_at(digits(text));
    let minor = rest.strip_prefix('.').unwrap_or_default();
    let minor = &minor[..digits(minor)];
    let minor =
        if minor.is_empty() { 0 } else { minor.parse::<u32>().ok().filter(|minor| *minor < 10_000)? };
    major.parse::<u32>().ok()?.checked_mul(10_000)?.checked_add(minor)
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn versions_are_numbered_as_the_server_does() {
        assert_eq!(version_number("15.14 (Debian 15.14-0+deb12u1)"), Some(150_014));
        assert_eq!(version_number("18.6"), Some(180_006));
        assert_eq!(version_number("19devel"), Some(190_000));
        assert_eq!(version_number("18beta1"), Some(180_000));
        for bad in ["", "x", ".5", "99999999999", "429497.1"] {
            assert_eq!(version_number(bad), None, "{bad}");
        }
    }
}
