//! The application: a process that writes to a database until it is told to stop, or killed.

use rusqlite::Connection;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const JOB: &str = "LIFEBOAT_TEST_WRITER";

/// A writing process. Killed when dropped.
pub(crate) struct Writer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts a process and waits until it says that it is where the job says.
    pub(crate) fn start(path: &Path, job: &str, mode: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--nocapture"])
            .env(JOB, format!("{job} {mode} {}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut writer = Self { child, orders, answers };
        writer.wait_for("ready");
        writer
    }

    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    /// Reads what the process says until a line that starts with `word`; returns the rest of that line.
    pub(crate) fn wait_for(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the writer ended before {word}");
            // The harness prints the test's name before the first line, without an end of line.
            if let Some((_, rest)) = line.split_once(&format!("@{word}")) {
                return rest.trim().to_owned();
            }
        }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does what the environment asks for, if it does.
pub(crate) fn run_if_asked() {
    let Ok(job) = std::env::var(JOB) else { return };
    let [job, mode, path] = job.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection.execute_batch(&format!("PRAGMA journal_mode={mode}")).unwrap();
    match job {
        "count" => count_for_ever(&connection, 1),
        "count-much" => count_for_ever(&connection, 400),
        "fill" => fill(&connection),
        "spill" => spill(&connection),
        "exclusive" => hold(&connection, "BEGIN EXCLUSIVE"),
        // Without syncing, the header of the journal is whole from the start, as a hot one's is.
        "reserved" => {
            hold(&connection, "PRAGMA synchronous=off; BEGIN IMMEDIATE; UPDATE counter SET n=n+1000");
        }
        "obey" => obey(connection),
        other => panic!("unknown job {other}"),
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "@{words}").unwrap();
    out.flush().unwrap();
}

fn wait_for_order() -> Option<String> {
    let mut line = String::new();
    let length = std::io::stdin().read_line(&mut line).unwrap();
    (length > 0).then(|| line.trim().to_owned())
}

/// One transaction of the application.
fn add(connection: &Connection, rows: i64) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let done = connection
        .execute(
            "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM k WHERE i<?1)
             INSERT INTO log SELECT (SELECT n FROM counter)+i, randomblob(300) FROM k",
            [rows],
        )
        .and_then(|_| connection.execute("UPDATE counter SET n=n+?1", [rows]))
        .and_then(|_| connection.execute("UPDATE mirror SET n=(SELECT n FROM counter)", []))
        .and_then(|_| connection.execute_batch("COMMIT"));
    if done.is_err() {
        connection.execute_batch("ROLLBACK")?;
    }
    done
}

fn count_for_ever(connection: &Connection, rows: i64) {
    if rows > 1 {
        connection.execute_batch("PRAGMA cache_size=5; PRAGMA synchronous=normal").unwrap();
    }
    add(connection, rows).unwrap();
    say("ready");
    loop {
        // Else one writer would have the database again before the other one looks.
        std::thread::sleep(Duration::from_millis(2));
        // A database that was locked for a minute is the test's failure to notice, not the writer's.
        add(connection, rows).unwrap();
    }
}

fn fill(connection: &Connection) {
    connection.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
    (0..40).for_each(|_| add(connection, 10).unwrap());
    say("ready");
    wait_for_order();
}

/// Stands still within a transaction of which the database file already has a part.
fn spill(connection: &Connection) {
    (0..5).for_each(|_| add(connection, 100).unwrap());
    connection
        .execute_batch(
            "PRAGMA cache_size=5; PRAGMA cache_spill=1; BEGIN IMMEDIATE;
             UPDATE counter SET n=n+1; UPDATE log SET pad=randomblob(310);
             INSERT INTO log SELECT seq+100000, randomblob(300) FROM log;",
        )
        .unwrap();
    say("ready");
    wait_for_order();
}

fn hold(connection: &Connection, sql: &str) {
    connection.execute_batch(sql).unwrap();
    say("ready");
    wait_for_order();
}

/// Does one order after the other: SQL, `add N`, or `close`.
fn obey(connection: Connection) {
    connection.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
    add(&connection, 3).unwrap();
    say("ready");
    while let Some(order) = wait_for_order() {
        match order.split_once(' ') {
            Some(("add", rows)) => add(&connection, rows.parse().unwrap()).unwrap(),
            _ if order == "close" => break,
            _ => {
                let first: Result<i64, _> = connection.query_row(&order, [], |row| row.get(0));
                say(&format!("answer {first:?}"));
            }
        }
        say("done");
    }
    connection.close().unwrap();
    say("closed");
}
