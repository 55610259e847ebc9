//! How a session comes about: which server, encrypted or not, as whom, until it is ready.
//!
//! Owns the order in which libpq tries things. It deliberately does not know what a session is used for
//! afterwards.

use crate::auth::{self, Credentials};
use crate::cancel::{CancelKey, Route};
use crate::connection::{Connection, Purpose};
use crate::error::{PostgresError, SessionFacts};
use crate::message;
use crate::options::{
    ConnectOptions, Host, HostSpec, Lookup, PasswordSource, SslMode, SslNegotiation, TargetSession, look_up,
};
use crate::socket::{Address, Socket};
use crate::tls::{self, TlsSetup};
use crate::transport::Transport;
use lifeboat_base::{Secret, random, report};
use rustls::ClientConnection;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;

/// What a request for encryption begins with in place of a version.
const SSL_CODE: u32 = 80_877_103;

/// A server has at most so many addresses that are tried.
const MOST_ADDRESSES: usize = 16;

pub(crate) fn open(options: &ConnectOptions, purpose: Purpose) -> Result<Connection, PostgresError> {
    let hosts = hosts_in_order(options);
    let second = match options.target_session {
        TargetSession::PreferStandby => Some(TargetSession::Any),
        _ => None,
    };
    let first = match options.target_session {
        TargetSession::PreferStandby => TargetSession::Standby,
        other => other,
    };
    let mut tried = match first_that_will_do(options, purpose, &hosts, first)? {
        Ok(connection) => return Ok(connection),
        Err(tried) => tried,
    };
    if let Some(second) = second {
        match first_that_will_do(options, purpose, &hosts, second)? {
            Ok(connection) => return Ok(connection),
            Err(again) => tried = again,
        }
    }
    Err(none_of(tried))
}

fn hosts_in_order(options: &ConnectOptions) -> Vec<HostSpec> {
    let mut hosts = options.hosts.clone();
    if options.shuffle_hosts {
        for last in (1..hosts.len()).rev() {
            let other = usize::try_from(random::below(last as u64 + 1)).unwrap_or(last);
            hosts.swap(last, other);
        }
    }
    hosts
}

fn none_of(mut tried: Vec<PostgresError>) -> PostgresError {
    let attempts = tried.iter().map(|error| report(error)).collect::<Vec<_>>().join("; ");
    let count = tried.len();
    match tried.pop() {
        Some(only) if count == 1 => only,
        Some(last) => PostgresError::NoneOfSeveral { count, attempts, last: Box::new(last) },
        None => PostgresError::Argument { what: "list of hosts", value: String::new() },
    }
}

type FirstOrAll = Result<Connection, Vec<PostgresError>>;

/// The first server that will do, or why each will not. An error that the next server would not cure ends
/// the search.
fn first_that_will_do(
    options: &ConnectOptions,
    purpose: Purpose,
    hosts: &[HostSpec],
    target: TargetSession,
) -> Result<FirstOrAll, PostgresError> {
    let mut tried = Vec::new();
    for spec in hosts {
        let addresses = match addresses(spec) {
            Ok(addresses) => addresses,
            Err(source) => {
                tried.push(PostgresError::Unreachable { target: display(spec), source });
                continue;
            }
        };
        for address in addresses {
            match Attempt::new(options, purpose, spec, address).and_then(|attempt| attempt.make(target)) {
                Ok(connection) => return Ok(Ok(connection)),
                Err(error) if error.tries_next_host() => tried.push(error),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Err(tried))
}

fn display(spec: &HostSpec) -> String {
    match &spec.host {
        Host::Directory(_) => spec.socket_path().unwrap_or_default().display().to_string(),
        Host::Name(name) if name.contains(':') => format!("[{name}]:{}", spec.port),
        Host::Name(name) => format!("{name}:{}", spec.port),
    }
}

fn addresses(spec: &HostSpec) -> io::Result<Vec<Address>> {
    if let Some(path) = spec.socket_path() {
        return Ok(vec![Address::Unix(path)]);
    }
    if let Some(address) = spec.address {
        return Ok(vec![Address::Tcp(SocketAddr::new(address, spec.port))]);
    }
    let name = spec.host.to_string();
    let found: Vec<Address> =
        (name.as_str(), spec.port).to_socket_addrs()?.take(MOST_ADDRESSES).map(Address::Tcp).collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address")));
    }
    Ok(found)
}

/// Whether one try is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Never,
    IfOffered,
    Always,
}

/// One server at one address.
struct Attempt<'o> {
    options: &'o ConnectOptions,
    purpose: Purpose,
    spec: &'o HostSpec,
    address: Address,
    password: Option<Secret>,
    source: PasswordSource,
    tls: Option<TlsSetup>,
}

impl<'o> Attempt<'o> {
    fn new(
        options: &'o ConnectOptions,
        purpose: Purpose,
        spec: &'o HostSpec,
        address: Address,
    ) -> Result<Self, PostgresError> {
        let (password, source) = password(options, purpose, spec);
        let wants_tls = matches!(address, Address::Tcp(_)) && options.ssl.mode != SslMode::Disable;
        let tls = wants_tls.then(|| TlsSetup::new(&options.ssl, spec)).transpose()?;
        Ok(Self { options, purpose, spec, address, password, source, tls })
    }

    /// Tries as `sslmode` says, the second way where it has one and the first was refused.
    fn make(&self, target: TargetSession) -> Result<Connection, PostgresError> {
        let (first, second) = match (&self.tls, self.options.ssl.mode) {
            (None, _) | (_, SslMode::Disable) => (Encryption::Never, None),
            (_, SslMode::Allow) => (Encryption::Never, Some(Encryption::Always)),
            (_, SslMode::Prefer) => (Encryption::IfOffered, Some(Encryption::Never)),
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => (Encryption::Always, None),
        };
        let connection = match (self.log_in(first), second) {
            (Err(error), Some(second)) if is_refused_as(first, &error) => {
                // Where the other way does not work either, the first refusal says more.
                self.log_in(second).map_err(|other| if other.server().is_some() { other } else { error })?
            }
            (result, _) => result?,
        };
        if fits(&connection, target) {
            Ok(connection)
        } else {
            Err(PostgresError::WrongRole { target: display(self.spec) })
        }
    }

    fn log_in(&self, encryption: Encryption) -> Result<Connection, PostgresError> {
        let deadline = self.options.connect_timeout.map(|timeout| Instant::now() + timeout);
        let result = self.connect(encryption, deadline);
        result.map_err(|error| self.timed_out(error, deadline))
    }

    /// What failed for want of time says so.
    fn timed_out(&self, error: PostgresError, deadline: Option<Instant>) -> PostgresError {
        let source = match &error {
            PostgresError::Unreachable { source, .. }
            | PostgresError::Io { source, .. }
            | PostgresError::Tls { source, .. } => source,
            _ => return error,
        };
        match self.options.connect_timeout {
            Some(limit)
                if source.kind() == io::ErrorKind::TimedOut
                    && deadline.is_some_and(|deadline| deadline <= Instant::now()) =>
            {
                PostgresError::ConnectTimeout { target: display(self.spec), limit }
            }
            _ => error,
        }
    }

    fn connect(
        &self,
        encryption: Encryption,
        deadline: Option<Instant>,
    ) -> Result<Connection, PostgresError> {
        let target = display(self.spec);
        let socket = Socket::connect(&self.address, &self.options.keep_alive, deadline)
            .map_err(|source| PostgresError::Unreachable { target: target.clone(), source })?;
        let setup = self.tls.as_ref().filter(|_| encryption != Encryption::Never);
        let asks = self.options.ssl.negotiation == SslNegotiation::Postgres;
        let tls = match setup {
            Some(setup) => encrypt(&socket, &target, setup, asks, deadline)?,
            None => None,
        };
        if tls.is_none() && encryption == Encryption::Always {
            return Err(PostgresError::TlsRefused { target });
        }
        let end_point = tls.as_ref().and_then(tls::end_point);
        let route = Route {
            target,
            address: self.address.clone(),
            keep_alive: self.options.keep_alive,
            tls: setup.filter(|_| tls.is_some()).map(|setup| (setup.clone(), asks)),
        };
        let session = Arc::new(self.facts(&socket, tls.is_some()));
        let transport = Transport::new(Arc::new(socket), tls);
        let mut connection = Connection::starting(transport, session, Arc::new(route));
        connection.send(&self.first_message()?)?;
        let credentials = Credentials {
            password: self.password.as_ref(),
            binding: self.options.channel_binding,
            end_point,
        };
        auth::authenticate(&mut connection, &credentials, deadline)?;
        wait_until_ready(&mut connection, deadline)?;
        Ok(connection)
    }

    fn facts(&self, socket: &Socket, encrypted: bool) -> SessionFacts {
        SessionFacts {
            target: display(self.spec),
            user: self.options.user.clone(),
            database: self.options.database().to_owned(),
            replication: self.purpose == Purpose::Replication,
            unix: matches!(self.address, Address::Unix(_)),
            encrypted,
            local_address: socket.local_address(),
            peer_address: socket.peer_address(),
            password: self.source.clone(),
        }
    }

    /// The version, and what the session is to be.
    fn first_message(&self) -> Result<Vec<u8>, PostgresError> {
        let options = self.options;
        let mut pairs = vec![("user", options.user.as_str())];
        match self.purpose {
            Purpose::Sql => pairs.push(("database", options.database())),
            Purpose::Replication => pairs.push(("replication", "true")),
        }
        pairs.push(("application_name", &options.application_name));
        pairs.push(("client_encoding", "UTF8"));
        pairs.extend(options.options.as_deref().map(|options| ("options", options)));
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for (name, value) in pairs {
            // A zero byte would end the value early and begin another option.
            if value.contains('\0') {
                let what = "connection option (it has a zero byte)";
                return Err(PostgresError::Argument { what, value: value.to_owned() });
            }
            body.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
        }
        body.push(0);
        Ok(message::untagged(&body))
    }
}

/// The password that fits, and where it came from.
fn password(options: &ConnectOptions, purpose: Purpose, spec: &HostSpec) -> (Option<Secret>, PasswordSource) {
    if let Some((password, source)) = &options.password {
        return (Some(password.clone()), source.clone());
    }
    let Some(path) = &options.passfile else { return (None, PasswordSource::Nowhere(None)) };
    let database = match purpose {
        Purpose::Sql => options.database(),
        Purpose::Replication => "replication",
    };
    match look_up(path, spec, database, &options.user) {
        Lookup::Found(password) => (Some(password), PasswordSource::File(path.clone())),
        Lookup::Nothing => (None, PasswordSource::Nowhere(None)),
        Lookup::Distrusted(why) => (None, PasswordSource::Nowhere(Some(why))),
    }
}

/// Whether the other way of `allow` or `prefer` may work: the server turned this one away, by its rules (28000)
/// or in the handshake.
fn is_refused_as(encryption: Encryption, error: &PostgresError) -> bool {
    match error {
        PostgresError::Server { error, session, .. } => {
            error.code == "28000" && session.encrypted == (encryption != Encryption::Never)
        }
        PostgresError::Tls { .. } => encryption == Encryption::IfOffered,
        _ => false,
    }
}

/// Encrypts a fresh connection. `None`: the server does not.
pub(crate) fn encrypt(
    socket: &Socket,
    target: &str,
    setup: &TlsSetup,
    asks: bool,
    deadline: Option<Instant>,
) -> Result<Option<ClientConnection>, PostgresError> {
    let failed = |source| PostgresError::Tls { target: target.to_owned(), source };
    if asks && !is_offered(socket, target, deadline)? {
        return Ok(None);
    }
    let tls = setup.handshake(socket, deadline).map_err(failed)?;
    // Without being asked, only the protocol's name says that the other side meant to speak it.
    if !asks && tls.alpn_protocol() != Some(b"postgresql") {
        return Err(failed(io::Error::other("the server does not take TLS without being asked first")));
    }
    Ok(Some(tls))
}

/// Asks. Exactly one byte is read: more would be somebody's who put it in front of the encrypted ones.
fn is_offered(socket: &Socket, target: &str, deadline: Option<Instant>) -> Result<bool, PostgresError> {
    let doing = "ask for TLS";
    let io = |source| PostgresError::Io { doing, target: target.to_owned(), source };
    socket.write_all(&message::untagged(&SSL_CODE.to_be_bytes())).map_err(io)?;
    let mut answer = [0];
    match (socket.read_before(&mut answer, deadline).map_err(io)?, answer) {
        (1, [b'S']) => Ok(true),
        (1, [b'N']) => Ok(false),
        (0, _) => Err(PostgresError::Closed { doing, target: target.to_owned() }),
        // An error here comes from nobody in particular: its text is not shown.
        (_, _) => Err(PostgresError::Protocol {
            doing,
            target: target.to_owned(),
            what: "neither yes nor no".to_owned(),
        }),
    }
}

/// Takes note of what the server says between letting us in and being ready.
fn wait_until_ready(connection: &mut Connection, deadline: Option<Instant>) -> Result<(), PostgresError> {
    loop {
        let Some(message) = connection.receive(deadline)? else {
            return Err(connection.io(io::ErrorKind::TimedOut.into()));
        };
        match message.tag {
            b'K' => {
                let key = CancelKey(connection.body(&message).to_vec());
                if !(8..=260).contains(&key.0.len()) {
                    return Err(connection.protocol("a key of a length that none has"));
                }
                connection.cancel_key = key;
            }
            b'Z' => return connection.started(),
            b'E' => return Err(connection.server_error(&message)?),
            _ => return Err(connection.unexpected(&message)),
        }
    }
}

/// Whether a server has the role that is asked for, by what it reports of itself.
fn fits(connection: &Connection, target: TargetSession) -> bool {
    let is_on = |name| connection.parameter(name) == Some("on");
    let standby = is_on("in_hot_standby");
    let read_only = standby || is_on("default_transaction_read_only");
    match target {
        TargetSession::Any | TargetSession::PreferStandby => true,
        TargetSession::Primary => !standby,
        TargetSession::Standby => standby,
        TargetSession::ReadWrite => !read_only,
        TargetSession::ReadOnly => read_only,
    }
}
