//! The command line, as typed and as meant.

use crate::churn::Churn;
use crate::disaster::{Disaster, FollowTask, LedgerTask, Mode};
use crate::error::BenchError;
use crate::postgres::{LedgerTask as PostgresLedgerTask, Part, Postgres};
use crate::torture::Torture;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Times Lifeboat beside its peers and beside floors.

lifeboat-bench files [--pairs N] [--json] [--dir DIR] [--lifeboat PROGRAM] [--without TOOL]...
    Builds a tree of some 2 GB out of this machine's own files (kept and reused), then times first backup,
    unchanged backup, restore, full check and a backup after 1 % of change with every tool in turn, N times
    (5), and prints the medians, the ratios and the objectives as Markdown, or with --json as JSON. Both are
    also kept in DIR. Exit 3: an objective is missed; 4: one could not be measured.

lifeboat-bench churn [--generations N] [--keep N] [--tree DIR] [--database-mib N] [--dir DIR] [--lifeboat PROGRAM]
    N generations (50) of 1 % change to a copy of the tree, and to a SQLite database (200 MiB), each backed up
    and pruned to the newest N (5); then the size of the repository and what a full restore reads, beside a
    fresh repository with the same snapshots. Exit 3: a bound is missed.

lifeboat-bench torture [--rounds N] [--seed N] [--dir DIR] [--lifeboat PROGRAM]
    Two writers at once on one repository: backups, prunes and restores, each killed or frozen at a random
    instant, N rounds (500). After each, everything that was acknowledged is there and restores, and the next
    backup succeeds. DIR must be empty; it is kept where something is violated (exit 1).

lifeboat-bench disaster --mode async|sync [--rounds N] [--seed N] [--dir DIR] [--postgres BIN]
    A PostgreSQL server under load, followed, is killed at a random instant and its directory removed, N rounds
    (50); then everything is restored and what had been acknowledged is counted. Exit 1: with `sync` something
    is lost, something older is lost than what is there, or with `async` too few rounds lost anything. DIR must
    be empty; it is kept where something is violated. BIN is the directory of PostgreSQL's programs.

lifeboat-bench postgres backup|follow [--rounds N] [--scale N] [--seconds N] [--seed N] [--json] [--dir DIR]
                        [--lifeboat PROGRAM] [--postgres BIN]
    `backup`: a database of 2.3 GB (times --scale, 1), most of which does not compress, and in each round (5) full
    backup, restore and a backup after 1 % of the pages changed, by Lifeboat, pg_basebackup and pgBackRest in turn;
    then the redo of 1 GB of log from what Lifeboat restored and from a local pg_wal. `follow`: what following
    costs pgbench -c 8 (--seconds 60 at a time) beside pg_receivewal and a standby, and how long acknowledged rows
    are not yet in the repository. BIN is the directory of PostgreSQL's programs (15). Exit 3: a bound is missed;
    4: one could not be measured.

lifeboat-bench floor-backup TREE OUT [--block-mib N] [--level N]
    One thread: walk, read, concatenate into blocks (4 MiB), zstd (3), AES-256-GCM, write, sync.
lifeboat-bench floor-restore OUT TARGET
    The same backwards: read, decrypt, decompress, write, sync once.
lifeboat-bench floor-check OUT
    Read, SHA-256, decrypt, decompress, BLAKE3 of every file.
lifeboat-bench floor-plan REPOSITORY PLAN
lifeboat-bench floor-restore-packs PLAN TARGET
lifeboat-bench floor-check-packs PLAN
    The last two loops on the packs of a repository of Lifeboat (a directory, passphrase `x`); the plan says
    what is where and what opens it.

DIR is LIFEBOAT_BENCH_DIR, or else `lifeboat-bench` in the temporary folder; it takes up to 20 GB.
";

/// How large the floor's blocks are, in MiB, where nothing is said.
const BLOCK_MIB: u32 = 4;
/// The largest block that makes sense: it must fit into a pack.
const BLOCK_MIB_MAX: u32 = 16;
/// zstd's own range of levels.
const LEVELS: std::ops::RangeInclusive<u32> = 1..=22;

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Say what there is.
    Help,
    /// The whole comparison on the tree.
    Files(Files),
    /// Many generations of change.
    Churn(Churn),
    /// Processes killed and frozen at random.
    Torture(Torture),
    /// Servers killed at random, and what comes back.
    Disaster(Disaster),
    /// The follower of a round (run by `disaster`).
    DisasterFollow(FollowTask),
    /// The ledger of a round (run by `disaster`).
    DisasterLedger(LedgerTask),
    /// PostgreSQL: backups or following.
    Postgres(Postgres),
    /// The ledger of `postgres` (run by it).
    PostgresLedger(PostgresLedgerTask),
    /// Memory that the machine has to find (run by `postgres` before each measurement).
    TouchMemory,
    /// The floor of a first backup.
    FloorBackup(FloorBackup),
    /// The floor of a restore.
    FloorRestore {
        /// Where `floor-backup` wrote.
        packs: PathBuf,
        /// A folder that does not exist, or is empty.
        target: PathBuf,
    },
    /// The floor of a full check.
    FloorCheck {
        /// Where `floor-backup` wrote.
        packs: PathBuf,
    },
    /// Writes down what the floors on Lifeboat's packs must know.
    FloorPlan {
        /// The repository.
        repository: PathBuf,
        /// The file to write.
        plan: PathBuf,
    },
    /// The floor of a restore, on Lifeboat's packs.
    FloorRestorePacks {
        /// What `floor-plan` wrote.
        plan: PathBuf,
        /// A folder that does not exist, or is empty.
        target: PathBuf,
    },
    /// The floor of a full check, on Lifeboat's packs.
    FloorCheckPacks {
        /// What `floor-plan` wrote.
        plan: PathBuf,
    },
    /// Builds the tree (run by `files`).
    BuildTree {
        /// The work folder.
        dir: PathBuf,
    },
    /// Changes 1 % of the tree (run by `files`).
    ChangeTree {
        /// The tree.
        tree: PathBuf,
        /// Where what is changed is kept.
        undo: PathBuf,
        /// Which 1 %.
        seed: u64,
    },
    /// Takes a change back (run by `files`).
    RevertTree {
        /// The tree.
        tree: PathBuf,
        /// Where what was changed is kept.
        undo: PathBuf,
    },
    /// Compares two trees byte for byte (run by `files`).
    Compare {
        /// One tree.
        left: PathBuf,
        /// The other.
        right: PathBuf,
    },
}

/// What `files` was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// How often every tool runs.
    pub(crate) pairs: u32,
    /// JSON instead of Markdown on standard output.
    pub(crate) json: bool,
    /// The work folder.
    pub(crate) dir: PathBuf,
    /// Lifeboat's program.
    pub(crate) lifeboat: PathBuf,
    /// Tools to leave out, by name.
    pub(crate) without: Vec<String>,
}

/// What `floor-backup` was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FloorBackup {
    /// What to read.
    pub(crate) tree: PathBuf,
    /// Where to write; must not exist, or be empty.
    pub(crate) out: PathBuf,
    /// The size of a block before compression.
    pub(crate) block_bytes: usize,
    /// zstd's level.
    pub(crate) level: i32,
}

/// Reads the arguments, without the program's own name.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Task, BenchError> {
    let mut typed = Typed::split(arguments)?;
    if typed.flag("--help") || typed.words.is_empty() {
        return Ok(Task::Help);
    }
    let verb = typed.words.remove(0);
    let task = match verb.to_str().unwrap_or_default() {
        "files" => Task::Files(files(&mut typed)?),
        "churn" => Task::Churn(churn(&mut typed)?),
        "torture" => Task::Torture(torture(&mut typed)?),
        "disaster" => Task::Disaster(disaster(&mut typed)?),
        "disaster-follow" => Task::DisasterFollow(FollowTask {
            url: typed.text("URL")?,
            house: typed.path("HOUSE")?,
            gather: Duration::from_millis(typed.number("--gather-ms", 250)?.into()),
        }),
        "disaster-ledger" => Task::DisasterLedger(LedgerTask {
            url: typed.text("URL")?,
            file: typed.path("FILE")?,
            session: typed.number("--session", 1)?,
        }),
        "postgres" => Task::Postgres(postgres(&mut typed)?),
        "postgres-ledger" => Task::PostgresLedger(PostgresLedgerTask {
            url: typed.text("URL")?,
            file: typed.path("FILE")?,
            seconds: typed.number("--seconds", 60)?,
        }),
        "touch-memory" => Task::TouchMemory,
        "floor-backup" => Task::FloorBackup(floor_backup(&mut typed)?),
        "floor-restore" => Task::FloorRestore { packs: typed.path("OUT")?, target: typed.path("TARGET")? },
        "floor-check" => Task::FloorCheck { packs: typed.path("OUT")? },
        "floor-plan" => Task::FloorPlan { repository: typed.path("REPOSITORY")?, plan: typed.path("PLAN")? },
        "floor-restore-packs" => {
            Task::FloorRestorePacks { plan: typed.path("PLAN")?, target: typed.path("TARGET")? }
        }
        "floor-check-packs" => Task::FloorCheckPacks { plan: typed.path("PLAN")? },
        "build-tree" => Task::BuildTree { dir: typed.path("DIR")? },
        "change-tree" => Task::ChangeTree {
            tree: typed.path("TREE")?,
            undo: typed.path("UNDO")?,
            seed: typed.number("--seed", 42)?.into(),
        },
        "revert-tree" => Task::RevertTree { tree: typed.path("TREE")?, undo: typed.path("UNDO")? },
        "compare" => Task::Compare { left: typed.path("LEFT")?, right: typed.path("RIGHT")? },
        other => return Err(BenchError::Usage(format!("unknown command `{other}`"))),
    };
    typed.nothing_left().map(|()| task)
}

fn files(typed: &mut Typed) -> Result<Files, BenchError> {
    let pairs = typed.number("--pairs", 5)?;
    if pairs == 0 {
        return Err(BenchError::Usage("--pairs 0 measures nothing".to_owned()));
    }
    let mut without = Vec::new();
    while let Some(tool) = typed.value("--without")? {
        without.push(tool.to_string_lossy().into_owned());
    }
    if let Some(unknown) =
        without.iter().find(|name| !crate::tools::names().any(|known| known == name.as_str()))
    {
        let known: Vec<_> = crate::tools::names().collect();
        return Err(BenchError::Usage(format!("--without {unknown}: the tools are {}", known.join(", "))));
    }
    let dir = work_folder(typed)?;
    let lifeboat = typed.value("--lifeboat")?.map_or_else(beside_this_program, PathBuf::from);
    Ok(Files { pairs, json: typed.flag("--json"), dir, lifeboat, without })
}

fn work_folder(typed: &mut Typed) -> Result<PathBuf, BenchError> {
    let dir = typed.value("--dir")?.or_else(|| std::env::var_os("LIFEBOAT_BENCH_DIR"));
    Ok(dir.map_or_else(|| std::env::temp_dir().join("lifeboat-bench"), PathBuf::from))
}

fn churn(typed: &mut Typed) -> Result<Churn, BenchError> {
    let generations = typed.number("--generations", 50)?;
    let keep = typed.number("--keep", 5)?;
    let database_mib = typed.number("--database-mib", 200)?;
    if generations == 0 || keep == 0 || database_mib == 0 {
        return Err(BenchError::Usage("churn needs at least 1 of everything".to_owned()));
    }
    let tree = typed.value("--tree")?.map(PathBuf::from);
    let dir = work_folder(typed)?;
    let lifeboat = typed.value("--lifeboat")?.map_or_else(beside_this_program, PathBuf::from);
    Ok(Churn { generations, keep, tree, database_mib, dir, lifeboat })
}

fn torture(typed: &mut Typed) -> Result<Torture, BenchError> {
    let rounds = typed.number("--rounds", 500)?;
    let any = u32::from_le_bytes(lifeboat_base::random::bytes());
    let seed = u64::from(typed.number("--seed", any)?);
    let dir = typed.value("--dir")?.map(PathBuf::from);
    let lifeboat = typed.value("--lifeboat")?.map_or_else(beside_this_program, PathBuf::from);
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("lifeboat-torture-{seed}")));
    Ok(Torture { rounds, seed, dir, lifeboat })
}

fn disaster(typed: &mut Typed) -> Result<Disaster, BenchError> {
    let mode = typed.value("--mode")?;
    let mode = match mode.as_ref().and_then(|mode| mode.to_str()) {
        Some("async") => Mode::Asynchronous,
        Some("sync") => Mode::Synchronous,
        _ => return Err(BenchError::Usage("--mode is async or sync".to_owned())),
    };
    let rounds = typed.number("--rounds", 50)?;
    let any = u32::from_le_bytes(lifeboat_base::random::bytes());
    let seed = u64::from(typed.number("--seed", any)?);
    let postgres = typed.value("--postgres")?.map(PathBuf::from);
    let dir = typed.value("--dir")?.map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("lifeboat-disaster-{seed}")));
    Ok(Disaster { rounds, mode, seed, dir, postgres })
}

fn postgres(typed: &mut Typed) -> Result<Postgres, BenchError> {
    let part = match typed.text("backup or follow")?.as_str() {
        "backup" => Part::Backup,
        "follow" => Part::Follow,
        other => return Err(BenchError::Usage(format!("postgres {other}: it is backup or follow"))),
    };
    let rounds = typed.number("--rounds", 5)?;
    let seconds = typed.number("--seconds", 60)?;
    if rounds == 0 || seconds == 0 {
        return Err(BenchError::Usage("postgres needs at least 1 of everything".to_owned()));
    }
    Ok(Postgres {
        part,
        rounds,
        scale: thousandths(typed.value("--scale")?)?,
        seconds,
        seed: typed.number("--seed", 42)?.into(),
        json: typed.flag("--json"),
        dir: work_folder(typed)?,
        lifeboat: typed.value("--lifeboat")?.map_or_else(beside_this_program, PathBuf::from),
        postgres: typed.value("--postgres")?.map(PathBuf::from),
    })
}

/// A scale as `0.1` or `2`, in thousandths; 1 where nothing is said.
fn thousandths(typed: Option<OsString>) -> Result<u32, BenchError> {
    let Some(typed) = typed else { return Ok(1000) };
    let scale = typed.to_str().and_then(|text| text.parse::<f64>().ok());
    let scale = scale.filter(|scale| (0.001..=100.0).contains(scale));
    let refused = || BenchError::Usage(format!("--scale {} is not between 0.001 and 100", typed.display()));
    scale.map(|scale| (scale * 1000.0).round() as u32).ok_or_else(refused)
}

/// Cargo puts both programs into one folder.
fn beside_this_program() -> PathBuf {
    std::env::current_exe().map(|own| own.with_file_name("lifeboat")).unwrap_or_else(|_| "lifeboat".into())
}

fn floor_backup(typed: &mut Typed) -> Result<FloorBackup, BenchError> {
    let block_mib = typed.number("--block-mib", BLOCK_MIB)?;
    let level = typed.number("--level", 3)?;
    if !(1..=BLOCK_MIB_MAX).contains(&block_mib) {
        return Err(BenchError::Usage(format!("--block-mib is between 1 and {BLOCK_MIB_MAX}")));
    }
    if !LEVELS.contains(&level) {
        return Err(BenchError::Usage("--level is between 1 and 22".to_owned()));
    }
    Ok(FloorBackup {
        tree: typed.path("TREE")?,
        out: typed.path("OUT")?,
        block_bytes: block_mib as usize * (1 << 20),
        level: level.cast_signed(),
    })
}

/// Arguments sorted into words and options, each taken as it is understood.
struct Typed {
    words: Vec<OsString>,
    options: Vec<(String, Option<OsString>)>,
}

/// Options that stand alone; all others are followed by a value.
const FLAGS: &[&str] = &["--help", "--json"];

impl Typed {
    fn split(arguments: &[OsString]) -> Result<Self, BenchError> {
        let (mut words, mut options) = (Vec::new(), Vec::new());
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_str().unwrap_or_default();
            if !text.starts_with("--") {
                words.push(argument.clone());
            } else if FLAGS.contains(&text) {
                options.push((text.to_owned(), None));
            } else {
                let value = rest.next().ok_or_else(|| BenchError::Usage(format!("{text} needs a value")))?;
                options.push((text.to_owned(), Some(value.clone())));
            }
        }
        Ok(Self { words, options })
    }

    fn flag(&mut self, name: &str) -> bool {
        let found = self.options.iter().position(|(option, _)| option == name);
        found.map(|at| self.options.remove(at)).is_some()
    }

    fn value(&mut self, name: &str) -> Result<Option<OsString>, BenchError> {
        match self.options.iter().position(|(option, _)| option == name) {
            Some(at) => Ok(self.options.remove(at).1),
            None => Ok(None),
        }
    }

    fn number(&mut self, name: &str, default: u32) -> Result<u32, BenchError> {
        let Some(value) = self.value(name)? else { return Ok(default) };
        let number = value.to_str().and_then(|text| text.parse().ok());
        number.ok_or_else(|| BenchError::Usage(format!("{name} {} is not a whole number", value.display())))
    }

    fn path(&mut self, name: &str) -> Result<PathBuf, BenchError> {
        if self.words.is_empty() {
            return Err(BenchError::Usage(format!("{name} is missing")));
        }
        Ok(PathBuf::from(self.words.remove(0)))
    }

    fn text(&mut self, name: &str) -> Result<String, BenchError> {
        let word = self.path(name)?.into_os_string().into_string();
        word.map_err(|word| BenchError::Usage(format!("{name} {} is no text", word.display())))
    }

    fn nothing_left(&self) -> Result<(), BenchError> {
        let word = self.words.first().map(|word| word.to_string_lossy().into_owned());
        match word.or_else(|| self.options.first().map(|(option, _)| option.clone())) {
            Some(extra) => Err(BenchError::Usage(format!("`{extra}` does not belong here"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, BenchError> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_typed_is_meant() {
        assert_eq!(parsed("").unwrap(), Task::Help);
        assert_eq!(parsed("files --help").unwrap(), Task::Help);
        let Task::Files(files) =
            parsed("files --pairs 7 --json --dir /d --without borg --without rustic").unwrap()
        else {
            panic!("not files");
        };
        assert_eq!((files.pairs, files.json, files.dir), (7, true, "/d".into()));
        assert_eq!(files.without, ["borg", "rustic"]);
        let Task::Torture(torture) = parsed("torture --rounds 9 --seed 7 --dir /d").unwrap() else {
            panic!("not torture");
        };
        assert_eq!((torture.rounds, torture.seed, torture.dir), (9, 7, "/d".into()));
        let Task::Disaster(disaster) =
            parsed("disaster --mode sync --seed 7 --dir /d --postgres /b").unwrap()
        else {
            panic!("not disaster");
        };
        assert_eq!((disaster.rounds, disaster.mode, disaster.seed), (50, Mode::Synchronous, 7));
        assert_eq!((disaster.dir, disaster.postgres), ("/d".into(), Some("/b".into())));
        let Task::Postgres(postgres) = parsed("postgres backup --scale 0.1 --rounds 1").unwrap() else {
            panic!("not postgres");
        };
        assert_eq!((postgres.part, postgres.scale, postgres.rounds), (Part::Backup, 100, 1));
        let Task::Churn(churn) = parsed("churn --tree /t --keep 3").unwrap() else { panic!("not churn") };
        assert_eq!((churn.generations, churn.keep, churn.tree), (50, 3, Some("/t".into())));
        let backup = FloorBackup { tree: "t".into(), out: "o".into(), block_bytes: 1 << 20, level: 3 };
        assert_eq!(parsed("floor-backup t o --block-mib 1").unwrap(), Task::FloorBackup(backup));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "sink",
            "files --pairs",
            "files --pairs x",
            "files --pairs 0",
            "churn --generations 0",
            "torture --seed x",
            "disaster",
            "disaster --mode maybe",
            "files --without everything",
            "files extra",
            "floor-backup t",
            "floor-backup t o --block-mib 64",
            "floor-backup t o --level 0",
            "floor-check o --json",
            "postgres",
            "postgres restore",
            "postgres follow --seconds 0",
            "postgres backup --scale x",
            "postgres backup --scale 0",
        ] {
            assert!(parsed(line).is_err_and(|error| error.is_usage()), "{line}");
        }
    }
}
