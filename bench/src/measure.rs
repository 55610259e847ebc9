//! Runs a program and says what it cost: wall time, CPU time of all its processes, peak memory.
//!
//! CPU and memory come from `wait4`, which counts the program and every descendant that it waited for. The
//! kernel carries the peak of the process that started it into a new program's own peak, so that this
//! process must stay smaller than whatever it measures: nothing here keeps lists of files.

use crate::error::BenchError;
use lifeboat_base::clock::Stopwatch;
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// What one run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// From start to end, the sync included, in seconds.
    pub(crate) wall_s: f64,
    /// User and system time of all its processes, in seconds.
    pub(crate) cpu_s: f64,
    /// The peak resident set of its largest process, in bytes.
    pub(crate) peak_bytes: u64,
}

impl Cost {
    fn then(self, next: Self) -> Self {
        Self {
            wall_s: self.wall_s + next.wall_s,
            cpu_s: self.cpu_s + next.cpu_s,
            peak_bytes: self.peak_bytes.max(next.peak_bytes),
        }
    }
}

/// Runs a program, then makes the file system of `synced` durable, and answers the cost of both: a tool that
/// leaves its work in the page cache has not done it. What the program says goes to `log`.
///
/// # Errors
/// Where it cannot be started or does not succeed; the end of the log is in the error.
pub(crate) fn durable(command: &mut Command, synced: &Path, log: &Path) -> Result<Cost, BenchError> {
    let own = run(command, log)?;
    Ok(own.then(run(Command::new("sync").arg("-f").arg(synced), log)?))
}

/// Runs a program and answers its cost.
///
/// # Errors
/// As [`durable`].
pub(crate) fn run(command: &mut Command, log: &Path) -> Result<Cost, BenchError> {
    let to_log = || File::options().create(true).append(true).open(log);
    let (out, err) = match (to_log(), to_log()) {
        (Ok(out), Ok(err)) => (out, err),
        (Err(error), _) | (_, Err(error)) => return Err(BenchError::io("open log", log, error)),
    };
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let watch = Stopwatch::start();
    let child = command.spawn().map_err(|source| BenchError::Start { program: program(command), source })?;
    let (status, usage) = wait4(child.id()).map_err(|e| BenchError::io("wait for", program(command), e))?;
    let wall = watch.elapsed();
    if !status.success() {
        return Err(BenchError::Failed {
            command: shown(command),
            status: status.to_string(),
            said: tail(log),
        });
    }
    Ok(Cost { wall_s: wall.as_secs_f64(), cpu_s: cpu(&usage).as_secs_f64(), peak_bytes: peak_bytes(&usage) })
}

/// Waits for one child and takes its resource usage, which `std` throws away.
#[expect(unsafe_code, reason = "the standard library has no wait4, and rustix none with resource usage")]
fn wait4(pid: u32) -> io::Result<(ExitStatus, libc::rusage)> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    loop {
        let mut status = 0;
        // SAFETY: `rusage` is plain integers, for which all zeroes is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers lead to live, writable values of the types that wait4 fills in.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if waited == pid {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn cpu(usage: &libc::rusage) -> Duration {
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn duration(time: libc::timeval) -> Duration {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

/// Linux counts `ru_maxrss` in KiB.
fn peak_bytes(usage: &libc::rusage) -> u64 {
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
}

/// The peak of this process: what is measured of a smaller child cannot be told apart from it.
pub(crate) fn own_peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last few lines of a log, on one line.
fn tail(log: &Path) -> String {
    const LINES: usize = 5;
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" / ")
}

/// Uses nearly all memory that nobody uses, a page at a time, and gives it back.
///
/// # Errors
/// Where the kernel does not say how much that is.
pub(crate) fn touch_memory() -> Result<(), BenchError> {
    let path = "/proc/meminfo";
    let said = fs::read_to_string(path).map_err(|error| BenchError::io("read", path, error))?;
    let free = said.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kib: usize =
        free.and_then(|free| free.trim().strip_suffix(" kB")).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let mut memory = vec![0u8; kib / 10 * 9 * 1024];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(script: &str) -> Result<Cost, BenchError> {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("sh").args(["-c", script]), &folder.path().join("log"))
    }

    #[test]
    fn the_cpu_of_a_grandchild_counts() {
        let idle = measured("sleep 0.01").unwrap();
        let busy = measured("(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done)| cat").unwrap();
        assert!(busy.cpu_s > idle.cpu_s + 0.02, "{idle:?} {busy:?}");
    }

    #[test]
    fn the_peak_is_the_childs_where_it_is_above_ours() {
        let bytes = own_peak_bytes() + (100 << 20);
        let small = measured("true").unwrap();
        let large = measured(&format!("head -c {bytes} /dev/zero | tail -c {bytes} > /dev/null")).unwrap();
        assert!(small.peak_bytes > 0 && small.peak_bytes < bytes, "{small:?} {bytes}");
        assert!(large.peak_bytes >= bytes, "{large:?} {bytes}");
    }

    #[test]
    fn a_failure_says_how_and_what() {
        let error = measured("echo broken >&2; exit 7").unwrap_err().to_string();
        assert!(error.contains("exit status: 7") && error.ends_with("broken"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let missing = run(&mut Command::new("no-such-program-here"), &folder.path().join("log"));
        assert!(matches!(missing, Err(BenchError::Start { .. })));
    }
}
