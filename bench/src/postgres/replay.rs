//! Redo of a gigabyte of log up to a named point: from what Lifeboat restored, and from the `pg_wal` of the server
//! itself. Both by the server's own count of the time.

use super::follower::Followed;
use super::report::Sample;
use super::server::{Running, append};
use super::tools::{Lifeboat, pg_basebackup};
use super::{Bench, data, pgbench, progress, usage, watch};
use crate::data::remove_all;
use crate::error::BenchError;
use crate::measure::{self, Cost};
use lifeboat_base::clock::Stopwatch;
use lifeboat_postgres_wal::Lsn;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is measured, as a step.
pub(super) const REDO: &str = "redo to a point";
const RESTORE_TO_POINT: &str = "restore to a point, log included";
/// How much longer it may take than from a local `pg_wal`.
pub(super) const OF_LOCAL: f64 = 1.05;
/// Bytes of log at full scale.
const LOG_BYTES: u64 = 1_000_000_000;
/// Rows that are written anew between two runs of pgbench.
const ROWS_A_TIME: u64 = 10_000;
const POINT: &str = "replay";
/// How long the log may take to arrive once nobody writes any more.
const ARRIVES_WITHIN: Duration = Duration::from_secs(300);
/// What both servers replay with: nobody asks them anything before they have done. The checkpoint at the end of
/// recovery is not part of redo.
const SETTINGS: &[(&str, &str)] = &[("archive_mode", "off"), ("max_wal_size", "8GB"), ("hot_standby", "off")];

/// What everything is replayed from.
struct Prepared {
    lifeboat: Lifeboat,
    base: PathBuf,
    first_segment: String,
    last_segment: String,
    follower_peak: u64,
}

/// Measures it, and gives the peaks of what was not measured as a command.
///
/// # Errors
/// Where something fails, or a server does not say how long its redo took.
pub(super) fn run(bench: &mut Bench<'_>, running: &Running) -> Result<Vec<u64>, BenchError> {
    let prepared = prepare(bench, running)?;
    for number in 0..bench.options.rounds {
        let turns = [from_repository, from_local];
        for turn in 0..turns.len() {
            turns[(turn + number as usize) % turns.len()](bench, running, &prepared)?;
        }
    }
    Ok(vec![prepared.follower_peak])
}

fn prepare(bench: &mut Bench<'_>, running: &Running) -> Result<Prepared, BenchError> {
    progress("writing the log that is to be replayed");
    let programs = &bench.programs;
    let lifeboat = Lifeboat::init(programs, &bench.lifeboat, &bench.dir.join("replay"), &bench.log)?;
    let base = bench.dir.join("replay").join("base");
    running.checkpoint()?;
    let first_segment = running.single("select pg_walfile_name(pg_current_wal_lsn())")?;
    measure::run(&mut pg_basebackup(programs, running, "none", &base), &bench.log)?;
    let mut follower = Followed::start(programs, &lifeboat, running, &[], &bench.log)?;
    follower.wait_for("snapshot-taken")?;
    let bytes = write_log(bench, running)?;
    running.execute(&format!("select pg_create_restore_point('{POINT}')"))?;
    running.execute("select pg_switch_wal()")?;
    let end: Lsn = position(running)?;
    let last_segment = running.single("select pg_walfile_name(pg_current_wal_flush_lsn())")?;
    await_log(&lifeboat, end)?;
    let follower_peak = follower.stop()?.peak_bytes;
    bench.run.found.push(format!(
        "{:.1} MB of log to replay; peak of the follower and its snapshot: {:.0} MiB",
        bytes as f64 / 1e6,
        crate::report::mib(follower_peak)
    ));
    Ok(Prepared { lifeboat, base, first_segment, last_segment, follower_peak })
}

fn position(running: &Running) -> Result<Lsn, BenchError> {
    let text = running.single("select pg_current_wal_flush_lsn()")?;
    text.parse().map_err(|_| BenchError::Postgresql(format!("{text} is no position")))
}

/// Transactions of pgbench and rows written anew, by turns. No checkpoint falls in between.
fn write_log(bench: &Bench<'_>, running: &Running) -> Result<u64, BenchError> {
    let (begin, wanted) = (position(running)?, LOG_BYTES * u64::from(bench.options.scale) / 1000);
    for turn in 0.. {
        let bytes = position(running)?.since(begin);
        if bytes >= wanted {
            return Ok(bytes);
        }
        pgbench::transactions(bench, running, 1000)?;
        data::overwrite(running, 1000, turn * ROWS_A_TIME..(turn + 1) * ROWS_A_TIME)?;
    }
    Ok(0)
}

fn await_log(lifeboat: &Lifeboat, end: Lsn) -> Result<(), BenchError> {
    let watch = Stopwatch::start();
    while watch::log_end(&lifeboat.repository()) < end.0 {
        if watch.elapsed() > ARRIVES_WITHIN {
            return Err(BenchError::Postgresql(format!("the log does not reach {end}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn from_repository(bench: &mut Bench<'_>, running: &Running, prepared: &Prepared) -> Result<(), BenchError> {
    let into = bench.dir.join("replay").join("replayed");
    let mut command = prepared.lifeboat.restore(&bench.programs, &format!("name:{POINT}"), &into);
    bench.settle()?;
    let cost = measure::durable(&mut command, &bench.dir, &bench.log)?;
    bench.run.samples.push(Sample {
        tool: "lifeboat",
        step: RESTORE_TO_POINT,
        cost,
        server_cpu_s: 0.0,
        stored_bytes: 0,
    });
    redo(bench, running, "lifeboat", &into)
}

fn from_local(bench: &mut Bench<'_>, running: &Running, prepared: &Prepared) -> Result<(), BenchError> {
    let into = bench.dir.join("replay").join("replayed");
    let mut copy = bench.programs.command("/bin/cp");
    measure::run(copy.arg("-a").arg(&prepared.base).arg(&into), &bench.log)?;
    copy_segments(running.data(), &into, &prepared.first_segment, &prepared.last_segment)?;
    append(
        &into.join("postgresql.auto.conf"),
        &[
            "restore_command = '/bin/false'".to_owned(),
            format!("recovery_target_name = '{POINT}'"),
            "recovery_target_action = 'promote'".to_owned(),
            "recovery_target_timeline = '1'".to_owned(),
        ],
    )?;
    append(&into.join("recovery.signal"), &[])?;
    bench.programs.own(&into)?;
    redo(bench, running, "local pg_wal", &into)
}

fn copy_segments(data: &Path, into: &Path, first: &str, last: &str) -> Result<(), BenchError> {
    let from = data.join("pg_wal");
    let listing = fs::read_dir(&from).map_err(|error| BenchError::io("list", &from, error))?;
    for entry in listing.flatten() {
        let name = entry.file_name();
        // Names of one timeline have the order of their positions.
        let is_between =
            name.to_str().is_some_and(|name| name.len() == last.len() && name >= first && name <= last);
        if is_between {
            let path = entry.path();
            fs::copy(&path, into.join("pg_wal").join(&name)).map_err(|e| BenchError::io("copy", &path, e))?;
        }
    }
    Ok(())
}

fn redo(bench: &mut Bench<'_>, running: &Running, tool: &'static str, data: &Path) -> Result<(), BenchError> {
    bench.settle()?;
    // What has just been written is in memory in pieces as large as its writes were, and pages are overwritten more
    // slowly in larger ones (with ext4 half as fast): redo shall not show who wrote them, nor whether they are there.
    forget_cached(data)?;
    let mut warm = Command::new("sh");
    warm.args(["-c", "tar -C \"$1\" -cf - . | cat > /dev/null", "warm"]).arg(data);
    measure::run(&mut warm, &bench.log)?;
    let server = bench.programs.start(data, SETTINGS)?;
    server.wait_until("select not pg_is_in_recovery()")?;
    let cpu_s = usage::tree_cpu_s(server.pid());
    let log = server.log();
    let wall_s = elapsed(&log).ok_or_else(|| BenchError::Postgresql(format!("no redo was told: {log}")))?;
    let (there, here) = (data::fingerprint(running)?, data::fingerprint(&server)?);
    server.stop()?;
    if there != here {
        let what = format!("their rows sum up to {there} and {here}");
        return Err(BenchError::Differ { left: running.data().to_owned(), right: data.to_owned(), what });
    }
    progress(&format!("{REDO}, {tool}: {wall_s:.2} s"));
    let cost = Cost { wall_s, cpu_s: 0.0, peak_bytes: 0 };
    bench.run.samples.push(Sample { tool, step: REDO, cost, server_cpu_s: cpu_s, stored_bytes: 0 });
    remove_all(data)
}

/// Takes the files of a folder out of the page cache.
fn forget_cached(folder: &Path) -> Result<(), BenchError> {
    let failed = |error| BenchError::io("take out of the cache", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            forget_cached(&entry.path())?;
        } else if let Ok(file) = fs::File::open(entry.path()) {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                .map_err(|e| failed(e.into()))?;
        }
    }
    Ok(())
}

/// `redo done at 0/5000028 system usage: CPU: user: 1.00 s, system: 0.10 s, elapsed: 1.30 s`
fn elapsed(log: &str) -> Option<f64> {
    let line = log.lines().rev().find(|line| line.contains("redo done at"))?;
    line.rsplit_once("elapsed: ")?.1.strip_suffix(" s")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_count_is_read() {
        let log = "LOG:  redo starts at 0/2\nLOG:  redo done at 0/5000028 system usage: CPU: user: 1.00 s, \
                   system: 0.10 s, elapsed: 1.30 s\nLOG:  ready";
        assert_eq!(elapsed(log), Some(1.3));
        assert_eq!(elapsed("LOG:  ready"), None);
    }
}
