//! What following costs the server, and how long what it acknowledged is exposed.

use super::follower::{Followed, Used, ask_to_end};
use super::report::{Bound, Held};
use super::server::Running;
use super::tools::{Lifeboat, pg_basebackup};
use super::watch::{Watcher, log_end};
use super::{Bench, STANDBY, ledger, pgbench, progress};
use crate::error::BenchError;
use crate::measure;
use crate::stats::{Ratio, median, ratio};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// pgbench's scale at full scale.
const PGBENCH_SCALE: u32 = 50;
/// And at the least: with no more branches than clients, these wait for each other's rows, which stay locked until
/// the standby has answered.
const LEAST_SCALE: u32 = 16;
/// The bounds.
const EXPOSURE_S: f64 = 1.0;
const OF_PG_RECEIVEWAL: f64 = 0.95;
const OF_A_STANDBY: f64 = 0.8;
/// So much longer the follower goes on after the last row, so that it can arrive.
const TAIL: Duration = Duration::from_secs(3);

/// Who follows while pgbench works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Nobody,
    PgReceivewal { synchronous: bool },
    Lifeboat { synchronous: bool },
    Standby,
}

/// All, in the order of the first round.
const PEERS: [Peer; 6] = [
    Peer::Nobody,
    Peer::PgReceivewal { synchronous: false },
    Peer::Lifeboat { synchronous: false },
    Peer::PgReceivewal { synchronous: true },
    Peer::Lifeboat { synchronous: true },
    Peer::Standby,
];

impl Peer {
    const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody follows",
            Self::PgReceivewal { synchronous: false } => "pg_receivewal",
            Self::PgReceivewal { synchronous: true } => "pg_receivewal --synchronous",
            Self::Lifeboat { synchronous: false } => "lifeboat follow",
            Self::Lifeboat { synchronous: true } => "lifeboat follow, synchronous",
            Self::Standby => "a standby, synchronous",
        }
    }

    const fn is_synchronous(self) -> bool {
        matches!(
            self,
            Self::PgReceivewal { synchronous: true } | Self::Lifeboat { synchronous: true } | Self::Standby
        )
    }
}

/// Measures all of it.
///
/// # Errors
/// Where somebody fails.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<(), BenchError> {
    let data = bench.dir.join("primary");
    bench.programs.make(&data, &bench.log)?;
    let running = bench.programs.start(&data, &[])?;
    let scale = (PGBENCH_SCALE * bench.options.scale / 1000).max(LEAST_SCALE).to_string();
    let mut init = bench.programs.client("pgbench", &running);
    measure::run(init.args(["-i", "-q", "-s", &scale]), &bench.log)?;
    running.execute(ledger::TABLE)?;
    bench.run.about.push(format!("pgbench -s {scale} (TPC-B like), -c 8 -j 2"));
    let mut found = Found::default();
    for number in 0..bench.options.rounds {
        exposure(bench, &running, number, &mut found)?;
        let mut peers = PEERS;
        peers.rotate_left(number as usize % PEERS.len());
        for peer in peers {
            rate(bench, &running, number, peer, &mut found)?;
        }
    }
    running.stop()?;
    found.told(bench);
    Ok(())
}

/// What was found over all rounds.
#[derive(Debug, Default)]
struct Found {
    rates: BTreeMap<Peer, Vec<f64>>,
    exposures: Vec<f64>,
    never: usize,
    used: Vec<Used>,
    objects: usize,
}

impl Found {
    fn told(self, bench: &mut Bench<'_>) {
        let run = &mut bench.run;
        for (peer, rates) in &self.rates {
            let each: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
            let median = median(rates).unwrap_or_default();
            run.found.push(format!(
                "{}: {median:.0} transactions a second ({})",
                peer.name(),
                each.join(", ")
            ));
        }
        let at = |part| ledger::quantile(&self.exposures, part);
        let ms = |part| at(part).map_or_else(|| "–".to_owned(), |value| format!("{:.0} ms", value * 1e3));
        run.found.push(format!(
            "Exposure of {} acknowledged rows: {} at p50, {} at p99, {} at most; {} never durable; {} objects of the \
             log arrived meanwhile",
            self.exposures.len() + self.never, ms(0.5), ms(0.99), ms(1.0), self.never, self.objects
        ));
        let cpu = median(&self.used.iter().map(|used| used.cpu_s).collect::<Vec<_>>()).unwrap_or_default();
        run.found.push(format!("The follower used {cpu:.2} s of CPU at a time (median)"));
        let p99 = at(0.99).filter(|_| self.never == 0);
        run.held.push(Held {
            what: "exposure at p99, in seconds".to_owned(),
            bound: Bound::AtMost(EXPOSURE_S),
            measured: p99.map(|value| Ratio { median: value, least: value, most: value }),
        });
        let (asynchronous, synchronous) =
            (Peer::Lifeboat { synchronous: false }, Peer::Lifeboat { synchronous: true });
        for (own, other, least) in [
            (asynchronous, Peer::PgReceivewal { synchronous: false }, OF_PG_RECEIVEWAL),
            (synchronous, Peer::PgReceivewal { synchronous: true }, OF_A_STANDBY),
            (synchronous, Peer::Standby, OF_A_STANDBY),
        ] {
            let rates = |peer| self.rates.get(&peer).map_or(&[][..], Vec::as_slice);
            let what = format!("throughput with {}, against {}", own.name(), other.name());
            run.held.push(Held {
                what,
                bound: Bound::AtLeast(least),
                measured: ratio(rates(own), rates(other)),
            });
        }
        let peaks: Vec<u64> = self.used.iter().map(|used| used.peak_bytes).collect();
        run.hold_peak(&peaks, super::PEAK_BYTES_MAX);
    }
}

/// The load, the ledger and the follower at once, watched from outside.
fn exposure(bench: &Bench<'_>, running: &Running, number: u32, found: &mut Found) -> Result<(), BenchError> {
    let folder = bench.programs.folder(&bench.dir.join(format!("exposure-{number}")))?;
    let lifeboat = Lifeboat::init(&bench.programs, &bench.lifeboat, &folder.join("lifeboat"), &bench.log)?;
    let follower = followed(bench, running, &lifeboat, false)?;
    // So that there is a log to watch.
    pgbench::transactions(bench, running, 10)?;
    running.checkpoint()?;
    std::thread::sleep(TAIL);
    let watcher = Watcher::start(&lifeboat.repository())?;
    let file = folder.join("acknowledged");
    let own = std::env::current_exe().map_err(|e| BenchError::io("find", "this program", e))?;
    let mut command = Command::new(own);
    command.args(["postgres-ledger", &running.url]).arg(&file);
    let ledger = spawn(command.args(["--seconds", &bench.options.seconds.to_string()]))?;
    let rate = pgbench::throughput(bench, running)?;
    ended_well(ledger, "the ledger")?;
    std::thread::sleep(TAIL);
    let arrivals = watcher.finish()?;
    found.used.push(follower.stop()?);
    let rows = ledger::rows(&file)?;
    let (each, never) = ledger::exposures(&rows, &arrivals);
    progress(&format!(
        "round {} exposure: {} rows, {:.0} ms at p99, {never} never durable, {} objects, log to {:x}; {rate:.0} tps beside it",
        number + 1,
        rows.len(),
        ledger::quantile(&each, 0.99).unwrap_or_default() * 1e3,
        arrivals.len(),
        log_end(&lifeboat.repository())
    ));
    found.objects += arrivals.len();
    found.never += never;
    found.exposures.extend(each);
    drop_slots(running)
}

fn followed(
    bench: &Bench<'_>,
    running: &Running,
    lifeboat: &Lifeboat,
    synchronous: bool,
) -> Result<Followed, BenchError> {
    let gather: &[&str] = if synchronous { &["--gather", "0ms"] } else { &[] };
    let args = [&["--no-snapshot"], gather].concat();
    let mut follower = Followed::start(&bench.programs, lifeboat, running, &args, &bench.log)?;
    follower.wait_for("streaming")?;
    Ok(follower)
}

/// One measurement of the throughput, with one peer following or nobody.
///
/// What it leaves stays until the end: ext4 without a journal does not use an inode again that was freed within the
/// last minute, and looks through all of them for each file that is created, so that a peer that creates files would
/// pay for the removal of what came before it.
fn rate(
    bench: &Bench<'_>,
    running: &Running,
    number: u32,
    peer: Peer,
    found: &mut Found,
) -> Result<(), BenchError> {
    let folder = format!("{number}-{}", peer.name().replace([' ', ','], "-"));
    let folder = bench.programs.folder(&bench.dir.join(folder))?;
    let following = Following::start(bench, running, peer, &folder)?;
    running.checkpoint()?;
    bench.settle()?;
    if peer != Peer::Nobody {
        let attached = |states| {
            format!(
                "select exists (select from pg_stat_replication where application_name = '{STANDBY}' and {states})"
            )
        };
        running.wait_until(&attached("state = 'streaming'"))?;
        if peer.is_synchronous() {
            running.set("synchronous_standby_names", STANDBY)?;
            running.wait_until(&attached("sync_state = 'sync'"))?;
        }
    }
    let measured = pgbench::throughput(bench, running);
    // Before anybody ends: who waits for a standby that is gone waits for ever.
    running.set("synchronous_standby_names", "")?;
    let rate = measured?;
    progress(&format!("round {} {}: {rate:.0} tps", number + 1, peer.name()));
    found.rates.entry(peer).or_default().push(rate);
    found.used.extend(following.stop()?);
    drop_slots(running)
}

/// Whoever is attached to the server.
enum Following {
    Nobody,
    Process(Child),
    Lifeboat(Followed),
    Standby(Running),
}

impl Following {
    fn start(bench: &Bench<'_>, running: &Running, peer: Peer, folder: &Path) -> Result<Self, BenchError> {
        Ok(match peer {
            Peer::Nobody => Self::Nobody,
            Peer::PgReceivewal { synchronous } => {
                Self::Process(receivewal(bench, running, synchronous, folder)?)
            }
            Peer::Lifeboat { synchronous } => {
                let lifeboat =
                    Lifeboat::init(&bench.programs, &bench.lifeboat, &folder.join("lifeboat"), &bench.log)?;
                Self::Lifeboat(followed(bench, running, &lifeboat, synchronous)?)
            }
            Peer::Standby => Self::Standby(standby(bench, running, folder)?),
        })
    }

    /// Ends it; what Lifeboat used is told.
    fn stop(self) -> Result<Option<Used>, BenchError> {
        match self {
            Self::Nobody => Ok(None),
            Self::Process(child) => {
                ask_to_end(&child);
                ended_well(child, "pg_receivewal").map(|()| None)
            }
            Self::Lifeboat(follower) => follower.stop().map(Some),
            Self::Standby(server) => server.stop().map(|()| None),
        }
    }
}

fn receivewal(
    bench: &Bench<'_>,
    running: &Running,
    synchronous: bool,
    folder: &Path,
) -> Result<Child, BenchError> {
    running.execute("select pg_create_physical_replication_slot('bench_receivewal', true)")?;
    let mut command = bench.programs.client("pg_receivewal", running);
    command.env("PGAPPNAME", STANDBY).args(["--no-loop", "-S", "bench_receivewal", "-D"]);
    command.arg(bench.programs.folder(&folder.join("received"))?);
    if synchronous {
        command.arg("--synchronous");
    }
    spawn(&mut command)
}

fn standby(bench: &Bench<'_>, running: &Running, folder: &Path) -> Result<Running, BenchError> {
    let data: PathBuf = folder.join("standby");
    let mut command = pg_basebackup(&bench.programs, running, "stream", &data);
    measure::run(command.arg("-R"), &bench.log)?;
    let upstream = format!(
        "host={} port={} user={} application_name={STANDBY}",
        running.socket_folder().display(),
        running.port(),
        super::server::SUPERUSER
    );
    bench.programs.start(&data, &[("primary_conninfo", &upstream), ("hot_standby", "on")])
}

/// The slots of those that are gone.
fn drop_slots(running: &Running) -> Result<(), BenchError> {
    running.wait_until("select not exists (select from pg_replication_slots where active)")?;
    running.connect()?.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots")?;
    Ok(())
}

fn spawn(command: &mut Command) -> Result<Child, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|source| BenchError::Start { program, source })
}

fn ended_well(mut child: Child, program: &str) -> Result<(), BenchError> {
    let status = child.wait().map_err(|error| BenchError::io("wait for", program, error))?;
    if status.success() {
        return Ok(());
    }
    Err(BenchError::Postgresql(format!("{program} ended badly ({status})")))
}
