//! A folder with a repository and a state directory of its own, and the program run in it.

use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_lifeboat");
/// The passphrase of every test's repository. A test's, so no secret.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";
/// What the slot is locked with that opens without the work of a passphrase.
const QUICK_KEY: &str = "000102030405060708090a0b0c0d0e0f";

/// A folder of one test.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    /// An empty folder: no repository yet.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::Builder::new().prefix("lifeboat-it-").tempdir().unwrap() }
    }

    /// A folder with a repository in `repo`.
    pub(crate) fn new() -> Self {
        let place = Self::empty();
        copy_folder(made_once().root(), place.root());
        place
    }

    /// A folder with a repository and a tree in `tree`, of which a snapshot was taken.
    pub(crate) fn with_snapshot() -> Self {
        let place = Self::new();
        place.write("tree/a.txt", "first\n");
        place.write("tree/sub/b.txt", "second\n");
        place.ok(&["backup", "tree"]);
        place
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) {
        write_file(&self.path(below), content.as_ref());
    }

    /// The program in this folder, with this folder's repository and nothing else in its environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        self.wrapped(PROGRAM.as_ref(), arguments)
    }

    /// The same for another program, such as one that runs ours.
    pub(crate) fn wrapped<S: AsRef<OsStr>>(&self, program: &OsStr, arguments: &[S]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.root())
            .stdin(Stdio::null())
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR"))
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env("LIFEBOAT_REPOSITORY", self.path("repo"))
            .env("LIFEBOAT_PASSPHRASE", PASSPHRASE)
            .env("LIFEBOAT_STATE", self.path("state"));
        if self.path("key").exists() {
            command.env("LIFEBOAT_KEY", format!("file:{}", self.path("key").display()));
        }
        command
    }

    /// Runs the program.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Runs the program, which must succeed; returns its stdout.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.run(arguments).expect(0).stdout
    }

    /// Runs the program with `--json`, which must succeed.
    pub(crate) fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Value {
        let mut command = self.command(arguments);
        let ran = Ran::of(command.arg("--json")).expect(0);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// Takes a snapshot of `tree`; returns its identity.
    pub(crate) fn backup(&self) -> String {
        self.json(&["backup", "tree"])["backups"][0]["snapshot"].as_str().unwrap().to_owned()
    }

    /// The objects of the repository below a prefix, by name.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<String> {
        let mut found = Vec::new();
        list_files(&self.path("repo"), Path::new(""), &mut found);
        found.retain(|name| name.starts_with(prefix));
        found.sort();
        found
    }

    /// A copy of this folder, so that several things can happen to the same past.
    pub(crate) fn twin(&self) -> Self {
        let twin = Self::empty();
        copy_folder(self.root(), twin.root());
        twin
    }

    /// The repository must be whole and take another backup, which restores.
    pub(crate) fn assert_healthy(&self, after: &str) {
        let checked = self.run(&["check", "--read-data"]);
        assert_eq!(checked.code, Some(0), "after {after}: {checked}");
        self.write("tree/afterwards", after);
        let id = self.backup();
        let into = format!("healthy-{id}");
        self.ok(&["restore", "tree", "--to", &id, "--into", &into]);
        assert_eq!(crate::tree::of(&self.path(&into)), crate::tree::of(&self.path("tree")), "after {after}");
    }
}

/// A run of the program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// Fails the test where the program ended otherwise.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails the test unless the program failed with this code, said `message`, and a hint with `hint` in it.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, message: &str, hint: &str) -> Self {
        let ran = self.expect(code);
        let line = |start: &str| ran.stderr.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        assert!(line("error: ").contains(message), "no error with `{message}`: {ran}");
        assert!(line("hint: ").contains(hint) && line("hint: ").len() > 6, "no hint with `{hint}`: {ran}");
        ran
    }

    /// Everything that was said.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let ran = Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!ran.stderr.contains("panicked at"), "the program panicked: {ran}");
        ran
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, signal, stdout, stderr } = self;
        write!(f, "exit {code:?}, signal {signal:?}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

/// Making a repository costs the work of a passphrase, so that one is made and copied.
fn made_once() -> &'static Place {
    static MADE: OnceLock<Place> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = Place::empty();
        place.ok(&["repo", "init", "--no-recovery-key"]);
        place.ok(&["key", "add", "--admin", "--label", "quick", "--command", &format!("echo {QUICK_KEY}")]);
        place.write("key", QUICK_KEY);
        place
    })
}

/// Copies a folder with the `cp` that every system has, holes, links and times included.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success(), "copy {} to {}", from.display(), to.display());
}

pub(crate) fn write_file(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    lifeboat_base::crashsafe::replace(path, content).unwrap();
}

fn list_files(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            list_files(root, &path, found);
        } else {
            found.push(path.to_str().unwrap().to_owned());
        }
    }
}

/// Whether this process may do everything. Says what is skipped where it may not.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
pub(crate) fn is_root_or_skip(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: not root, so that {what} was not tried");
    }
    root
}

/// Pseudo-random bytes from a seed: nothing that compresses.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes: Vec<u8> =
        std::iter::repeat_with(|| random.next().to_le_bytes()).take(length / 8 + 1).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// Numbers from a seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Seeded by `LIFEBOAT_TEST_SEED`, else by chance; the seed is printed.
    #[expect(clippy::print_stderr, reason = "the seed of a failed test must be seen")]
    pub(crate) fn seeded() -> Self {
        let pinned = std::env::var("LIFEBOAT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = pinned.unwrap_or_else(|| u64::from_le_bytes(lifeboat_base::random::bytes::<8>()));
        eprintln!("LIFEBOAT_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
