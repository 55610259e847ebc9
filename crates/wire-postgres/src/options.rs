//! Whom to talk to, and how: connection strings, `PG*` variables, service files and defaults, as libpq has
//! them.
//!
//! It deliberately knows no socket, and reads passwords from `.pgpass` only when a connection asks.

mod parse;
mod passfile;
mod resolve;
mod service;

use lifeboat_base::{Hint, Secret};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use passfile::{Lookup, fuzz_passfile, look_up};

/// How long one server may take to let us in where nobody says otherwise. libpq waits for ever; a backup that
/// waits for ever looks like one that runs.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that a connection needs to know before it exists.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) hosts: Vec<HostSpec>,
    pub(crate) user: String,
    pub(crate) password: Option<(Secret, PasswordSource)>,
    pub(crate) database: Option<String>,
    pub(crate) application_name: String,
    pub(crate) options: Option<String>,
    pub(crate) ssl: SslOptions,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) target_session: TargetSession,
    pub(crate) shuffle_hosts: bool,
}

/// One server that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// Its name, or the directory of its socket.
    pub host: Host,
    /// Where it is, if the name need not be looked up.
    pub address: Option<IpAddr>,
    /// Its port; also a part of the socket's name.
    pub port: u16,
}

/// How a server is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// The directory that holds its unix socket.
    Directory(PathBuf),
    /// A name of the network, or an address.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Where a password came from: what to correct where it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// Given in the connection string, or set by the program.
    Given,
    /// The variable `PGPASSWORD`.
    Environment,
    /// A line of a password file.
    File(PathBuf),
    /// There is none. The text says why a password file was not believed, if there is one.
    Nowhere(Option<String>),
}

/// Whether a connection over the network is encrypted, and how far the server is trusted. Never asked of a
/// unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server refuses anything else.
    Allow,
    /// Encrypted where the server can.
    Prefer,
    /// Always encrypted, to whoever answers; with a file of root certificates at hand, like `verify-ca`.
    Require,
    /// Always encrypted, to a server whose certificate is trusted.
    VerifyCa,
    /// Always encrypted, to a server whose certificate is trusted and names the host.
    VerifyFull,
}

/// How encryption begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslNegotiation {
    /// The server is asked first.
    Postgres,
    /// With the first byte; PostgreSQL 17 and newer.
    Direct,
}

/// Whose signatures are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// The file where libpq looks, if it exists (`~/.postgresql/root.crt`); else the system's, where the mode
    /// wants a certificate verified.
    Default(Option<PathBuf>),
    /// The system's.
    System,
    /// Those of a file.
    File(PathBuf),
}

/// What is asked of encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SslOptions {
    /// Whether and how far.
    pub mode: SslMode,
    /// How it begins.
    pub negotiation: SslNegotiation,
    /// Whom to believe.
    pub roots: RootCertificates,
    /// Our own certificate and its key, if we show one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the name of the host is told in the clear, so that a proxy can route.
    pub tell_name: bool,
}

/// Whether the password exchange is tied to the encrypted channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// Always: nothing else is good enough.
    Require,
}

/// How soon a dead server is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Whether silence is probed at all.
    pub enabled: bool,
    /// How long a silence lasts before it is probed.
    pub idle: Duration,
    /// How far apart the probes are.
    pub interval: Duration,
    /// How many may go without an answer.
    pub count: u32,
    /// How long what we sent may go without being acknowledged; zero leaves it to the system.
    pub unacknowledged: Duration,
}

/// Which of several servers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSession {
    /// Any.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is.
    Standby,
    /// A standby, or any where there is none.
    PreferStandby,
}

/// Connection options that cannot be understood. Never shows a value, since a value in the wrong place may be
/// a password.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The text is neither a URL nor a list of `key=value`.
    #[error("the connection string is not well formed: {what}")]
    Syntax {
        /// What is wrong with it.
        what: String,
    },
    /// Nobody knows this option.
    #[error("{name:?} is no connection option")]
    Unknown {
        /// The option.
        name: String,
    },
    /// libpq knows this option, and it is not served here.
    #[error("the connection option {name} is not served: {why}")]
    Unserved {
        /// The option.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// The value of an option makes no sense.
    #[error("the connection option {name} has a value that is not {expected}")]
    Value {
        /// The option.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A service was named that no file defines.
    #[error("no service file defines the service {service:?}")]
    NoService {
        /// The service.
        service: String,
    },
    /// A file cannot be read.
    #[error("read {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Nobody said who connects, and the system does not know either.
    #[error("nobody says as which user to connect")]
    NoUser,
}

impl Hint for OptionsError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Syntax { .. } => "Write postgres://user@host:5432/database, or host=… user=… dbname=…; \
                 percent-encode what is special in a URL (`@` is %40)."
                .to_owned(),
            Self::Unknown { name } => match resolve::nearest(name) {
                Some(nearest) => format!("Did you mean {nearest}?"),
                None => "The options are those of libpq: host, port, user, dbname, sslmode …".to_owned(),
            },
            Self::Unserved { name, .. } => format!("Leave {name} out."),
            Self::Value { name, expected } => format!("Set {name} to {expected}."),
            Self::NoService { .. } => {
                "Define it in ~/.pg_service.conf, or in the file that PGSERVICEFILE names.".to_owned()
            }
            Self::File { .. } => "Check that the file exists and may be read.".to_owned(),
            Self::NoUser => "Name the user in the connection string, or in PGUSER.".to_owned(),
        })
    }
}

impl ConnectOptions {
    /// Reads a URL (`postgres://…`, `postgresql://…`) or a list of `key=value`. What it does not say comes
    /// from the service file, then from the `PG*` variables, then from libpq's defaults. A password that is
    /// nowhere in these is looked up in `.pgpass` when the connection is opened.
    ///
    /// # Errors
    /// See [`OptionsError`]; an option that is not served is refused, never ignored.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        let settings = resolve::settings(text, environment)?;
        resolve::options(&settings, environment)
    }

    /// The name under which the server lists the session, and which `synchronous_standby_names` matches.
    pub fn set_application_name(&mut self, name: &str) {
        name.clone_into(&mut self.application_name);
    }

    /// The database to connect to.
    pub fn set_database(&mut self, name: &str) {
        self.database = Some(name.to_owned());
    }

    /// The password, where it comes from elsewhere.
    pub fn set_password(&mut self, password: Secret) {
        self.password = Some((password, PasswordSource::Given));
    }

    /// As whom to connect.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database to connect to: where nobody says, the one that is called like the user.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or(&self.user)
    }

    /// The name under which the server lists the session.
    pub fn application_name(&self) -> &str {
        &self.application_name
    }

    /// The servers that may be tried, in this order.
    pub fn hosts(&self) -> &[HostSpec] {
        &self.hosts
    }

    /// What is asked of encryption.
    pub const fn ssl(&self) -> &SslOptions {
        &self.ssl
    }

    /// Where the connection goes, as a URL that can be typed. Never has the password.
    pub fn display_target(&self) -> String {
        let (user, database) = (escape(&self.user, b""), escape(self.database(), b""));
        match self.hosts.first() {
            Some(HostSpec { host: Host::Directory(path), port, .. }) => {
                let path = escape(&path.to_string_lossy(), b"/");
                format!("postgres://{user}@/{database}?host={path}&port={port}")
            }
            _ => format!("postgres://{user}@{}/{database}", self.display_hosts()),
        }
    }

    fn display_hosts(&self) -> String {
        let hosts = self.hosts.iter().map(|spec| match &spec.host {
            Host::Name(name) if name.contains(':') => format!("[{}]:{}", escape(name, b":"), spec.port),
            Host::Name(name) => format!("{}:{}", escape(name, b""), spec.port),
            Host::Directory(path) => format!("{}:{}", escape(&path.to_string_lossy(), b""), spec.port),
        });
        hosts.collect::<Vec<_>>().join(",")
    }
}

/// Percent-encodes what has a meaning of its own in a URL, but for what has none where the text stands.
fn escape(text: &str, plain: &[u8]) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl HostSpec {
    /// The socket that this stands for, if it is a unix socket.
    pub(crate) fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Directory(directory) => Some(directory.join(format!(".s.PGSQL.{}", self.port))),
            Host::Name(_) => None,
        }
    }
}

/// The directories in which a server's socket is looked for where no host is named.
pub(crate) const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

fn is_directory(host: &str) -> Option<&Path> {
    // libpq also takes `@name` for a socket of Linux's abstract namespace; see `resolve::host`.
    host.starts_with('/').then(|| Path::new(host))
}

#[cfg(test)]
mod tests;
