//! What a person or a program sees: results on stdout, progress and errors on stderr.

use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lifeboat_store::progress::Progress;
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Output {
    /// The result of a command: `json` where a document was asked for, else the lines of `text`.
    pub(crate) fn result(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        if self.json {
            serde_json::to_writer_pretty(&mut bytes, &json()).map_err(io::Error::from)?;
            bytes.push(b'\n');
        } else {
            text(&mut bytes)?;
        }
        write_stdout(&bytes)
    }

    /// Something that a person should know and a program need not.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Something that may be wrong.
    pub(crate) fn warn(self, text: &str) {
        let _ = writeln!(io::stderr(), "warning: {text}");
    }

    /// What to do next, where a command was carried out and not all is well.
    pub(crate) fn hint(self, hint: &str) {
        write_hint(hint);
    }

    /// How one of several things failed: the document comes at the end.
    pub(crate) fn one_failure(self, what: &str, failure: &Failure) {
        let _ = writeln!(io::stderr(), "error: {what}: {}", failure.message);
        say_hint(failure);
    }

    /// One of several things that are wrong with a file.
    pub(crate) fn fault(self, file: &Path, line: u32, what: &str, hint: Option<&str>) {
        let _ = writeln!(io::stderr(), "{}:{line}: {what}", file.display());
        if let Some(hint) = hint {
            write_hint(hint);
        }
    }

    /// How a command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        let _ = writeln!(io::stderr(), "error: {}", failure.message);
        say_hint(failure);
        if self.json {
            let json = serde_json::json!({ "error": failure.message, "hint": failure.hint, "exit_code": failure.code });
            let _ = write_stdout(format!("{json:#}\n").as_bytes());
        }
    }

    /// Shows how far something is, on a terminal, once it takes more than a second.
    pub(crate) fn progress(self, what: &str, progress: &Arc<Progress>) -> Shown {
        if self.quiet || !io::stderr().is_terminal() {
            return Shown { stop: Arc::default(), thread: None };
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, progress, what) = (stop.clone(), progress.clone(), what.to_owned());
        let thread = std::thread::spawn(move || show(&what, &progress, &stopped));
        Shown { stop, thread: Some(thread) }
    }
}

fn say_hint(failure: &Failure) {
    if let Some(hint) = &failure.hint {
        write_hint(hint);
    }
}

fn write_hint(hint: &str) {
    let _ = writeln!(io::stderr(), "hint: {hint}");
}

/// A progress line, which goes when this is dropped.
pub(crate) struct Shown {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn show(what: &str, progress: &Progress, stop: &AtomicBool) {
    std::thread::park_timeout(Duration::from_secs(1));
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    while !stop.load(Ordering::Relaxed) {
        bar.set_message(format!("{what}: {} entries, {}", progress.entries(), bytes(progress.bytes())));
        bar.tick();
        std::thread::park_timeout(Duration::from_millis(200));
    }
    bar.finish_and_clear();
}

/// Writes to stdout. A reader that has gone away is no error of ours.
pub(crate) fn write_stdout(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Bytes for people: `1.95 GB`, decimal.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if value < 9.995 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A duration for people: `0.42 s`, `3 min 05 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.01 {
        format!("{:.1} ms", seconds * 1000.0)
    } else if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else if seconds < 7200.0 {
        format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
    } else {
        format!("{} h {:02} min", time.as_secs() / 3600, time.as_secs() / 60 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_999_999, "10.0 MB"),
            (1_950_000_000, "1.95 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (ms, text) in [
            (3, "3.0 ms"),
            (420, "0.42 s"),
            (12_340, "12.3 s"),
            (185_000, "3 min 05 s"),
            (9_000_000, "2 h 30 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
