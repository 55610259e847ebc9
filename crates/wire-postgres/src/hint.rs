//! What the operator does next: the rules that know PostgreSQL's errors by their SQLSTATE.
//!
//! Messages may be in any language, so a rule reads only what translations keep: names in quotes, settings,
//! file names.

use crate::error::{PostgresError, ServerError, SessionFacts};
use crate::options::PasswordSource;
use lifeboat_base::Hint;

impl Hint for PostgresError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } => Some(unreachable_hint(source)),
            Self::ConnectTimeout { .. } => Some(
                "Check the network and firewalls between here and the server, or raise connect_timeout."
                    .to_owned(),
            ),
            Self::NoneOfSeveral { last, .. } => last.hint(),
            Self::WrongRole { .. } => Some(
                "Add the server in the wanted role to the list of hosts, or ask for target_session_attrs=any."
                    .to_owned(),
            ),
            Self::Io { .. } | Self::Closed { .. } | Self::Broken { .. } => {
                Some("Look into the server's log for why the connection ended, then try again.".to_owned())
            }
            Self::Server { session, error, .. } => server_hint(session, error),
            Self::Protocol { .. } => {
                Some("Check that a PostgreSQL server listens at this host and port.".to_owned())
            }
            Self::TooLarge { .. } => Some("Ask for less at once.".to_owned()),
            Self::TlsRefused { .. } => Some(
                "Turn `ssl` on in postgresql.conf and give the server a certificate, or allow \
                 sslmode=prefer where the network is trusted."
                    .to_owned(),
            ),
            Self::Tls { source, .. } => Some(tls_hint(source)),
            Self::Certificates { .. } => Some(
                "Name a PEM file that can be read in sslrootcert (or sslcert and sslkey)."
                    .to_owned(),
            ),
            Self::NoPassword { session } => Some(password_hint(session)),
            Self::PasswordInTheClear { .. } => Some(
                "Connect with sslmode=require, or let pg_hba.conf ask for scram-sha-256 in place of `password`."
                    .to_owned(),
            ),
            Self::Authentication { .. } => Some(
                "Let pg_hba.conf ask this user for scram-sha-256, md5, a certificate, or peer on a unix socket."
                    .to_owned(),
            ),
            Self::Proof { .. } => Some(
                "Check that this is the right server, and that its password for the user was set by scram-sha-256 \
                 with at most 100000 iterations."
                    .to_owned(),
            ),
            Self::NoChannelBinding { .. } => Some(
                "Connect with TLS to a server that asks for scram-sha-256, or leave channel_binding=require out."
                    .to_owned(),
            ),
            Self::TooOld { .. } => {
                Some("PostgreSQL 15 and newer are served: upgrade the server first.".to_owned())
            }
            Self::Argument { what, .. } => Some(argument_hint(what)),
            Self::Result { .. } => None,
            Self::Gap { .. } => Some(
                "Start the stream again at the end of what is safe; if it happens again, take a new snapshot."
                    .to_owned(),
            ),
            Self::StreamEnded { .. } => {
                Some("The server shuts down: follow it again when it is back.".to_owned())
            }
            Self::Options(error) => error.hint(),
        }
    }
}

fn unreachable_hint(source: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    match source.kind() {
        ConnectionRefused | NotFound => {
            "Check that the server runs there, that listen_addresses (or unix_socket_directories) includes \
             this way in, and that the port is right."
        }
        PermissionDenied => "Check who may use the directory of the server's socket.",
        _ => "Check the name of the host and the network between here and there.",
    }
    .to_owned()
}

fn tls_hint(source: &std::io::Error) -> String {
    let text = source.to_string();
    if text.contains("not valid for name") || text.contains("NotValidForName") {
        return "Connect by a name that is among the subjectAltNames of the server's certificate (a common \
                name alone does not count), or use sslmode=verify-ca."
            .to_owned();
    }
    if text.contains("UnknownIssuer") {
        return "Put the certificate of the authority that signed the server's into a file, and name it in \
                sslrootcert (PGSSLROOTCERT)."
            .to_owned();
    }
    "Check the server's certificate and ssl settings; its log says what it thought of the handshake."
        .to_owned()
}

fn argument_hint(what: &str) -> String {
    if what.contains("slot") {
        "The name of a slot has 1 to 63 lower-case letters, digits and underscores.".to_owned()
    } else {
        format!("Give a valid {what}.")
    }
}

fn password_hint(session: &SessionFacts) -> String {
    let user = &session.user;
    match &session.password {
        PasswordSource::Given => format!("Check the password for {user:?} in the connection string."),
        PasswordSource::Environment => format!("Check PGPASSWORD: it was used for {user:?}."),
        PasswordSource::File(path) => {
            format!("Check the line for {user:?} in {}: its password was used.", path.display())
        }
        PasswordSource::Nowhere(None) => {
            let database = if session.replication { "replication" } else { &session.database };
            format!(
                "Set PGPASSWORD, or add a line for {user:?} and the database {database} to ~/.pgpass (chmod 0600)."
            )
        }
        PasswordSource::Nowhere(Some(why)) => format!("The password file was not believed: {why}."),
    }
}

fn server_hint(session: &SessionFacts, error: &ServerError) -> Option<String> {
    let own = match error.code.as_str() {
        "28P01" => Some(password_hint(session)),
        "28000" => Some(admission_hint(session, error)),
        "42501" => Some(privilege_hint(session, error)),
        "53300" => Some(full_hint(session, error)),
        "53400" => Some(
            "Raise max_replication_slots and restart the server, or drop a slot that nobody uses: select * \
             from pg_replication_slots."
                .to_owned(),
        ),
        "55000" => prerequisite_hint(error),
        "55006" => Some(
            "Another process uses it: see active_pid in pg_replication_slots, and stop that process or \
             choose another slot."
                .to_owned(),
        ),
        "42704" => missing_hint(error),
        "42710" => Some("It exists already: use it, or drop it first.".to_owned()),
        "3D000" => Some("Name an existing database; `psql -l` lists them.".to_owned()),
        "57P03" => Some(
            "The server starts up, shuts down or recovers, and takes no sessions yet: wait and try again."
                .to_owned(),
        ),
        "57P01" | "57P02" => Some("The server was stopped: try again when it is back.".to_owned()),
        "58P01" if error.message.contains("WAL") || names_a_segment(&error.message) => Some(
            "The server has removed log that is needed: take a new snapshot, and follow it on a slot or with \
             a larger wal_keep_size."
                .to_owned(),
        ),
        "XX001" | "XX002" => Some(
            "The server found damaged pages in its own files: look into its log now, and keep older snapshots."
                .to_owned(),
        ),
        _ => None,
    };
    own.or_else(|| error.hint.clone())
}

fn admission_hint(session: &SessionFacts, error: &ServerError) -> String {
    if !error.message.contains("pg_hba.conf") {
        return format!(
            "Check that the role {:?} exists and may log in, and that the method in pg_hba.conf fits it (peer \
             wants the system's user of the same name).",
            session.user
        );
    }
    let line = hba_line(session, error);
    format!("Add to pg_hba.conf on the server: `{line}`; then `select pg_reload_conf()`.")
}

/// The line that would let this session in.
fn hba_line(session: &SessionFacts, error: &ServerError) -> String {
    let database = if session.replication { "replication".to_owned() } else { hba_word(&session.database) };
    let user = hba_word(&session.user);
    if session.unix {
        return format!("local {database} {user} scram-sha-256");
    }
    let kind = if session.encrypted { "hostssl" } else { "host" };
    let seen = quoted(&error.message).next().filter(|text| text.parse::<std::net::IpAddr>().is_ok());
    let address = seen.or(session.local_address.as_deref()).unwrap_or("ADDRESS");
    let bits = if address.contains(':') { 128 } else { 32 };
    format!("{kind} {database} {user} {address}/{bits} scram-sha-256")
}

/// A name as pg_hba.conf takes it: in quotes where a bare one would mean something else.
fn hba_word(name: &str) -> String {
    let keyword = ["all", "sameuser", "samerole", "samegroup", "replication"].contains(&name);
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if plain && !keyword { name.to_owned() } else { format!("\"{name}\"") }
}

/// What stands in double quotes in a message.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('"').skip(1).step_by(2)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn privilege_hint(session: &SessionFacts, error: &ServerError) -> String {
    let role = identifier(&session.user);
    let message = error.message.as_str();
    let names_replication = [message, error.detail.as_deref().unwrap_or_default()]
        .iter()
        .any(|text| text.to_ascii_lowercase().contains("replication"));
    if session.replication || names_replication {
        return format!("As a superuser: `ALTER ROLE {role} REPLICATION`.");
    }
    if let Some(setting) = message.strip_prefix("permission denied to set parameter ") {
        let setting = setting.trim_matches('"');
        return format!("As a superuser: `GRANT ALTER SYSTEM, SET ON PARAMETER {setting} TO {role}`.");
    }
    match message.strip_prefix("permission denied for ").and_then(|object| grant(object, &role)) {
        Some(grant) => format!("As a superuser: `{grant}`."),
        None => format!(
            "As a superuser, grant {role} what is missing (`GRANT … TO {role}`); for monitoring, `GRANT \
             pg_monitor TO {role}`."
        ),
    }
}

fn grant(object: &str, role: &str) -> Option<String> {
    let (kind, name) = object.split_once(' ')?;
    let name = name.trim_matches('"');
    Some(match kind {
        "function" => format!("GRANT EXECUTE ON FUNCTION {name} TO {role}"),
        "table" | "view" | "sequence" => format!("GRANT SELECT ON {name} TO {role}"),
        "schema" => format!("GRANT USAGE ON SCHEMA {name} TO {role}"),
        "database" => format!("GRANT CONNECT ON DATABASE {name} TO {role}"),
        _ => return None,
    })
}

fn full_hint(session: &SessionFacts, error: &ServerError) -> String {
    if session.replication || error.message.contains("max_wal_senders") {
        return "Every WAL sender is in use: raise max_wal_senders (above 0 it needs wal_level = replica) and restart the \
                server, or stop one of those in pg_stat_replication."
            .to_owned();
    }
    "Every session is in use: raise max_connections and restart the server, end idle sessions, or raise the \
     role's connection limit."
        .to_owned()
}

fn prerequisite_hint(error: &ServerError) -> Option<String> {
    let everything = format!(
        "{} {} {}",
        error.message,
        error.detail.as_deref().unwrap_or_default(),
        error.hint.as_deref().unwrap_or_default()
    );
    if everything.contains("wal_level") || everything.contains("max_wal_senders") {
        return Some(
            "Set wal_level = replica (and max_wal_senders above 0) in postgresql.conf, and restart the server; \
             what was written under wal_level = minimal is not in the log."
                .to_owned(),
        );
    }
    if everything.contains("max_replication_slots") {
        return Some("Raise max_replication_slots and restart the server.".to_owned());
    }
    if everything.contains("replication slot") {
        return Some(
            "The slot has lost the log it kept (see wal_status in pg_replication_slots): drop it, make a new \
             one, and take a new snapshot."
                .to_owned(),
        );
    }
    None
}

fn missing_hint(error: &ServerError) -> Option<String> {
    error.message.contains("replication slot").then(|| {
        "The slot is gone: what was written since may be lost to the log. Make it again and take a new snapshot."
            .to_owned()
    })
}

/// Whether a message names a file of the log: 24 hexadecimal digits. Translations keep it.
fn names_a_segment(message: &str) -> bool {
    let words = message.split(|character: char| !character.is_ascii_hexdigit());
    words.into_iter().any(|word| word.len() == 24)
}
