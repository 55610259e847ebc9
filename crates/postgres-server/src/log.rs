//! What a server says: the end of its log, and how far it says it has replayed.
//!
//! The log comes through a pipe that a thread empties, so that the server never waits for us and our memory does
//! not grow. It deliberately judges nothing: whether a server is ready is not read from here.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How much of the end is kept: a start with an error, its details and its context fit many times.
const MAX_TAIL_BYTES: usize = 64 << 10;
/// Longer lines (statements are logged whole) are cut into several.
const MAX_LINE_BYTES: u64 = 4 << 10;

/// How many lines before a complaint may be its cause: one an address, or one a setting.
const MAX_CAUSES: usize = 3;

/// A server's log, shared with the thread that reads it. Cheap to clone; outlives the server.
#[derive(Clone, Debug)]
pub struct ServerLog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    lines: VecDeque<String>,
    bytes: usize,
    replayed: Option<u64>,
    is_recovering: bool,
    is_closed: bool,
}

impl ServerLog {
    /// Reads a log until its end, on a thread of its own.
    pub(crate) fn follow(from: impl Read + Send + 'static) -> io::Result<Self> {
        let log = Self(Arc::default());
        let reader = log.clone();
        thread::Builder::new().name("server-log".to_owned()).spawn(move || reader.read(from))?;
        Ok(log)
    }

    /// The last lines, some 64 KiB at most.
    pub fn tail(&self) -> String {
        let seen = self.seen();
        seen.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The last position of the log (LSN) that the server said it has replayed. It says so once a second.
    pub fn replayed(&self) -> Option<u64> {
        self.seen().replayed
    }

    /// Whether redo began and was not said to be done.
    pub(crate) fn is_recovering(&self) -> bool {
        self.seen().is_recovering
    }

    /// What explains an end: the last complaint with its details, or the last line.
    pub(crate) fn reason(&self) -> String {
        reason(&self.seen().lines)
    }

    /// Waits until the server and its children have closed the log, but not for long.
    pub(crate) fn wait_closed(&self, limit: Duration) {
        let still_open = |seen: &mut Seen| !seen.is_closed;
        drop(self.0.closed.wait_timeout_while(self.seen(), limit, still_open));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while let Ok(1..) = (&mut from).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.seen().take(text);
            line.clear();
        }
        self.seen().is_closed = true;
        self.0.closed.notify_all();
    }
}

impl Seen {
    fn take(&mut self, line: String) {
        self.notice(&line);
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > MAX_TAIL_BYTES {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |gone| gone.len() + 1);
        }
    }

    fn notice(&mut self, line: &str) {
        let says = |words: &str| line.contains(words);
        if says("LOG:  redo starts at ")
            || says("LOG:  starting archive recovery")
            || says("LOG:  entering standby mode")
        {
            self.is_recovering = true;
        } else if says("LOG:  redo done at ") || says("LOG:  redo is not required") {
            self.is_recovering = false;
        }
        let marks =
            ["current LSN: ", "redo starts at ", "redo done at ", "consistent recovery state reached at "];
        let position = marks.iter().find_map(|mark| position_after(line, mark));
        self.replayed = position.or(self.replayed);
    }
}

/// Reads the `16/B374D848` behind some words.
fn position_after(line: &str, words: &str) -> Option<u64> {
    let (_, text) = line.split_once(words)?;
    let end = text.find(|letter: char| !letter.is_ascii_hexdigit() && letter != '/').unwrap_or(text.len());
    let (high, low) = text.get(..end)?.split_once('/')?;
    Some(u64::from(u32::from_str_radix(high, 16).ok()?) << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
}

fn reason(lines: &VecDeque<String>) -> String {
    let severe = |mark: &'static str| lines.iter().rposition(move |line| line.contains(mark));
    let complaint = severe("PANIC:  ").or_else(|| severe("FATAL:  ")).or_else(|| severe("ERROR:  "));
    // Before the log is set up, a program complains under its own name.
    let Some(at) = complaint.or_else(|| severe("postgres: ")) else {
        return lines.back().map_or_else(|| "it said nothing".to_owned(), |line| words_of(line).to_owned());
    };
    let before = lines.iter().take(at).rev().take(MAX_CAUSES).filter(|line| is_cause(line, &lines[at]));
    let complaint = lines.range(at..=at).chain(before);
    let details = lines.range(at + 1..).take_while(|line| is_detail(line));
    complaint.chain(details).map(|line| words_of(line)).collect::<Vec<_>>().join("; ")
}

/// What was said just before a complaint often is its cause: `could not bind … Address already in use`, or what is
/// wrong with a file of settings.
fn is_cause(line: &str, complaint: &str) -> bool {
    line.contains("LOG:  could not ") || line.contains("LOG:  ") && complaint.contains(" contains errors")
}

fn is_detail(line: &str) -> bool {
    ["DETAIL:  ", "HINT:  ", "CONTEXT:  "].iter().any(|mark| line.contains(mark)) || line.starts_with('\t')
}

/// A line without the prefix that the settings of the server put before it.
fn words_of(line: &str) -> &str {
    let line = line.trim();
    let begin = [":  "].iter().find_map(|mark| line.find(mark).map(|at| at + mark.len()));
    begin.and_then(|begin| line.get(begin..)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(text: &str) -> ServerLog {
        let log = ServerLog::follow(io::Cursor::new(text.to_owned().into_bytes())).unwrap();
        log.wait_closed(Duration::from_secs(60));
        log
    }

    #[test]
    fn the_reason_is_the_last_complaint_with_its_details() {
        let log = log_of(
            "2026-01-01 LOG:  starting PostgreSQL\n2026-01-01 FATAL:  first\n\
             2026-01-01 LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\n\
             2026-01-01 FATAL:  could not create any TCP/IP sockets\n2026-01-01 HINT:  look\n\
             2026-01-01 LOG:  database system is shut down\n",
        );
        assert_eq!(
            log.reason(),
            "could not create any TCP/IP sockets; could not bind IPv4 address \"127.0.0.1\": Address already in use; look"
        );
        assert_eq!(log_of("").reason(), "it said nothing");
        assert_eq!(log_of("x LOG:  all is well\n").reason(), "all is well");
        assert_eq!(
            log_of("postgres: could not access x\nRun initdb\n").reason(),
            "postgres: could not access x"
        );
    }

    #[test]
    fn how_far_it_is_is_read_from_what_it_says() {
        let log = log_of(
            "LOG:  redo starts at 0/3000028\nLOG:  redo in progress, elapsed time: 1.00 s, current LSN: 2/300000A8\n",
        );
        assert_eq!(log.replayed(), Some(0x2_3000_00A8));
        assert!(log.is_recovering());
        let log = log_of("LOG:  redo starts at 0/3000028\nLOG:  redo done at 0/4000000 system usage: x\n");
        assert_eq!((log.replayed(), log.is_recovering()), (Some(0x400_0000), false));
        assert_eq!(log_of("LOG:  redo starts at 0/\nLOG:  current LSN: 123456789/1\n").replayed(), None);
    }

    #[test]
    fn only_the_end_is_kept_and_long_lines_are_cut() {
        let log = log_of(&format!("begin\n{}\nend", "x".repeat((1 << 20) + 7)));
        let tail = log.tail();
        assert!(tail.len() <= MAX_TAIL_BYTES, "{}", tail.len());
        assert!(tail.ends_with("xx\nend\n") && !tail.contains("begin"));
    }
}
