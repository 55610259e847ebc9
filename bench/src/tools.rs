//! The tools that are measured, and how each is told to do the same thing.

use crate::lifeboat::PASSPHRASE;
use serde::{Serialize, Serializer};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every tool is asked to do, in this order, on a repository of its own in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// A backup into an empty repository.
    First,
    /// A backup of the same tree again.
    Unchanged,
    /// A restore of the last snapshot into an empty folder.
    Restore,
    /// A check that reads and verifies all data.
    Check,
    /// A backup after 1 % of the tree's bytes are in changed files.
    Changed,
}

impl Step {
    /// All steps, in the order in which they are done: the change comes last, so that what is restored can
    /// be compared with the tree.
    pub(crate) const ALL: [Self; 5] =
        [Self::First, Self::Unchanged, Self::Restore, Self::Check, Self::Changed];

    /// For tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::First => "first backup",
            Self::Unchanged => "unchanged",
            Self::Restore => "restore",
            Self::Check => "full check",
            Self::Changed => "1 % changed",
        }
    }
}

/// Where one tool works in one round, and on what.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The tree.
    pub(crate) tree: PathBuf,
    /// A folder of this tool in this round.
    pub(crate) own: PathBuf,
    /// This program, for the floors.
    pub(crate) bench: PathBuf,
    /// Lifeboat's program.
    pub(crate) lifeboat: PathBuf,
}

impl Places {
    /// Where the tool keeps what it stores.
    pub(crate) fn repository(&self) -> PathBuf {
        self.own.join("repository")
    }

    /// Where Lifeboat keeps what it stores in the same round.
    fn lifeboats_repository(&self) -> PathBuf {
        self.own.with_file_name("lifeboat").join("repository")
    }

    /// What the floors on Lifeboat's packs are told.
    fn plan(&self) -> PathBuf {
        self.own.join("plan")
    }

    /// Where it restores to.
    pub(crate) fn target(&self) -> PathBuf {
        self.own.join("restored")
    }

    /// Caches, state and configuration, so that no round profits from another.
    fn state(&self) -> PathBuf {
        self.own.join("state")
    }

    /// Where the tree is in what was restored: some tools put back the whole path.
    pub(crate) fn restored_tree(&self) -> PathBuf {
        let whole = self.target().join(self.tree.strip_prefix("/").unwrap_or(&self.tree));
        if whole.is_dir() { whole } else { self.target() }
    }
}

/// One tool.
pub(crate) struct Tool {
    /// Its name in tables and options.
    pub(crate) name: &'static str,
    /// What it is, for the report.
    pub(crate) what: &'static str,
    program: fn(&Places) -> PathBuf,
    version: &'static [&'static str],
    prepare: fn(&Places) -> Option<Command>,
    ready: fn(&Places, Step) -> Option<Command>,
    command: fn(&Places, Step) -> Option<Command>,
}

impl Serialize for Tool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

/// All tools. The order is that of the tables.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "lifeboat",
        what: "Lifeboat as released",
        program: |places| places.lifeboat.clone(),
        version: &["--version"],
        prepare: |places| Some(lifeboat(places, ["repo", "init", "--no-recovery-key"])),
        ready: |_, _| None,
        command: lifeboat_step,
    },
    Tool {
        name: "restic",
        what: "as packaged, its default compression",
        program: |_| "restic".into(),
        version: &["version"],
        prepare: |places| Some(restic(places, ["init"])),
        ready: |_, _| None,
        command: restic_step,
    },
    Tool {
        name: "borg",
        what: "as packaged, zstd level 3, repokey-blake2",
        program: |_| "borg".into(),
        version: &["--version"],
        prepare: |places| Some(borg(places, ["init", "-e", "repokey-blake2"], [places.repository()])),
        ready: |_, _| None,
        command: borg_step,
    },
    Tool {
        name: "rustic",
        what: "where it is on PATH",
        program: |_| "rustic".into(),
        version: &["--version"],
        prepare: |places| Some(rustic(places, ["init"])),
        ready: |_, _| None,
        command: rustic_step,
    },
    Tool {
        name: "floor",
        what: "our plain loop, one thread: zstd level 3 in blocks of 4 MiB, AES-256-GCM; restore and check read \
               what its own backup wrote",
        program: |places| places.bench.clone(),
        version: &[],
        prepare: |_| None,
        ready: |_, _| None,
        command: floor_step,
    },
    Tool {
        name: "floor-on-packs",
        what: "the same loop, on the packs of Lifeboat's repository of the same round",
        program: |places| places.bench.clone(),
        version: &[],
        prepare: |_| None,
        ready: packs_plan,
        command: packs_floor_step,
    },
    Tool {
        name: "shell",
        what: "`tar | zstd -1 | openssl aes-256-ctr` and back; `find` for unchanged",
        program: |_| "openssl".into(),
        version: &["version"],
        prepare: |_| None,
        ready: |_, _| None,
        command: shell_step,
    },
];

/// The names of all tools.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|tool| tool.name)
}

impl Tool {
    /// The first line of what the tool says about its version. `None` where it is
    /// not there.
    pub(crate) fn version(&self, places: &Places) -> Option<String> {
        if self.version.is_empty() {
            return Some(format!("lifeboat-bench {}", env!("CARGO_PKG_VERSION")));
        }
        let output = Command::new((self.program)(places)).args(self.version).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(|| said.lines().next().unwrap_or_default().to_owned())
    }

    /// The command that makes an empty repository, if it needs one; not measured.
    pub(crate) fn prepare(&self, places: &Places) -> Option<Command> {
        (self.prepare)(places)
    }

    /// The command that must run before a step, if there is one; not measured.
    pub(crate) fn ready(&self, places: &Places, step: Step) -> Option<Command> {
        (self.ready)(places, step)
    }

    /// The command for a step, where the tool has one.
    pub(crate) fn command(&self, places: &Places, step: Step) -> Option<Command> {
        (self.command)(places, step)
    }
}

fn with_args<A: AsRef<OsStr>>(mut command: Command, args: impl IntoIterator<Item = A>) -> Command {
    command.args(args);
    command
}

fn lifeboat<A: AsRef<OsStr>>(places: &Places, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(&places.lifeboat);
    command
        .env("LIFEBOAT_REPOSITORY", places.repository())
        .env("LIFEBOAT_PASSPHRASE", PASSPHRASE)
        .env("LIFEBOAT_STATE", places.state());
    with_args(command, args)
}

fn lifeboat_step(places: &Places, step: Step) -> Option<Command> {
    let (tree, target) = (places.tree.as_os_str(), places.target());
    Some(match step {
        Step::First | Step::Unchanged | Step::Changed => {
            lifeboat(places, [OsStr::new("backup"), tree, "--name".as_ref(), "tree".as_ref()])
        }
        Step::Restore => {
            with_args(lifeboat(places, ["restore", "tree", "--to", "latest", "--into"]), [target])
        }
        Step::Check => lifeboat(places, ["check", "--read-data"]),
    })
}

fn restic<A: AsRef<OsStr>>(places: &Places, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("restic");
    command.env("RESTIC_PASSWORD", PASSPHRASE);
    command.arg("-q").arg("-r").arg(places.repository()).arg("--cache-dir").arg(places.state());
    with_args(command, args)
}

fn restic_step(places: &Places, step: Step) -> Option<Command> {
    Some(match step {
        Step::First | Step::Unchanged | Step::Changed => {
            restic(places, [OsStr::new("backup"), places.tree.as_ref()])
        }
        Step::Restore => {
            let target = places.target();
            restic(places, [OsStr::new("restore"), "latest".as_ref(), "--target".as_ref(), target.as_ref()])
        }
        Step::Check => restic(places, ["check", "--read-data"]),
    })
}

fn borg<A: AsRef<OsStr>, B: AsRef<OsStr>>(
    places: &Places,
    words: impl IntoIterator<Item = A>,
    rest: impl IntoIterator<Item = B>,
) -> Command {
    let mut command = Command::new("borg");
    command.env("BORG_PASSPHRASE", PASSPHRASE).env("BORG_BASE_DIR", places.state());
    command.env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
    with_args(with_args(command, words), rest)
}

fn borg_step(places: &Places, step: Step) -> Option<Command> {
    let archive = |name: &str| {
        let mut path = places.repository().into_os_string();
        path.push("::");
        path.push(name);
        path
    };
    let create = |name| {
        borg(places, ["create", "--compression", "zstd,3"], [archive(name), places.tree.clone().into()])
    };
    Some(match step {
        Step::First => create("first"),
        Step::Unchanged => create("unchanged"),
        Step::Changed => create("changed"),
        Step::Restore => {
            let mut command = borg(places, ["extract"], [archive("unchanged")]);
            command.current_dir(places.target());
            command
        }
        Step::Check => borg(places, ["check", "--verify-data"], [places.repository()]),
    })
}

fn rustic<A: AsRef<OsStr>>(places: &Places, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("rustic");
    command.env("RUSTIC_PASSWORD", PASSPHRASE).env("RUSTIC_NO_PROGRESS", "true");
    command.arg("-r").arg(places.repository()).arg("--cache-dir").arg(places.state());
    command.args(["--log-level", "error"]);
    with_args(command, args)
}

fn rustic_step(places: &Places, step: Step) -> Option<Command> {
    Some(match step {
        Step::First | Step::Unchanged | Step::Changed => {
            rustic(places, [OsStr::new("backup"), places.tree.as_ref()])
        }
        Step::Restore => rustic(places, [OsStr::new("restore"), "latest".as_ref(), places.target().as_ref()]),
        Step::Check => rustic(places, ["check", "--read-data"]),
    })
}

fn floor_step(places: &Places, step: Step) -> Option<Command> {
    let floor = |verb: &str, words: &[&Path]| {
        let mut command = Command::new(&places.bench);
        command.arg(verb);
        with_args(command, words.iter())
    };
    match step {
        Step::First => Some(floor("floor-backup", &[&places.tree, &places.repository()])),
        Step::Restore => Some(floor("floor-restore", &[&places.repository(), &places.target()])),
        Step::Check => Some(floor("floor-check", &[&places.repository()])),
        Step::Unchanged | Step::Changed => None,
    }
}

fn packs_floor(places: &Places, verb: &str, words: &[&Path]) -> Command {
    let mut command = Command::new(&places.bench);
    command.arg(verb);
    with_args(command, words.iter())
}

fn packs_plan(places: &Places, step: Step) -> Option<Command> {
    matches!(step, Step::Restore | Step::Check)
        .then(|| packs_floor(places, "floor-plan", &[&places.lifeboats_repository(), &places.plan()]))
}

fn packs_floor_step(places: &Places, step: Step) -> Option<Command> {
    match step {
        Step::Restore => {
            Some(packs_floor(places, "floor-restore-packs", &[&places.plan(), &places.target()]))
        }
        Step::Check => Some(packs_floor(places, "floor-check-packs", &[&places.plan()])),
        Step::First | Step::Unchanged | Step::Changed => None,
    }
}

/// Key and counter are fixed: this floor measures AES, it keeps no secret.
const AES: &str = "openssl enc -aes-256-ctr -K 000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f \
                   -iv 000102030405060708090a0b0c0d0e0f";

fn shell_step(places: &Places, step: Step) -> Option<Command> {
    // The places are arguments, never part of the script: a path may hold anything.
    let script = match step {
        Step::First => format!("mkdir \"$2\" && tar -C \"$1\" -cf - . | zstd -q -1 | {AES} > \"$2/stream\""),
        Step::Unchanged => "find \"$1\" -printf '%s %T@ %i\\n' | wc -l".to_owned(),
        Step::Restore => format!("{AES} -d < \"$2/stream\" | zstd -q -d | tar -C \"$3\" -xf -"),
        Step::Check => format!("{AES} -d < \"$2/stream\" | zstd -q -d > /dev/null"),
        Step::Changed => return None,
    };
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -e -o pipefail; {script}"), "shell-floor"]);
    command.args([&places.tree, &places.repository(), &places.target()]);
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_can_back_up_restore_and_check() {
        let places = Places { tree: "/t".into(), own: "/o".into(), bench: "b".into(), lifeboat: "l".into() };
        for tool in TOOLS {
            for step in [Step::First, Step::Restore, Step::Check] {
                if tool.name == "floor-on-packs" && step == Step::First {
                    assert!(tool.command(&places, step).is_none(), "it reads what Lifeboat wrote");
                    continue;
                }
                assert!(tool.command(&places, step).is_some(), "{} {}", tool.name, step.title());
            }
        }
    }

    #[test]
    fn no_secret_is_an_argument() {
        let places = Places { tree: "/t".into(), own: "/o".into(), bench: "b".into(), lifeboat: "l".into() };
        for tool in TOOLS {
            let commands = Step::ALL.iter().filter_map(|step| tool.command(&places, *step));
            assert!(commands.chain(tool.prepare(&places)).all(|c| c.get_args().all(|arg| arg != PASSPHRASE)));
        }
    }
}
