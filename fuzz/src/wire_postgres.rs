//! Targets for what a PostgreSQL server says, and for what people write of how to reach one.

use lifeboat_base::Hint;
use lifeboat_wire_postgres::{ConnectOptions, Host, HostSpec, fuzz_backend};
use std::path::{Path, PathBuf};

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[("postgres_backend", backend), ("postgres_options", options)];

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
