//! Addresses of stores as configuration has them: `scheme://user:password@host:port/database`.
//!
//! Of a value only its scheme, its hosts, its user and its database are kept. A password is never copied, and
//! what does not look like a host, a user or a database is none: nothing of a secret that was written in an
//! unexpected place goes on from here.

use crate::found::Engine;
use crate::sighting::Place;

/// Schemes of stores, what speaks them, and the port where it listens by default.
const SCHEMES: &[(&str, Engine, u16)] = &[
    ("postgres", Engine::Postgres, 5432),
    ("postgresql", Engine::Postgres, 5432),
    ("timescaledb", Engine::Postgres, 5432),
    ("redis", Engine::Redis, 6379),
    ("rediss", Engine::Redis, 6379),
    ("valkey", Engine::Redis, 6379),
    ("valkeys", Engine::Redis, 6379),
    ("mongodb", Engine::Foreign("mongodb"), 27017),
    ("mongodb+srv", Engine::Foreign("mongodb"), 27017),
    ("mysql", Engine::Foreign("mysql"), 3306),
    ("mariadb", Engine::Foreign("mysql"), 3306),
    ("amqp", Engine::Foreign("rabbitmq"), 5672),
    ("amqps", Engine::Foreign("rabbitmq"), 5671),
    ("clickhouse", Engine::Foreign("clickhouse"), 9000),
    ("cassandra", Engine::Foreign("cassandra"), 9042),
];

/// The port where an engine's server listens by default.
pub(crate) fn default_port(engine: Engine) -> u16 {
    SCHEMES.iter().find(|(_, known, _)| *known == engine).map_or(0, |(_, _, port)| *port)
}

/// An address without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) engine: Engine,
    pub(crate) places: Vec<Place>,
    pub(crate) user: Option<String>,
    pub(crate) database: Option<String>,
    /// Whether the driver reads it as it is written; not so with a dialect such as `postgresql+asyncpg`.
    pub(crate) is_plain: bool,
}

/// Reads a value; none where it is no address of a store that we know.
pub(crate) fn read(value: &str) -> Option<Address> {
    let value = value.trim().trim_matches(['"', '\'']);
    let undressed = value.strip_prefix("jdbc:").unwrap_or(value);
    match undressed.split_once("://") {
        Some((scheme, rest)) => {
            with_scheme(&scheme.to_ascii_lowercase(), rest, undressed.len() == value.len())
        }
        None => key_values(undressed),
    }
}

fn with_scheme(scheme: &str, rest: &str, is_undressed: bool) -> Option<Address> {
    match scheme {
        "s3" | "gs" => return bucket(scheme, rest),
        "sqlite" => return sqlite(rest),
        _ => {}
    }
    let exact = SCHEMES.iter().find(|(known, ..)| *known == scheme);
    let dialect =
        || scheme.split_once('+').and_then(|(base, _)| SCHEMES.iter().find(|(known, ..)| *known == base));
    let (known, engine, port) = *exact.or_else(dialect)?;
    let is_plain = is_undressed && known == scheme && known.starts_with("postgres");
    server(engine, port, rest, is_plain)
}

/// What follows `scheme://` of a server.
fn server(engine: Engine, default_port: u16, rest: &str, is_plain: bool) -> Option<Address> {
    let (rest, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if query.contains('@') {
        // It may be a password that was not escaped: what is a host then, nobody can tell.
        return None;
    }
    // A password may hold a slash that somebody did not escape: what is behind the last `@` cannot be secret.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (user.split(':').next().unwrap_or(user), rest),
        None => ("", rest),
    };
    let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
    let places: Option<Vec<Place>> = hosts.split(',').map(|host| place(host, default_port)).collect();
    Some(Address { engine, places: places?, user: word(user), database: word(database), is_plain })
}

/// Reads `host:port`; an empty host is this one.
fn place(text: &str, default_port: u16) -> Option<Place> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|port| !port.is_empty()).map_or(Some(default_port), |port| port.parse().ok())?;
    let is_host = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
    let is_named = host.is_empty() || host.contains(|c: char| c.is_ascii_alphanumeric() || c == ':');
    (is_host && is_named).then(|| Place::Server { host: host_name(host), port })
}

/// A host's name in the one form in which names are compared.
pub(crate) fn host_name(host: &str) -> String {
    match host.to_ascii_lowercase().as_str() {
        "" | "127.0.0.1" | "::1" | "0.0.0.0" | "host.docker.internal" => "localhost".to_owned(),
        other => other.trim_end_matches('.').to_owned(),
    }
}

/// The address of a server that is known by its parts.
pub(crate) fn of_server(
    engine: Engine,
    host: &str,
    port: u16,
    user: Option<&str>,
    database: Option<&str>,
) -> Address {
    Address {
        engine,
        places: vec![place_of(host, port)],
        user: user.and_then(word),
        database: database.and_then(word),
        is_plain: false,
    }
}

/// Where a server is; one whose port nobody knows has only its name.
pub(crate) fn place_of(host: &str, port: u16) -> Place {
    match port {
        0 => Place::Named(host_name(host)),
        port => Place::Server { host: host_name(host), port },
    }
}

/// A user or a database, where it is written plainly.
fn word(text: &str) -> Option<String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    (is_word && !text.is_empty()).then(|| text.to_owned())
}

fn bucket(scheme: &str, rest: &str) -> Option<Address> {
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let path = rest.rsplit_once('@').map_or(rest, |(_, path)| path).trim_end_matches('/');
    let is_path = path.split('/').all(|part| word(part).is_some());
    let places = vec![Place::Named(format!("{scheme}://{path}"))];
    let name = path.split('/').next().and_then(word);
    is_path.then_some(Address { engine: Engine::Bucket, places, user: None, database: name, is_plain: true })
}

/// `sqlite:///relative` and `sqlite:////absolute`, as most libraries have it, and `sqlite://relative`.
fn sqlite(rest: &str) -> Option<Address> {
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() || path.starts_with(':') {
        return None;
    }
    let places = vec![Place::Path(path.to_owned())];
    Some(Address { engine: Engine::Sqlite, places, user: None, database: None, is_plain: true })
}

/// libpq's other spelling: `host=db user=app dbname=app`.
fn key_values(text: &str) -> Option<Address> {
    let value = |name: &str| {
        let mut pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let host = value("host").filter(|host| !host.starts_with('/'))?;
    let port = value("port").unwrap_or("5432");
    let place = place(&format!("{host}:{port}"), 5432)?;
    Some(Address {
        engine: Engine::Postgres,
        places: vec![place],
        user: value("user").and_then(word),
        database: value("dbname").and_then(word),
        is_plain: false,
    })
}

impl Address {
    /// As a URL that holds no secret.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.engine == Engine::Postgres { "postgres" } else { self.engine.word() };
        let hosts: Vec<String> = self.places.iter().map(|place| self.host_of(place)).collect();
        match self.places.first() {
            Some(Place::Named(url)) => url.clone(),
            Some(Place::Path(path)) => path.clone(),
            _ => {
                // Who connects to Redis and the like by a name often writes the password in its place.
                let user = self.user.as_ref().filter(|_| self.engine == Engine::Postgres);
                let user = user.map_or(String::new(), |user| format!("{user}@"));
                let database = self.database.as_ref().map_or(String::new(), |name| format!("/{name}"));
                format!("{scheme}://{user}{}{database}", hosts.join(","))
            }
        }
    }

    fn host_of(&self, place: &Place) -> String {
        let Place::Server { host, port } = place else { return String::new() };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == default_port(self.engine) { host } else { format!("{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(value: &str) -> Option<String> {
        read(value).map(|address| address.url())
    }

    #[test]
    fn addresses_are_read_without_their_secrets() {
        for (value, seen) in [
            ("postgresql://aragora:pw@rds:5432/aragora", "postgres://aragora@rds/aragora"),
            ("postgres://a@h1:1,h2:2/db?sslmode=require", "postgres://a@h1:1,h2:2/db"),
            ("postgresql+asyncpg://u:hunter2@db/app", "postgres://u@db/app"),
            ("jdbc:postgresql://db:5433/app?user=u&password=hunter2", "postgres://db:5433/app"),
            ("postgres://u:hunter2/with/slashes@db/app", "postgres://u@db/app"),
            ("host=db port=5432 user=app password=hunter2 dbname=x", "postgres://app@db/x"),
            ("postgres://[::1]:5432/x", "postgres://localhost/x"),
            ("postgres://[fe80::2]:5433/x", "postgres://[fe80::2]:5433/x"),
            ("rediss://:hunter2@cache:6379/0", "redis://cache/0"),
            ("redis://hunter2@cache", "redis://cache"),
            ("mongodb+srv://u:hunter2@cluster0.example.net/x", "mongodb://cluster0.example.net/x"),
            ("s3://bucket/prefix/", "s3://bucket/prefix"),
            ("sqlite:///./.nomic/a.db", "./.nomic/a.db"),
            ("sqlite:////srv/a.db", "/srv/a.db"),
        ] {
            assert_eq!(url(value).as_deref(), Some(seen), "{value}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_store_is_none() {
        for value in [
            "",
            "hunter2",
            "http://a/b",
            "https://hooks.example/T0/hunter2",
            "postgres://u:hun ter@h ost/",
            "postgres://u:p:hunter2",
            "postgres://a@./b",
            "postgres://u:a@hunter2?b@db/app",
            "sqlite://",
            "sqlite:///:memory:",
            "s3://",
            "password=hunter2",
        ] {
            assert_eq!(url(value), None, "{value}");
        }
    }

    #[test]
    fn only_what_the_driver_reads_is_plain() {
        let is_plain = |value: &str| read(value).unwrap().is_plain;
        assert!(is_plain("postgres://h/x") && is_plain("postgresql://h/x"));
        assert!(!is_plain("postgresql+psycopg://h/x") && !is_plain("jdbc:postgresql://h/x"));
    }
}
