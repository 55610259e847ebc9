//! Where a store is, as a person writes it: a path, `file:PATH`, `s3://bucket/prefix?…`, `gs://bucket/prefix`.
//!
//! This module owns the reading of such texts and the opening of what they name. A text that carries a secret
//! is refused, and because nobody can tell which part of a broken text was meant to be secret, no error
//! repeats any of it but the name of a parameter.

use crate::directory::DirectoryStore;
use crate::key::Key;
use crate::memory::MemoryStore;
use crate::{ObjectError, SharedStore};
use lifeboat_base::Hint;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where a store is. Displayed as the text that [`Location::parse`] reads back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket, or a part of one, on S3 or what speaks its protocol.
    S3(S3Location),
    /// A bucket, or a part of one, on Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// What all names start with, without slashes around it; may be empty.
        prefix: String,
    },
    /// A store in memory that is gone with the process, for trials and tests.
    Memory,
}

/// Where a store is on S3, without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// What all names start with, without slashes around it; may be empty.
    pub prefix: String,
    /// The region; the environment's, if left out.
    pub region: Option<String>,
    /// The server, `https://host:port`; Amazon's, if left out.
    pub endpoint: Option<String>,
    /// Whether an unencrypted connection to another machine is accepted.
    pub allow_http: bool,
    /// Whether the server at `endpoint` is known to list in the byte order of the names.
    pub ordered: bool,
    /// The longest silence of the server, in whole seconds.
    pub timeout_seconds: Option<u64>,
}

/// A text that names no place for a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// There is nothing.
    #[error("the location is empty")]
    Empty,
    /// The text carries a user, a password or another secret.
    #[error("the location holds {0}; a secret in it would be seen by everybody who sees this command")]
    Secret(&'static str),
    /// The text starts with a scheme that is not supported.
    #[error("the location's scheme is none of file:, s3://, gs:// and memory:")]
    UnknownScheme,
    /// Some part of the text is not as it must be.
    #[error("the location's {part} is not {expected}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A parameter after the `?` is not known.
    #[error("unknown parameter {name} in the location")]
    UnknownParameter {
        /// Its name, quoted, where that can hardly be a secret, else its number.
        name: String,
    },
}

impl Hint for LocationError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Secret(_) => {
                "Take the secret out of the location and give it as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; if it was ever used like this, replace it."
            }
            Self::UnknownParameter { .. } => {
                "Known parameters are region, endpoint, allow_http, listing and timeout."
            }
            Self::Malformed { part: "endpoint", .. } => {
                "Use https, or add allow_http=true to accept an unencrypted connection to another machine."
            }
            _ => "Write a path, file:PATH, or s3://bucket/prefix?region=REGION&endpoint=URL.",
        };
        Some(hint.to_owned())
    }
}

impl Location {
    /// Reads a location. Paths are taken as they are, without percent-decoding.
    ///
    /// # Errors
    /// [`LocationError`]: a usage error (exit code 2), whose text holds no secret.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        if text.trim().is_empty() {
            return Err(LocationError::Empty);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return parse_file(path);
        }
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        match text.split_once("://") {
            None => Ok(Self::Directory(PathBuf::from(text))),
            Some((scheme, rest)) => parse_url(scheme, rest),
        }
    }
}

fn parse_file(path: &str) -> Result<Location, LocationError> {
    let malformed = LocationError::Malformed { part: "path", expected: "a path on this machine" };
    match path.strip_prefix("//") {
        Some(rest) if !rest.starts_with('/') => Err(malformed),
        Some(rest) => Ok(Location::Directory(PathBuf::from(rest))),
        None if path.trim().is_empty() => Err(malformed),
        None => Ok(Location::Directory(PathBuf::from(path))),
    }
}

fn parse_url(scheme: &str, rest: &str) -> Result<Location, LocationError> {
    if rest.contains('@') || percent_decoded(rest).is_none_or(|decoded| decoded.contains('@')) {
        return Err(LocationError::Secret("a user or a password"));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    refuse_secret_parameters(query)?;
    match scheme {
        "s3" => parse_s3(place, query).map(Location::S3),
        "gs" if query.is_empty() => {
            let (bucket, prefix) = parse_place(place)?;
            Ok(Location::Gcs { bucket, prefix })
        }
        "gs" => Err(LocationError::Malformed { part: "part after the ?", expected: "used with gs://" }),
        _ => Err(LocationError::UnknownScheme),
    }
}

fn refuse_secret_parameters(query: &str) -> Result<(), LocationError> {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair));
    if names.map(|name| percent_decoded(name).unwrap_or_default()).any(|name| looks_secret(&name)) {
        return Err(LocationError::Secret("a parameter that looks like a secret"));
    }
    Ok(())
}

fn looks_secret(name: &str) -> bool {
    const PARTS: [&str; 10] = [
        "secret",
        "token",
        "password",
        "passwd",
        "passphrase",
        "credential",
        "accesskey",
        "apikey",
        "signature",
        "auth",
    ];
    let plain: String = name.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    PARTS.iter().any(|part| plain.contains(part))
        || matches!(plain.as_str(), "key" | "keyid" | "user" | "pass" | "pwd")
}

fn parse_s3(place: &str, query: &str) -> Result<S3Location, LocationError> {
    let (bucket, prefix) = parse_place(place)?;
    let mut location = S3Location { bucket, prefix, ..S3Location::default() };
    for (number, pair) in (1..).zip(query.split('&').filter(|pair| !pair.is_empty())) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decoded(value)
            .ok_or(LocationError::Malformed { part: "percent-encoding", expected: "valid" })?;
        set_parameter(&mut location, number, name, value)?;
    }
    let insecure = location.endpoint.as_deref().is_some_and(|endpoint| !is_safe(endpoint));
    if insecure && !location.allow_http {
        return Err(LocationError::Malformed { part: "endpoint", expected: "encrypted (https://)" });
    }
    Ok(location)
}

fn set_parameter(
    location: &mut S3Location,
    number: usize,
    name: &str,
    value: String,
) -> Result<(), LocationError> {
    let malformed = |part, expected| LocationError::Malformed { part, expected };
    match name {
        "region" if is_region(&value) => location.region = Some(value),
        "region" => return Err(malformed("region", "lower-case letters, digits and dashes")),
        "endpoint" if is_endpoint(&value) => location.endpoint = Some(value.trim_end_matches('/').to_owned()),
        "endpoint" => return Err(malformed("endpoint", "https://host or https://host:port")),
        "allow_http" => {
            location.allow_http = value.parse().map_err(|_| malformed("allow_http", "true or false"))?;
        }
        "listing" if value == "ordered" => location.ordered = true,
        "listing" => return Err(malformed("listing", "ordered")),
        "timeout" => {
            let seconds =
                value.strip_suffix('s').unwrap_or(&value).parse().ok().filter(|s| (1..=3600).contains(s));
            let expected = "a number of seconds from 1 to 3600";
            location.timeout_seconds = Some(seconds.ok_or_else(|| malformed("timeout", expected))?);
        }
        _ => return Err(LocationError::UnknownParameter { name: harmless(name, number) }),
    }
    Ok(())
}

fn harmless(name: &str, number: usize) -> String {
    let plain = name.len() <= 16 && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'_' | b'-'));
    if plain { format!("`{name}`") } else { format!("number {number}") }
}

fn parse_place(place: &str) -> Result<(String, String), LocationError> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_end_matches('/');
    if !is_bucket(bucket) {
        let expected = "3 to 63 lower-case letters, digits, dots and dashes";
        return Err(LocationError::Malformed { part: "bucket", expected });
    }
    if !is_prefix(prefix) {
        let expected = "lower-case letters, digits, `.`, `_` and `-` between slashes";
        return Err(LocationError::Malformed { part: "prefix", expected });
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

/// Leaves room for the names behind the prefix in the 1,024 bytes that S3 allows.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    prefix.is_empty() || (prefix.len() <= 100 && Key::new(prefix).is_ok())
}

pub(crate) fn is_bucket(bucket: &str) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    (3..=63).contains(&bucket.len())
        && bucket.bytes().all(inner)
        && edge(bucket.bytes().next())
        && edge(bucket.bytes().last())
}

fn is_region(region: &str) -> bool {
    !region.is_empty() && region.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// `http` or `https`, a host and perhaps a port; no path, so that nothing can hide in it.
pub(crate) fn is_endpoint(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    host.map(|host| host.strip_suffix('/').unwrap_or(host))
        .is_some_and(|host| !host.is_empty() && host.bytes().all(plain))
}

/// Encrypted, or never leaves the machine.
pub(crate) fn is_safe(endpoint: &str) -> bool {
    let Some(host) = endpoint.strip_prefix("http://") else { return true };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// `None` where the encoding is broken or hides bytes that are no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl S3Location {
    /// The longest silence of the server, if one was given.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_seconds.map(Duration::from_secs)
    }

    fn parameters(&self) -> Vec<String> {
        let texts = [("region", &self.region), ("endpoint", &self.endpoint)];
        let mut all: Vec<String> = texts
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={value}")))
            .collect();
        all.extend(self.allow_http.then(|| "allow_http=true".to_owned()));
        all.extend(self.ordered.then(|| "listing=ordered".to_owned()));
        all.extend(self.timeout_seconds.map(|seconds| format!("timeout={seconds}")));
        all
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => {
                // Two slashes in front would be read as those of a URL: they get the two of one.
                let slashes = if path.as_os_str().as_encoded_bytes().starts_with(b"//") { "//" } else { "" };
                write!(f, "file:{slashes}{}", path.display())
            }
            Self::S3(location) => location.fmt(f),
            Self::Gcs { bucket, prefix } => write_place(f, "gs", bucket, prefix),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, "s3", &self.bucket, &self.prefix)?;
        let parameters = self.parameters();
        if parameters.is_empty() { Ok(()) } else { write!(f, "?{}", parameters.join("&")) }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, scheme: &str, bucket: &str, prefix: &str) -> fmt::Result {
    let slash = if prefix.is_empty() { "" } else { "/" };
    write!(f, "{scheme}://{bucket}{slash}{prefix}")
}

/// Opens the store at a location; a directory must exist. What goes over a network is tried again where it
/// may work in a moment; its credentials come from the environment.
///
/// # Errors
/// As the store's own `open` or `connect`.
pub fn open(location: &Location) -> Result<SharedStore, ObjectError> {
    match location {
        Location::Directory(path) => Ok(Arc::new(DirectoryStore::open(path)?)),
        Location::Memory => Ok(Arc::new(MemoryStore::new())),
        Location::S3(s3) => open_s3(s3),
        Location::Gcs { bucket, prefix } => open_gcs(location, bucket, prefix),
    }
}

/// Opens the store at a location, making the directory where it is one and is missing. Whether the store
/// does what a repository needs is for [`crate::suitability`] to say.
///
/// # Errors
/// As the store's own `create` or `connect`.
pub fn create(location: &Location) -> Result<SharedStore, ObjectError> {
    match location {
        Location::Directory(path) => Ok(Arc::new(DirectoryStore::create(path)?)),
        other => open(other),
    }
}

#[cfg(feature = "s3")]
fn open_s3(location: &S3Location) -> Result<SharedStore, ObjectError> {
    let store = crate::s3::S3Store::connect(crate::s3::S3Config::new(location.clone()))?;
    Ok(Arc::new(crate::remote::patiently(Arc::new(store))))
}

#[cfg(not(feature = "s3"))]
fn open_s3(location: &S3Location) -> Result<SharedStore, ObjectError> {
    Err(not_built_in(location.to_string()))
}

#[cfg(feature = "gcs")]
fn open_gcs(_: &Location, bucket: &str, prefix: &str) -> Result<SharedStore, ObjectError> {
    let store = crate::gcs::connect(bucket, prefix)?;
    Ok(Arc::new(crate::remote::patiently(Arc::new(store))))
}

#[cfg(not(feature = "gcs"))]
fn open_gcs(location: &Location, _: &str, _: &str) -> Result<SharedStore, ObjectError> {
    Err(not_built_in(location.to_string()))
}

#[cfg(not(all(feature = "s3", feature = "gcs")))]
fn not_built_in(location: String) -> ObjectError {
    let what = "this build of Lifeboat was made without it";
    ObjectError::about(crate::ObjectErrorKind::Other, "open", "store", location, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s3(bucket: &str, prefix: &str) -> S3Location {
        S3Location { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..S3Location::default() }
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        for (text, path) in [
            ("./x", "./x"),
            ("/srv/a@b c", "/srv/a@b c"),
            ("C:odd", "C:odd"),
            ("file:./x", "./x"),
            ("file:/srv/x", "/srv/x"),
            ("file:///srv/50%", "/srv/50%"),
        ] {
            assert_eq!(Location::parse(text), Ok(Location::Directory(PathBuf::from(path))), "{text}");
        }
        for text in ["file://host/x", "file:", "file://"] {
            assert!(
                matches!(Location::parse(text), Err(LocationError::Malformed { part: "path", .. })),
                "{text}"
            );
        }
        assert_eq!(Location::parse(" "), Err(LocationError::Empty));
        assert_eq!(Location::parse("memory:"), Ok(Location::Memory));
    }

    #[test]
    fn buckets_are_read_with_their_parameters() {
        assert_eq!(Location::parse("s3://bucket"), Ok(Location::S3(s3("bucket", ""))));
        assert_eq!(Location::parse("s3://bucket/a/b/"), Ok(Location::S3(s3("bucket", "a/b"))));
        let text =
            "s3://bucket/p?region=eu-1&endpoint=https%3A%2F%2Fs3.example:9000/&timeout=5s&listing=ordered";
        let full = S3Location {
            region: Some("eu-1".to_owned()),
            endpoint: Some("https://s3.example:9000".to_owned()),
            timeout_seconds: Some(5),
            ordered: true,
            ..s3("bucket", "p")
        };
        assert_eq!(Location::parse(text), Ok(Location::S3(full.clone())));
        assert_eq!(Location::parse(&full.to_string()), Ok(Location::S3(full)));
        let gcs = Location::Gcs { bucket: "bucket".to_owned(), prefix: "p".to_owned() };
        assert_eq!(Location::parse("gs://bucket/p"), Ok(gcs));
    }

    #[test]
    fn an_unencrypted_connection_elsewhere_must_be_asked_for() {
        for good in [
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]:9",
            "https://a.b",
            "http://a&allow_http=true",
        ] {
            assert!(Location::parse(&format!("s3://bucket?endpoint={good}")).is_ok(), "{good}");
        }
        for bad in [
            "http://a.b",
            "http://127.0.0.1.evil.example",
            "ftp://a",
            "https://",
            "https://a/path",
            "http://10.0.0.1",
        ] {
            let parsed = Location::parse(&format!("s3://bucket?endpoint={bad}"));
            assert!(
                matches!(parsed, Err(LocationError::Malformed { part: "endpoint", .. })),
                "{bad}: {parsed:?}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "s3://",
            "s3://ab",
            "s3://Bucket",
            "s3://bucket/../x",
            "s3://bucket/A",
            "s3://bucket?timeout=0",
            "s3://bucket?listing=no",
            "s3://bucket?region=",
            "s3://bucket?allow_http=1",
            "s3://bucket?region=%zz",
            "gs://bucket?x=1",
        ] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Location::parse("ftp://x"), Err(LocationError::UnknownScheme));
        let unknown = |name: &str| Err(LocationError::UnknownParameter { name: name.to_owned() });
        assert_eq!(Location::parse("s3://bucket?reqion=a"), unknown("`reqion`"));
        assert_eq!(Location::parse("s3://bucket?region=a&Ab3x"), unknown("number 2"));
    }

    #[test]
    fn secrets_are_refused_and_never_repeated() {
        for text in [
            "s3://AKIA:HUNTER2@bucket/p",
            "s3://HUNTER2@bucket",
            "s3://a:HUNTER2%40bucket",
            "postgres://u:HUNTER2@host/db",
            "s3://bucket?secret=HUNTER2",
            "s3://bucket?AWS_SECRET_ACCESS_KEY=HUNTER2",
            "s3://bucket?x-amz-security-token=HUNTER2",
            "s3://bucket?pass%77ord=HUNTER2",
            "s3://bucket?region=a&Access-Key=HUNTER2",
            "s3://bucket?endpoint=https://u:HUNTER2@host",
            "s3://bucket?key=HUNTER2",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(matches!(error, LocationError::Secret(_)), "{text}: {error:?}");
            assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("HUNTER2"), "{text}");
        }
    }

    #[test]
    fn a_path_with_two_slashes_in_front_is_shown_as_it_was_read() {
        let location = Location::parse("//srv/backup").unwrap();
        assert_eq!(location.to_string(), "file:////srv/backup");
        assert_eq!(Location::parse(&location.to_string()), Ok(location));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = Location::parse(&text);
        }

        #[test]
        fn any_url_is_read_or_refused_and_shown_as_it_was_read(text in "(s3|gs|file|memory|x)(:|://)[a-z0-9@%?&=/:.A-Z-]{0,40}") {
            if let Ok(location) = Location::parse(&text) {
                prop_assert_eq!(Location::parse(&location.to_string()), Ok(location));
            }
        }

        #[test]
        fn a_password_is_in_no_error(secret in "[A-Z0-9+/@?&=#%:]{6,20}", form in 0..4) {
            let text = match form {
                0 => format!("s3://user:{secret}@bucket/p"),
                1 => format!("s3://bucket/p?secret_key={secret}"),
                2 => format!("s3://{secret}"),
                _ => format!("s3://bucket?endpoint={secret}"),
            };
            if let Err(error) = Location::parse(&text) {
                let shown = format!("{error} {:?}", error.hint());
                prop_assert!(!shown.contains(&secret), "{}", shown);
            }
        }
    }
}
