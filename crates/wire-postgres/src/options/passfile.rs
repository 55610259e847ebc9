//! `.pgpass`: passwords in a file that only its owner may read.

use super::{Host, HostSpec, SOCKET_DIRECTORIES};
use lifeboat_base::Secret;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A line longer than this is no password. libpq has no such limit; a file that is no password file does.
const LONGEST_LINE: usize = 64 << 10;

/// What a password file had for somebody.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// A password.
    Found(Secret),
    /// No line fits, or there is no file.
    Nothing,
    /// A file that is not believed, and why.
    Distrusted(String),
}

/// Looks up the password of a user. `database` is `replication` for a session that replicates.
pub(crate) fn look_up(path: &Path, spec: &HostSpec, database: &str, user: &str) -> Lookup {
    let Ok(metadata) = fs::metadata(path) else { return Lookup::Nothing };
    if !metadata.is_file() {
        return Lookup::Distrusted(format!("{} is not a plain file", path.display()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Lookup::Distrusted(format!("{} may be read by others: chmod 0600 it", path.display()));
    }
    match fs::File::open(path) {
        Ok(file) => find(BufReader::new(file), &wanted(spec, database, user)),
        Err(error) => Lookup::Distrusted(format!("{} cannot be read: {error}", path.display())),
    }
}

fn wanted(spec: &HostSpec, database: &str, user: &str) -> [String; 4] {
    [host_name(spec), spec.port.to_string(), database.to_owned(), user.to_owned()]
}

/// A socket in one of the default directories goes by the name of localhost.
fn host_name(spec: &HostSpec) -> String {
    match &spec.host {
        Host::Directory(path) if SOCKET_DIRECTORIES.iter().any(|usual| Path::new(usual) == path) => {
            "localhost".to_owned()
        }
        Host::Directory(path) => path.to_string_lossy().into_owned(),
        Host::Name(name) => name.clone(),
    }
}

fn find(mut lines: impl BufRead, wanted: &[String; 4]) -> Lookup {
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut lines, LONGEST_LINE as u64);
        match limited.read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Lookup::Nothing,
        }
        if line.len() == LONGEST_LINE && !line.ends_with(b"\n") {
            // What is left of it is no line of its own.
            if lines.skip_until(b'\n').is_err() {
                return Lookup::Nothing;
            }
            continue;
        }
        while line.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            let _ = line.pop();
        }
        match matching(&line, wanted) {
            // Whoever is named first without a password has none, whatever follows.
            Some(password) if password.is_empty() => return Lookup::Nothing,
            Some(password) => return Lookup::Found(Secret::new(password)),
            None => {}
        }
    }
}

/// The password of a line, if the line is about whom we want.
fn matching(line: &[u8], wanted: &[String; 4]) -> Option<Vec<u8>> {
    if line.first() == Some(&b'#') {
        return None;
    }
    let mut rest = line;
    for expected in wanted {
        let (field, behind) = field(rest);
        if rest.starts_with(b"*:") || field == expected.as_bytes() {
            rest = behind?;
        } else {
            return None;
        }
    }
    Some(field(rest).0)
}

/// One field with its backslashes taken away, and what stands behind its colon. So a colon ends the password too,
/// unless a backslash stands before it.
fn field(text: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b':' => return (value, Some(&text[at + 1..])),
            b'\\' if at + 1 < text.len() => {
                at += 1;
                value.push(text[at]);
            }
            other => value.push(other),
        }
        at += 1;
    }
    (value, None)
}

/// For fuzzing: the password that a file with these bytes has for somebody.
pub(crate) fn fuzz_passfile(file: &[u8], wanted: &[String; 4]) -> Option<Vec<u8>> {
    match find(file, wanted) {
        Lookup::Found(password) => Some(password.expose().to_vec()),
        Lookup::Nothing | Lookup::Distrusted(_) => None,
    }
}
