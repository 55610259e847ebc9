//! Whole outputs against files under `tests/snapshots`. What differs from run to run (identities, times,
//! durations, sizes after compression, folders) is replaced by its kind first. A difference fails and shows
//! both; `LIFEBOAT_UPDATE_SNAPSHOTS=1` writes what is seen instead, to be read before it is committed.

use crate::place::{Place, Ran, write_file};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What was typed and what came of it, one command after the other.
pub(crate) struct Transcript<'p> {
    place: &'p Place,
    text: String,
}

impl<'p> Transcript<'p> {
    pub(crate) fn new(place: &'p Place) -> Self {
        Self { place, text: String::new() }
    }

    /// Runs a command, and the same with `--json`, where both may run.
    pub(crate) fn both(&mut self, arguments: &[&str]) -> &mut Self {
        self.run(arguments);
        self.run(&[arguments, &["--json"]].concat())
    }

    /// Runs a command.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> &mut Self {
        let ran = self.place.run(arguments);
        self.add(&arguments.join(" "), &ran)
    }

    /// Adds a command that was run elsewhere.
    pub(crate) fn add(&mut self, typed: &str, ran: &Ran) -> &mut Self {
        let (stdout, stderr) = (self.filtered(&ran.stdout), self.filtered(&ran.stderr));
        let code = ran.code.map_or("killed".to_owned(), |code| format!("exit {code}"));
        let typed = self.filtered(typed);
        writeln!(self.text, "$ lifeboat {typed}\n[{code}]").unwrap();
        for (name, said) in [("stdout", stdout), ("stderr", stderr)] {
            if !said.is_empty() {
                writeln!(self.text, "--- {name}\n{said}").unwrap();
            }
        }
        self.text.push('\n');
        self
    }

    /// Compares everything so far with the file of that name.
    #[track_caller]
    pub(crate) fn compare(&self, name: &str) {
        compare(name, &self.text);
    }

    pub(crate) fn filtered(&self, text: &str) -> String {
        let root = self.place.root().to_str().unwrap();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let text = text
            .replace(root, "[ROOT]")
            .replace(&format!("{host}:[ROOT]"), "[HOST]:[ROOT]")
            .replace(&format!("{host}:pipe"), "[HOST]:pipe")
            .replace(&format!("\"{host}\""), "\"[HOST]\"")
            .replace(&format!("  {host}  "), "  [HOST]  ")
            .replace(&format!(" on {host}  "), " on [HOST]  ")
            .replace(&format!("({host})"), "([HOST])")
            .replace(&format!(" on {host}\n"), " on [HOST]\n")
            .replace(&format!(" {uid:>5} {gid:>5} "), " [UID] [GID] ");
        let text: String = text.lines().map(|line| filter_line(line) + "\n").collect();
        text.trim_end_matches('\n').to_owned()
    }
}

/// Compares a text with the file of that name.
#[track_caller]
pub(crate) fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var("LIFEBOAT_UPDATE_SNAPSHOTS").is_ok_and(|value| value == "1") {
        write_file(&path, text.as_bytes());
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{}", difference(&path, &expected, text));
}

fn difference(path: &Path, expected: &str, seen: &str) -> String {
    let at = expected.lines().zip(seen.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    format!(
        "{} differs at line {}; LIFEBOAT_UPDATE_SNAPSHOTS=1 accepts what is seen\nexpected: {}\nseen:     {}\n\n=== expected\n{expected}\n=== seen\n{seen}",
        path.display(),
        at + 1,
        line(expected),
        line(seen),
    )
}

/// Replaces what differs from run to run.
fn filter_line(line: &str) -> String {
    if let Some(filtered) = filter_json(line) {
        return filtered;
    }
    if let Some(filtered) = filter_listed(line) {
        return filtered;
    }
    let mut out = String::new();
    let line = without_unchanged(line);
    let mut rest = line.as_str();
    while !rest.is_empty() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_');
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            let first = rest.chars().next().unwrap();
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        match measure(&out, word, after) {
            Some((replacement, used)) => {
                while replacement != "[DURATION]" && out.ends_with("  ") {
                    out.pop();
                }
                out.push_str(replacement);
                rest = &after[used..];
            }
            None => {
                out.push_str(&filter_word(word));
                rest = after;
            }
        }
    }
    out
}

/// A file that was changed a moment ago is read again, so that the count differs.
fn without_unchanged(line: &str) -> String {
    match line.split_once(" unchanged)") {
        Some((before, after)) => {
            let start = before.rfind(" (").unwrap_or(before.len());
            format!("{}{after}", &before[..start])
        }
        None => line.to_owned(),
    }
}

/// A line of `ls` whose time no test has set.
fn filter_listed(line: &str) -> Option<String> {
    let at = line.find(" 20")?;
    let time = line.get(at + 1..at + 20)?;
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let filtered = shape == "0000-00-00 00:00:00" && !time.starts_with("2026-01-02");
    filtered.then(|| line.replacen(time, "[MODIFIED]", 1))
}

/// Fields of a document whose numbers differ from run to run.
fn filter_json(line: &str) -> Option<String> {
    let (name, value) = line.split_once("\": ")?;
    let field = name.trim_start().strip_prefix('"')?;
    let comma = if value.ends_with(',') { "," } else { "" };
    if field == "stall_ms" {
        return Some(format!("{name}\": [MILLISECONDS]{comma}"));
    }
    let is_number = value.trim_end_matches(',').parse::<f64>().is_ok();
    let kind = match field {
        _ if !is_number => return None,
        "uid" | "gid" => "[ID]",
        // A file that was changed a moment ago is read again.
        "unchanged" => "[COUNT]",
        "modified_secs" | "modified_nanos" | "deleted_packs" | "deleted_indexes" | "condemned_packs" => {
            return None;
        }
        // The timings of a receipt.
        "resolve" | "restore" | "question" | "replay" | "all" => "[SECONDS]",
        _ if field == "seconds" || field.ends_with("_seconds") => "[SECONDS]",
        "stored_bytes" | "new_bytes" | "deleted_bytes" | "live_bytes" | "total_bytes" | "rewritten_bytes"
        | "read_bytes" => "[BYTES]",
        _ => return None,
    };
    Some(format!("{name}\": {kind}{comma}"))
}

/// A duration, or a size that depends on compression: its replacement, and how much of what follows is part
/// of it.
fn measure(before: &str, word: &str, after: &str) -> Option<(&'static str, usize)> {
    word.parse::<f64>().ok()?;
    let unit = after.strip_prefix(' ')?;
    let unit = &unit[..unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len())];
    let (used, next) = (1 + unit.len(), &after[1 + unit.len()..]);
    match unit {
        "s" | "ms" | "min" => Some(("[DURATION]", used)),
        "B" | "kB" | "MB" => {
            let followers =
                [" new", " deleted", " rewritten", " would be freed", " needed", " stored", " per second"];
            let varies = before.ends_with("stored as ")
                || followers.iter().any(|follower| next.starts_with(follower))
                || next == " read";
            varies.then_some(("[BYTES]", used))
        }
        _ => None,
    }
}

fn filter_word(word: &str) -> String {
    let trimmed = word.trim_end_matches(['.', ':']);
    let tail = &word[trimmed.len()..];
    let hex = trimmed.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    let replacement = match trimmed.len() {
        128 if hex => "[SIGNATURE]",
        64 if hex => "[ID]",
        32 if hex => "[ID]",
        8 if hex => "[SHORT]",
        _ if trimmed.starts_with("LIFEBOAT-") && trimmed.len() > 60 => "[RECOVERY-KEY]",
        _ if is_time(trimmed) => "[TIME]",
        _ if is_clock(trimmed) => "[AT]",
        _ if is_run(trimmed) => "[RUN]",
        37 if trimmed.starts_with("slot:") => "slot:[ID]",
        _ if trimmed.starts_with("lifeboat-") && trimmed.len() == 25 => "lifeboat-[RANDOM]",
        _ => return word.to_owned(),
    };
    format!("{replacement}{tail}")
}

fn shape(word: &str) -> String {
    word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

/// A time of the day in UTC.
fn is_clock(word: &str) -> bool {
    shape(word) == "00:00:00Z"
}

/// The name of a run: when it was begun, and eight digits.
fn is_run(word: &str) -> bool {
    word.split_once('-')
        .is_some_and(|(begun, digits)| shape(begun) == "00000000t000000z" && digits.len() == 8)
}

/// RFC 3339 in UTC, with the colons within.
fn is_time(word: &str) -> bool {
    let shape = shape(word);
    shape.starts_with("0000-00-00T00:00:00") && shape.ends_with('Z')
}
