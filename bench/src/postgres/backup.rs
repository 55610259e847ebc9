//! Full backups, restores, and backups after one per cent of the pages has changed.

use super::data::{self, Pages};
use super::report::{Bound, Held, Sample};
use super::server::Running;
use super::tools::{Lifeboat, PgBackRest, pg_basebackup};
use super::{Bench, progress, replay, usage};
use crate::data::remove_all;
use crate::error::BenchError;
use crate::measure;
use crate::stats::ratio;
use crate::tree;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const FULL: &str = "full backup";
pub(super) const RESTORE: &str = "restore";
const CHANGED: &str = "backup after 1 % of pages changed";
/// The bounds, in the order of the table.
const WALL_OF_PG_BASEBACKUP: f64 = 1.1;
const CPU_OF_PGBACKREST: f64 = 1.0;
const RESTORE_OF_PGBACKREST: f64 = 0.7;
const BYTES_OF_PAGES: f64 = 1.3;
/// So much must not compress, or the run says nothing about databases that do not.
const INCOMPRESSIBLE: f64 = 0.6;

/// One tool's turn.
type Turn<'t> = (&'static str, Box<dyn Fn(&mut Bench<'_>) -> Result<(), BenchError> + 't>);

/// Measures all of it.
///
/// # Errors
/// Where a tool fails, or what Lifeboat restored is not what was there.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    progress("making the database");
    let data = bench.dir.join("primary");
    bench.programs.make(&data, &bench.log)?;
    let running = bench.programs.start(&data, &[])?;
    data::fill(&bench.programs, &running, bench.options.scale, &bench.log)?;
    describe(bench, &running)?;
    for number in 0..bench.options.rounds {
        Round { running: &running, number, folder: bench.dir.join(format!("round-{number}")) }.play(bench)?;
    }
    let peak = replay::run(bench, &running)?;
    running.stop()?;
    hold(bench, peak);
    Ok(())
}

fn describe(bench: &mut Bench<'_>, running: &Running) -> Result<(), BenchError> {
    let shares = data::shares(running)?;
    let bytes: u64 = shares.iter().map(|share| share.bytes).sum();
    let part = data::incompressible(&shares);
    bench.run.about.push(format!(
        "Database: {:.1} MB, of which {:.0} % compresses less than 2:1 by zstd -3{}",
        bytes as f64 / 1e6,
        part * 100.0,
        if part < INCOMPRESSIBLE { " (**too little**)" } else { "" }
    ));
    for share in shares.iter().filter(|share| share.bytes * 100 > bytes) {
        let megabytes = share.bytes as f64 / 1e6;
        bench.run.about.push(format!("… `{}`: {megabytes:.1} MB, {:.2}:1", share.name, share.ratio()));
    }
    Ok(())
}

/// One round: everybody on the same state of the server.
struct Round<'r> {
    running: &'r Running,
    number: u32,
    folder: PathBuf,
}

impl Round<'_> {
    fn play(&self, bench: &mut Bench<'_>) -> Result<(), BenchError> {
        bench.programs.folder(&self.folder)?;
        let lifeboat =
            Lifeboat::init(&bench.programs, &bench.lifeboat, &self.folder.join("lifeboat"), &bench.log)?;
        let pgbackrest = self.pgbackrest(bench)?;
        self.full(bench, &lifeboat, pgbackrest.as_ref())?;
        self.restores(bench, &lifeboat, pgbackrest.as_ref())?;
        self.after_change(bench, &lifeboat, pgbackrest.as_ref())?;
        remove_all(&self.folder)
    }

    fn pgbackrest(&self, bench: &Bench<'_>) -> Result<Option<PgBackRest>, BenchError> {
        let place = self.folder.join("pgbackrest");
        let made = bench
            .pgbackrest
            .as_deref()
            .map(|program| PgBackRest::init(&bench.programs, program, self.running, &place, &bench.log));
        made.transpose()
    }

    fn full(
        &self,
        bench: &mut Bench<'_>,
        lifeboat: &Lifeboat,
        pgbackrest: Option<&PgBackRest>,
    ) -> Result<(), BenchError> {
        let plain = self.folder.join("pg_basebackup");
        let mut turns: Vec<Turn<'_>> = vec![
            (
                "pg_basebackup",
                Box::new(|bench| {
                    let command = pg_basebackup(&bench.programs, self.running, "stream", &plain);
                    self.measure(bench, "pg_basebackup", FULL, command, &plain)
                }),
            ),
            (
                "lifeboat",
                Box::new(|bench| {
                    let command = lifeboat.backup(&bench.programs, self.running);
                    self.measure(bench, "lifeboat", FULL, command, &lifeboat.repository())
                }),
            ),
        ];
        if let Some(tool) = pgbackrest {
            turns.push(("pgbackrest", Box::new(|bench| self.archived(bench, tool, FULL, "full"))));
        }
        self.take_turns(bench, turns)?;
        remove_all(&plain)
    }

    fn restores(
        &self,
        bench: &mut Bench<'_>,
        lifeboat: &Lifeboat,
        pgbackrest: Option<&PgBackRest>,
    ) -> Result<(), BenchError> {
        let into = self.folder.join("restored");
        let mut turns: Vec<Turn<'_>> = vec![(
            "lifeboat",
            Box::new(|bench| {
                let command = lifeboat.restore(&bench.programs, "latest", &into);
                self.measure(bench, "lifeboat", RESTORE, command, &into)?;
                if self.number == 0 {
                    self.compare(bench, &into)?;
                }
                remove_all(&into)
            }),
        )];
        if let Some(tool) = pgbackrest {
            turns.push((
                "pgbackrest",
                Box::new(|bench| {
                    bench.programs.folder(&into)?;
                    let command = tool.restore(&bench.programs, &into);
                    self.measure(bench, "pgbackrest", RESTORE, command, &into)?;
                    remove_all(&into)
                }),
            ));
        }
        self.take_turns(bench, turns)
    }

    fn after_change(
        &self,
        bench: &mut Bench<'_>,
        lifeboat: &Lifeboat,
        pgbackrest: Option<&PgBackRest>,
    ) -> Result<(), BenchError> {
        self.running.checkpoint()?;
        let before = Pages::look(self.running.data())?;
        let position = self.running.single("select pg_current_wal_insert_lsn()")?;
        data::change(self.running, self.number + 1, bench.options.seed)?;
        let changed = before.changed(self.running.data())?;
        drop(before);
        let written = self.running.single(&format!("select pg_current_wal_insert_lsn() - '{position}'"))?;
        let written: f64 = written.parse().unwrap_or(f64::NAN);
        let logs = lifeboat.repository().join("logs");
        let log_bytes = tree::size_bytes(&logs)?;
        let command = lifeboat.backup(&bench.programs, self.running);
        self.measure(bench, "lifeboat", CHANGED, command, &lifeboat.repository())?;
        let log_bytes = tree::size_bytes(&logs)? - log_bytes;
        let added = bench.run.samples.last().map_or(0, |sample| sample.stored_bytes);
        bench.run.found.push(format!(
            "Round {}: {} of {} pages changed ({:.2} %), {:.2} MB of them by zstd -3; Lifeboat's repository grew by \
             {:.2} MB, of which {:.2} MB are log. The server wrote {:.2} MB of log meanwhile, which `follow` would have \
             kept",
            self.number + 1,
            changed.pages,
            changed.all_pages,
            changed.pages as f64 * 100.0 / changed.all_pages.max(1) as f64,
            changed.compressed as f64 / 1e6,
            added as f64 / 1e6,
            log_bytes as f64 / 1e6,
            written / 1e6
        ));
        bench.run.samples.push(Sample {
            tool: "changed pages by zstd -3",
            step: CHANGED,
            cost: measure::Cost::default(),
            server_cpu_s: 0.0,
            stored_bytes: changed.compressed,
        });
        pgbackrest.map_or(Ok(()), |tool| self.archived(bench, tool, CHANGED, "incr"))
    }

    /// Everybody begins once.
    fn take_turns(&self, bench: &mut Bench<'_>, mut turns: Vec<Turn<'_>>) -> Result<(), BenchError> {
        let first = self.number as usize % turns.len().max(1);
        turns.rotate_left(first);
        for (tool, turn) in &turns {
            progress(&format!("round {}: {tool}", self.number + 1));
            turn(bench)?;
        }
        Ok(())
    }

    /// pgBackRest needs the server's archiver; the others shall not pay for it.
    fn archived(
        &self,
        bench: &mut Bench<'_>,
        tool: &PgBackRest,
        step: &'static str,
        kind: &str,
    ) -> Result<(), BenchError> {
        self.running.set("archive_command", &tool.archive_command())?;
        let command = tool.backup(&bench.programs, kind);
        self.measure(bench, "pgbackrest", step, command, &tool.repository())?;
        self.running.set("archive_command", "/bin/true")
    }

    /// Measures a command with the sync after it, and what the server's processes used meanwhile.
    fn measure(
        &self,
        bench: &mut Bench<'_>,
        tool: &'static str,
        step: &'static str,
        mut command: Command,
        stored: &Path,
    ) -> Result<(), BenchError> {
        let size = || if stored.exists() { tree::size_bytes(stored) } else { Ok(0) };
        let before = size()?;
        bench.settle()?;
        let server = usage::tree_cpu_s(self.running.pid());
        let cost = measure::durable(&mut command, &bench.dir, &bench.log)?;
        let server_cpu_s = usage::tree_cpu_s(self.running.pid()) - server;
        let stored_bytes = size()?.saturating_sub(before);
        progress(&format!(
            "round {} {step:<12} {tool:<14} {:7.2} s wall {:7.2} s CPU {server_cpu_s:7.2} s server {:5.0} MiB",
            self.number + 1,
            cost.wall_s,
            cost.cpu_s,
            crate::report::mib(cost.peak_bytes)
        ));
        bench.run.samples.push(Sample { tool, step, cost, server_cpu_s, stored_bytes });
        Ok(())
    }

    /// A time for a wrong restore means nothing.
    fn compare(&self, bench: &Bench<'_>, restored: &Path) -> Result<(), BenchError> {
        let server = bench.programs.start(restored, &[("archive_mode", "off")])?;
        let (there, here) = (data::fingerprint(self.running)?, data::fingerprint(&server)?);
        server.stop()?;
        if there == here {
            return Ok(());
        }
        let what = format!("their rows sum up to {there} and {here}");
        Err(BenchError::Differ { left: self.running.data().to_owned(), right: restored.to_owned(), what })
    }
}

fn hold(bench: &mut Bench<'_>, more_peaks: Vec<u64>) {
    let run = &mut bench.run;
    let wall = |sample: &Sample| sample.cost.wall_s;
    let cpu = |sample: &Sample| sample.cost.cpu_s + sample.server_cpu_s;
    run.hold("wall time", FULL, "pg_basebackup", Bound::AtMost(WALL_OF_PG_BASEBACKUP), wall);
    run.hold("CPU, the server's included,", FULL, "pgbackrest", Bound::AtMost(CPU_OF_PGBACKREST), cpu);
    run.hold("CPU of its own", FULL, "pgbackrest", Bound::AtMost(CPU_OF_PGBACKREST), |s| s.cost.cpu_s);
    run.hold("wall time", RESTORE, "pgbackrest", Bound::AtMost(RESTORE_OF_PGBACKREST), wall);
    run.hold("bytes", CHANGED, "changed pages by zstd -3", Bound::AtMost(BYTES_OF_PAGES), |s| {
        s.stored_bytes as f64
    });
    let (ours, local) =
        (run.each("lifeboat", replay::REDO, wall), run.each("local pg_wal", replay::REDO, wall));
    run.held.push(Held {
        what: format!("{}, against a local pg_wal", replay::REDO),
        bound: Bound::AtMost(replay::OF_LOCAL),
        measured: ratio(&ours, &local),
    });
    run.hold_peak(&more_peaks, super::PEAK_BYTES_MAX);
}
