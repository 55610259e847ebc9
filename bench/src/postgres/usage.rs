//! What processes that go on have used: CPU of a process with all its descendants, and the peak of its memory.

use crate::error::BenchError;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What Linux counts CPU time of processes in, on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// One line of `/proc/PID/stat`: the parent, and the ticks of the process and of those that it has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

/// CPU seconds, user and system, of a process, its descendants, and those of them that have ended and were waited
/// for. Who left the family (a daemon) is not counted.
pub(super) fn tree_cpu_s(root: u32) -> f64 {
    let all = processes();
    let mut family = BTreeSet::from([root]);
    loop {
        let known = family.len();
        family.extend(
            all.iter()
                .filter(|(_, stat)| family.contains(&stat.parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == known {
            break;
        }
    }
    let ticks: u64 = family.iter().filter_map(|pid| all.get(pid)).map(|stat| stat.ticks).sum();
    ticks as f64 / TICKS_PER_SECOND
}

fn processes() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parsed(&text)?))
    })
    .collect()
}

/// The name, in brackets, may hold anything: what follows the last bracket counts.
fn parsed(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

/// The peak of a process's resident set so far, in bytes (`VmHWM`).
///
/// # Errors
/// Where the process is gone.
pub(super) fn peak_bytes(pid: u32) -> Result<u64, BenchError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| BenchError::io("read", &path, error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| BenchError::Postgresql(format!("{path} has no peak: it has ended")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(parsed(line), Some(Stat { parent: 3, ticks: 100 }));
        assert_eq!(parsed("7 (a) S 3"), None);
    }

    #[test]
    fn our_own_work_is_counted_and_our_peak_is_told() {
        let before = tree_cpu_s(std::process::id());
        let watch = lifeboat_base::clock::Stopwatch::start();
        while watch.elapsed() < std::time::Duration::from_secs(30)
            && tree_cpu_s(std::process::id()) < before + 0.05
        {}
        assert!(tree_cpu_s(std::process::id()) >= before + 0.05);
        assert!(peak_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
