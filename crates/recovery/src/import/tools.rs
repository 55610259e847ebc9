//! PostgreSQL's own programs at work on a dump: fed, watched, and asked for what they said.

use super::dump::{Dump, DumpFormat, Packing};
use super::error::ImportError;
use crate::error::{RecoveryError, Result};
use lifeboat_postgres_server::{Identity, Installation};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::thread;

/// How much of a program's complaint is repeated.
const SAID_LINES: usize = 3;
/// How much of a line decides what it is, in bytes. Rows may be much longer.
const LINE_BYTES: u64 = 64 << 10;

/// How an archive was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// All of it was read, by this.
    Through(String),
    /// Only its head was, since there is no program here that can.
    HeadOnly {
        /// The version that would be needed.
        needed: u32,
    },
}

/// Reads a dump to its end with whatever can.
///
/// # Errors
/// Where it is damaged or not whole.
pub(super) fn check(dump: &Dump, named: Option<&Installation>) -> Result<Checked> {
    dump.read_through()?;
    if dump.format.is_plain() {
        return Ok(Checked::Through("its first and last words".to_owned()));
    }
    let needed = dump.needs_major();
    let Some(installation) = installation_for(needed, named) else {
        return Ok(Checked::HeadOnly { needed });
    };
    let mut command = installation.command("pg_restore", &Identity::ourselves());
    command.arg("--file=/dev/null");
    let output = with_dump(command, dump, Stdio::null())?;
    if !output.status.success() {
        return Err(ImportError::Unreadable { path: dump.path.clone(), said: said(&output) }.into());
    }
    Ok(Checked::Through(format!("pg_restore {}", installation.version)))
}

/// The oldest installation that is new enough, or the one that was named.
pub(super) fn installation_for(needed: u32, named: Option<&Installation>) -> Option<Installation> {
    if let Some(named) = named {
        return Some(named.clone()).filter(|named| named.major >= needed);
    }
    let mut fitting: Vec<_> = Installation::all().into_iter().filter(|one| one.major >= needed).collect();
    fitting.sort_by_key(|installation| installation.major);
    fitting.into_iter().next()
}

/// Runs a program on an archive: by its path, or, where that is packed, on its standard input.
pub(super) fn with_dump(mut command: Command, dump: &Dump, stdout: Stdio) -> Result<Output> {
    command.stdout(stdout);
    if dump.packing == Packing::None {
        let path = std::path::absolute(&dump.path).map_err(RecoveryError::io("resolve", &dump.path))?;
        return command.arg(path).output().map_err(RecoveryError::io("run pg_restore on", &dump.path));
    }
    let format = if dump.format == DumpFormat::Tar { "t" } else { "c" };
    let mut archive = dump.unpacked()?;
    command.args(["--format", format]);
    fed(command, &mut |stdin| io::copy(&mut archive, stdin).map(|_| ()))
        .map_err(RecoveryError::io("run pg_restore on", &dump.path))
}

/// Runs a program and writes to its standard input. A program that ends before it has read all is no error: what
/// it says tells why.
pub(super) fn fed(
    mut command: Command,
    feed: &mut (dyn FnMut(&mut dyn Write) -> io::Result<()> + Send),
) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        let feeding = scope.spawn(move || match stdin {
            Some(mut stdin) => feed(&mut stdin),
            None => Ok(()),
        });
        let output = child.wait_with_output();
        match feeding.join() {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => output,
        }
    })
}

/// The first words of a program's complaint, on one line.
pub(super) fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).take(SAID_LINES).collect();
    if lines.is_empty() { format!("nothing, and ended with {}", output.status) } else { lines.join("; ") }
}

/// Goes through SQL line by line, as pg_dump writes it: each line, or the first part of a long one, and whether it
/// is data of a `COPY`.
pub(super) fn for_each_line(
    sql: &mut dyn Read,
    visit: &mut dyn FnMut(Line<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut sql = BufReader::with_capacity(1 << 18, sql);
    let (mut bytes, mut begins, mut in_copy) = (Vec::new(), true, false);
    loop {
        bytes.clear();
        if (&mut sql).take(LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(());
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let ends_copy = begins && in_copy && text == b"\\.";
        visit(Line { bytes: &bytes, begins, is_data: in_copy && !ends_copy })?;
        if begins {
            in_copy = !ends_copy && (in_copy || begins_copy(text));
        }
        begins = bytes.ends_with(b"\n");
    }
}

fn begins_copy(line: &[u8]) -> bool {
    line.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;")
}

/// A line of SQL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'l> {
    /// With its end, where this is the last part of it.
    pub(super) bytes: &'l [u8],
    /// Whether this is its first part.
    pub(super) begins: bool,
    /// Whether it is data of a `COPY` and no SQL.
    pub(super) is_data: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_told_from_sql() {
        let long = "x".repeat(70_000);
        let text = format!("SELECT 1;\nCOPY public.t (a) FROM stdin;\nGRANT\n{long}\n\\.\nSELECT 2;\n");
        let mut seen = Vec::new();
        for_each_line(&mut text.as_bytes(), &mut |line| {
            seen.push((line.begins, line.is_data, line.bytes.len()));
            Ok(())
        })
        .unwrap();
        let long = [(true, true, 65_536), (false, true, 70_001 - 65_536)];
        let expected = [(true, false, 10), (true, false, 30), (true, true, 6), long[0], long[1]];
        assert_eq!(seen[..5], expected);
        assert_eq!(seen[5..], [(true, false, 3), (true, false, 10)]);
    }

    #[test]
    fn a_program_that_stops_reading_is_no_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo enough >&2; exit 3"]);
        let output = fed(command, &mut |stdin| stdin.write_all(&vec![b'x'; 1 << 20])).unwrap();
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(3), "enough"));
    }
}
