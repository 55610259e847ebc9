//! The recovery procedures of `plans/aragora/runbooks`, carried out against real stores that are really broken, by
//! people who agree and confirm; once through, and killed again and again on the way.

use crate::deaths::Deaths;
use crate::place::{PROGRAM, Place, Ran};
use crate::postgres::Following;
use lifeboat_postgres_server::testing::{TestCluster, test_installation};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Somebody who may do everything that these runbooks ask of people.
const PERSON: &str = "cora";
/// A run that is not over after so many processes never will be.
const MOST_PROCESSES: usize = 200;

/// Who types, and where.
pub(crate) struct Crew<'a> {
    pub(crate) command: &'a dyn Fn(&[&str]) -> Command,
    pub(crate) key: String,
    /// Steps that people had to say something about since nobody knew what had become of them.
    pub(crate) settled: Vec<String>,
    /// Where a restore puts what it restores: of one that was killed, people put it aside.
    pub(crate) beside: Option<PathBuf>,
}

impl<'a> Crew<'a> {
    /// Adds a person with a key to a plan.
    pub(crate) fn new(command: &'a dyn Fn(&[&str]) -> Command, key: &str, plan: &mut String) -> Self {
        let made = Ran::of(&mut command(&["runbook", "key", key, "--json"])).expect(0);
        let made: Value = serde_json::from_str(&made.stdout).unwrap();
        let public = made["public_key"].as_str().unwrap();
        *plan += &format!(
            "[people.{PERSON}]\nroles = [\"incident commander\", \"communications\"]\nkeys = [\"{public}\"]\n"
        );
        Self { command, key: format!("file:{key}"), settled: Vec::new(), beside: None }
    }

    pub(crate) fn ran(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut (self.command)(arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.ran(&[arguments, &["--json"]].concat()).expect(0);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Begins a run, and does what it asks of people until it is over. Nobody kills its executors.
    fn recover(&mut self, runbook: &str, inputs: &[String]) -> Value {
        self.recover_killed(runbook, inputs, &mut |_, _| String::new())
    }

    /// The same, with failpoints armed in each process that carries it out: by what the one before it left, and
    /// whether that was killed.
    fn recover_killed(
        &mut self,
        runbook: &str,
        inputs: &[String],
        arm: &mut dyn FnMut(&Value, bool) -> String,
    ) -> Value {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plans/aragora/runbooks").join(runbook);
        let file = std::fs::read_to_string(path).unwrap();
        let mut begin = vec!["runbook", "run", "runbook.md", "--by", PERSON, "--no-wait"];
        for input in inputs {
            begin.extend(["-i", input]);
        }
        let mut command = (self.command)(&begin);
        let folder = command.get_current_dir().unwrap().join("runbook.md");
        write_for_all(&folder, &file);
        let mut ran = Ran::of(command.env("LIFEBOAT_FAILPOINTS", arm(&Value::Null, false)));
        for _ in 0..MOST_PROCESSES {
            let runs = self.json(&["runbook", "list"]);
            let run = runs[0]["run"].as_str().unwrap_or_else(|| panic!("it was not begun: {ran}"));
            let shown = self.json(&["runbook", "show", run]);
            if shown["standing"]["status"]["is"] == "ended" {
                return shown;
            }
            assert!(ran.signal == Some(9) || ran.code == Some(4), "{ran}\n{shown:#}");
            self.answer(run, &shown);
            let failpoints = arm(&shown, ran.signal == Some(9));
            let resume = ["runbook", "resume", run, "--by", PERSON, "--no-wait"];
            ran = Ran::of((self.command)(&resume).env("LIFEBOAT_FAILPOINTS", failpoints));
        }
        panic!("it is never over: {ran}");
    }

    /// Does what the run waits for.
    pub(crate) fn answer(&mut self, run: &str, shown: &Value) {
        for waiting in shown["standing"]["waiting"].as_array().unwrap() {
            let step = waiting["step"].as_str().unwrap_or_default();
            let by = ["--by", PERSON];
            match waiting["for"].as_str().unwrap() {
                "person" => drop(self.ran(&[&["runbook", "confirm", run, step][..], &by].concat()).expect(0)),
                "approval" => {
                    let block = waiting["statement"]["block"].as_str().unwrap();
                    let with = ["--with", &self.key, "--yes"];
                    self.ran(&[&["runbook", "approve", run, block][..], &by, &with].concat()).expect(0);
                }
                "unknown" => self.settle(run, step),
                _ => panic!("{shown:#}"),
            }
        }
    }

    /// Killed behind its intent a step was not begun; what a restore had made before it was killed is put aside.
    fn settle(&mut self, run: &str, step: &str) {
        let mut reason = "its process was killed before it began";
        if let Some(beside) = self.beside.as_ref().filter(|beside| beside.exists()) {
            let half = format!("{}.half.{}", beside.display(), self.settled.len());
            crate::races::moved(beside, Path::new(&half));
            reason = "its process was killed, and what it had made is put aside";
        }
        let said = ["--by", PERSON, "--not-done", "--reason", reason];
        self.ran(&[&["runbook", "settle", run, step][..], &said].concat()).expect(0);
        self.settled.push(step.to_owned());
    }
}

/// Whoever carries it out may read it.
fn write_for_all(path: &Path, text: &str) {
    crate::place::write_file(path, text.as_bytes());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

/// Each part of the recovery took its time, and together they are all of it.
#[track_caller]
fn assert_split(shown: &Value, parts: &[&str]) {
    let times = shown["standing"]["times"].as_object().unwrap();
    for part in parts {
        assert!(times.contains_key(*part), "{part}: {times:?}");
    }
}

/// Answers every request with 200, until the process ends.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    format!("http://{address}/readyz")
}

struct Mound {
    place: Place,
    inputs: Vec<String>,
}

impl Mound {
    /// A database that was protected, and is broken since.
    fn broken() -> Self {
        let place = Place::new();
        let database = place.path("knowledge_mound.db");
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection
            .execute_batch(
                "create table knowledge_nodes (id integer primary key, said text);
                 with recursive n(x) as (select 1 union all select x + 1 from n where x < 2000)
                 insert into knowledge_nodes select x, 'said ' || x from n",
            )
            .unwrap();
        drop(connection);
        place.ok(&["backup", "knowledge_mound.db", "--name", "knowledge-mound"]);
        let mut file = std::fs::File::options().write(true).open(&database).unwrap();
        file.write_all(&[0x5a; 20_000]).unwrap();
        let path = |below: &str| place.path(below).display().to_string();
        let inputs = vec![
            format!("database={}", path("knowledge_mound.db")),
            format!("beside={}", path("restored")),
            "at_least=2000".to_owned(),
            format!("ready={}", service()),
        ];
        Self { place, inputs }
    }

    fn plan(&self) -> String {
        let store = self.place.path("knowledge_mound.db").display().to_string();
        format!("[datasets.knowledge-mound]\nstore = \"{store}\"\n")
    }

    fn assert_is_back(&self) {
        let connection = rusqlite::Connection::open(self.place.path("knowledge_mound.db")).unwrap();
        let count: u32 =
            connection.query_row("select count(*) from knowledge_nodes", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2000);
        assert!(
            self.place.path("knowledge_mound.db.broken/knowledge_mound.db").exists(),
            "the broken one is kept"
        );
    }
}

#[test]
fn a_broken_sqlite_database_is_recovered_from_its_snapshot() {
    let mound = Mound::broken();
    let mut plan = mound.plan();
    let command = |arguments: &[&str]| mound.place.command(arguments);
    let mut crew = Crew::new(&command, "cora.key", &mut plan);
    mound.place.write("lifeboat.toml", plan);
    let shown = crew.recover("sqlite-snapshot.md", &mound.inputs);
    mound.assert_is_back();
    assert_split(&shown, &["detect", "decide", "approve", "execute", "verify", "traffic"]);
    assert!(crew.settled.is_empty(), "{:?}", crew.settled);
}

/// Every process that carries it out dies behind its third record. Nothing is done twice, and nothing is left out.
#[test]
fn a_recovery_whose_executor_is_killed_again_and_again_ends_well() {
    let mound = Mound::broken();
    let mut plan = mound.plan();
    let command = |arguments: &[&str]| mound.place.command(arguments);
    let mut crew = Crew::new(&command, "cora.key", &mut plan);
    mound.place.write("lifeboat.toml", plan);
    let shown = {
        let mut arm = |_: &Value, _| "run::synced=2*kill".to_owned();
        crew.recover_killed("sqlite-snapshot.md", &mound.inputs, &mut arm)
    };
    mound.assert_is_back();
    let records = shown["records"].as_array().unwrap();
    let swaps = |record: &&Value| {
        let event = &record["event"];
        event["is"] == "outcome"
            && event["step"] == "swap"
            && event["part"] == "itself"
            && event["result"]["ended"] == "done"
    };
    assert!(records.iter().filter(swaps).count() <= 1, "{shown:#}");
    assert_eq!(mound.place.json(&["points", "knowledge-mound"])["points"].as_array().unwrap().len(), 2);
}

/// A cluster that was followed, and what a person sees of it.
struct Database {
    place: Place,
    cluster: TestCluster,
}

impl Database {
    /// With a copy of the program that the server's user can reach, a plan, and everything in that user's name.
    fn new(major: u32) -> Option<Self> {
        let cluster = TestCluster::start(&test_installation(major)?);
        let place = Place::new();
        std::fs::copy(PROGRAM, place.path("lifeboat")).unwrap();
        std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let database = Self { place, cluster };
        // As a server has it whose unit starts it by its directory alone.
        let port = database.cluster.port().to_string();
        let socket = database.cluster.socket_dir().to_str().unwrap().to_owned();
        for (name, value) in
            [("port", port.as_str()), ("unix_socket_directories", &socket), ("listen_addresses", "")]
        {
            database.cluster.set(name, value);
        }
        database.cluster.psql(
            "create table users (id int primary key); insert into users select generate_series(1, 500)",
        );
        database.cluster.identity().own(database.place.root()).unwrap();
        let mut plan = format!("[datasets.database]\nstore = \"{}\"\n", database.cluster.url("postgres"));
        let command = |arguments: &[&str]| database.command(arguments);
        Crew::new(&command, "cora.key", &mut plan);
        write_for_all(&database.place.path("lifeboat.toml"), &plan);
        Some(database)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = self.place.path("lifeboat");
        let mut command = self.cluster.command(program.to_str().unwrap());
        let bin = self.cluster.command("psql").get_program().to_owned();
        let bin = PathBuf::from(bin).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let as_of_place = self.place.command(arguments);
        for (name, value) in as_of_place.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.args(arguments).current_dir(self.place.root()).env("PATH", format!("{bin}:{path}"));
        command
    }

    fn beside(&self) -> PathBuf {
        self.cluster.place().join("restored")
    }

    fn inputs(&self, more: &str) -> Vec<String> {
        vec![
            format!("data={}", self.cluster.data().display()),
            format!("beside={}", self.beside().display()),
            "name=postgres".to_owned(),
            "at_least=500".to_owned(),
            more.to_owned(),
        ]
    }

    /// The inputs of a recovery to the instant before somebody deleted everything.
    fn harmed(&mut self) -> Vec<String> {
        let mut following =
            Following::begin(&mut self.command(&["follow", "database", "--json", "--gather", "10ms"]));
        following.until(|event| event["event"] == "snapshot-taken");
        let good =
            self.cluster.psql("insert into users select generate_series(501, 600); select clock_timestamp()");
        let good = good.lines().last().unwrap().trim().replace(' ', "T");
        self.cluster.psql("delete from users");
        self.cluster.wait_for(
            "select coalesce(bool_or(flush_lsn >= pg_current_wal_lsn()), false) from pg_stat_replication",
            "t",
        );
        following.stop();
        self.break_it();
        self.inputs(&format!("target={good}"))
    }

    /// The inputs of a recovery from a snapshot.
    fn saved(&mut self) -> Vec<String> {
        let backup = Ran::of(&mut self.command(&["backup", "database", "--json"])).expect(0);
        let backup: Value = serde_json::from_str(&backup.stdout).unwrap();
        let snapshot = backup["backups"][0]["snapshot"].as_str().unwrap_or_else(|| panic!("{backup:#}"));
        self.cluster.psql("insert into users values (1000)");
        self.break_it();
        self.inputs(&format!("snapshot={snapshot}"))
    }

    /// The whole directory is no cluster any more.
    fn break_it(&mut self) {
        self.cluster.kill9();
        for file in ["global/pg_control", "PG_VERSION"] {
            std::fs::remove_file(self.cluster.data().join(file)).unwrap();
        }
    }

    fn crew<'a>(&self, command: &'a dyn Fn(&[&str]) -> Command) -> Crew<'a> {
        let key = format!("file:{}", self.place.path("cora.key").display());
        Crew { command, key, settled: Vec::new(), beside: Some(self.beside()) }
    }

    fn recovered(&self, runbook: &str, inputs: &[String]) -> Value {
        let command = |arguments: &[&str]| self.command(arguments);
        let mut crew = self.crew(&command);
        let shown = crew.recover(runbook, inputs);
        assert!(crew.settled.is_empty(), "{:?}", crew.settled);
        shown
    }

    /// Its executor dies in every step: behind the intent's record, behind the act, and behind the outcome's record.
    #[expect(clippy::print_stderr, reason = "how often it died is what the test shows")]
    fn recovered_though_killed(&self, runbook: &str, inputs: &[String]) -> Value {
        let command = |arguments: &[&str]| self.command(arguments);
        let mut crew = self.crew(&command);
        // The cluster does not run: there is nothing to fence.
        let mut deaths = Deaths::new(&["fence"]);
        let shown = crew.recover_killed(runbook, inputs, &mut |shown, was_killed| {
            if was_killed {
                deaths.died(shown);
            }
            deaths.arm(shown)
        });
        deaths.assert_everywhere(&steps_of(&shown));
        eprintln!("{runbook}: {} processes, killed at {} moments of steps", deaths.processes, deaths.count());
        assert_eq!(crew.settled, ["restore", "restore"], "people decide about what may be done once alone");
        self.assert_once(&shown);
        shown
    }

    /// What the journal and the server say of what may be done once.
    fn assert_once(&self, shown: &Value) {
        for step in ["try", "fence", "promote", "swap", "start"] {
            assert!(done(shown, step) <= 1, "{step}: {shown:#}");
        }
        assert_eq!(done(shown, "restore"), 1);
        let promoted = done(shown, "promote");
        let logged = |path: String, what: &str| {
            std::fs::read_to_string(&path).unwrap().lines().filter(|line| line.contains(what)).count()
        };
        let (beside, data) = (self.beside().display().to_string(), self.cluster.data().display().to_string());
        assert_eq!(logged(format!("{beside}.log"), "starting PostgreSQL"), 1, "it was started beside once");
        assert_eq!(logged(format!("{beside}.log"), "received promote request"), promoted);
        assert_eq!(
            logged(format!("{data}.log"), "starting PostgreSQL"),
            1,
            "it was started in its place once"
        );
        assert_eq!(self.cluster.psql("select timeline_id from pg_control_checkpoint()"), "2");
        // What a killed restore had made was put aside once by a person; it was swapped once.
        let folders = self.beside().parent().unwrap().read_dir().unwrap();
        let mut names: Vec<String> =
            folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("restored.") || name.ends_with(".broken"));
        names.sort();
        assert_eq!(names, ["data.broken", "restored.half.1", "restored.log"]);
    }

    fn users(&self) -> String {
        self.cluster.psql("select count(*), pg_is_in_recovery() from users")
    }
}

/// The steps of a run that no person carries out, in the order of their first intents.
fn steps_of(shown: &Value) -> Vec<String> {
    let records = shown["records"].as_array().unwrap();
    let events = || records.iter().map(|record| &record["event"]);
    let is_of_people = |step: &str| {
        events().any(|event| event["is"] == "outcome" && event["step"] == step && event["by"].is_string())
    };
    let mut steps: Vec<String> = Vec::new();
    for event in events().filter(|event| event["is"] == "intent") {
        let step = event["step"].as_str().unwrap();
        if steps.iter().all(|known| known != step) && !is_of_people(step) {
            steps.push(step.to_owned());
        }
    }
    steps
}

/// So often the journal says that a step was done.
fn done(shown: &Value, step: &str) -> usize {
    let is_done = |record: &&Value| {
        let event = &record["event"];
        event["is"] == "outcome" && event["step"] == step && event["result"]["ended"] == "done"
    };
    shown["records"].as_array().unwrap().iter().filter(is_done).count()
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server that the runbook started is nobody's child.
        for place in [self.cluster.data().to_owned(), self.beside()] {
            let mut stop = self.cluster.command("pg_ctl");
            let _ = stop.args(["-m", "immediate", "stop", "-D"]).arg(place).output();
        }
    }
}

const PARTS: [&str; 6] = ["detect", "decide", "approve", "execute", "verify", "traffic"];

#[test]
fn a_broken_cluster_is_recovered_to_a_point_in_time() {
    let Some(mut database) = Database::new(15) else { return };
    let inputs = database.harmed();
    let shown = database.recovered("postgres-point-in-time.md", &inputs);
    assert_eq!(database.users(), "600|f", "everything up to the harm, and nothing of it");
    assert_split(&shown, &PARTS);
    let kept = PathBuf::from(format!("{}.broken", database.cluster.data().display()));
    assert!(kept.is_dir(), "the broken one is kept");
}

#[test]
fn a_broken_cluster_is_recovered_from_a_snapshot() {
    let Some(mut database) = Database::new(15) else { return };
    let inputs = database.saved();
    let shown = database.recovered("postgres-snapshot.md", &inputs);
    assert_eq!(database.users(), "500|f");
    assert_split(&shown, &PARTS);
}

fn is_recovered_to_a_point_though_killed(major: u32) {
    let Some(mut database) = Database::new(major) else { return };
    let inputs = database.harmed();
    let shown = database.recovered_though_killed("postgres-point-in-time.md", &inputs);
    assert_eq!(database.users(), "600|f");
    assert_split(&shown, &PARTS);
}

#[test]
fn a_recovery_to_a_point_in_time_that_is_killed_in_every_step_ends_well() {
    is_recovered_to_a_point_though_killed(15);
}

#[test]
fn on_postgresql_18_a_recovery_that_is_killed_in_every_step_ends_well() {
    is_recovered_to_a_point_though_killed(18);
}

#[test]
fn a_recovery_from_a_snapshot_that_is_killed_in_every_step_ends_well() {
    let Some(mut database) = Database::new(15) else { return };
    let inputs = database.saved();
    let shown = database.recovered_though_killed("postgres-snapshot.md", &inputs);
    assert_eq!(database.users(), "500|f");
    assert_split(&shown, &PARTS);
}
