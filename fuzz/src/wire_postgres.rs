//! Targets for what a PostgreSQL server says, and for what people write of how to reach one.

use lifeboat_base::Hint;
use lifeboat_wire_postgres::{ConnectOptions, Host, HostSpec, fuzz_backend, fuzz_passfile};
use std::path::{Path, PathBuf};

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] =
    &[("postgres_backend", backend), ("postgres_options", options), ("postgres_passfile", passfile)];

/// A server's messages: what is understood of the beginning is understood whatever follows.
pub fn backend(bytes: &[u8]) -> bool {
    let meant = fuzz_backend(bytes);
    assert!(meant || !fuzz_backend(&bytes[..bytes.len() / 2]), "what follows changes what came before");
    meant
}

/// What no input has, and nothing may show.
const PASSWORD: &str = "pa55-word-of-nobody";

/// What separates the connection string and the environment from the service file.
const SERVICE_FILE: &str = "\n--\n";

/// A connection string, then lines of `PG…=value` for the environment, and behind `--` a service file. What is
/// taken is shown as a URL that leads to the same servers, and a password is never shown.
pub fn options(bytes: &[u8]) -> bool {
    let Ok(input) = std::str::from_utf8(bytes) else { return false };
    if input.contains(PASSWORD) {
        return false;
    }
    let (said, services) = input.split_once(SERVICE_FILE).unwrap_or((input, ""));
    let (text, variables) = said.split_once("\nPG").unwrap_or((said, ""));
    let services = ServiceFile::of(services);
    let variables: Vec<_> = variables.split("\nPG").filter_map(|line| line.split_once('=')).collect();
    let environment = |name: &str| match name {
        "HOME" | "PGSYSCONFDIR" => Some("/nonexistent".to_owned()),
        "PGSERVICEFILE" => services.as_ref().map(|file| file.0.display().to_string()),
        "PGPASSWORD" => Some(PASSWORD.to_owned()),
        _ => {
            let of_this = |(own, _): &&(&str, &str)| name.strip_prefix("PG") == Some(own);
            variables.iter().find(of_this).map(|(_, value)| (*value).to_owned())
        }
    };
    match ConnectOptions::parse(text, &environment) {
        Ok(options) => {
            leads_to_the_same(&options);
            true
        }
        Err(error) => {
            let shown = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
            assert!(!shown.contains(PASSWORD));
            false
        }
    }
}

fn leads_to_the_same(options: &ConnectOptions) {
    let shown = options.display_target();
    assert!(!format!("{options:?} {shown}").contains(PASSWORD));
    let nowhere = |name: &str| (name == "HOME").then(|| "/nonexistent".to_owned());
    let again = ConnectOptions::parse(&shown, &nowhere).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!((again.user(), again.database()), (options.user(), options.database()), "{shown}");
    // Of a socket only the first one is shown; of several servers all.
    let count = match options.hosts() {
        [HostSpec { host: Host::Directory(_), .. }, ..] => 1,
        hosts => hosts.len(),
    };
    let places = |options: &ConnectOptions| -> Vec<_> {
        options.hosts().iter().take(count).map(|spec| (spec.host.clone(), spec.port)).collect()
    };
    assert_eq!(places(&again), places(options), "{shown}");
}

/// A service file on disk, for as long as it is needed.
struct ServiceFile(PathBuf);

impl ServiceFile {
    fn of(text: &str) -> Option<Self> {
        let name = format!("lifeboat-service-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        (!text.is_empty() && put(&path, text)).then_some(Self(path))
    }
}

#[expect(clippy::disallowed_methods, reason = "a scratch file of one input")]
fn put(path: &Path, text: &str) -> bool {
    std::fs::write(path, text).is_ok()
}

impl Drop for ServiceFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Four lines that say who is looked for, then a password file. What is found is what libpq would take.
pub fn passfile(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(5, |byte| *byte == b'\n');
    let mut next = || std::str::from_utf8(parts.next()?).ok().map(str::to_owned);
    let (Some(host), Some(port), Some(database), Some(user)) = (next(), next(), next(), next()) else {
        return false;
    };
    let (wanted, Some(file)) = ([host, port, database, user], parts.next()) else { return false };
    if bytes.contains(&0) || file.len() > 16 << 10 {
        return false;
    }
    let found = fuzz_passfile(file, &wanted);
    assert_eq!(found, as_libpq(file, &wanted).filter(|password| !password.is_empty()));
    found.is_some()
}

/// The same, byte by byte, as libpq goes about it: the line is compared with what is looked for, not taken apart.
fn as_libpq(file: &[u8], wanted: &[String; 4]) -> Option<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').find_map(|line| {
        let end = line.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
        let line = line.get(..end).filter(|line| !line.is_empty() && line[0] != b'#')?;
        let rest = wanted.iter().try_fold(line, |rest, token| behind(rest, token.as_bytes()))?;
        Some(unescaped(rest))
    })
}

/// What stands behind a field, if that is what is looked for.
fn behind<'l>(line: &'l [u8], token: &[u8]) -> Option<&'l [u8]> {
    if line.starts_with(b"*:") {
        return Some(&line[2..]);
    }
    let (mut at, mut token) = (0, token.iter());
    loop {
        let escaped = line.get(at) == Some(&b'\\') && at + 1 < line.len();
        at += usize::from(escaped);
        match (line.get(at)?, token.next()) {
            (b':', None) if !escaped => return Some(&line[at + 1..]),
            (b':', Some(_)) if !escaped => return None,
            (one, Some(other)) if one == other => at += 1,
            _ => return None,
        }
    }
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let (mut password, mut bytes) = (Vec::new(), field.iter().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => break,
            b'\\' => password.push(*bytes.next().unwrap_or(byte)),
            _ => password.push(*byte),
        }
    }
    password
}
